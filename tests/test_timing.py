"""Timings: real processes under pyperf, on a scenario that takes milliseconds."""

import fcntl
import json
import os
import subprocess
import sys
from itertools import pairwise

import pyperf
import pytest
from typer.testing import CliRunner

from memvirt import inputs
from memvirt.cli import APP
from memvirt.errors import ConfigError, TimingError
from memvirt.experiment import plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.timing import samples
from memvirt.timing.hook import MemvirtHook, publish

SUITE = """
schema = 1
name = "tiny"
title = "Two VMs"
description = "As small as a cell can be."
presets = ["swap", "zcache", "none"]
[host]
memory = "4MiB"
swap = "16MiB"
[[scenarios]]
name = "zipf"
description = "Skewed."
overcommit_percent = [150]
warm_up = { workload = "zipf", accesses = 256, write_percent = 20 }
measured = { workload = "zipf", accesses = 4096, write_percent = 20 }
[scenarios.fleet]
vms = 2
memory = "2MiB"
image = ["libraries"]
private = ["heap"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The entry point as an installation leaves it, for us and for the processes that we start."""
    site = tmp_path_factory.mktemp("site")
    info = site / "memvirt_hook_for_tests-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memvirt-hook-for-tests\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[pyperf.hook]\nmemvirt = memvirt.timing.hook:MemvirtHook\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples.tempfile, "tempdir", str(site))  # a lock of our own
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
        yield


@pytest.fixture(scope="module")
def corpus_file(tmp_path_factory):
    return inputs.keep(inputs.synthetic(2048, 1), tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "tiny.toml"
    path.write_text(SUITE)
    return {cell.preset: cell for cell in plan.make(str(path)).cells}


@pytest.fixture(scope="module")
def timed(installed, corpus_file, cells, tmp_path_factory):
    """A folder with two samples of two presets, and what was yielded on the way."""
    folder = tmp_path_factory.mktemp("results")
    pair = [cells["swap"], cells["zcache"]]
    return folder, list(samples.run_timings(pair, corpus_file, folder, processes=2))


def test_presets_take_turns(timed):
    _, steps = timed
    assert [step.error for step in steps] == [""] * 4
    assert [step.cell.split("--")[1] for step in steps] == ["swap", "zcache"] * 2
    assert [(step.done, step.total) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert steps[0].left_s > 0 and steps[-1].left_s == 0


def test_pyperf_reads_the_files_unchanged(timed):
    folder, _ = timed
    files = [str(samples.timing_file(folder, f"zipf-150--{preset}--s1")) for preset in ("swap", "zcache")]
    for command in (["show", files[0]], ["stats", files[0]], ["compare_to", *files]):
        said = subprocess.run([sys.executable, "-m", "pyperf", *command], capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
    assert "zcache" in said.stdout or "zipf-150--s1" in said.stdout


def test_a_process_gives_one_value_and_one_loop(timed):
    folder, _ = timed
    benchmark = pyperf.Benchmark.load(str(samples.timing_file(folder, "zipf-150--swap--s1")))
    assert benchmark.get_name() == "zipf-150--s1"
    for run in benchmark.get_runs():
        assert len(run.values) == 1 and not run.warmups and run.get_loops() == 1
        assert 0 < run.values[0] < 60


def test_the_simulated_numbers_ride_along_and_are_the_record_s(timed, cells, corpus_file):
    folder, _ = timed
    record = run_cell(prepare(inputs.load(corpus_file)), cells["swap"])
    assert record.status == "done", record.reason
    for run in pyperf.Benchmark.load(str(samples.timing_file(folder, record.cell))).get_runs():
        about = run.get_metadata()
        assert about["mv_sim_ns"] == record.sim_ns and about["mv_accesses"] == record.accesses
        assert {name: about[f"mv_{name}"] for name in record.counters} == record.counters
        assert {name: about[f"mv_cpu_ns_{name}"] for name in record.cpu_ns} == record.cpu_ns
        assert about["mv_config_sha256"] == record.config_sha256 and about["mv_preset"] == "swap"


def test_a_second_run_takes_only_what_is_missing(timed, corpus_file, cells):
    folder, _ = timed
    before = samples.load(samples.timing_file(folder, "zipf-150--swap--s1"))["zipf-150--s1"].values
    left = folder / "timings" / ".tmp-of-a-killed-run"
    left.mkdir()
    assert list(samples.run_timings([cells["swap"]], corpus_file, folder, processes=2)) == []
    (step,) = samples.run_timings([cells["swap"]], corpus_file, folder, processes=3)
    after = samples.load(samples.timing_file(folder, "zipf-150--swap--s1"))["zipf-150--s1"].values
    assert after[:2] == before and len(after) == 3 and (step.done, step.total) == (3, 3)
    assert not left.exists()


def test_samples_of_another_configuration_are_not_continued(timed, corpus_file, cells):
    folder, _ = timed
    file = samples.timing_file(folder, "zipf-150--swap--s1")
    other = samples.timing_file(folder, cells["none"].name)
    other.write_bytes(file.read_bytes())
    try:
        with pytest.raises(TimingError, match="another cell or configuration"):
            next(samples.run_timings([cells["none"]], corpus_file, folder))
    finally:
        other.unlink()


def test_a_cell_that_cannot_run_is_named_and_leaves_nothing(installed, corpus_file, cells, tmp_path):
    """`none` refuses the third VM. Its other samples are not tried."""
    (step,) = samples.run_timings([cells["none"]], corpus_file, tmp_path, processes=3)
    assert "AdmissionError" in step.error and step.cell in step.error and (step.done, step.total) == (1, 1)
    assert list((tmp_path / "timings").iterdir()) == []


def test_a_failed_sample_changes_nothing(installed, corpus_file, cells, tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text("as it was")
    with pytest.raises(TimingError, match="ended with"):
        samples.take(cells["swap"], tmp_path / "no-corpus", path)
    monkeypatch.setattr(samples, "TIMEOUT_S", 0.01)
    with pytest.raises(TimingError, match="more than"):
        samples.take(cells["swap"], corpus_file, path)
    assert path.read_text() == "as it was" and list(tmp_path.iterdir()) == [path]


def test_timings_run_alone(tmp_path):
    with (
        samples.alone(tmp_path),
        pytest.raises(ConfigError, match="another memvirt run is timing"),
        samples.alone(tmp_path),
    ):
        pass
    with samples.alone(tmp_path):
        lock = os.open(tmp_path / samples.LOCK, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)


def test_tier_full_times_what_it_ran(installed, cells, corpus_file, tmp_path, monkeypatch):
    """Two of the three cells end, and have their samples."""
    suite = tmp_path / "tiny.toml"
    suite.write_text(SUITE)
    monkeypatch.setattr(samples, "PROCESSES", 1)
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    said = CliRunner().invoke(
        APP, ["run", str(suite), "--tier", "full", "--corpus", str(corpus_file), "--out", str(out)]
    )
    assert said.exit_code == 0, said.output
    names = sorted(path.stem for path in (out / "timings").iterdir())
    assert names == ["zipf-150--swap--s1", "zipf-150--zcache--s1"]
    assert all(
        samples.samples(out / "timings" / f"{cell.name}.json", cell) == 1
        for cell in full_cells(suite)
        if cell.name in names
    )


def full_cells(suite):
    return plan.make(str(suite), "full").cells


def test_the_lock_is_held_while_samples_are_taken(installed, cells, corpus_file, tmp_path, monkeypatch):
    def take(*_):
        with pytest.raises(ConfigError, match="another memvirt run"), samples.alone():
            pass

    monkeypatch.setattr(samples.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(samples, "take", take)
    assert len(list(samples.run_timings([cells["swap"]], corpus_file, tmp_path / "run", processes=2))) == 2


def test_without_the_hook_nothing_is_started(cells, corpus_file, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: ())
    with pytest.raises(ConfigError, match="hook"):
        next(samples.run_timings([cells["swap"]], corpus_file, tmp_path))


def test_turns_stay_within_a_scenario(cells):
    order = [cell.preset for cell in samples.turns(list(cells.values()), 3)]
    assert order == ["swap", "zcache", "none"] * 3
    assert all(one != two for one, two in pairwise(order))


def test_only_cells_that_ended_are_worth_timing(cells):
    def record(cell, status):
        return type("R", (), {"cell": cell.name, "status": status})

    records = [record(cells["swap"], "done"), record(cells["none"], "refused")]
    assert samples.worth_timing(list(cells.values()), records) == [cells["swap"]]


@pytest.mark.parametrize("value", [None, [], "", True, "two\nlines"])
def test_what_pyperf_cannot_hold_is_not_published(value):
    with pytest.raises(TypeError, match="metadata"):
        publish(bad=value)


def test_the_last_word_before_the_end_is_kept():
    hook, metadata = MemvirtHook(), {"name": "x"}
    with hook:
        publish(faults=1, lost=2)
    with hook:
        publish(faults=0)
    hook.teardown(metadata)
    assert metadata == {"name": "x", "mv_faults": 0}
    assert json.dumps(metadata)
