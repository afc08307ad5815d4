"""The suite `quick`, every cell of it, at the tier that `make run` runs: what its mechanisms did, and that nothing was lost.

At ratio 1.0 nothing is overcommitted: there swap, compressed cache and balloon must rest, and cost nothing. Sharing
works at any ratio. Above, every mechanism of a preset has to show in the counters of its cells.
"""

import pickle

import pytest

from memvirt.experiment import plan, suite
from memvirt.experiment.cell import prepare
from memvirt.experiment.loop import manifest, run_plan
from memvirt.inputs import synthetic
from memvirt.metrics import registry
from memvirt.results.record import dumps, loads
from memvirt.results.run_folder import Results

# preset -> what it brings -> the numbers of a record that show it at work ("a|b": one of them; a balloon may have been
# filled before the measured phase, and may be empty again at its end)
BALLOON = "stores.balloon|balloon_pages_released"
SHOWN = {
    "none": {},
    "swap": {"swap": ("swap_pages_out", "swap_pages_in")},
    "zcache": {"zcache": ("evicted_zpool", "fault_zpool", "usage.zspage"), "swap": ("stores.swap",)},
    "sharing": {"sharing": ("saved_sharing_frames",)},
    "balloon": {"balloon": (BALLOON,), "swap": ("swap_pages_out", "swap_pages_in")},
    "all": {"balloon": (BALLOON,), "zcache": ("usage.zspage",), "sharing": ("saved_sharing_frames",)},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Every record of the suite, baselines included, by cell."""
    made = plan.make("quick", "quick", seeds=[1])
    context = prepare(synthetic(8192, seed=1))
    with Results(tmp_path_factory.mktemp("quick") / "out", manifest(made, context)) as results:
        return {step.record.cell: step.record for step in run_plan(made, context, results)}


def number(record, name):
    """A counter of the record, a derived number, or part.name."""
    part, _, key = name.rpartition(".")
    if part:
        return getattr(record, part)[key]
    return record.counters.get(name, 0) or int(record.derived.get(name, 0))


def of_workloads(records):
    """All but the fleet that lives, which has presets of its own."""
    return [record for record in records.values() if record.kind != "life"]


def ratios_of(records):
    return {record.scenario: int(record.scenario.rpartition("-")[2]) for record in records.values()}


def test_every_cell_ends_as_it_should(records):
    ratios = ratios_of(records)
    refused = {name for name, record in records.items() if record.status == "refused"}
    assert {name for name, record in records.items() if record.status not in ("done", "refused")} == set()
    assert refused == {name for name, r in records.items() if r.preset == "none" and ratios[r.scenario] > 100}
    assert all("promised" in records[name].reason for name in refused)


def test_every_vm_reads_back_what_it_wrote(records):
    for record in records.values():
        if record.status == "done":
            assert record.verified and record.verified_pages, record.cell


@pytest.mark.parametrize("preset", SHOWN)
def test_every_mechanism_shows_in_the_counters_of_its_cells(records, preset):
    ratios = ratios_of(records)
    own = [record for record in of_workloads(records) if record.preset == preset and record.status == "done"]
    assert len(own) == (4 if preset == "none" else 12)
    for record in own:
        for mechanism, names in SHOWN[preset].items():
            if ratios[record.scenario] > 100 or mechanism == "sharing":
                for name in names:
                    assert any(number(record, part) > 0 for part in name.split("|")), (record.cell, mechanism, name)


def test_without_overcommit_nothing_is_evicted_and_nothing_is_slow(records):
    for record in records.values():
        if ratios_of(records)[record.scenario] == 100:
            assert record.counters["evicted"] == 0 or record.preset == "tmo", record.cell  # tmo takes what is cold
            assert float(record.derived["slowdown"] or 1) < 1.02, record.cell


def test_a_clone_storm_clones_and_breaks(records):
    for record in records.values():
        if record.scenario.startswith("clone-storm") and record.status == "done":
            assert record.counters["fault_cow"] > 0 and record.derived["saved_cloning_frames"] > 0, record.cell


def test_usage_sums_to_the_host_and_overcommit_is_real(records):
    for record in records.values():
        if record.status == "done":
            assert sum(record.usage.values()) == plan.HostConfig(**record.config["host"]).memory
    for record in of_workloads(records):
        if record.status == "done" and ratios_of(records)[record.scenario] == 200 and "baseline" not in record.preset:
            assert float(record.derived["effective_overcommit"]) > 1.3, record.cell
            assert float(record.derived["slowdown"]) > 1.02, record.cell


def test_the_fleet_has_columns_and_a_host_of_its_own(records):
    fleet = {record.cell: record for record in records.values() if record.kind == "life"}
    rest = of_workloads(records)
    presets = ("none", "swap", "zcache", "ksm-6", "tmo", "esx-2002")
    assert set(fleet) == {f"fleet-200--{preset}--s1" for preset in presets}
    assert {record.preset for record in rest if record.role == "column"} == set(SHOWN)
    assert {record.config["host"]["memory"] for record in fleet.values()} == {"1GiB"}
    assert {r.config["host"]["memory"] for r in rest if r.role == "column"} == {"64MiB"}
    acted = {name: record.counters.get("decisions_acted", 0) for name, record in fleet.items() if record.counters}
    assert acted["fleet-200--tmo--s1"] > 0 and acted["fleet-200--esx-2002--s1"] > 0
    assert acted["fleet-200--swap--s1"] == 0 < fleet["fleet-200--swap--s1"].counters["evicted"]
    assert float(fleet["fleet-200--ksm-6--s1"].derived["saved_sharing_frames"]) > 10_000
    for record in fleet.values():
        if record.status == "done":
            assert 1 <= float(record.derived["slowdown"]) < 1.02, record.cell


def test_the_order_of_the_field(records):
    """What anybody would expect of these mechanisms, where there is room for no surprise."""
    slow = {name: float(record.derived.get("slowdown") or 0) for name, record in records.items()}
    for ratio in (150, 200):
        assert slow[f"scan-{ratio}--zcache--s1"] < slow[f"scan-{ratio}--swap--s1"]
        assert slow[f"phase-change-{ratio}--zcache--s1"] < slow[f"phase-change-{ratio}--swap--s1"]
        assert slow[f"zipf-{ratio}--sharing--s1"] < slow[f"zipf-{ratio}--swap--s1"]
        assert slow[f"scan-{ratio}--sharing--s1"] < slow[f"scan-{ratio}--swap--s1"]


def test_records_read_back_and_hold_registered_numbers_only(records):
    for record in records.values():
        assert loads(dumps(record), "here") == record
        assert not registry.unregistered(record.counters)
        assert record.accesses == sum(vm["accesses"] for vm in record.vms.values())


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_plans_at_every_tier(name):
    for tier in ("smoke", "quick", "full"):
        made = plan.make(name, tier)
        assert len({cell.sha256() for cell in made.cells}) == len(made.cells)
        for cell in made.in_order():
            assert pickle.loads(pickle.dumps(cell)) == cell
