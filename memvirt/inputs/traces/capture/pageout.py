"""Which pages a process reads or writes, interval by interval: paged out at its beginning, back at its end.

Whether a page came back for a read or a write is unknown: all count as reads. While its pages go the process stands
still (SIGSTOP), or those that it uses most would be back before the last one is out. A page that the kernel does not page
out, such as a locked one, is left out of the interval.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from ..requests import PAGE_SHIFT, READ, Reading, Requests
from . import kernel
from .process import Watched, intervals, mappings, stopped
from .writes import Range

if TYPE_CHECKING:
    from . import Target

SWAPS = Path("/proc/swaps")


@contextmanager
def requests(target: Target, reading: Reading) -> Iterator[Iterator[Requests]]:
    """The pages of the process's own memory that are touched."""
    if os.geteuid():
        raise CorpusError("capturing by pageout needs root: it pages out what belongs to another process")
    if len(SWAPS.read_text().splitlines()) < 2:
        raise CorpusError("capturing by pageout needs swap, and none is on: make one with zramctl, mkswap and swapon")
    with Watched(target) as watched:
        pagemap = kernel.open_pagemap(watched.pid)
        try:
            yield _touched(watched, target, reading, pagemap)
        finally:
            os.close(pagemap)


def _touched(watched: Watched, target: Target, reading: Reading, pagemap: int) -> Iterator[Requests]:
    ranges: list[Range] = []
    kept = np.empty(0, dtype=np.uint64)  # pages that could not be paged out
    stream = reading.stream(target.name.encode())

    def look() -> bool:
        nonlocal ranges, kept
        ranges = [(each.start, each.end) for each in mappings(watched.pid) if each.private_memory]
        with stopped(watched):
            kernel.page_out(watched.handle, ranges)
            kept = _present(pagemap, ranges)
        return bool(ranges)

    for now in intervals(watched, target, look):
        pages = np.setdiff1d(_present(pagemap, ranges), kept, assume_unique=True)
        reading.records += len(pages)
        count = len(pages)
        yield Requests(
            pages,
            None,
            np.full(count, READ, dtype=np.uint8),
            np.full(count, now, dtype=np.uint64),
            np.full(count, stream, dtype=np.uint32),
        )


def _present(pagemap: int, ranges: list[Range]) -> NDArray[np.uint64]:
    """Numbers of the pages that are in memory, in order."""
    found: list[NDArray[np.uint64]] = []
    for place in ranges:
        try:
            regions = kernel.scan(pagemap, *place, 0, kernel.PRESENT)
        except OSError:
            continue
        for region in regions:
            found.append(
                np.arange(int(region["start"]) >> PAGE_SHIFT, int(region["end"]) >> PAGE_SHIFT, dtype=np.uint64)
            )
    return np.concatenate(found) if found else np.empty(0, dtype=np.uint64)
