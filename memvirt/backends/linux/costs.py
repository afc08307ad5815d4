"""What this machine takes for what the engine has costs for: its kernel's faults, copies of pages, codecs, release, zram.

Pages are gone through in random order and are more than caches hold, for a host under pressure meets cold pages. Times are
processor time of the thread that does it: others who run here are no part of a cost. Faults are the kernel's own, of a
process that touches memory; what the hardware of a virtual machine adds to one is not in them. What needs root is the last
measurement: it makes a zram device of its own, and removes it.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from memvirt.backends.linux import areas, kernel
from memvirt.backends.linux.counting import HUGE_PAGES, THP
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.loads import plain_pages
from memvirt.backends.linux.memory import Memory
from memvirt.backends.linux.pair import PAGEOUT, contents
from memvirt.backends.linux.tenant import Tenant
from memvirt.backends.linux.timed import OPERATIONS, packed, per_page, unpacked
from memvirt.backends.linux.undo import Changes
from memvirt.backends.measured import LEAST_BATCHES, Measured, measured
from memvirt.engine.content.codec import Codec, open_codec
from memvirt.errors import ConfigError
from memvirt.inputs.bits import Bits
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import FILL, READ, WRITE

PAGES = 16384  # 64 MiB, twice: more than most caches
BATCHES, BATCH = 15, 2048
PATIENCE_S = 1.0  # of one measurement, once it has LEAST_BATCHES
ROOM = 2 * PAGE_SIZE  # of a compressed page
WORDS = {
    "load": "a load from a random page of 64 MiB",
    "clear": "clearing a page",
    "copy": "copying a page",
    "half_copy": "copying half a page, as a compressed object is",
    "compare": "comparing two equal pages",
    "same_filled": "testing a page for equal words",
    "hash": "hashing a page",
}


def _batches(once: Callable[[int], float], count: int = BATCHES) -> list[float]:
    """What `once` took each time; the first time warms up and does not count."""
    once(0)
    found: list[float] = []
    began = time.monotonic()
    while len(found) < count and (len(found) < LEAST_BATCHES or time.monotonic() - began < PATIENCE_S):
        found.append(once(len(found)))
    return found


def _order(seed: int, name: str, pages: int) -> NDArray[np.uint32]:
    return Bits("calibrate", seed, name).permutation(pages).astype(np.uint32)


def _part(order: NDArray[np.uint32], turn: int, size: int = BATCH) -> NDArray[np.uint32]:
    first = turn * size % (len(order) - size + 1)
    return order[first : first + size]


def pages(seed: int) -> Iterator[Measured]:
    """Operations on single pages."""
    corpus = contents(seed)
    rows = np.ascontiguousarray(corpus.pages[plain_pages(corpus)[np.arange(PAGES) % len(plain_pages(corpus))]])
    others, order = rows.copy(), _order(seed, "pages", PAGES)
    for name in sorted(
        OPERATIONS, key=lambda each: each in ("clear", "copy", "half_copy")
    ):  # these write, so come last
        totals = _batches(lambda turn, name=name: per_page(name, rows, others, _part(order, turn))[0])  # type: ignore[misc]
        yield measured(name, WORDS[name], totals, BATCH)


def codecs(seed: int) -> Iterator[Measured]:
    """Every codec there is on a mix of contents; lz4 also on each kind of it."""
    corpus = contents(seed)
    whole = np.ascontiguousarray(corpus.pages)
    mix = Bits("calibrate", seed, "codecs").below(len(whole), PAGES).astype(np.uint32)
    for name, size in (("lz4", 512), ("lz4hc", 64), ("zstd", 128)):
        try:
            codec = open_codec(name)
        except ConfigError:
            continue  # it has costs of its own, which stay those of the default model
        own = "" if name == "lz4" else f"_{name}"
        yield from _codec(codec, own, f"a mix of contents with {name}", whole, mix, size)
    for part in corpus.classes:
        some = np.arange(part.part.start, part.part.stop, dtype=np.uint32)
        if len(some):
            yield from _codec(
                open_codec("lz4"), f".{part.name}", f"{part.name} with lz4", whole, np.resize(some, 256), 128
            )


def _codec(
    codec: Codec, own: str, what: str, rows: NDArray[np.uint8], order: NDArray[np.uint32], size: int
) -> Iterator[Measured]:
    blocks, lengths, out = np.empty((size, ROOM), np.uint8), np.empty(size, np.uint32), np.empty_like(rows)
    totals = _batches(lambda turn: packed(codec, rows, _part(order, turn, size), blocks, lengths))
    yield measured(f"compress{own}", f"compressing a page of {what}", totals, size)
    some = _part(order, 0, size)
    packed(codec, rows, some, blocks, lengths)
    totals = _batches(lambda _: unpacked(codec, blocks, lengths, out, some))
    yield measured(f"decompress{own}", f"decompressing a page of {what}", totals, size)


def faults(seed: int) -> Iterator[Measured]:
    """First touch of 4 KiB, and giving them back."""
    order = _order(seed, "faults", BATCH)
    ops = np.full(BATCH, WRITE, np.uint8)
    released: list[float] = []

    def once(_: int) -> float:
        memory = Memory(BATCH)
        began = time.thread_time_ns()
        memory.drive(order, ops)
        touched = time.thread_time_ns()
        memory.advise(0, BATCH, mmap.MADV_DONTNEED)
        released.append(time.thread_time_ns() - touched)
        return touched - began

    yield measured("first_touch", "a write to untouched 4 KiB", _batches(once), BATCH)
    yield measured("release", "giving back a page, MADV_DONTNEED", released[1:], BATCH)


def huge(seed: int) -> Iterator[Measured]:
    """First touch of 2 MiB."""
    if kernel.setting(THP) == "never":
        raise Missing(f"transparent huge pages are off ({THP}: never)")
    regions = 8
    touched = (np.arange(regions) * HUGE_PAGES).astype(np.uint32)
    ops = np.full(regions, WRITE, np.uint8)
    before = kernel.table(kernel.VMSTAT).get("thp_fault_fallback", 0)

    def once(_: int) -> float:
        memory = Memory(regions * HUGE_PAGES, huge=True)
        began = time.thread_time_ns()
        memory.drive(touched, ops)
        return time.thread_time_ns() - began

    totals = _batches(once)
    if kernel.table(kernel.VMSTAT).get("thp_fault_fallback", 0) != before:
        raise Missing("this machine has no free blocks of 2 MiB: huge faults fell back to small pages")
    yield measured("first_touch_huge", "a write to untouched 2 MiB", totals, regions)


def copies(seed: int) -> Iterator[Measured]:
    """A write after a fork."""
    order = _order(seed, "copies", BATCH)
    with Tenant() as tenant:
        tenant.ask("make", BATCH)
        tenant.ask("drive", order, np.full(BATCH, WRITE, np.uint8), None)

        def once(turn: int) -> float:
            tenant.ask("fork", f"twin {turn}")
            spent = tenant.ask("relay", f"twin {turn}", "drive_timed", order, np.full(BATCH, WRITE, np.uint8))
            tenant.ask("end", f"twin {turn}")
            return float(spent)

        yield measured("cow_break", "a write to a page that a fork shares", _batches(once), BATCH)


def zram(seed: int) -> Iterator[Measured]:
    """The kernel's own way to a compressed page and back, as root."""
    kernel.require_root("a zram device is made and turned on as swap")
    with Changes() as changes:
        found = list(zram_timed(changes, seed))
    yield from found


def zram_timed(changes: Changes, seed: int) -> Iterator[Measured]:
    """The same within changes that somebody else undoes."""
    corpus = contents(seed)
    order = _order(seed, "zram", BATCH)
    plain = plain_pages(corpus)
    sources = plain[Bits("calibrate", seed, "contents").below(len(plain), BATCH)]
    stored: list[float] = []
    areas.one_page_at_a_time(changes)
    areas.no_zswap(changes)
    areas.zram(changes, BATCH)
    with Tenant(np.ascontiguousarray(corpus.pages)) as tenant:
        tenant.ask("make", BATCH)
        tenant.ask("drive", np.arange(BATCH, dtype=np.uint32), np.full(BATCH, FILL, np.uint8), sources)

        def once(_: int) -> float:
            stored.append(tenant.ask("advise_timed", 0, BATCH, PAGEOUT))
            return float(tenant.ask("drive_timed", order, np.full(BATCH, READ, np.uint8)))

        loads = _batches(once)
    yield measured("zram_load", "a fault on a page in zram with lz4", loads, BATCH)
    yield measured("zram_store", "a page that goes to zram with lz4", stored[1:], BATCH)


MEASUREMENTS: dict[str, Callable[[int], Iterator[Measured]]] = {
    "operations on pages": pages,
    "codecs": codecs,
    "faults": faults,
    "huge pages": huge,
    "copy-on-write": copies,
    "zram": zram,
}
