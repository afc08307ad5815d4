"""What leaves memory and comes back, all of it: zram as swap, and zswap in front of a swap file.

All pages are told to go, and all are read back, so counts must be equal, by every way (memvirt.backends.linux.ways). Under a
limit the kernel chooses what goes: that is memvirt.backends.linux.limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memvirt.backends.linux import areas
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.limits import MARKS
from memvirt.backends.linux.pair import PAGEOUT, Pair
from memvirt.backends.linux.undo import Changes
from memvirt.backends.linux.ways import Way, by_all_ways
from memvirt.backends.rows import Row
from memvirt.environment import meminfo
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import READ

BYTES_APART, POOL_APART = 0.01, 0.03
OLDER = "a page that does not compress stays in zswap since Linux 6.18, and only since 6.12 one of a repeated word goes there"


def zram(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """zram as swap: its bytes are the engine's pool's."""
    block = areas.compressed_device(changes, pages)
    yield from by_all_ways("zram: lz4", partial(_zram, block), pages, seed)


def _zram(block: Path, name: str, way: Way) -> Iterator[Row]:
    with _pool(way) as pair:
        before = areas.zram_state(block)
        _all_out(pair)
        after = {key: value - before[key] for key, value in areas.zram_state(block).items()}
        pool = pair.host.zpool() or {}
        huge = after["huge"] * PAGE_SIZE
        stored = after["orig"] // PAGE_SIZE - after["same"] - after["huge"]
        yield Row(mechanism=name, what="pages compressed", engine=pool["objects"], kernel=stored)
        yield Row(
            mechanism=name, what="bytes of them", engine=pool["stored_bytes"], kernel=after["compressed"] - huge,
            tolerance=BYTES_APART,
        )  # fmt: skip
        yield Row(
            mechanism=name, what="frames of the pool", engine=pool["frames"],
            kernel=(after["used"] - huge) // PAGE_SIZE, tolerance=POOL_APART,
        )  # fmt: skip
        yield from _all_back(name, way, pair)


def zswap(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """The compressed cache in front of a file."""
    codec = areas.compressed_cache(changes, pages)
    yield from by_all_ways("zswap", partial(_zswap, codec), pages, seed)


def _zswap(codec: str, name: str, way: Way) -> Iterator[Row]:
    with _pool(way, zpool_incompressible="keep", same_filled="zero") as pair:
        before = areas.traffic()
        _all_out(pair)
        stored = areas.traffic()["zswpout"] - before["zswpout"]
        pool = pair.host.zpool() or {}
        row = Row(mechanism=name, what="pages stored", engine=pool["objects"], kernel=stored)
        yield row.unless_within(OLDER, 2 * pool["raw_objects"] / max(stored, 1))
        row = Row(
            mechanism=name,
            what="frames of the pool, raw pages too",
            engine=pool["frames"],
            kernel=meminfo().get("Zswap", 0) // PAGE_SIZE,
            tolerance=POOL_APART,
        )
        yield row if codec == "lz4" else replace(row, engine=None, reason=f"zswap has {codec} here, and the engine lz4")
        yield from _all_back(name, way, pair)


def _pool(way: Way, **settings: Any) -> Pair:
    """A VM whose pages go to a compressed cache, filled."""
    pair = Pair(
        way.pages, way.corpus, tenant=way.process(), frames=4 * way.pages + 2048, swap=2 * way.pages * PAGE_SIZE,
        zpool_percent=50, zpool_reject_above=4095, watermarks=MARKS, readahead=0, **settings,
    )  # fmt: skip
    pair.fill(way.sources)
    return pair


def _all_out(pair: Pair) -> None:
    """Every page leaves memory on both sides."""
    try:
        pair.tenant.ask("advise", 0, pair.pages, PAGEOUT)
    except OSError as error:
        raise Missing(f"MADV_PAGEOUT is refused ({error.strerror}): Linux has it since 5.4") from error
    left = pair.resident()[0]
    if left:
        raise Missing(f"the kernel kept {left} of {pair.pages} pages that were told to go")
    pair.host.harvest()
    for _ in range(3):  # accessed marks spare a page once
        pair.host.engine.reclaim_from(pair.vm.engine_vm, pair.pages)
    if held := pair.frames():
        raise RuntimeError(f"the engine kept {held} of {pair.pages} pages that were told to go")


def _all_back(name: str, way: Way, pair: Pair) -> Iterator[Row]:
    """Every page is read."""
    before = pair.faults()
    order = way.some(pair.pages)
    ops = np.full(pair.pages, READ, np.uint8)
    pair.vm.access(order, ops)
    minor, major, _ = pair.tenant.ask("drive", order, ops, None)
    yield Row(mechanism=name, what="faults of reading all back", engine=pair.faults() - before, kernel=minor + major)
    equal = pair.pages - pair.unequal()
    yield Row(mechanism=name, what="pages read back equal", engine=pair.pages, kernel=equal)


MECHANISMS: dict[str, Callable[[Changes, int, int], Iterator[Row]]] = {"zram: lz4": zram, "zswap": zswap}
