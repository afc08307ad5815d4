"""Cells beside each other: the same records whatever runs beside them, and nothing lost when a worker goes."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from helpers.suites import scenario, suite
from memvirt import environment
from memvirt.cli.jobs import how_many
from memvirt.engine.content.content import Bytes
from memvirt.engine.testing.contents import PageProbe
from memvirt.errors import ConfigError
from memvirt.experiment import plan, pool
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.loop import manifest, run_plan, run_plan_beside
from memvirt.experiment.prediction import need
from memvirt.inputs import synthetic
from memvirt.inputs.store import save
from memvirt.results.record import comparable
from memvirt.results.run_folder import Results, load

ROOT = Path(__file__).parents[1]
SUITE = suite(
    scenario(
        "zipf",
        (100, 150),
        warm_up='workload = "zipf", accesses = 1000',
        measured='workload = "zipf", accesses = 4000, write_percent = 30',
    ),
    name="tiny",
    presets=("swap", "zcache", "all"),
    swap="16MiB",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    pages = synthetic(1024, seed=1)
    path = tmp_path_factory.mktemp("corpus") / "pages.mvcorpus"
    save(pages, path)
    return pages, path


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.toml").write_text(SUITE)
    return plan.make(str(tmp_path / "tiny.toml"))


@pytest.fixture
def workers(corpus):
    made = []

    def make(jobs):
        context = prepare(corpus[0])
        shared = pool.Shared(
            corpus[1], dict(context.versions), context.commit, dict(context.environment), context.make_host
        )
        made.append(pool.Workers(jobs, shared))
        return context, made[-1]

    yield make
    for each in made:
        each.shutdown(wait=False, cancel_futures=True)


def alive(process):
    """Whether a process runs (a zombie does not)."""
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_records_are_those_of_cells_that_ran_alone(tiny, corpus, workers, tmp_path, jobs):
    context, executor = workers(jobs)
    with Results(tmp_path / "alone", manifest(tiny, context)) as results:
        alone = {step.record.cell: step.record for step in run_plan(tiny, context, results)}
    with Results(tmp_path / "beside", manifest(tiny, context)) as results:
        steps = list(run_plan_beside(tiny, context, results, executor))
    beside = {step.record.cell: step.record for step in steps}
    assert {name: comparable(record) for name, record in beside.items()} == {
        name: comparable(record) for name, record in alone.items()
    }
    assert [step.done for step in steps] == list(range(1, tiny.count() + 1))
    assert all(record.status == "done" and not set(pool.WALL) & set(record.measured) for record in beside.values())
    assert sorted(record.cell for record in load(tmp_path / "beside")) == sorted(beside)


def test_a_second_run_takes_only_what_is_missing(tiny, workers, tmp_path):
    context, executor = workers(2)
    with Results(tmp_path / "run", manifest(tiny, context)) as results:
        first = list(run_plan_beside(tiny, context, results, executor))
    gone = tmp_path / "run" / "cells" / f"{first[-1].record.cell}.json"
    gone.unlink()
    with Results(tmp_path / "run", manifest(tiny, context), resume=True) as results:
        again = list(run_plan_beside(tiny, context, results, executor))
    assert [step.record.cell for step in again if not step.resumed] == [gone.stem] and gone.exists()


def die(cell, baseline):
    """In a worker: end in the middle of one cell, run the others."""
    if "zcache" in cell.name and "150" in cell.name:
        os.kill(os.getpid(), signal.SIGKILL)
    return pool.run_here(cell, baseline)


def test_a_worker_that_is_killed_fails_its_cell_and_no_other(tiny, workers, tmp_path):
    context, executor = workers(2)
    with Results(tmp_path / "run", manifest(tiny, context)) as results:
        records = [step.record for step in run_plan_beside(tiny, context, results, executor, die)]
    failed = [record for record in records if record.status != "done"]
    assert [record.cell for record in failed] == ["zipf-150--zcache--s1"]
    assert failed[0].status == "failed" and "killed by SIGKILL" in failed[0].reason
    assert len(records) == tiny.count()
    with Results(tmp_path / "run", manifest(tiny, context), resume=True) as results:
        again = [step for step in run_plan_beside(tiny, context, results, executor) if not step.resumed]
    assert [step.record.status for step in again] == ["done"]


def test_what_a_worker_raises_comes_out(workers):
    _, executor = workers(1)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()
    assert executor.submit(divmod, 7, 2).result() == (3, 1)


def test_workers_end_in_the_middle_when_told_to(workers):
    _, executor = workers(2)
    processes = {executor.submit(pool.identity).result()[0] for _ in range(8)}
    futures = [executor.submit(time.sleep, 60) for _ in range(4)]
    time.sleep(0.1)
    executor.shutdown(wait=False, cancel_futures=True)
    until(lambda: not any(map(alive, processes)))
    assert all(isinstance(future, Future) for future in futures)


def run_words(tmp_path, *more):
    return [
        *(sys.executable, "-m", "memvirt", "run", str(tmp_path / "tiny.toml"), "--corpus", "synthetic"),
        *("--out", str(tmp_path / "out"), "--jobs", "2", *more),
    ]


def descendants(process):
    found, todo = set(), [process]
    while todo:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == todo[0]:
                found.add(int(entry.parent.name))
                todo.append(int(entry.parent.name))
        todo.pop(0)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_runs_on_when_the_program_ends(tmp_path, number):
    """However it ends; and what was finished is kept."""
    (tmp_path / "tiny.toml").write_text(SUITE.replace("accesses = 4000", "accesses = 4000000"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEMVIRT_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(
        run_words(tmp_path), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(descendants(process.pid)) >= 3, 60)
    time.sleep(0.5)
    below = descendants(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130), err
    assert number == signal.SIGKILL or ("--resume" in err and "Traceback" not in err)
    until(lambda: not any(map(alive, below)))


def test_the_program_prints_the_same_table(tmp_path):
    (tmp_path / "tiny.toml").write_text(SUITE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MEMVIRT_CACHE": str(tmp_path / "cache")}
    tables = []
    for jobs in ("1", "2"):
        words = run_words(tmp_path)
        words[words.index("--jobs") + 1], words[words.index("--out") + 1] = jobs, str(tmp_path / f"out{jobs}")
        done = subprocess.run([*words, "--width", "80"], env=environment, capture_output=True, text=True, check=True)
        tables.append(done.stdout)
    assert tables[0].replace("simulator speed, ", "") == tables[1].replace("simulator speed, ", "")


@pytest.mark.parametrize("words", ["0", "-1", "two", "1.5", "", "4096"])
def test_no_number_of_jobs(tiny, words):
    with pytest.raises(ConfigError, match="--jobs .*: give auto, or a number from 1 to 1024"):
        how_many(words, tiny)


def test_auto_is_bounded_by_cores_and_memory(tiny, monkeypatch):
    cells = list(tiny.in_order())
    each = max(need(cell).memory_bytes for cell in cells)
    monkeypatch.setattr(pool, "cores", lambda: 6)
    for room, expected in ((each * 100, 6), (each * 2 + 1, 2), (each, 1), (0, 1)):
        monkeypatch.setattr(pool, "memory_limit", lambda room=room: room)
        assert pool.auto_jobs(cells) == expected


def test_cores_and_memory_of_a_control_group(tmp_path):
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1000 kB\n")
    assert environment.memory_limit(tmp_path) == 1_024_000
    (group / "cpu.max").write_text("50000 100000\n")
    (group / "memory.max").write_text("500000\n")
    (group / "memory.current").write_text("100000\n")
    assert environment.cores(tmp_path) == 1 and environment.memory_limit(tmp_path) == 400_000
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text("max\n")
    assert environment.cores(tmp_path) == len(os.sched_getaffinity(0))


def test_a_cell_that_runs_here_needs_no_worker(tiny, corpus):
    context = prepare(corpus[0])
    cell = next(tiny.in_order())
    assert run_cell(context, cell).status == "done"


def test_memory_that_is_kept_from_one_host_to_the_next_shows_in_no_record(tiny, corpus):
    """What is found in it is what a host before left: no cell may see that."""
    context, cells = prepare(corpus[0]), list(tiny.in_order())
    apart = [comparable(run_cell(context, cell)) for cell in cells]
    pool.keep_memory(True)
    try:
        assert [comparable(run_cell(context, cell)) for cell in cells] == apart
        PageProbe(Bytes(512)).set_frame_raw(7, b"\xa5" * 4096)
        assert PageProbe(Bytes(512)).frame_raw(7) == b"\xa5" * 4096  # the same memory
        assert PageProbe(Bytes(256)).frame_raw(7) == b"\xa5" * 4096  # and for a smaller host
        assert PageProbe(Bytes(1 << 15)).frame_raw(7) == bytes(4096)  # of more than was kept: new memory, all zeros
    finally:
        pool.keep_memory(False)
    assert PageProbe(Bytes(512)).frame_raw(7) == bytes(4096)
