"""Which pages of a VM are touched when, under a load (memvirt.workloads.load says what a load is).

Parts are made of blocks, and which blocks follows from (seed, VM) alone. A part goes through its blocks once per cycle, in
an order of the cycle's own; where in its cycle it is follows from the time. So a second may be asked for whole or in
pieces: the same pages come. Windows are short beside what it costs to make one, so several are made at once.

Requests draw their pages from the same parts, each page in proportion to how often its part is used. They take from one
row of draws, request after request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memvirt.inputs.bits import Pages

from .base import READ, Batch, Space, Stream, operations
from .load import HUNDRED, WHOLE, Load

BLOCK = 512  # pages that are used one after another, as far as a part has so many: 2 MiB
FEWEST_BLOCKS = 200  # of a VM, so that each per cent of it is two; smaller VMs have smaller blocks
RATE_NS = 10**18  # over a time between two uses: a rate in whole numbers
AT_ONCE = 1 << 15  # touches, or fewer, of windows that are made at once: what lies in a cache near the processor
U64 = np.uint64

Used = tuple[Pages, int]  # pages of one cycle of a part, and what tells its writes from those of other cycles
Window = tuple[Pages, NDArray[np.uint8]]  # its pages, and whether each use writes (0 or 1)


class _Span(NamedTuple):
    """What a window uses of one cycle of a part."""

    window: int
    cycle: int
    first: int  # places in the cycle
    end: int


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
        self._ahead: deque[tuple[int, int, Window]] = deque()  # made: when it begins, and ends
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
        self._whole = all(part.whole for part in self._parts)

    def between(self, began_ns: int, until_ns: int) -> Window:
        """What is used in that time, in order."""
        return self._held(*self.windows([began_ns, until_ns])[0])

    def windows(self, times: Sequence[int]) -> list[Window]:
        """What is used between each two of these times, which rise, also of pages that have been given up."""
        of_parts = [part.windows(times) for part in self._parts]
        windows = [[use for of_part in of_parts for use in of_part[window]] for window in range(len(times) - 1)]
        found = [use for window in windows for use in window]
        pages = np.concatenate([used for used, _ in found]) if found else np.zeros(0, np.uint32)
        ops = self._writes(pages, found)
        ends = np.cumsum([0, *(sum(len(used) for used, _ in window) for window in windows)])
        if not self._whole:
            kept = pages < self._space.pages
            pages, ops = pages[kept], ops[kept]
            ends = np.concatenate(([0], np.cumsum(kept)))[ends]
        return [(pages[first:end], ops[first:end]) for first, end in pairwise(ends.tolist())]

    def _window(self, began_ns: int, until_ns: int, later_ns: Iterable[int]) -> Window:
        """One of those made ahead, if it is the one that was expected."""
        if not self._ahead or self._ahead[0][:2] != (began_ns, until_ns):
            times = [began_ns, until_ns]
            most = AT_ONCE * (until_ns - began_ns) // max(1, self._count(until_ns - began_ns)) + until_ns
            for time_ns in later_ns:
                if time_ns > most:
                    break
                times.append(time_ns)
            made = zip(pairwise(times), self.windows(times), strict=True)
            self._ahead = deque((*times, window) for times, window in made)
        return self._held(*self._ahead.popleft()[2])

    def _held(self, pages: Pages, ops: NDArray[np.uint8]) -> Window:
        if self.resident >= self._space.pages:
            return pages, ops
        held = pages < self.resident
        return pages[held], ops[held]

    def _count(self, lasts_ns: int) -> int:
        """About how many uses there are in that time."""
        return sum(part.count * lasts_ns // part.every_ns for part in self._parts)

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

    def batch(self, began_ns: int, until_ns: int, due_ns: int, later_ns: Iterable[int] = ()) -> Batch | None:
        """The same as a batch that begins at `due_ns` and computes between its touches. A VM that computes and touches
        nothing meanwhile reads its first page, which it computes after; None when there is nothing to do. `later_ns`: when
        the windows after this one are likely to end. They may then be made with it; what comes is the same."""
        pages, ops = self._window(began_ns, until_ns, later_ns)
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
        self.every_ns = every_ns
        self._stream = stream
        self._number = number
        self.whole = not len(firsts) or int(firsts.max()) + block <= space.pages  # no block reaches beyond
        self._within = np.arange(block, dtype=np.uint32)
        self._cycle = -1
        self._order = firsts
        self._whose = int(stream.bits("writes").u64(1)[0])

    def windows(self, times: Sequence[int]) -> list[list[Used]]:
        """What is used between each two of these times, cycle by cycle; of the last block, also what lies beyond the
        VM's end."""
        found: list[list[Used]] = [[] for _ in times[1:]]
        for cycle, group in groupby(self._spans(times), attrgetter("cycle")):
            spans = list(group)
            began, whose = spans[0].first, (self._whose + cycle * 0xC2B2AE35) % (1 << 64)
            pages = self._used(cycle, began, spans[-1].end)
            for span in spans:
                found[span.window].append((pages[span.first - began : span.end - began], whose))
        return found

    def _spans(self, times: Sequence[int]) -> Iterator[_Span]:
        for window, (began_ns, until_ns) in enumerate(pairwise(times)):
            at_ns = began_ns
            while at_ns < until_ns and self.count:
                cycle, into_ns = divmod(at_ns, self.every_ns)
                end_ns = min(until_ns, (cycle + 1) * self.every_ns)
                first = self.count * into_ns // self.every_ns
                end = self.count * (end_ns - cycle * self.every_ns) // self.every_ns
                if end > first:
                    yield _Span(window, cycle, first, end)
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
        return blocks.ravel()[first - top * self._block : end - top * self._block]
