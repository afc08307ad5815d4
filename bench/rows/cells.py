"""Cells beside each other: a suite of 50 equal cells with --jobs c and on two dask workers, beside --jobs 1.

The program is run as a whole, so starting it, its workers and the making of its table count. The cells are equal because
all VMs fit: a column's cell does what its baseline does. Processors of a shared machine are not worth a whole one each
(two may be threads of one core): the limit is what as many programs reach that know nothing of each other, each with its
share of the cells. What dask adds to a cell is measured by itself: cells that are
answered without being run, one after the other through a scheduler and one worker, beside the same call in this process.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness import Measure, Reference, Row, absent, bounded, compare, tell

from memvirt.environment import cores
from memvirt.experiment import executors, plan, pool
from memvirt.experiment.cell import blank, prepare
from memvirt.experiment.elsewhere import Elsewhere, routes, terms_of
from memvirt.experiment.plan import Cell
from memvirt.inputs import synthetic
from memvirt.results.record import Record

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
schema = 1
name = "equal"
title = "Equal cells"
description = "All VMs fit"
presets = ["swap"]
seeds = [{seeds}]
[host]
memory = "64MiB"
swap = "64MiB"
[[scenarios]]
name = "zipf"
description = "Few pages are hot."
overcommit_percent = [50]
fleet = {{ vms = 2, memory = "16MiB" }}
measured = {{ workload = "zipf", accesses = 4_000_000, write_percent = 30 }}
"""
CELLS = 50  # half of them baselines
SPEED_UP, DASK = 0.85, 0.8  # of c processors; of that
OF_LIMIT = 0.9  # of what as many separate programs reach
WORKERS = 2
MOST_MS = 20
ASKED = 100  # cells of the row about dask alone


def rows(repeats: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        count = cores()
        seeds = range(1, CELLS // 2 + 1)
        (folder / "equal.toml").write_text(SUITE.format(seeds=", ".join(map(str, seeds))))
        for number in range(count):
            part = ", ".join(map(str, seeds[number::count]))
            (folder / f"part{number}.toml").write_text(SUITE.format(seeds=part))
        alone = program(folder, "--jobs", "1")
        for what, words, target in (
            (f"{CELLS} equal cells, --jobs {count}", ("--jobs", str(count)), SPEED_UP * count),
            (f"{CELLS} equal cells, {WORKERS} dask workers", (), DASK * SPEED_UP * WORKERS),
        ):
            with ExitStack() as stack:
                if not words:
                    try:
                        import distributed  # noqa: F401
                    except ImportError:
                        yield absent(what, None, "s", target, "distributed is not installed")
                        return
                    words = ("--executor", stack.enter_context(cluster(folder, WORKERS)))
                references = [Reference(name="--jobs 1", measure=alone, target=target)]
                if words[0] == "--jobs":
                    limit = f"{count} programs of a part each (limit)"
                    references.append(Reference(name=limit, measure=apart(folder, count), target=OF_LIMIT))
                yield from compare(what, program(folder, *words), references, unit="s", repeats=repeats)
                if words[0] == "--executor":
                    added_ms = min(added(folder, words[1]) for _ in range(3))
                    yield bounded("what dask adds to a cell, best of 3", added_ms, MOST_MS, "ms")


def program(folder: Path, *words: str) -> Measure:
    """Seconds of the whole program with these options, each time into a folder of its own."""

    def measure() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            tell(f"{CELLS} cells {' '.join(words)}")
            began = time.perf_counter()
            command = [*run(folder / "equal.toml"), "--out", f"{out}/run", *words]
            subprocess.run(command, env=surroundings(folder), check=True, capture_output=True)
            return time.perf_counter() - began

    return measure


def apart(folder: Path, count: int) -> Measure:
    """Seconds until as many programs have ended that were started together, each with its share of the cells."""

    def measure() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            tell(f"{count} programs with {CELLS} cells between them")
            began = time.perf_counter()
            started = [
                subprocess.Popen(
                    [*run(folder / f"part{number}.toml"), "--out", f"{out}/run{number}", "--jobs", "1"],
                    env=surroundings(folder),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                for number in range(count)
            ]
            codes = [process.wait() for process in started]
            if any(codes):
                raise RuntimeError("a part of the cells failed")
            return time.perf_counter() - began

    return measure


def run(suite: Path) -> list[str]:
    return [sys.executable, "-m", "memvirt", "run", str(suite), "--corpus", "synthetic"]


def surroundings(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "bench")])
    return {**os.environ, "PYTHONPATH": path, "MEMVIRT_CACHE": str(folder / "cache")}


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """A dask scheduler on loopback with workers of one thread each, as --executor names it."""
    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    each = ["--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    commands = [["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show"]]
    commands += [["dask_worker", *each, "--name", str(number)] for number in range(workers)]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *words, *common],
            env=surroundings(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, *words in commands
    ]
    try:
        from distributed import Client

        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address.replace("tcp://", "dask://")
    finally:
        for process in started:
            process.kill()
            process.wait()


def answer(cell: Cell, baseline: Record | None) -> Record:
    """In a worker: the record of a cell that has not run."""
    return blank(pool.settled(), cell)


def added(folder: Path, url: str) -> float:
    """Milliseconds that a cell takes longer through dask, one after the other: nothing hides what it adds."""
    corpus = synthetic(1024, seed=1)
    context = prepare(corpus)
    cells = list(plan.make(str(folder / "equal.toml")).in_order())
    cells = [cells[number % len(cells)] for number in range(ASKED)]
    told = pool.shared(context)
    inner, aim = executors.open_executor(url)
    executor = Elsewhere(inner, told, terms_of(told, corpus, routes(cells)), aim=aim)
    pool.settle(context)
    try:
        executor.submit(answer, cells[0], None).result(60)  # corpus and imports are there from now on
        began = time.perf_counter()
        for cell in cells:
            executor.submit(answer, cell, None).result(60)
        through = time.perf_counter() - began
    finally:
        executor.shutdown(cancel_futures=True)
    began = time.perf_counter()
    for cell in cells:
        answer(cell, None)
    return (through - (time.perf_counter() - began)) * 1e3 / ASKED
