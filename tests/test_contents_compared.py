"""Suites that compare what memory holds: its class is all that differs between their scenarios."""

import pytest

from memvirt.experiment import plan, suite
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.fleet import Contents, Layout
from memvirt.experiment.suite import Scenario
from memvirt.inputs import synthetic
from memvirt.workloads import WRITE

COMPARING = ["compress-vs-swap", "sharing"]  # the classes of their scenarios differ


def boots(cells, corpus):
    """The boot of every VM of each cell, as (pages, ops, sources), by image size, ratio and private classes."""
    found = {}
    for cell in cells:
        spec = cell.spec.fleet
        sizes = spec.sizes(cell.overcommit_percent)
        contents = Contents(spec, corpus, len(sizes))
        for vm, pages in enumerate(sizes):
            batches = list(contents.boot(vm, Layout.of(spec, pages)).batches())
            key = (spec.image_percent, cell.overcommit_percent, vm, spec.private)
            found[key] = [(batch.pages.tolist(), batch.ops.tolist(), batch.sources) for batch in batches]
    return found


@pytest.mark.parametrize("name", [name for name in suite.names() if name not in COMPARING])
def test_other_suites_have_one_kind_of_private_memory(name):
    made = [cell.spec for cell in plan.make(name).cells if isinstance(cell.spec, Scenario)]
    assert len({spec.fleet.private for spec in made}) <= 1
    assert {spec.fleet.compared_with for spec in made} <= {None}


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("size", [8192, 2048])
def test_vms_boot_alike_whatever_class_their_memory_is_of(name, size):
    """Page by page in the same order, written at the same places; zero pages alone are read there."""
    corpus = synthetic(size, seed=1)
    made = plan.make(name)
    column = made.cells[0].preset
    every = boots([cell for cell in made.cells if cell.preset == column], corpus)
    groups = {}
    for (image, percent, vm, _), stream in every.items():
        groups.setdefault((image, percent, vm), []).append(stream)
    assert all(len(streams) > 1 for streams in groups.values())
    wrote = 0
    for first, *others in groups.values():
        for other in others:
            assert [pages for pages, *_ in first] == [pages for pages, *_ in other]
        source_of = [{} for _ in (first, *others)]
        for number, stream in enumerate((first, *others)):
            for pages, _, sources in stream:
                source_of[number].update(zip(pages, sources.tolist(), strict=True) if sources is not None else ())
        for steps in zip(*(stream for stream in (first, *others)), strict=True):
            for at, page in enumerate(steps[0][0]):
                ops = {ops[at] for number, (_, ops, _) in enumerate(steps) if source_of[number][page] != 0}
                assert len(ops) <= 1, f"page {page} of some class is treated otherwise"
                wrote += ops == {WRITE}
    assert wrote, "the corpus is larger than the VMs: nothing was tested"


def test_swap_costs_the_same_for_every_class_without_zero_pages():
    """The column `swap` does not look at content, but for same-filled pages; so digits are equal where there are none."""
    run, made = prepare(synthetic(4096, seed=1)), plan.make("compress-vs-swap", "smoke", only=["swap"])
    counted = []
    for scenario in ("source-150", "numeric-150", "random-150"):
        (cell,) = [cell for cell in made.cells if cell.scenario == scenario]
        record = run_cell(run, cell, run_cell(run, made.baseline_of(cell)))
        counted.append((record.sim_ns, record.counters, record.histograms, record.derived))
        assert record.status == "done" and record.counters["swap_pages_in"] > 100
    assert counted[0] == counted[1] == counted[2]


def test_filled_from_one_class_scenarios_are_no_comparison():
    made = plan.make("compress-vs-swap", fill=["private=heap"])
    assert {cell.spec.fleet.compared_with for cell in made.cells} == {None}
