"""A group with a limit on its memory, which makes pages leave, beside a host of the engine that has as many frames.

Under a limit the kernel chooses what goes: its major faults are held against those of the order `twolist`, which follows
the kernel's rules, and of others for comparison.

The group's statistics are kept fresh, for the kernel decides by them. The engine's VM has a limit, too: the most pages that
the process could have in memory. A control group pays for more than those: page tables, pages that a processor was given in
advance and has not used. How many these are is the median of several looks at what it pays for and what the process has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from memvirt import host as engine
from memvirt.backends.linux import areas, groups, kernel
from memvirt.backends.linux.kernel import VMSTAT, table
from memvirt.backends.linux.loads import Load, load_of
from memvirt.backends.linux.pair import Pair, contents
from memvirt.backends.linux.tenant import Tenant
from memvirt.backends.linux.undo import Changes
from memvirt.backends.rows import Row
from memvirt.inputs.bits import Bits
from memvirt.inputs.corpus import Corpus
from memvirt.units import PAGE_SIZE
from memvirt.vm import RunOutcome, Vm
from memvirt.workloads.base import FILL

BATCH = 32  # pages that reclaim takes at a time
PARTS = 16  # looks at what is resident
SPARE_FRAMES = 512  # of a host, for its own tables
MARKS = {"min": 8, "low": 8, "high": 8}  # a control group reclaims when it must, and has no background reclaimer
KERNELS = "twolist"  # the order that is to be like this kernel
HARVEST = {"harvest_interval": "10ms"}  # without it an order that hears of hits late would not see what is used
ORDERS: dict[str, dict[str, Any]] = {
    "clock": {"replacement": "clock"},
    "lru": {"replacement": "lru", **HARVEST},
    KERNELS: {"replacement": KERNELS},
}
FAULTS_APART, WRITES_APART = 0.05, 0.10
# How far another order may be apart: clock was by a third in faults (hot set and scan at 90 % resident, Linux 6.18).
FAULTS_COVERED, WRITES_COVERED = 0.50, 0.60
OTHER = f"another order: this kernel's rules are those of {KERNELS}"

# Where pages go: what makes it on this machine, and what the engine's host is for it. Its pool has frames of its own, as
# zram's and (in groups of version 1) zswap's are not charged to the group.
POOL = {"zpool_percent": 100, "zpool_reject_above": PAGE_SIZE, "zpool_incompressible": "keep"}
DEVICES: dict[str, tuple[Callable[[Changes, int], Any], dict[str, Any]]] = {
    "zram": (areas.compressed_device, POOL),
    "zswap": (areas.compressed_cache, {**POOL, "same_filled": "zero"}),
    "swap file": (areas.plain_file, {"same_filled": "zero"}),
}


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
    DEVICES[device][0](changes, pages)
    theirs = kernel_side(changes, load, percent, corpus, version)
    found = {order: run(load, theirs["room"], corpus, settings) for order, settings in ORDERS.items()}
    away = "written" if device == "swap file" else "evicted"
    yield from beside(name, "major faults", "faults", (FAULTS_APART, FAULTS_COVERED), theirs, found)
    yield from beside(name, f"pages {away}", away, (WRITES_APART, WRITES_COVERED), theirs, found)


def beside(
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


def lazily(changes: Changes, pages: int, seed: int) -> Iterator[Row]:
    """Half of the pages are given up by MADV_FREE, a quarter of these written again; then the group may have nothing for a
    moment, and no swap, so that all goes that may."""
    name = "limit: MADV_FREE"
    gone, written = pages // 2, pages // 8
    corpus = contents(seed)
    group = groups.Group(changes, 8 * pages + 4096)  # of which the process needs some to tell what it holds
    with Tenant(np.ascontiguousarray(corpus.pages)) as tenant:
        tenant.ask("join", group.joins)
        tenant.ask("stay")
        with Pair(pages, corpus, tenant=tenant) as pair:
            pair.fill(Bits("validate", seed, name).below(len(corpus), pages).astype(np.uint32))
            pair.give_up(gone)
            pair.drive(np.arange(0, gone, gone // written)[:written])
            group.squeeze()
            pair.vm.set_limit((pages - gone + written) * PAGE_SIZE)
            counted, there = pair.host.counters(), pair.resident()[0]
            yield Row(
                mechanism=name,
                what=f"pages held of {pages}, {gone - written} given up",
                engine=pair.frames(),
                kernel=there,
            )
            swapped = tenant.ask("kept") - there
            yield Row(mechanism=name, what="pages in swap", engine=counted["swap_pages_out"], kernel=swapped)
            yield Row(mechanism=name, what="pages read back equal", engine=pages, kernel=pages - pair.unequal())


# ---- the kernel


def kernel_side(
    changes: Changes,
    load: Load,
    percent: int,
    corpus: Corpus,
    version: int | None = None,
    pool: Path | None = None,
) -> dict[str, int]:
    """What the kernel says of the accesses that count. Counts: major faults, pages written, refaults of pages that
    had been active. `room`: the most pages that it can have in memory. In the mean: pages in memory, those on their
    way to a disk or back included, and ns of an access, without the time for which others had its processor. Times:
    all (elapsed_ns), and that in which some or all of the group's tasks waited for memory (some_ns, full_ns; absent
    where the kernel has no PSI).

    `version`: of control groups; None: the one that has the memory controller. `pool`: a zram device, whose frames are told,
    too."""
    tables = load.pages // 512 + 64
    group = groups.Group(changes, load.pages * percent // 100 + tables, version)
    with group.fresh(), Tenant(np.ascontiguousarray(corpus.pages)) as tenant:
        every = np.arange(load.pages, dtype=np.uint32)
        tenant.ask("keep", "fill", every, np.full(load.pages, FILL, np.uint8), load.sources)
        tenant.ask("keep", "load", load.order, load.ops, None)
        tenant.ask("join", group.joins)
        tenant.ask("make", load.pages)
        address = tenant.ask("address")
        tenant.ask("drive_kept", "fill", 0, load.pages)
        tenant.ask("drive_kept", "load", 0, load.warm)
        before = _state(group)
        totals = np.zeros(4, np.int64)
        resident, beside = [], []
        ends = np.linspace(load.warm, len(load.order), PARTS + 1).astype(int)
        for first, last in pairwise(ends):
            totals += tenant.ask("drive_kept", "load", int(first), int(last))
            resident.append(kernel.present(address, load.pages, tenant.process.pid) + group.unmapped())
            beside.append(group.charged() - resident[-1])
        after = _state(group)
        held = {} if pool is None else {"pool": areas.zram_state(pool)["used"] // PAGE_SIZE}
    _, faults, elapsed, spent = map(int, totals)
    changed = {key: after[key] - before[key] for key in before}
    counted = len(load.order) - load.warm
    return {**changed, **held} | {
        "faults": faults,
        "evicted": changed["written"] + changed["zpool"],
        "resident": sum(resident) // PARTS,
        "room": group.limit - int(median(beside)),
        "elapsed_ns": elapsed,
        "ns": spent // counted,
    }


def _state(group: groups.Group) -> dict[str, int]:
    """What has been counted so far: by the machine as a whole, as the swap area is ours alone; stalls by the group."""
    found = table(VMSTAT)
    counted = {"written": "pswpout", "zpool": "zswpout", "restored": "workingset_restore_anon"}
    return {key: found.get(name, 0) for key, name in counted.items()} | group.pressure()


# ---- the engine


class TooSmall(RuntimeError):
    """A host has too few frames for what it is to do."""


class Limited:
    """The engine's VM under limits, with one load. What was found is kept."""

    def __init__(self, load: Load, corpus: Corpus, settings: dict[str, Any]) -> None:
        self._load, self._corpus, self._settings = load, corpus, settings
        self._found: dict[int, dict[str, int]] = {}

    def having(self, room: int) -> dict[str, int]:
        """What is counted where its limit is so many pages."""
        if room not in self._found:
            self._found[room] = run(self._load, room, self._corpus, self._settings)
        return self._found[room]


def run(load: Load, room: int, corpus: Corpus, settings: dict[str, Any]) -> dict[str, int]:
    """The same of a VM that may have so many pages in memory. Its host has enough for it, what is compressed included."""
    frames = load.pages + max(0, load.pages - room) + load.pages // 8 + SPARE_FRAMES
    swapped: dict[str, Any] = {
        "memory": frames * PAGE_SIZE, "swap": 2 * load.pages * PAGE_SIZE, "watermarks": MARKS, "readahead": 0,
        "content": "fingerprint",  # which page goes is no matter of its bytes
    }  # fmt: skip
    with engine.Host(corpus=corpus, **(swapped | settings)) as host:
        vm = host.create_vm("vm", load.pages * PAGE_SIZE, limit=room * PAGE_SIZE)
        _whole(vm.access(np.arange(load.pages), np.full(load.pages, FILL, np.uint8), load.sources), load.pages)
        _whole(vm.access(load.order[: load.warm], load.ops[: load.warm]), load.warm)
        before = counted(host, vm)
        held = []
        ends = np.linspace(load.warm, len(load.order), PARTS + 1).astype(int)
        for first, last in pairwise(ends):
            _whole(vm.access(load.order[first:last], load.ops[first:last]), int(last - first))
            held.append(vm.engine_vm.charged)
        after = counted(host, vm)
        found = {key: after[key] - before[key] for key in before}
        accesses = max(1, len(load.order) - load.warm)
        return found | {"room": room, "resident": sum(held) // len(held), "ns": found["elapsed_ns"] // accesses}


def _whole(outcome: RunOutcome, accesses: int) -> None:
    if outcome.done != accesses:
        raise TooSmall(f"the engine stopped after {outcome.done} of {accesses} accesses: {outcome.reason}")


def counted(host: engine.Host, vm: Vm) -> dict[str, int]:
    """What a host has counted so far, by the names of the kernel's side."""
    counters, stall = host.counters(), host.stall()
    order = host.engine.order_of(vm.engine_vm)
    return {
        "faults": counters["fault_swap"] + counters["fault_zpool"],
        "written": counters["swap_pages_out"],
        "evicted": counters["evicted"],
        "restored": getattr(order, "nr_restored", 0),
        "elapsed_ns": host.sim_ns,
        "some_ns": stall["stall_some_ns"],
        "full_ns": stall["stall_full_ns"],
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
    **{
        f"{device}: {pattern} at {percent} % resident": partial(limited, device, pattern, percent)
        for device, pattern, percent in _LIMITS
    },
    **{
        f"control groups of version {version}": partial(limited, "zram", "zipf", 50, version=version)
        for version in (1, 2)
    },
    "limit: MADV_FREE": lazily,
}
