"""Cells in worker processes: as many at once as there are cores and memory for, each as it would run alone.

A cell is deterministic and needs nothing of another but its baseline's record, so where it runs cannot show in its
record. What this machine's clock said can: wall times of cells that ran beside others are left out (`without_wall`).

`Workers` is a `concurrent.futures.Executor` whose processes are its own, one cell each at a time. When one dies, its
cell's future says by which signal, a new process takes its place, and the others go on; an ordinary process pool would
be broken as a whole. Processes are forked from a server that has imported everything, map the corpus from its file, and
end with the process that started them, however that ends.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from memvirt.environment import cores, memory_limit
from memvirt.errors import WorkerDied
from memvirt.experiment.backend import MakeHost
from memvirt.experiment.cell import RunContext, run_cell
from memvirt.experiment.plan import Cell
from memvirt.experiment.prediction import need
from memvirt.inputs import cache_folder, keep, load
from memvirt.results.record import Record

T = TypeVar("T")
PR_SET_PDEATHSIG = 1  # linux/prctl.h
WALL = ("wall_ns", "accesses_per_s", "wall_samples")  # in a record's `measured`

# Server and workers are forked from a process without threads; a fork of this one might copy a held lock.
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Shared:
    """What a worker gets once: where the corpus lies, and what records say of the run."""

    corpus: Path
    versions: dict[str, str]
    commit: str
    environment: dict[str, Any]
    make_host: MakeHost  # importable by name: it travels to the workers


def shared(run: RunContext) -> Shared:
    """What workers of a run get. Its corpus is kept in the cache folder, from which they map it."""
    corpus = keep(run.corpus, cache_folder())
    return Shared(corpus, dict(run.versions), run.commit, dict(run.environment), run.make_host)


def auto_jobs(cells: Sequence[Cell]) -> int:
    """How many cells may run at once: the cores of this process, as far as its memory goes for the largest cells."""
    largest = sorted((need(cell).memory_bytes for cell in cells), reverse=True)
    spare, jobs = memory_limit(), 0
    for needed in largest[: max(1, min(cores(), len(cells)))]:
        spare -= needed
        if spare < 0 and jobs:
            break
        jobs += 1
    return max(1, jobs)


def without_wall(record: Record) -> Record:
    """The record without what the clock said: beside other cells it says nothing."""
    return replace(record, measured={name: value for name, value in record.measured.items() if name not in WALL})


class Workers(ThreadPoolExecutor):
    """An executor of `jobs` processes. A thread for each waits for its answer; `submit` as ever."""

    def __init__(self, jobs: int, shared: Shared) -> None:
        super().__init__(jobs, thread_name_prefix="memvirt-worker")
        self._shared = shared
        self._ending = False
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        _CONTEXT.set_forkserver_preload(["memvirt.experiment.pool"])
        self._all = {_Worker(shared) for _ in range(jobs)}
        for worker in self._all:
            self._idle.put(worker)

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As an executor does; `call` is run in a worker, by pickle."""
        return super().submit(self._run, call, args, kwargs)

    def _run(self, call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        worker = self._idle.get()
        try:
            answer: T = worker.ask(call, args, kwargs)
            return answer
        except WorkerDied:
            if not self._ending:
                self._all.discard(worker)
                worker = _Worker(self._shared)
                self._all.add(worker)
            raise
        finally:
            self._idle.put(worker)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As an executor does, and then end the workers; without `wait` in the middle of what they do."""
        self._ending = True
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        for worker in tuple(self._all):
            worker.end()


class _Worker:
    """One process, asked one thing at a time."""

    def __init__(self, shared: Shared) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_work, args=(theirs, shared), daemon=True)
        with _without_main():
            self._process.start()
        theirs.close()

    def ask(self, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            self._pipe.send((call, args, kwargs))
            answer, error = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise WorkerDied(f"its worker process {_ending(self._process.exitcode)}") from None
        if error is not None:
            raise error
        return answer

    def end(self) -> None:
        self._process.kill()


@contextmanager
def _without_main() -> Iterator[None]:
    """A worker imports nothing of the script that was started: it may have no guard against being run again."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: main.__dict__.pop(name) for name in ("__file__", "__spec__") if name in main.__dict__
    }
    main.__spec__ = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with {code}"


def _work(pipe: Connection, shared: Shared) -> None:
    """A worker's life: the run once, then call after call until the other end closes."""
    for number in (signal.SIGINT, signal.SIGHUP):  # of a terminal, to all its processes: the parent decides
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # when the server ends, as it does with who started it
    corpus = load(shared.corpus, mapped=True)
    settle(RunContext(corpus, shared.versions, shared.commit, shared.environment, shared.make_host))
    while True:
        try:
            call, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, BaseException | None] = (call(*args, **kwargs), None)
        except Exception as error:
            answer = (None, error)
        pipe.send(answer)


_here = threading.local()  # .run: of the cells that this thread runs


def settle(run: RunContext) -> None:
    """This thread runs cells of that run from now on, and its process keeps the memory of one host for the next."""
    _here.run = run
    keep_memory(True)


def keep_memory(keep: bool) -> None:
    """Whether this process keeps the memory of a host that ended for the next cell's."""
    from memvirt.engine.content.content import keep_arena

    keep_arena(keep)


def settled() -> RunContext:
    """What this thread has been settled for."""
    run: RunContext = _here.run
    return run


def run_here(cell: Cell, baseline: Record | None) -> Record:
    """Run a cell in a worker; called there, in a thread that is settled."""
    return run_cell(settled(), cell, baseline)


def identity() -> tuple[int, int]:
    """(process, parent) of a worker; called there, by tests."""
    return os.getpid(), os.getppid()
