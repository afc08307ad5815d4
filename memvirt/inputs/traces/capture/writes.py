"""Which pages a process writes, interval by interval: asynchronous write protection and PAGEMAP_SCAN."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from memvirt.errors import CorpusError

from ..requests import PAGE_SHIFT, WRITE, Reading, Requests
from . import kernel
from .inject import userfaultfd_of
from .process import Watched, intervals, mappings

if TYPE_CHECKING:
    from . import Target

Range = tuple[int, int]


@contextmanager
def requests(target: Target, reading: Reading) -> Iterator[Iterator[Requests]]:
    """The writes to memory of the process's own (heap, stacks, anonymous mappings), also to what it maps later."""
    with Watched(target) as watched:
        pagemap = kernel.open_pagemap(watched.pid)
        try:
            handle = userfaultfd_of(watched.pid, watched.handle)
            try:
                kernel.enable_async_protection(handle)
                yield _written(watched, target, reading, pagemap, handle)
            finally:
                os.close(handle)  # the protection ends with it
        finally:
            os.close(pagemap)


def _written(watched: Watched, target: Target, reading: Reading, pagemap: int, handle: int) -> Iterator[Requests]:
    followed: set[Range] = set()
    stream = reading.stream(target.name.encode())

    def look() -> bool:
        """Follow what is mapped now; what is followed anew counts as unwritten from here on."""
        current = {
            (each.start, each.end) for each in mappings(watched.pid) if each.private_memory and each.rights[1] == "w"
        }
        new = [each for each in sorted(current - followed) if kernel.register(handle, *each)]
        for each in new:
            _scan(pagemap, each)
        followed.intersection_update(current)
        followed.update(new)
        return bool(current)

    if watched.runs() and not (look() and followed) and watched.runs():
        raise CorpusError(f"process {watched.pid} has no memory of its own whose writes can be followed")
    for now in intervals(watched, target, look):
        found = [_scan(pagemap, each) for each in sorted(followed)]
        regions = np.concatenate(found) if found else np.empty(0, dtype=kernel.REGION)
        yield as_requests(regions, WRITE, now, stream, reading)


def as_requests(regions: np.ndarray, op: int, now: int, stream: int, reading: Reading) -> Requests:
    """Regions of touched pages as requests, all at one time."""
    reading.records += len(regions)
    count = len(regions)
    first = regions["start"].astype(np.uint64) >> np.uint64(PAGE_SHIFT)
    pages = (regions["end"].astype(np.uint64) >> np.uint64(PAGE_SHIFT)) - first
    return Requests(
        first,
        pages,
        np.full(count, op, dtype=np.uint8),
        np.full(count, now, dtype=np.uint64),
        np.full(count, stream, dtype=np.uint32),
    )


def _scan(pagemap: int, place: Range) -> np.ndarray:
    """The pages written since the last scan; they are protected again. Memory that is gone has none."""
    try:
        return kernel.scan(pagemap, *place, kernel.WP_MATCHING | kernel.CHECK_WPASYNC, kernel.WRITTEN)
    except OSError:
        return np.empty(0, dtype=kernel.REGION)
