"""What a disk takes to read and write pages, by how many at once and how many requests wait: a file, past the page cache.

The file has no name from the start, so that nothing is left of it whatever happens. A thread stands for a request that
waits. Of depth 1 the times follow from one request after another; deeper, a time is from the system call to its return,
so it includes the wait, and how many are done in a second says how many the device serves at once.
"""

from __future__ import annotations

import mmap
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memvirt.backends.linux.kernel import Missing
from memvirt.backends.measured import Measured
from memvirt.environment import disk_problem, swap_folder
from memvirt.inputs.bits import Bits
from memvirt.settings.devices import SwapDevice
from memvirt.units import PAGE_SIZE

PAGES = 16384  # 64 MiB
SIZES, DEPTHS = (1, 8, 32), (1, 4, 16)
LASTS_S = 0.35
MOST = 4096  # requests of a thread
MOST_CHANNELS = 64
RUN = 64  # pages written at once when the file is made


@dataclass(frozen=True, slots=True)
class Point:
    """Requests of one kind at one depth."""

    write: bool
    pages: int
    depth: int
    spent: tuple[int, ...]  # ns of each request
    per_s: float
    processor_ns: float  # of a request

    @property
    def measured(self) -> Measured:
        """As a cost, a request being a batch."""
        verb = "write" if self.write else "read"
        what = f"{verb} of {self.pages} pages at once, {self.depth} waiting, {round(self.per_s)} a second"
        return Measured(f"{verb}_{self.pages}_pages_depth_{self.depth}", what, tuple(map(float, self.spent)), 1)


def points(seed: int) -> Iterator[Point]:
    """Every kind and depth. Missing where there is no room, or the file system lets nobody past the page cache."""
    folder = swap_folder()
    if problem := disk_problem(PAGES * PAGE_SIZE):
        raise Missing(problem)
    file = _file(folder)
    try:
        for write in (False, True):
            for pages in SIZES:
                for depth in DEPTHS:
                    yield _point(file, write, pages, depth, seed)
    except OSError as error:
        raise Missing(f"a file in {folder} cannot be read and written past the page cache: {error.strerror}") from error
    finally:
        os.close(file)


def _file(folder: Path) -> int:
    try:
        file = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_DIRECT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Missing(f"{folder} takes no file past the page cache (O_DIRECT): {error.strerror}") from error
    try:
        with _buffer(RUN) as buffer:
            buffer[:] = np.random.default_rng(0).bytes(len(buffer))
            for first in range(0, PAGES, RUN):
                os.pwritev(file, [buffer], first * PAGE_SIZE)
        os.fsync(file)
    except OSError as error:
        os.close(file)
        raise Missing(f"a file in {folder} cannot be written: {error.strerror}") from error
    return file


def _buffer(pages: int) -> mmap.mmap:
    return mmap.mmap(-1, pages * PAGE_SIZE)  # aligned, as O_DIRECT wants it


def _point(file: int, write: bool, pages: int, depth: int, seed: int) -> Point:
    found: list[list[int]] = [[] for _ in range(depth)]
    failed: list[OSError] = []
    stop = threading.Event()
    began, before = time.perf_counter(), _processor_ns()

    def requests(number: int) -> None:
        places = Bits("calibrate", seed, f"disk {write} {pages} {depth} {number}").below(PAGES // pages, MOST)
        call = os.pwritev if write else os.preadv
        with _buffer(pages) as buffer:
            for place in places.tolist():
                if stop.is_set():
                    return
                start = time.perf_counter_ns()
                try:
                    call(file, [buffer], place * pages * PAGE_SIZE)
                except OSError as error:
                    failed.append(error)
                    return
                found[number].append(time.perf_counter_ns() - start)

    threads = [threading.Thread(target=requests, args=(number,), daemon=True) for number in range(depth)]
    try:
        for thread in threads:
            thread.start()
        deadline = began + LASTS_S
        while any(thread.is_alive() for thread in threads) and time.perf_counter() < deadline:
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            with suppress(RuntimeError):  # never started
                thread.join()
    took, spent = time.perf_counter() - began, [each for part in found for each in part]
    if failed or not spent:
        raise failed[0] if failed else OSError(5, "no request was served in time")
    return Point(write, pages, depth, tuple(spent), len(spent) / took, (_processor_ns() - before) / len(spent))


def _processor_ns() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e9


def device(found: list[Point]) -> SwapDevice:
    """The device that these points are of, in the engine's terms: a latency, a time per page, and how many requests are
    served at a time. The first two are those of a line through the medians of the smallest and the second size at depth 1;
    the last is how much faster the deepest queue serves single pages."""
    at = {(point.write, point.pages, point.depth): point for point in found}
    constants: dict[str, int] = {}
    for write, verb in ((False, "read"), (True, "write")):
        one, more = (at[write, size, 1].measured.median for size in SIZES[:2])
        page = max(1, round((more - one) / (SIZES[1] - SIZES[0])))
        constants |= {f"{verb}_page_ns": page, f"{verb}_latency_ns": max(0, one - page)}
    faster = at[False, 1, DEPTHS[-1]].per_s / at[False, 1, 1].per_s
    return SwapDevice(**constants, channels=min(MOST_CHANNELS, max(1, round(faster))))
