"""A backend of one's own: what must be written, and that all else may be left out.

The host below is a dictionary of pages. It has no clock, no frames and no scanner, and runs whole cells.
"""

import ast
from pathlib import Path

import numpy as np
import pytest

from helpers.suites import scenario, suite
from memvirt.errors import AdmissionError, ContentError
from memvirt.experiment import backend, plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.expected import tag_of, word_of
from memvirt.host import Host
from memvirt.inputs import synthetic
from memvirt.report import terminal
from memvirt.results.record import comparable, dumps, loads
from memvirt.vm import RunOutcome, Vm
from memvirt.workloads import DISCARD, FILL, WRITE

SUITE = suite(
    scenario(
        "works",
        warm_up='workload = "uniform", accesses = 200',
        measured='workload = "uniform", accesses = 1000, write_percent = 50',
    ),
    scenario(
        "clones",
        measured='workload = "clone-storm", accesses = 1000, dirty_percent = 50',
        fleet='origin = "clone", image_percent = 10, freed_percent = 5, touched_percent = 95',
    ),
)


class PlainVm(backend.Vm):
    """What must be there, and nothing else."""

    name = pages = tag_base = writes_done = 0  # properties of the protocol, plain attributes here

    def __init__(self, host, name, pages, content=None):
        self.host, self.name, self.pages = host, name, pages
        self.tag_base, self.writes_done = 0, 0
        self.content = {} if content is None else content

    def read_pages(self, pages):
        zero = np.zeros(4096, np.uint8)
        return np.stack([self.content.get(int(page), zero) for page in pages])

    def clone(self, name):
        return PlainVm(self.host, name, self.pages, {page: data.copy() for page, data in self.content.items()})

    def destroy(self):
        self.content = {}

    def do(self, batch):
        for index, (page, op) in enumerate(zip(batch.pages.tolist(), batch.ops.tolist(), strict=True)):
            if op == FILL:
                self.content[page] = self.host.corpus.pages[batch.sources[index]].copy()
            elif op == WRITE:
                self.writes_done += 1
                data = self.content.setdefault(page, np.zeros(4096, np.uint8))
                data.view("<u8")[word_of(page)] = tag_of(self.tag_base, self.writes_done)
            elif op != DISCARD:
                assert op == 0


class PlainHost(backend.Host):
    room = 10**9

    def __init__(self, config, *, corpus, swap_direct):
        self.config, self.corpus, self.closed, self.promised = config, corpus, False, 0

    def create(self, config):
        self.promised += config.memory
        if self.promised > self.room:
            raise AdmissionError("full")
        return PlainVm(self, config.name, config.memory)

    def run(self, streams):
        done = dict.fromkeys(streams, 0)
        for vm, batches in streams.items():
            for batch in batches:
                vm.do(batch)
                done[vm] += len(batch.pages)
        return {vm: RunOutcome(count, "done") for vm, count in done.items()}

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def corpus():
    return synthetic(400, seed=1)


@pytest.fixture
def cells(tmp_path):
    (tmp_path / "plain.toml").write_text(SUITE)
    return [cell for cell in plan.make(str(tmp_path / "plain.toml")).in_order() if not cell.is_baseline]


def test_a_cell_runs_on_what_offers_only_what_it_must(cells, corpus):
    context = prepare(corpus, PlainHost)
    records = [run_cell(context, cell) for cell in cells]
    assert [(record.status, record.verified) for record in records] == [("done", True)] * 2, records[0].reason
    works, clones = records
    assert works.accesses == 2 * 1000 and works.verified_pages > 500 and clones.verified_pages > 500
    assert works.counters == works.usage == works.fragmentation == {} and works.sim_ns == 0
    assert works.derived["slowdown"] == works.derived["effective_overcommit"] == ""
    assert works.measured["wall_ns"]["measured"] > 0
    assert loads(dumps(works), "x") == works
    assert "works" in terminal.text(records)


def test_its_refusals_and_its_lies_are_those_of_any_host(cells, corpus):
    class Small(PlainHost):
        room = 600

    assert run_cell(prepare(corpus, Small), cells[0]).status == "refused"

    class Forgetful(PlainHost):
        def run(self, streams):
            outcomes = super().run(streams)
            for vm in outcomes:
                vm.content[max(vm.content)][:] = 7
            return outcomes

    record = run_cell(prepare(corpus, Forgetful), cells[0])
    assert record.status == "failed" and ContentError.__name__ in record.reason


def test_the_host_is_closed_whatever_happens(cells, corpus):
    hosts = []

    class Broken(PlainHost):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            hosts.append(self)

        def run(self, streams):
            raise OSError(5, "Input/output error")

    assert run_cell(prepare(corpus, Broken), cells[0]).status == "failed"
    assert [host.closed for host in hosts] == [True]


@pytest.mark.parametrize("protocol", [backend.Host, backend.Vm])
def test_the_engine_offers_all_that_may_be_asked(protocol):
    from memvirt.vm import Vm

    face = {backend.Host: Host, backend.Vm: Vm}[protocol]
    asked = [name for name in vars(protocol) if not name.startswith("_")]
    assert len(asked) > 8
    assert [name for name in asked if not hasattr(face, name) and name not in ("name", "pages", "address_pages")] == []


def test_no_module_of_experiment_knows_the_engine_s_host():
    """What it asks goes through the protocol: none reaches for `engine` behind a host or a VM, and the one place that
    imports the engine's host is the default of prepare()."""
    importers = []
    for path in Path(backend.__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text())
        reached = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not reached & {"engine", "engine_vm"}, path.name
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
        importers += [path.name for node in froms if node.module in ("memvirt.host", "memvirt.vm")]
    assert importers == ["cell.py"]


def test_all_that_experiment_asks_of_a_host_or_vm_stands_in_the_protocol(cells, corpus):
    """A host and VMs that offer the protocol's names and no other run every kind of cell to its end, watched and not."""

    class Narrow:
        """What lies behind it, by the names of a protocol alone."""

        def __init__(self, inner, protocol):
            self.inner, self.names = inner, {name for name in dir(protocol) if not name.startswith("_")}

        def __getattr__(self, name):
            assert name in self.names, f"{name} is asked for, and no part of the protocol"
            found = getattr(self.inner, name)
            return narrowed(found) if not callable(found) else lambda *args, **named: narrowed(found(*args, **named))

    made = {}

    def narrowed(value):
        if isinstance(value, Vm):
            return made.setdefault(value, Narrow(value, backend.Vm))
        return value

    class NarrowHost(Narrow):
        def run(self, streams, until_ns=None):
            outcomes = self.inner.run({vm.inner: batches for vm, batches in streams.items()}, until_ns=until_ns)
            return {made[vm]: outcome for vm, outcome in outcomes.items()}

    def make_host(config, *, corpus, swap_direct):
        return NarrowHost(Host.of(config, corpus=corpus, swap_direct=swap_direct), backend.Host)

    for cell in cells:
        record = run_cell(prepare(corpus, make_host), cell)
        plain = run_cell(prepare(corpus), cell)
        assert record.status == "done" and record.verified, record.reason
        assert comparable(record) == comparable(plain)
