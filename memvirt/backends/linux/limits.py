"""A group with a limit on its memory, which makes pages leave, beside a host of the engine that has as many frames.

Under a limit the kernel chooses what goes: its major faults are held against those of the order `twolist`, which follows
the kernel's rules, and of others for comparison.

The group's statistics are kept fresh, for the kernel decides by them. The engine's host has as many frames for pages as
the process was found to have: a control group also pays for page tables. Both are means of several looks, as 32 pages go
at a time. How many frames a host needs for that is found by trying; what was tried serves the next question, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from memvirt import host as engine
from memvirt.backends.linux import areas, groups
from memvirt.backends.linux.kernel import VMSTAT, Missing, table
from memvirt.backends.linux.loads import Load, load_of
from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.tenant import Tenant
from memvirt.backends.linux.undo import Changes
from memvirt.backends.rows import Row
from memvirt.inputs.corpus import Corpus
from memvirt.units import PAGE_SIZE
from memvirt.vm import RunOutcome
from memvirt.workloads.base import FILL

BATCH = 32  # pages that reclaim takes at a time
PARTS, TRIES, CLOSE = 16, 5, 2000  # looks at what is resident; hosts that are tried; of the pages one part apart
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
FIXED_FRAMES = 96  # of a host, for what it needs itself; and a page table for 512 pages, and records of what is out
POOL_FRAMES, POOL_SLOPE = 0.6, 0.4  # of a page that is out; frames of a host for one page more, at first


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
    found = {order: Sized(load, corpus, settings).having(theirs["resident"]) for order, settings in ORDERS.items()}
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


# ---- the kernel


def kernel_side(
    changes: Changes,
    load: Load,
    percent: int,
    corpus: Corpus,
    version: int | None = None,
    pool: Path | None = None,
) -> dict[str, int]:
    """What the kernel says of the accesses that count. Counts: major faults, pages written, refaults of pages that had been
    active. In the mean: pages in memory, those on their way to a disk or back included, and ns of an access, without the
    time for which others had its processor. Times: all (elapsed_ns), and that in which some or all of the group's tasks
    waited for memory (some_ns, full_ns; absent where the kernel has no PSI).

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
        tenant.ask("drive_kept", "fill", 0, load.pages)
        tenant.ask("drive_kept", "load", 0, load.warm)
        before = _state(group)
        totals = np.zeros(4, np.int64)
        resident = 0
        ends = np.linspace(load.warm, len(load.order), PARTS + 1).astype(int)
        for first, last in pairwise(ends):
            totals += tenant.ask("drive_kept", "load", int(first), int(last))
            resident += tenant.ask("resident")[0] + group.unmapped()
        after = _state(group)
        held = {} if pool is None else {"pool": areas.zram_state(pool)["used"] // PAGE_SIZE}
    _, faults, elapsed, spent = map(int, totals)
    changed = {key: after[key] - before[key] for key in before}
    counted = len(load.order) - load.warm
    return {**changed, **held} | {
        "faults": faults,
        "evicted": changed["written"] + changed["zpool"],
        "resident": resident // PARTS,
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


class Sized:
    """Hosts of the engine for a load, each with another number of frames."""

    def __init__(self, load: Load, corpus: Corpus, settings: dict[str, Any]) -> None:
        self._load, self._corpus, self._settings = load, corpus, settings
        self._pooled = "zpool_percent" in settings
        self._tried: dict[int, dict[str, int]] = {}
        self._least = 0  # frames; with fewer it stops

    def having(self, resident: int) -> dict[str, int]:
        """What is counted of the host that had so many pages resident in the mean, or nearly."""
        for _ in range(TRIES):
            frames = self._frames(resident)
            if frames in self._tried:
                break
            try:
                self._tried[frames] = run(self._load, frames, self._corpus, self._settings)
            except TooSmall:
                self._least = max(self._least, frames + frames // 16)
                continue
            if abs(self._tried[frames]["resident"] - resident) * CLOSE <= resident:
                break
        if not self._tried:
            raise Missing(
                f"the engine finds no host in which {resident} pages are resident: it has no frame for the others"
            )
        return self._tried[self._near(resident)[0]]

    def frames(self, resident: int) -> int:
        """How many frames that host has."""
        self.having(resident)
        return self._near(resident)[0]

    def _near(self, resident: int) -> list[int]:
        """What was tried, the nearest first; of two that are as near (all pages may be resident in both) that whose frames
        are."""

        def distance(frames: int) -> tuple[int, int]:
            more = self._tried[frames]["resident"] - resident
            return abs(more), frames if more > 0 else -frames

        return sorted(self._tried, key=distance)

    def _frames(self, resident: int) -> int:
        """The next host to try: along the line through the two nearest."""
        near = self._near(resident)[:2]
        if not near:
            out = self._load.pages - resident
            own = FIXED_FRAMES + self._load.pages // 256
            return max(self._least, resident + own + (int(POOL_FRAMES * out) if self._pooled else 0))
        missing = resident - self._tried[near[0]]["resident"]
        if abs(missing) * CLOSE <= resident:
            return near[0]
        whole = self._tried[near[0]]["resident"] == self._load.pages  # nothing is out: it says little of how far to go
        slope = POOL_SLOPE if self._pooled and not whole else 1.0
        if self._pooled and len(near) == 2:
            apart = self._tried[near[0]]["resident"] - self._tried[near[1]]["resident"]
            slope = min(1.0, max(0.2, (near[0] - near[1]) / apart)) if apart else slope
        return max(self._least, near[0] + (round(missing * slope) or (1 if missing > 0 else -1)))


def run(load: Load, frames: int, corpus: Corpus, settings: dict[str, Any]) -> dict[str, int]:
    """The same of a host with so many frames."""
    swapped: dict[str, Any] = {
        "memory": frames * PAGE_SIZE, "swap": 2 * load.pages * PAGE_SIZE, "watermarks": MARKS, "readahead": 0,
        "content": "fingerprint",  # which page goes is no matter of its bytes
    }  # fmt: skip
    with engine.Host(corpus=corpus, **(swapped | settings)) as host:
        vm = host.create_vm("vm", load.pages * PAGE_SIZE)
        _whole(vm.access(np.arange(load.pages), np.full(load.pages, FILL, np.uint8), load.sources), load.pages)
        _whole(vm.access(load.order[: load.warm], load.ops[: load.warm]), load.warm)
        before = counted(host)
        held = []
        ends = np.linspace(load.warm, len(load.order), PARTS + 1).astype(int)
        for first, last in pairwise(ends):
            _whole(vm.access(load.order[first:last], load.ops[first:last]), int(last - first))
            usage = host.usage()
            held.append(usage["guest"] + usage["swap_cache"])
        after = counted(host)
        found = {key: after[key] - before[key] for key in before}
        accesses = max(1, len(load.order) - load.warm)
        return found | {"resident": sum(held) // len(held), "ns": found["elapsed_ns"] // accesses}


def _whole(outcome: RunOutcome, accesses: int) -> None:
    if outcome.done != accesses:
        raise TooSmall(f"the engine stopped after {outcome.done} of {accesses} accesses: {outcome.reason}")


def counted(host: engine.Host) -> dict[str, int]:
    """What a host has counted so far, by the names of the kernel's side."""
    counters, stall = host.counters(), host.stall()
    order = getattr(host.engine, "order", None)
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
}
