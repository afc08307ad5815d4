"""One cell: what its statuses mean, what is compared, and the numbers that follow from its counts."""

import pytest

from helpers.suites import scenario, suite
from memvirt.experiment import cell as cells
from memvirt.experiment import plan
from memvirt.experiment.loop import manifest, run_plan
from memvirt.host import Host
from memvirt.inputs import synthetic
from memvirt.results import derived
from memvirt.results.run_folder import Results

SUITE = suite(
    scenario(
        ratios=(100, 200),
        warm_up='workload = "uniform", accesses = 500',
        measured='workload = "uniform", accesses = 2000, write_percent = 50',
    ),
    presets=("none", "swap"),
)


@pytest.fixture(scope="module")
def corpus():
    return synthetic(400, seed=1)


@pytest.fixture
def made(tmp_path):
    (tmp_path / "one.toml").write_text(SUITE)
    return plan.make(str(tmp_path / "one.toml"))


def chosen(made, name):
    return next(cell for cell in made.in_order() if cell.name == name)


def test_a_cell_is_verified_and_its_phases_are_told_apart(made, corpus):
    record = cells.run_cell(cells.prepare(corpus), chosen(made, "u-200--swap--s1"))
    assert record.status == "done" and record.verified
    assert record.accesses == 4 * 2000 and record.counters["fills"] == 0
    assert record.counters["reads"] + record.counters["writes"] == record.accesses
    assert set(record.measured["wall_ns"]) == {"fill", "warm-up", "measured"}
    assert record.derived["slowdown"] == ""  # without a baseline there is none


def test_refused_is_an_outcome(made, corpus):
    record = cells.run_cell(cells.prepare(corpus), chosen(made, "u-200--none--s1"))
    assert record.status == "refused" and "commit='nominal'" in record.reason and not record.counters


def test_exhausted_is_an_outcome(made, corpus, tmp_path):
    (tmp_path / "two.toml").write_text(SUITE.replace('presets = ["none", "swap"]', 'presets = ["swap"]'))
    tight = plan.make(str(tmp_path / "two.toml"), overrides=["swap=0"])
    record = cells.run_cell(cells.prepare(corpus), chosen(tight, "u-200--swap--s1"))
    assert record.status == "exhausted" and "stopped in phase fill" in record.reason and "no_frame" in record.reason


class Liar(Host):
    """Reads back something else than was written."""

    def create(self, config):
        vm = super().create(config)
        honest = vm.read_pages

        def lie(pages):
            rows = honest(pages)
            rows[-1, 77] ^= 1
            return rows

        vm.read_pages = lie
        return vm


def test_a_vm_that_reads_back_something_else_fails_its_cell(made, corpus):
    record = cells.run_cell(cells.prepare(corpus, Liar.of), chosen(made, "u-100--swap--s1"))
    assert record.status == "failed" and not record.verified and "ContentError: vm0: page" in record.reason
    assert record.counters["reads"]  # the numbers were taken before


@pytest.mark.parametrize("error", [OSError(28, "No space left"), MemoryError("arena")])
def test_what_this_machine_lacks_fails_the_cell_only(made, corpus, error):
    def broken(config, **settings):
        raise error

    record = cells.run_cell(cells.prepare(corpus, broken), chosen(made, "u-100--swap--s1"))
    assert record.status == "failed" and type(error).__name__ in record.reason


def test_a_run_resumes_from_what_is_kept(made, corpus, tmp_path):
    context = cells.prepare(corpus)
    with Results(tmp_path / "out", manifest(made, context)) as results:
        first = [step.record for step in run_plan(made, context, results)]
    assert [record.preset for record in first] == ["baseline", "none", "swap"] * 2
    lost = first[-1]
    (tmp_path / "out" / "cells" / f"{lost.cell}.json").unlink()

    def measure(context, cell, baseline):
        assert cell.name == lost.cell and baseline == first[3]
        return lost

    with Results(tmp_path / "out", manifest(made, context), resume=True) as results:
        steps = list(run_plan(made, context, results, measure=measure))
    assert [step.record for step in steps] == first
    assert [step.resumed for step in steps] == [True] * 5 + [False]
    assert steps[-1].left_s == 0 and [step.done for step in steps] == [1, 2, 3, 4, 5, 6]


def taken(**changes):
    fields = {
        "counters": {"fault_swap": 3, "fault_zero": 2, "huge_missed": 1, "reads": 9, "swap_pages_in": 128},
        "histograms": {"swap": [(100, 99), (900, 1)]}, "cpu_ns": {"access": 10, "fault": 5}, "usage": {"free": 3, "guest": 1},
        "sharing": {"saved_gross_frames": 9, "pages_sharing": 12, "leaves_shared": 2, "cow_sharing": 4},
        "stores": {"same": 1, "zpool": 9, "swap": 5, "balloon": 6}, "content_pages": 30, "used_frames": 20,
        "fragmentation": {"unusable": [0] * 9 + [250, 1000], "zpool_waste": {"sparse": 2048}, "vms": {
            "vm0": {"present_pages": 1024, "runs": 3, "huge_pages": 512}}},
        "vms": {"vm0": {"accesses": 9, "sim_ns": 300, "stall_ns": 30}, "vm1": {"accesses": 0, "sim_ns": 0, "stall_ns": 0}},
        "merge_times": (0, 0), "stall": {"stall_some_ns": 60}, "configured_pages": 8, "sim_ns": 300, "baseline_ns": 200,
    }  # fmt: skip
    return derived.Taken(**{**fields, **changes})


def test_what_follows_from_counts():
    found = derived.derived(taken(usage={"free": 1, "guest": 1, "zspage": 2}))
    assert found["effective_overcommit"] == "1.500" and found["slowdown"] == "1.500" and found["overcommit"] == "2.00"
    assert found["faults"] == 3 + 2 and found["cpu_total_ns"] == 15
    assert found["merge_delay_ns"] == "" and derived.derived(taken(merge_times=(3, 100)))["merge_delay_ns"] == 33
    assert found["saved_sharing_frames"] == 9 and found["saved_cloning_frames"] == 6
    assert found["saved_zpool_frames"] == 7 and found["saved_same_frames"] == 1
    assert found["saved_swap_frames"] == 5 and found["saved_balloon_frames"] == 6
    assert (
        found["shared_percent"] == found["saved_by_sharing_percent"] == "112.500000"
    )  # 9 of 8 pages: no frame is told
    shared = derived.derived(taken(sharing={"saved_gross_frames": 3, "pages_shared": 2}))
    assert (shared["shared_percent"], shared["saved_by_sharing_percent"]) == ("62.500000", "37.500000")
    assert found["sim_ns.swap.p50"] == found["sim_ns.swap.p99"] == 100 and found["sim_ns.swap.p999"] == 900


def test_shares_and_amounts_are_exact_decimals():
    found = derived.derived(taken(usage={"free": 1, "guest": 1, "zspage": 2}))
    assert (found["swap_traffic_mib"], found["cpu_overhead_percent"]) == ("0.500000", "33.333333")
    assert (found["unusable_2mib_percent"], found["zpool_waste_percent"]) == ("25.0", "25.000000")
    assert (found["huge_mapped_percent"], found["contiguity_pages"]) == ("50.000000", "341.333333")
    assert (found["stall_percent"], found["vms_stalled_percent"]) == ("20.000000", "50.000000")
    assert (found["pool_ratio"], found["fault_p99_us"]) == ("4.500000", "0.100")
    bare = derived.derived(taken(histograms={}, vms={}, fragmentation={}, usage={"free": 4}, stores={}))
    for name in (
        "fault_p99_us",
        "cow_p999_us",
        "stall_percent",
        "worst_stall_percent",
        "pool_ratio",
        "contiguity_pages",
    ):
        assert bare[name] == "", name


def test_the_vm_that_waited_most_of_its_own_time_is_found():
    """It may be another than the one that waited longest."""
    vms = {
        "vm0": {"accesses": 9, "sim_ns": 1000, "stall_ns": 500}, "vm1": {"accesses": 9, "sim_ns": 100, "stall_ns": 80},
        "vm2": {"accesses": 9, "sim_ns": 400, "stall_ns": 0}, "vm3": {"accesses": 0, "sim_ns": 0, "stall_ns": 0},
    }  # fmt: skip
    found = derived.derived(taken(vms=vms, stall={"stall_some_ns": 500}))
    assert (found["vms_stalled_percent"], found["worst_stall_percent"]) == ("50.000000", "80.000000")
    assert found["stall_percent"] == "50.000000"


def test_what_follows_from_a_trace():
    assert derived.of_trace(1000, 250, 200) == {"miss_ratio": "25.000000", "of_optimum": "93.750000"}
    assert derived.of_trace(10, 10, 10)["of_optimum"] == ""  # where even the optimum hits nothing there is no share


def test_floats_do_not_pass():
    assert derived.without_floats({"a": [1, (True, None)]}) == {"a": [1, [True, None]]}
    with pytest.raises(TypeError, match="is a float"):
        derived.without_floats({"a": [0.5]})
