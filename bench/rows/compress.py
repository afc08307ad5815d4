"""The compressed cache beside LZ4 alone and zram: pages in and out, and the space the pool takes.

Ours is the whole way: evicted from a VM's memory by reclaim (order, same-filled test, compression, store, checksum,
backing record, unmapping), and back by a fault (frame, look-up, decompression, checksum, mapping).
"""

import time
from collections.abc import Iterator
from typing import Any

from harness import Absent, Measure, Reference, Row, absent, compare, exact
from limits.build import load
from peers.guard import Busy, Guard
from peers.zram import Zram

from memvirt.engine.content.codec import open_codec
from memvirt.settings.config import COMPRESS_LIMIT
from rows.common import all_pages, host, reads, shuffled, touch
from rows.contents import CLASSES, PAGES, pages_of

MIB = PAGES // 256
POOL_TARGET = 1 / 1.005  # zram's overhead over ours

# zram's own times stand beside without a target: the codec decides them, and LZ4 alone is held against ours already.


def rows(repeats: int) -> Iterator[Row]:
    load("kernel_peer")
    load("store_limit")
    for name in CLASSES:
        guard, zram, why = _zram()
        try:
            yield from _rows(name, zram, why, repeats)
        finally:
            if guard is not None:
                guard.close()


def _zram() -> tuple[Guard | None, Zram | None, str]:
    guard = None
    try:
        guard = Guard()
        return guard, Zram(guard, PAGES), ""
    except (Absent, Busy, OSError) as error:
        if guard is not None:
            guard.close()
        return None, None, str(error)


class Ours:
    """A host whose one VM holds the pages; out() and back() are to be called in turn."""

    def __init__(self, pages: Any, **settings: Any) -> None:
        self.host = host(2 * MIB, **({"zpool_percent": 80} | settings))
        self.vm = self.host.create_vm("guest", f"{MIB}MiB")
        self.pages = pages

    def out(self) -> float:
        """Nanoseconds per page evicted."""
        self.vm.write(0, self.pages.tobytes())
        self.host.harvest()
        before = self.host.counters()["evicted"]
        start = time.perf_counter_ns()
        self.host.engine.reclaim_from(self.vm.engine_vm, PAGES)
        spent = time.perf_counter_ns() - start
        evicted = self.host.counters()["evicted"] - before
        if evicted < PAGES * 0.99:
            raise RuntimeError(f"only {evicted} of {PAGES} pages were evicted")
        return spent / evicted

    def back(self, order: Any) -> float:
        """Nanoseconds per page brought back by loads."""
        return touch(self.vm, order, reads(len(order)))

    def overhead(self) -> float:
        """Pool bytes, the zspages' records among them, over compressed bytes."""
        pool = self.host.engine.mapping.zpool
        return (pool.nr_pool_frames * 4096 + pool.metadata_bytes()) / pool.stored_bytes


def _rows(name: str, zram: Zram | None, why: str, repeats: int) -> Iterator[Row]:
    limit, pages, order = load("store_limit"), pages_of(name), shuffled(PAGES)
    codec, ours, in_order = open_codec("lz4"), Ours(pages), all_pages(PAGES)
    ours.out()
    overhead = ours.overhead()

    def out() -> float:
        ours.back(order)
        return ours.out()

    def written() -> float:
        assert zram is not None
        return zram.write_ns(pages)

    alone = [
        Reference(
            name="LZ4 alone", measure=lambda: limit.lz4_ns(codec, pages, in_order, COMPRESS_LIMIT)[0], target=0.93
        )
    ]
    kernel: Measure | None = None if zram is None else written
    alone.append(Reference(name="zram write", measure=kernel, target=None, note=why))
    yield from compare(f"compress + store, {name}", out, alone, unit="ns/page", repeats=repeats)

    def back() -> float:
        ours.out()
        return ours.back(order)

    alone = [
        Reference(
            name="LZ4 alone", measure=lambda: limit.lz4_ns(codec, pages, in_order, COMPRESS_LIMIT)[1], target=0.85
        )
    ]
    kernel = None if zram is None else lambda: zram.read_ns(order)
    alone.append(Reference(name="zram random read", measure=kernel, target=None, note=why))
    yield from compare(f"load + decompress, {name}", back, alone, unit="ns/page", repeats=repeats)
    what = f"pool bytes / compressed bytes, {name} / zram"
    note = "handle tables counted in both"
    yield (
        absent(what, overhead, "", POOL_TARGET, why)
        if zram is None
        else exact(what, overhead, zram.overhead(), "", target=POOL_TARGET, note=note)
    )
