"""Which pages of a VM are touched when, under a load (memvirt.workloads.load says what a load is).

Parts are made of blocks, and which blocks follows from (seed, VM) alone. A part goes through its blocks once per cycle, in
an order of the cycle's own; where in its cycle it is follows from the time. So a second may be asked for whole or in
pieces: the same pages come.

Requests draw their pages from the same parts, each page in proportion to how often its part is used. They take from one
row of draws, request after request.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memvirt.inputs.bits import Pages

from .base import READ, Batch, Space, Stream, operations
from .load import HUNDRED, WHOLE, Load

BLOCK = 512  # pages that are used one after another, as far as a part has so many: 2 MiB
FEWEST_BLOCKS = 200  # of a VM, so that each per cent of it is two; smaller VMs have smaller blocks
RATE_NS = 10**18  # over a time between two uses: a rate in whole numbers
U64 = np.uint64

Used = tuple[Pages, int]  # pages of one cycle of a part, and what tells its writes from those of other cycles


class Touches:
    """The touches of one VM under a load. Time is the load's own: it passes more slowly when there is less to do.
    `resident`: pages from there on have been given up, and are left out."""

    def __init__(self, load: Load, space: Space, stream: Stream, epoch_ns: int) -> None:
        self.resident = space.pages
        self._load = load
        self._space = space
        self._block = max(1, min(BLOCK, space.pages // FEWEST_BLOCKS))
        blocks = stream.layout("parts").permutation(-(-space.pages // self._block))
        ends = (np.cumsum([0, *(part.percent for part in load.parts)]) * len(blocks) + HUNDRED // 2) // HUNDRED
        self._rates = [RATE_NS // part.every for part in load.parts]
        self._draws = stream.bits("requests")
        self._parts = [
            _Round(
                blocks[first:end] * np.uint32(self._block),
                self._block,
                max(part.every, epoch_ns),
                stream,
                number,
                space,
            )
            for number, (part, first, end) in enumerate(zip(load.parts, ends, ends[1:], strict=False))
        ]

    def between(self, began_ns: int, until_ns: int) -> tuple[Pages, NDArray[np.uint8]]:
        """Pages that are used in that time, in order, and whether each use writes (0 or 1)."""
        found = [use for part in self._parts for use in part.between(began_ns, until_ns)]
        pages = np.concatenate([used for used, _ in found]) if found else np.zeros(0, np.uint32)
        ops = self._writes(pages, found)
        if self.resident >= self._space.pages:
            return pages, ops
        kept = pages < self.resident
        return pages[kept], ops[kept]

    def _writes(self, pages: Pages, found: list[Used]) -> NDArray[np.uint8]:
        """Which uses write: a hash of page and cycle, so that it does not depend on how time is cut."""
        percent = self._load.write_percent
        if not percent:
            return np.zeros(len(pages), np.uint8)
        mixed = pages.astype(U64)
        mixed *= U64(0x9E3779B97F4A7C15)
        mixed += np.repeat(np.array([whose for _, whose in found], U64), [len(used) for used, _ in found])
        mixed ^= mixed >> U64(30)
        mixed *= U64(0xBF58476D1CE4E5B9)  # of the SplitMix64 finalizer (Steele, Lea, Flood 2014)
        writes = mixed < U64((percent << 16) // HUNDRED << 48) if percent < HUNDRED else np.ones(len(pages), np.bool_)
        if self._space.read_only:
            writes &= pages >= self._space.read_only
        return writes.view(np.uint8)

    def batch(self, began_ns: int, until_ns: int, due_ns: int) -> Batch | None:
        """The same as a batch that begins at `due_ns` and computes between its touches. A VM that computes and touches
        nothing meanwhile reads its first page, which it computes after; None when there is nothing to do."""
        pages, ops = self.between(began_ns, until_ns)
        work_ns = (until_ns - began_ns) * self._load.busy_percent // HUNDRED
        if not len(pages):
            if not work_ns:
                return None
            pages, ops = np.zeros(1, np.uint32), np.full(1, READ, np.uint8)
        work_ns //= len(pages)
        return Batch(pages, ops, None, work_ns, np.array([due_ns], np.int64))

    def asked(self, count: int) -> tuple[Pages, NDArray[np.uint8]]:
        """The touches of the next `count` requests, request after request."""
        assert self._load.requests is not None
        draws, touches = self._draws, count * self._load.requests.touches
        ends = np.cumsum([part.count * rate for part, rate in zip(self._parts, self._rates, strict=True)], dtype=object)
        if not ends[-1]:
            return np.zeros(0, np.uint32), np.zeros(0, np.uint8)
        borders = np.array([WHOLE * int(end) // int(ends[-1]) for end in ends[:-1]], np.uint64)
        which = np.searchsorted(borders, draws.u32(touches).astype(U64), side="right")
        found = draws.u32(touches)
        pages = np.zeros(touches, np.uint32)
        for number, part in enumerate(self._parts):
            mine = which == number
            pages[mine] = part.at(found[mine].astype(U64) * U64(part.count) >> U64(32))
        pages %= np.uint32(max(1, min(self.resident, self._space.pages)))
        return pages, operations(pages, draws, self._load.write_percent, self._space.read_only)


class _Round:
    """One part: its blocks, gone through once per cycle."""

    def __init__(self, firsts: Pages, block: int, every_ns: int, stream: Stream, number: int, space: Space) -> None:
        self._firsts = firsts
        self._block = block
        self.count = len(firsts) * block
        self._every_ns = every_ns
        self._stream = stream
        self._number = number
        self._limit = np.uint32(space.pages)
        self._whole = not len(firsts) or int(firsts.max()) + block <= space.pages  # no block reaches beyond
        self._within = np.arange(block, dtype=np.uint32)
        self._cycle = -1
        self._order = firsts
        self._whose = int(stream.bits("writes").u64(1)[0])

    def between(self, began_ns: int, until_ns: int) -> Iterator[Used]:
        """What is used in that time, cycle by cycle."""
        at_ns = began_ns
        while at_ns < until_ns and self.count:
            cycle, into_ns = divmod(at_ns, self._every_ns)
            end_ns = min(until_ns, (cycle + 1) * self._every_ns)
            first = self.count * into_ns // self._every_ns
            end = self.count * (end_ns - cycle * self._every_ns) // self._every_ns
            if end > first:
                yield self._used(cycle, first, end), (self._whose + cycle * 0xC2B2AE35) % (1 << 64)
            at_ns = end_ns

    def at(self, places: NDArray[np.uint64]) -> Pages:
        """The pages at those places of the part; beyond the last block's end, of another."""
        place = places.astype(np.uint32)
        return np.asarray(self._firsts[place // np.uint32(self._block)] + place % np.uint32(self._block), np.uint32)

    def _used(self, cycle: int, first: int, end: int) -> Pages:
        if cycle != self._cycle:
            self._cycle = cycle
            self._order = self._firsts[self._stream.bits(f"load/{self._number}/{cycle}").permutation(len(self._firsts))]
        top = first // self._block
        blocks = self._order[top : -(-end // self._block), np.newaxis] + self._within
        pages = blocks.ravel()[first - top * self._block : end - top * self._block]
        return pages if self._whole else pages[pages < self._limit]
