"""Results as frames: nothing is lost, rounded or parsed again on the way to a notebook."""

import sys
import time

import pytest

import memvirt
from helpers.made_records import folder, made
from memvirt.errors import ConfigError, FolderError
from memvirt.metrics.registry import REGISTRY
from memvirt.results.frames import KEYS, frames
from memvirt.results.timeline import Stretch, Timeline

pandas = pytest.importorskip("pandas")

LINE = Timeline(
    phases=[Stretch(phase="fill", rows=1, step_ns=8), Stretch(phase="measured", rows=2, step_ns=8)],
    sim_ns=[0, 5, 20],
    host={"usage.free": [9, 4, 1], "fault_swap": [0, 0, 3]},
    vms={"vm0": {"held_pages": [1, 2, 3]}, "vm1": {"balloon_pages": [0, 0, 7]}},
)


@pytest.fixture
def results(tmp_path):
    aged = [{"cycle": 1, "free_pages": 5}, {"cycle": 2, "free_pages": 4}]
    records = [
        made(timeline=LINE, sharing={"merges_zero": 2}, stores={"swap": 7}),
        made(preset="all", status="refused", reason="no room"),
        made(scenario="scan", slowdown="", samples=aged, seed=2),
        made(role="baseline", preset="baseline"),
    ]
    return records, memvirt.read_results(folder(tmp_path / "run", records))


def test_cells_are_a_row_a_cell_with_typed_columns(results):
    records, found = results
    cells = found.cells
    assert list(cells.columns[: len(KEYS)]) == list(KEYS) and len(cells) == len(records)
    assert cells["slowdown"].dtype == "float64" and cells["seed"].dtype == "int64" and cells["ratio"].dtype == "float64"
    assert all(cells[name].dtype == "category" for name in ("run", "scenario", "preset", "role", "status"))
    row = cells.iloc[0]
    assert (row.scenario, row.ratio, row.preset, row.status, row.slowdown) == ("zipf", 1.5, "swap", "done", 2.0)
    assert cells["slowdown"].isna().tolist() == [False, True, True, False]
    assert cells["role"].tolist() == ["column"] * 3 + ["baseline"]


def test_counters_hold_every_number_of_every_record(results):
    records, found = results
    counters = found.counters
    assert counters["value"].dtype == "int64"
    of_first = counters[(counters.scenario == "zipf") & (counters.preset == "swap")]
    told = dict(zip(of_first.metric, of_first.value, strict=True))
    first = records[0]
    for name, value in first.counters.items():
        assert told[name] == value
    assert told["cpu_ns.swap"] == 400 and told["usage.guest"] == 90 and told["stores.swap"] == 7
    assert told["merges_zero"] == 2 and told["fragmentation.unusable.order9"] == 250
    assert set(of_first.unit[of_first.metric == "cpu_ns.swap"]) == {"ns"}
    assert counters[counters.preset == "all"].empty


def test_histograms_are_a_row_a_bucket(results):
    _, found = results
    rows = found.histograms[found.histograms.role == "baseline"]
    assert list(zip(rows.fault, rows.sim_ns, rows["count"], strict=True)) == [("swap", 500, 98), ("swap", 66_560, 2)]


def test_samples_are_a_row_a_moment(results):
    _, found = results
    assert found.samples["phase"].tolist() == ["fill", "measured", "measured"]
    assert found.samples["sim_ns"].tolist() == [0, 5, 20] and found.samples["usage.free"].tolist() == [9, 4, 1]
    assert found.samples["fault_swap"].tolist() == [0, 0, 3] and not found.samples["merges"].any()
    vms = found.vms.set_index(["vm", "sim_ns"])
    assert vms.loc[("vm0", 5), "held_pages"] == 2 and vms.loc[("vm1", 20), "balloon_pages"] == 7
    assert len(found.vms) == 6 and found.vms["active_pages"].sum() == 0


def test_aging_is_a_row_a_cycle(results):
    _, found = results
    assert found.aging["cycle"].tolist() == [1, 2] and found.aging["free_pages"].tolist() == [5, 4]
    assert found.aging["seed"].tolist() == [2, 2]


def test_units_are_those_of_the_registry(results):
    _, found = results
    assert found.units["slowdown"] == "×" and found.units["usage.free"] == "frames" and found.units["sim_ns"] == "ns"
    assert found.units["held_pages"] == "pages" and "preset" not in found.units
    assert all(found.units[name] == REGISTRY[name].unit for name in found.units if name in REGISTRY)


def test_several_runs_are_told_apart(tmp_path):
    one, two = folder(tmp_path / "one", [made()]), folder(tmp_path / "two", [made(slowdown="4.000")])
    found = memvirt.read_results([one, two])
    assert found.cells.set_index("run")["slowdown"].to_dict() == {str(one): 2.0, str(two): 4.0}
    assert len(found.counters["run"].unique()) == 2


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(FolderError, match="not a memvirt results folder"):
        memvirt.read_results(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        memvirt.read_results([])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"pip install memvirt\[report\]"):
        memvirt.read_results(folder(tmp_path / "a", [made()]))


def test_a_run_in_which_nothing_was_done_has_empty_frames(tmp_path):
    found = memvirt.read_results(folder(tmp_path / "a", [made(status="failed", reason="no")]))
    assert len(found.cells) == 1
    for frame in (found.counters, found.histograms, found.samples, found.vms, found.aging):
        assert frame.empty and list(frame.columns[: len(KEYS)]) == list(KEYS)


def test_a_thousand_records_are_framed_in_a_moment():
    """The bound is for a loaded machine; alone it takes a tenth of it."""
    rows = 150
    line = Timeline(
        phases=[Stretch(phase="measured", rows=rows, step_ns=1)],
        sim_ns=list(range(rows)),
        host={name: list(range(rows)) for name in ("usage.free", "usage.guest", "fault_swap", "cpu_ns.swap")},
        vms={f"vm{index}": {"held_pages": list(range(rows))} for index in range(8)},
    )
    record = made(timeline=line, counters=dict.fromkeys(list(REGISTRY)[:60], 1))
    began = time.process_time()
    found = frames([("run", record)] * 1000)
    assert time.process_time() - began < 5
    assert len(found.samples) == 1000 * rows and len(found.vms) == 8000 * rows


def test_counts_are_integers_and_nullable_ones_where_some_are_missing(results):
    cells = results[1].cells
    assert str(cells["faults"].dtype) == "Int64" and cells["faults"].isna().sum() == 1  # refused
    assert str(cells["slowdown"].dtype) == "float64"
    whole = frames([("run", made(seed=seed)) for seed in (1, 2)]).cells
    assert str(whole["faults"].dtype) == "int64" and whole["faults"].tolist() == [100, 100]
