"""What leaves memory and comes back: a swap file, zram, zswap, and a group with a limit that makes pages leave.

Where the order is fixed (all pages are told to go, all are read back) counts must be equal. Under a limit the kernel
chooses: its major faults are held against those of the order `twolist`, which follows the kernel's rules, and of others
for comparison.

The group's statistics are kept fresh, for the kernel decides by them. The engine's host has as many frames for pages as
the process was found to have: a control group also pays for page tables. Both are means of several looks, as 32 pages go
at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memvirt import host as engine
from memvirt.backends.linux import areas, groups
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.pair import Pair, contents
from memvirt.backends.linux.tenant import Tenant
from memvirt.backends.linux.undo import Changes
from memvirt.backends.rows import Row
from memvirt.environment import meminfo
from memvirt.inputs.bits import Bits
from memvirt.inputs.corpus import Corpus
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import FILL, READ
from memvirt.workloads.zipf import alias_table

PAGEOUT = 21  # MADV_PAGEOUT, Linux 5.4
GRID_PERCENT, GRID_TIMES = (90, 75, 50, 25), 12  # resident; accesses a page
BATCH, EDGE = 32, 16  # pages that reclaim takes at a time; half of them
PARTS, TRIES, CLOSE = 16, 5, 2000  # looks at what is resident; hosts that are tried; of the pages one part apart
MARKS = {"min": 8, "low": 8, "high": 8}  # a control group reclaims when it must, and has no background reclaimer
KERNELS = "twolist"  # the order that is to be like this kernel
ORDERS: dict[str, dict[str, Any]] = {
    "clock": {"replacement": "clock"},
    "lru": {"replacement": "lru", "harvest_interval": "10ms"},  # without a harvest it would not see what is used
    KERNELS: {"replacement": KERNELS},
}
FAULTS_APART, WRITES_APART, BYTES_APART, POOL_APART = 0.05, 0.10, 0.01, 0.03
# Of the loads of GRID, which are longer: each, and all in the mean.
GRID_APART, GRID_MEAN = 0.02, 0.005
# How far another order may be apart: clock was by a third in faults (hot set and scan at 90 % resident, Linux 6.18).
FAULTS_COVERED, WRITES_COVERED = 0.50, 0.60
OLDER = "a page that does not compress stays in zswap since Linux 6.18, and only since 6.12 one of a repeated word goes there"
OTHER = f"another order: this kernel's rules are those of {KERNELS}"


def plain_pages(corpus: Corpus) -> NDArray[np.uint32]:
    """Pages of the corpus whose words are not all alike: those never reach a device."""
    words = corpus.pages.view("<u8")
    return np.flatnonzero((words != words[:, :1]).any(axis=1)).astype(np.uint32)


# ---- all go, all come back


def zram(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """zram as swap: its bytes are the engine's pool's."""
    name = "zram: lz4"
    corpus = contents(seed)
    areas.one_page_at_a_time(changes)
    areas.no_zswap(changes)
    block = areas.zram(changes, pages)
    with _pool(pages, corpus, seed) as pair:
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
        yield from _all_back(name, pair)


def zswap(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """The compressed cache in front of a file."""
    name = "zswap"
    corpus = contents(seed)
    areas.one_page_at_a_time(changes)
    codec = areas.zswap(changes)
    areas.file(changes, pages)
    with _pool(pages, corpus, seed, zpool_incompressible="keep", same_filled="zero") as pair:
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
        yield from _all_back(name, pair)


def _pool(pages: int, corpus: Corpus, seed: int, **settings: Any) -> Pair:
    """A VM whose pages go to a compressed cache, filled with all kinds of content."""
    pair = Pair(
        pages, corpus, frames=4 * pages + 2048, swap=2 * pages * PAGE_SIZE, zpool_percent=50, zpool_reject_above=4095,
        watermarks=MARKS, readahead=0, **settings,
    )  # fmt: skip
    pair.fill(Bits("validate", seed, "pool").below(len(corpus), pages))
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


def _all_back(name: str, pair: Pair) -> Iterator[Row]:
    """Every page is read."""
    before = pair.faults()
    order = Bits("validate", 0, "back").permutation(pair.pages)
    ops = np.full(pair.pages, READ, np.uint8)
    pair.vm.access(order, ops)
    minor, major, _ = pair.tenant.ask("drive", order, ops, None)
    yield Row(mechanism=name, what="faults of reading all back", engine=pair.faults() - before, kernel=minor + major)
    equal = pair.pages - pair.unequal()
    yield Row(mechanism=name, what="pages read back equal", engine=pair.pages, kernel=equal)


# ---- under a limit


@dataclass(frozen=True, slots=True)
class Load:
    """Accesses to `pages` pages, of which `warm` come before anything is counted."""

    pages: int
    order: NDArray[np.uint32]
    ops: NDArray[np.uint8]
    warm: int
    sources: NDArray[np.uint32]


def load_of(pattern: str, pages: int, seed: int, corpus: Corpus, times: int = 8) -> Load:
    """So many accesses a page, of which a fifth write; the first quarter warms up."""
    bits = Bits("validate", seed, "limit", pattern)
    count = times * pages
    order = PATTERNS[pattern](bits, pages, count)
    ops = (bits.below(5, count) == 0).astype(np.uint8)
    plain = plain_pages(corpus)
    return Load(pages, order, ops, count // 4, plain[bits.below(len(plain), pages)])


def _uniform(bits: Bits, pages: int, count: int) -> NDArray[np.uint32]:
    return bits.below(pages, count)


def _zipf(bits: Bits, pages: int, count: int) -> NDArray[np.uint32]:
    threshold, alias = alias_table(pages, 990)
    column = bits.below(pages, count).astype(np.int64)
    rank = np.where(bits.u32(count) < threshold[column], column, alias[column])
    return bits.permutation(pages)[rank.astype(np.int64)]


def _loop(bits: Bits, pages: int, count: int) -> NDArray[np.uint32]:
    return (np.arange(count) % pages).astype(np.uint32)


def _phases(bits: Bits, pages: int, count: int) -> NDArray[np.uint32]:
    """Four working sets of a quarter each, one after the other; each takes nine of ten accesses while it lasts."""
    quarter = pages // 4
    base = (np.arange(count) * 4 // count).astype(np.uint32) * np.uint32(quarter)
    inside = base + bits.below(quarter, count)
    return np.where(bits.below(10, count) == 0, bits.below(pages, count), inside).astype(np.uint32)


def _hot_and_scan(bits: Bits, pages: int, count: int) -> NDArray[np.uint32]:
    """Four of five accesses go to three tenths of the pages; the others are one scan of all, again and again."""
    hot = bits.permutation(pages)[: pages * 3 // 10]
    scanning = bits.below(5, count) == 0
    scan = np.cumsum(scanning) % pages
    return np.where(scanning, scan, hot[bits.below(len(hot), count)]).astype(np.uint32)


PATTERNS: dict[str, Callable[[Bits, int, int], NDArray[np.uint32]]] = {
    "zipf": _zipf,
    "uniform": _uniform,
    "loop": _loop,
    "phases": _phases,
    "hot and scan": _hot_and_scan,
}


def second_version(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """The same limit by control groups of version 2."""
    yield from limited("zram", "loop", 75, changes, pages, seed, 2)


def limited(
    device: str, pattern: str, percent: int, changes: Changes, pages: int, seed: int, version: int | None = None
) -> Iterator[Row]:
    """Swap to this device under a limit of `percent` of the pages. A page that came back from zram is written again
    when it goes; one from a file is dropped if nobody wrote to it."""
    name = f"{device}: {pattern} at {percent} % resident"
    name = f"control groups of version {version}" if version else name
    groups.place(version)  # before anything is changed
    corpus = contents(seed)
    load = load_of(pattern, pages, seed, corpus)
    areas.one_page_at_a_time(changes)
    areas.no_zswap(changes)
    if device == "zram":
        areas.zram(changes, pages)
    else:
        areas.file(changes, pages)
    theirs = kernel_side(changes, load, percent, corpus, version)
    found = {order: _engine_side(load, theirs["resident"], corpus, settings) for order, settings in ORDERS.items()}
    away = "evicted" if device == "zram" else "written"
    yield from _beside(name, "major faults", "faults", (FAULTS_APART, FAULTS_COVERED), theirs, found)
    yield from _beside(name, f"pages {away}", away, (WRITES_APART, WRITES_COVERED), theirs, found)


def grid(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """Every pattern with every share of its pages resident, over zram; and how far apart faults are in the mean."""
    name = "grid"
    groups.place(None)
    corpus = contents(seed)
    areas.one_page_at_a_time(changes)
    areas.no_zswap(changes)
    areas.zram(changes, pages)
    apart = []
    for pattern in PATTERNS:
        load = load_of(pattern, pages, seed, corpus, GRID_TIMES)
        for percent in GRID_PERCENT:
            theirs = kernel_side(changes, load, percent, corpus)
            found = {order: _engine_side(load, theirs["resident"], corpus, ORDERS[order]) for order in ORDERS}
            what = f"{pattern} {percent} %: major faults"
            for row in _beside(name, what, "faults", (GRID_APART, FAULTS_COVERED), theirs, found):
                own = row.what.endswith(KERNELS) and row.failed
                yield _at_an_edge(row, load, theirs["resident"], corpus) if own else row
            apart.append(abs(found[KERNELS]["faults"] - theirs["faults"]) / max(theirs["faults"], 1))
    mean = round(100_000 * sum(apart) / len(apart))
    yield Row(
        mechanism=name, what=f"100,000 less the mean distance: {KERNELS}",
        engine=100_000 - mean, kernel=100_000, tolerance=GRID_MEAN,
    )  # fmt: skip


def _at_an_edge(row: Row, load: Load, resident: int, corpus: Corpus) -> Row:
    """A row that is too far apart: with a reason where a few pages of room more or less move the engine as far."""
    near = [_engine_side(load, resident + more, corpus, ORDERS[KERNELS])["faults"] for more in (-EDGE, EDGE)]
    low, high = min(*near, row.engine or 0), max(*near, row.engine or 0)
    reason = f"{EDGE} pages of room more or less make {low:,} to {high:,} of the engine's"
    return row.unless_within(reason, (high - low) / max(row.kernel or 0, 1) + row.tolerance)


def _beside(
    name: str,
    what: str,
    key: str,
    apart: tuple[float, float],
    theirs: dict[str, int],
    found: dict[str, dict[str, int]],
) -> Iterator[Row]:
    """A row an order. The kernel's own must be within the tolerance; the kernel need not be like any other. Pages that leave
    do so by batches, of which the last of warming up and of the load count here or there."""
    batches = 0.0 if key == "faults" else 2 * BATCH / max(theirs[key], 1)
    for order, engines in found.items():
        row = Row(
            mechanism=name, what=f"{what}: {order}", engine=engines[key], kernel=theirs[key],
            tolerance=max(apart[0], batches),
        )  # fmt: skip
        yield row if order == KERNELS else row.unless_within(OTHER, apart[1])


def kernel_side(
    changes: Changes, load: Load, percent: int, corpus: Corpus, version: int | None = None
) -> dict[str, int]:
    """Major faults, pages written, pages that were resident in the mean, and ns of an access in the least disturbed part.
    `version`: of control groups; None: the one that has the memory controller."""
    tables = load.pages // 512 + 64
    group = groups.Group(changes, load.pages * percent // 100 + tables, version)
    with group.fresh(), Tenant(np.ascontiguousarray(corpus.pages)) as tenant:
        every = np.arange(load.pages, dtype=np.uint32)
        tenant.ask("keep", "fill", every, np.full(load.pages, FILL, np.uint8), load.sources)
        tenant.ask("keep", "load", load.order, load.ops, None)
        tenant.ask("join", [group.joins])
        tenant.ask("make", load.pages)
        tenant.ask("drive_kept", "fill", 0, load.pages)
        tenant.ask("drive_kept", "load", 0, load.warm)
        before = areas.traffic()
        faults, resident, spent = 0, 0, []
        ends = np.linspace(load.warm, len(load.order), PARTS + 1).astype(int)
        for first, last in pairwise(ends):
            _, major, ns = tenant.ask("drive_kept", "load", int(first), int(last))
            faults += major
            spent.append(ns // int(last - first))
            resident += tenant.ask("resident")[0]
        out = areas.traffic()["pswpout"] - before["pswpout"]
    return {"faults": faults, "written": out, "evicted": out, "resident": resident // PARTS, "ns": min(spent)}


def _engine_side(load: Load, resident: int, corpus: Corpus, settings: dict[str, Any]) -> dict[str, int]:
    """The same of a host that has as many frames for pages, found by trying."""
    frames = resident + 256
    tried: list[dict[str, int]] = []
    for _ in range(TRIES):
        tried.append(_engine_run(load, frames, corpus, settings))
        missing = resident - tried[-1]["resident"]
        if abs(missing) * CLOSE <= resident:
            break
        frames += missing
    return min(tried, key=lambda found: abs(found["resident"] - resident))


def _engine_run(load: Load, frames: int, corpus: Corpus, settings: dict[str, Any]) -> dict[str, int]:
    with engine.Host(
        memory=frames * PAGE_SIZE,
        swap=2 * load.pages * PAGE_SIZE,
        corpus=corpus,
        watermarks=MARKS,
        readahead=0,
        content="fingerprint",  # which page goes is no matter of its bytes
        **settings,
    ) as host:
        vm = host.create_vm("vm", load.pages * PAGE_SIZE)
        vm.access(np.arange(load.pages), np.full(load.pages, FILL, np.uint8), load.sources)
        vm.access(load.order[: load.warm], load.ops[: load.warm])
        before = host.counters()
        held = []
        ends = np.linspace(load.warm, len(load.order), PARTS + 1).astype(int)
        for first, last in pairwise(ends):
            outcome = vm.access(load.order[first:last], load.ops[first:last])
            if outcome.done != last - first:
                raise RuntimeError(f"the engine stopped: {outcome.reason}")
            usage = host.usage()
            held.append(usage["guest"] + usage["swap_cache"])
        after = host.counters()
        return {
            "faults": after["fault_swap"] - before["fault_swap"],
            "written": after["swap_pages_out"] - before["swap_pages_out"],
            "evicted": after["evicted"] - before["evicted"],
            "resident": sum(held) // len(held),
        }


_LIMITS = (
    ("zram", "zipf", 75),
    ("zram", "zipf", 50),
    ("zram", "uniform", 50),
    ("zram", "loop", 75),
    ("zram", "phases", 50),
    ("zram", "hot and scan", 50),
    ("swap file", "zipf", 75),
)

MECHANISMS: dict[str, Callable[[Changes, int, int], Iterator[Row]]] = {
    "zram: lz4": zram,
    "zswap": zswap,
    **{
        f"{device}: {pattern} at {percent} % resident": partial(limited, device, pattern, percent)
        for device, pattern, percent in _LIMITS
    },
    "control groups of version 2": second_version,
}
LONG: dict[str, Callable[[Changes, int, int], Iterator[Row]]] = {"grid": grid}  # takes minutes
