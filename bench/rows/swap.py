"""Swap beside raw file I/O on the same file system, past the page cache.

Both files have been written from end to end before anything is timed. What the first write to a block costs is the
disk's own: a virtual one that is itself a sparse file, or a trimmed one of flash, takes twice to ten times as long.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from harness import Reference, Row, compare
from limits.build import load

from rows.common import MIB_PAGES, all_pages, random_bytes, shuffled
from rows.compress import Ours
from rows.contents import PAGES

DEPTH = 32
MIB_BYTES = 1 << 20
SWAP_PAGES = 4 * PAGES


@contextmanager
def raw_file(pages: int) -> Iterator[int]:
    """An open file of so many pages, O_DIRECT, where the engine puts its own."""
    folder = os.environ.get("MEMVIRT_SWAP_DIR") or tempfile.gettempdir()
    handle, path = tempfile.mkstemp(prefix="memvirt-bench-", dir=folder)
    os.posix_fallocate(handle, 0, pages * 4096)
    os.close(handle)
    file = os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
    os.unlink(path)
    try:
        yield file
    finally:
        os.close(file)


def swapping() -> Ours:
    """A host that swaps, each slot of it written once (slots freed first are reused last)."""
    ours = Ours(random_bytes(PAGES), zpool_percent=0, swap=f"{SWAP_PAGES // MIB_PAGES}MiB")
    for _ in range(SWAP_PAGES // PAGES):
        ours.out()
    return ours


def rows(repeats: int) -> Iterator[Row]:
    peer = load("kernel_peer")
    load("store_limit")
    ours = swapping()
    note = "" if ours.host.engine.mapping.swap.direct_io else "swap goes through the page cache here: not comparable"
    with raw_file(PAGES) as file:
        yield from _out(ours, peer, file, note, repeats)
        yield from _in(ours, peer, file, note, repeats)


def _out(ours: Ours, peer: Any, file: int, note: str, repeats: int) -> Iterator[Row]:
    order = all_pages(PAGES // MIB_PAGES)

    def raw() -> float:
        return peer.transfer_ns(file, True, MIB_BYTES, order, ours.pages) / PAGES

    reference = Reference(name="sequential 1 MiB writes", measure=raw, target=0.85, note=note)
    raw()
    yield from compare("swap out", ours.out, [reference], unit="ns/page", repeats=repeats)


def _in(ours: Ours, peer: Any, file: int, note: str, repeats: int) -> Iterator[Row]:
    order = shuffled(PAGES)[:4096].copy()

    def back(wanted: np.ndarray) -> float:
        ours.out()
        return ours.back(wanted)

    reference = Reference(
        name="O_DIRECT reads of 4 KiB",
        target=1 / 1.1,
        note=note,
        measure=lambda: peer.transfer_ns(file, False, 4096, order) / len(order),
    )
    yield from compare("swap in, random, depth 1", lambda: back(order), [reference], unit="ns/page", repeats=repeats)
    reference = Reference(
        name=f"io_uring, depth {DEPTH}",
        target=0.9,
        note=note,
        measure=lambda: peer.ring_reads_ns(file, order, DEPTH) / len(order),
    )
    yield from compare(
        "swap in, in order", lambda: back(all_pages(PAGES)), [reference], unit="ns/page", repeats=repeats
    )
