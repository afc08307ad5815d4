"""Suites whose VMs replay a trace: sizes that fit it, scenarios that stay apart, runs from the command line."""

import json

import numpy as np
import pytest

from memvirt.errors import ConfigError, CorpusError
from memvirt.experiment import plan as planning
from memvirt.experiment import suite as suites
from memvirt.experiment.fleet import Layout
from memvirt.experiment.replayed import footprint, with_trace
from memvirt.inputs.traces import Wanted, import_trace, open_trace


@pytest.fixture
def trace(tmp_path):
    """A trace of two disks: 3000 pages in all, 2000 of the one and 1000 of the other."""
    lines = []
    for i in range(30_000):
        page = i * 7919 % 2000 if i % 3 < 2 else i * 31 % 1000
        lines.append(f"{i},h,{i % 3 // 2},{'Write' if i % 4 else 'Read'},{4096 * page},1,9")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    info = import_trace(str(tmp_path / "t.csv"), tmp_path / "t.parquet", Wanted(format="msr"))
    assert info.pages == 3000
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("name", suites.names())
@pytest.mark.parametrize("tier", ["smoke", "full"])
def test_every_shipped_suite_replays_a_trace_or_says_why_not(trace, name, tier):
    sized = suites.load(name).at(tier)
    if not any(scenario.measures_workload for scenario in sized.scenarios):
        with pytest.raises(ConfigError, match="has no scenario with a workload that a trace could replace"):
            with_trace(sized, tier, trace)
        return
    made = with_trace(sized, tier, trace)
    tightest = None
    for scenario in made.scenarios:
        assert scenario.name == "trace" or scenario.name.startswith("trace-")
        if scenario.kind == "trace":
            assert (scenario.simulate.pages, scenario.simulate.workload.file) == (3000, trace)
            continue
        assert scenario.warm_up is None and scenario.measured.file == trace
        for percent in scenario.points:
            for size in scenario.fleet.sizes(percent):
                space = Layout.of(scenario.fleet, size).space
                room = space.pages - space.read_only
                assert room >= 3000
                tightest = min(room, tightest or room)
    if tightest is not None:  # sizes are those of the trace, where they are not the least there are
        before = next(each for each in sized.scenarios if each.kind == "fleet" and each.measured is not None)
        ratio = sized.host.memory / before.fleet.memory
        after = next(each for each in made.scenarios if each.kind == "fleet")
        assert made.host.memory / after.fleet.memory == pytest.approx(ratio, rel=0.01)


def test_quick_is_one_fleet_and_one_of_clones(trace):
    made = with_trace(suites.load("quick").at("quick"), "quick", trace)
    assert [scenario.fleet.origin for scenario in made.scenarios] == ["boot", "clone"]
    assert made.scenarios[0].description == "A replay of t.parquet in the place of the workload of 'zipf'."


def test_a_vm_that_replays_a_stream_is_as_large_as_the_largest_stream(trace):
    assert (footprint(open_trace(trace), "all"), footprint(open_trace(trace), "each")) == (3000, 2000)
    sized = suites.load("quick").at("quick")
    whole, each = (with_trace(sized, "quick", trace, streams) for streams in ("all", "each"))
    assert each.scenarios[0].fleet.memory == pytest.approx(whole.scenarios[0].fleet.memory * 2 / 3, rel=0.01)


def test_a_short_tier_replays_the_beginning(trace):
    sized = suites.load("quick").at("smoke")
    assert with_trace(sized, "smoke", trace).scenarios[0].measured.length() == 7500
    assert with_trace(suites.load("quick").at("full"), "full", trace).scenarios[0].measured.length() == 30_000


def test_a_small_trace_has_a_host_of_some_size(tmp_path):
    np.save(tmp_path / "t.npy", np.array([0, 1, 2, 0]))
    made = with_trace(suites.load("quick").at("quick"), "quick", tmp_path / "t.npy")
    assert made.host.memory == 4096


def test_a_trace_that_cannot_be_read_is_told_before_anything_runs(tmp_path):
    (tmp_path / "t.npy").write_text("1\n2\n")
    with pytest.raises(CorpusError, match=r"t.npy: this is no .npy file"):
        planning.make("quick", "smoke", trace=str(tmp_path / "t.npy"))
    with pytest.raises(CorpusError, match="No such file"):
        planning.make("quick", "smoke", trace=str(tmp_path / "none.parquet"))


@pytest.mark.parametrize("array", [np.empty(0, np.uint32), np.empty((2, 0), np.uint32)])
def test_a_trace_of_nothing_cannot_be_replayed(tmp_path, array):
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ConfigError, match=r"t.npy: it holds no page numbers, so there is nothing to replay"):
        with_trace(suites.load("quick"), "smoke", tmp_path / "t.npy")


def test_a_plan_names_the_content_of_its_trace(trace, tmp_path):
    """Another trace under the same name is another cell."""
    before = planning.make("quick", "smoke", only=["swap"], trace=str(trace)).cells[0]
    again = planning.make("quick", "smoke", only=["swap"], trace=str(trace)).cells[0]
    rows = (tmp_path / "t.csv").read_text().replace("Write", "Read", 1)
    (tmp_path / "t.csv").write_text(rows)
    import_trace(str(tmp_path / "t.csv"), trace, Wanted(format="msr"))
    after = planning.make("quick", "smoke", only=["swap"], trace=str(trace)).cells[0]
    assert before.sha256() == again.sha256() != after.sha256()


@pytest.mark.parametrize("streams", ["all", "each"])
def test_a_run_replays_a_trace(trace, tmp_path, memvirt, streams):
    words = ["run", "quick", "--tier", "smoke", "--preset", "none,swap", "--corpus", "synthetic", "--json"]
    words += ["--trace", trace, "--streams", streams, "--out", tmp_path / "out"]
    code, out, err = memvirt(*words)
    assert not code, err
    records = json.loads(out)
    done = [record for record in records if record["status"] == "done"]
    assert done and {record["scenario"].rpartition("-")[0] for record in records} == {"trace-zipf", "trace-clone-storm"}
    code, out, _ = memvirt(*words, "--resume")
    assert not code and json.loads(out) == records
