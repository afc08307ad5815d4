"""Wall times of cells, under pyperf: one process per sample, presets taking turns.

    DIR/timings/<scenario>--<preset>--s<seed>.json     ordinary pyperf files, one for each cell

What drifts on a machine (clock, temperature, neighbours) drifts over minutes. So the presets of a scenario are timed in
turns, one sample each, and a drift falls on all of them alike. Each sample is a process of its own, because memory
layout differs between processes and only their means are independent.

A sample is appended to a copy of the cell's file, and the copy renamed over it: a run killed at any moment leaves whole
files, and goes on by counting the samples there are. Timings run alone: a lock for the whole machine sees to that.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from memvirt import interrupts
from memvirt.errors import ConfigError, TimingError
from memvirt.experiment.plan import Cell
from memvirt.results.record import Record
from memvirt.results.run_folder import TIMINGS
from memvirt.untrusted import file_bytes, json_value

PROCESSES = 20  # samples of a cell; five are the least for a verdict
TIMEOUT_S = 900  # of one sample
LOCK = "memvirt-timing.lock"
HOOK = "memvirt"
PASSED_ON = "LD_PRELOAD,ASAN_OPTIONS,PYTHONMALLOC"  # how this process was loaded: pyperf passes on few others by itself
FOLDER = TIMINGS


@dataclass(frozen=True, slots=True)
class Sampled:
    """Where timing is after a sample."""

    done: int
    total: int
    cell: str
    error: str  # why this cell could not be timed; its other samples are not tried
    left_s: float  # estimate


@contextmanager
def alone(folder: Path | None = None) -> Iterator[None]:
    """Hold this machine's lock for timings. ConfigError when another process has it."""
    path = (folder or Path(tempfile.gettempdir())) / LOCK
    try:
        lock = os.open(path, os.O_RDONLY) if os.path.exists(path) else os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"{path}: the lock for timings cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "another memvirt run is timing on this machine, and timings must run alone; wait for it"
            ) from None
        yield
    finally:
        os.close(lock)


def timing_file(folder: Path, cell: str) -> Path:
    """Where the timings of a cell lie in a results folder."""
    return folder / FOLDER / f"{cell}.json"


@dataclass(frozen=True, slots=True)
class Timed:
    """One benchmark of a pyperf file."""

    values: list[list[float]]  # of each process, warm-ups left out
    machine: dict[str, Any]  # pyperf's own metadata that are the same for all processes
    preset: str  # "" for a benchmark that is not a cell
    configs: frozenset[str]  # config_sha256 of the cell; one


def load(path: Path) -> dict[str, Timed]:
    """The benchmarks of a pyperf file by name. TimingError when it is none, holds no value, or one that is no time."""
    import pyperf  # type: ignore[import-untyped]

    try:
        json_value(file_bytes(path))  # pyperf has no bounds of its own
        benchmarks = pyperf.BenchmarkSuite.load(str(path)).get_benchmarks()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TimingError(f"{path}: not a pyperf file: {error}") from None
    found = {benchmark.get_name(): _timed(benchmark) for benchmark in benchmarks}
    if not any(timed.values for timed in found.values()):
        raise TimingError(f"{path}: holds no value")
    for name, timed in found.items():
        if any(isinf(value) for process in timed.values for value in process):  # pyperf lets no other one pass
            raise TimingError(f"{path}: benchmark {name} holds a value that is not finite")
    return found


def _timed(benchmark: Any) -> Timed:
    runs = benchmark.get_runs()
    every = [run.get_metadata() for run in runs]
    return Timed(
        values=[list(run.values) for run in runs if run.values],
        machine=benchmark.get_metadata(),
        preset=str(every[0].get("mv_preset", "")),
        configs=frozenset(str(each.get("mv_config_sha256", "")) for each in every),
    )


def samples(path: Path, cell: Cell) -> int:
    """How many samples of a cell its file holds; none without a file. TimingError when they are of something else."""
    if not os.path.exists(path):
        return 0
    timed = load(path).get(benchmark_name(cell))
    if timed is None or timed.configs != {cell.sha256()}:
        raise TimingError(f"{path}: holds samples of another cell or configuration; delete it, or use another folder")
    return len(timed.values)


def benchmark_name(cell: Cell) -> str:
    """The name of a cell's benchmark: without its preset, so that pyperf compares presets with each other."""
    return f"{cell.scenario}--s{cell.seed}"


def turns(cells: Sequence[Cell], processes: int) -> Iterator[Cell]:
    """Every cell `processes` times, the presets of a scenario and seed taking turns."""
    blocks: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        blocks.setdefault((cell.scenario, cell.seed), []).append(cell)
    for block in blocks.values():
        for _ in range(processes):
            yield from block


def worth_timing(cells: Sequence[Cell], records: Sequence[Record]) -> list[Cell]:
    """The cells that ran to their end, of the first seed: seeds tell of workloads, processes of the clock. Traces
    without a host are left out: benchmarks of orders time those."""
    done = {record.cell for record in records if record.status == "done"}
    first = min((cell.seed for cell in cells), default=0)
    hosted = [cell for cell in cells if cell.spec.times_wall]
    return [cell for cell in hosted if cell.seed == first and cell.name in done]


def run_timings(
    cells: Sequence[Cell],
    corpus_file: Path,
    folder: Path,
    *,
    processes: int | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Sampled]:
    """Take the samples that a results folder lacks, yielding after each. Samples there are stay and are counted.

    `cells` are cells that run to their end: refused and exhausted ones have no time. `processes` is how many samples a
    cell shall have, PROCESSES unless given. ConfigError when timings run on this machine already, or pyperf cannot
    find memvirt's hook.
    """
    require_hook()
    processes = PROCESSES if processes is None else processes
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    held = {cell.name: samples(timing_file(folder, cell.name), cell) for cell in cells}
    missing = sum(max(0, processes - count) for count in held.values())
    total = processes * len(cells)
    done, taken, began = total - missing, 0, clock()
    turn, failed = dict.fromkeys(held, 0), set[str]()
    with alone():
        for left in (folder / FOLDER).glob(".*"):  # of a run that was killed in mid-sample
            shutil.rmtree(left, ignore_errors=True)
        for cell in turns(cells, processes):
            turn[cell.name] += 1
            if turn[cell.name] <= held[cell.name] or cell.name in failed:
                continue
            error = ""
            try:
                take(cell, corpus_file, timing_file(folder, cell.name))
            except TimingError as problem:
                error = str(problem)
                failed.add(cell.name)
                total -= processes - turn[cell.name]
                missing -= processes - turn[cell.name]
            interrupts.check()
            done, taken = done + 1, taken + 1
            yield Sampled(done, total, cell.name, error, (clock() - began) / taken * (missing - taken))


def take(cell: Cell, corpus_file: Path, path: Path) -> None:
    """Append one sample of a cell to its file, or change nothing. TimingError when the process fails."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as beside:
        copy, asked = Path(beside) / path.name, Path(beside) / "cell"
        if os.path.exists(path):
            shutil.copyfile(path, copy)
        asked.write_bytes(pickle.dumps(cell))
        ours = ["--cell", str(asked), "--corpus", str(corpus_file)]
        theirs = ["-p", "1", "-n", "1", "-w", "0", "-l", "1", "--hook", HOOK, "--quiet", "--append", str(copy)]
        theirs += ["--inherit-environ", PASSED_ON]
        command = [sys.executable, "-m", "memvirt.timing.worker", *ours, *theirs]
        try:
            code, said = _finish(command)
        except subprocess.TimeoutExpired:
            raise TimingError(f"{cell.name}: a sample took more than {TIMEOUT_S} s") from None
        if code:
            raise TimingError(f"{cell.name}: its process ended with {code}: {_complaint(said)}")
        os.replace(copy, path)


def _finish(command: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a process. It leads a group, because pyperf's worker is a child of it: when we stop
    early, both end, and nothing goes on running beside the next sample."""
    with subprocess.Popen(
        command, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            _, said = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, said


def _complaint(text: str) -> str:
    """What a process died of: the first error in its words, because pyperf adds one of its own behind it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if re.match(r"[\w.]*Error: ", line)), lines[-1] if lines else "without a word")


def _environment() -> dict[str, str]:
    """The environment with this memvirt first on the path, wherever it was imported from; pyperf passes it on."""
    here = str(Path(__file__).resolve().parents[2])
    rest = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([here, rest]) if rest else here}


def require_hook() -> None:
    """ConfigError unless pyperf will find the hook that carries our metadata."""
    from importlib.metadata import entry_points

    if not any(hook.name == HOOK for hook in entry_points(group="pyperf.hook")):
        raise ConfigError("pyperf does not find memvirt's hook, which comes with the installation: pip install -e .")
