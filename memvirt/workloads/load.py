"""Loads: how often each part of a VM's memory is used per simulated time.

A VM of gigabytes makes millions of accesses a second, and most of them say nothing new: the page is in memory, and its
accessed mark is set. So a load does not say which access follows which. It names *parts* of the memory and how often each
is used, and the engine is given a page at most once per *epoch*. Leaving repeats out changes nothing as long as the epoch
is shorter than what anyone can see: a fifth of the interval at which accessed marks are collected, and the time that a
page stays in memory. (Leaving accesses out by chance, one in ten, is wrong by orders of magnitude: warm pages look cold.)

    part        so many per cent of the pages, all of them used once every so often: the mean time between two uses of a
                page. Where that is shorter than an epoch it is an epoch
    cycle       one such round. The blocks of a part are gone through in an order of their own in each cycle, so the time
                between two uses of a page lies between nothing and twice the mean
    work        the share of its time that a VM computes, spread over the touches: what it waits for memory is added

Touches are a function of (seed, VM, part, cycle) alone: neither the order in which VMs were created nor how time is cut
into intervals changes which pages are touched when.
"""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from memvirt.inputs.bits import Pages
from memvirt.settings.diagnose import Conflicts, Problem
from memvirt.settings.fields import Interval, Model
from memvirt.settings.fields import Pages as Size

from .base import Batch, Space, Stream

SECOND_NS = 10**9
HUNDRED = 100
BLOCK = 512  # pages that are used one after another, as far as a part has so many: 2 MiB
FEWEST_BLOCKS = 64  # of a VM; smaller VMs have smaller blocks
U64 = np.uint64

Share = Annotated[int, Field(strict=True, ge=1, le=HUNDRED)]
ShareOrNone = Annotated[int, Field(strict=True, ge=0, le=HUNDRED)]


class Part(Model):
    """A part of a VM's memory."""

    percent: Share = Field(description="of the memory that is filled while booting")
    every: Interval = Field(description="mean time between two uses of a page of it")


class Day(Model):
    """The table `day` of a load: it is busiest once per period and calmest half a period later."""

    period: Interval = Field(default=24 * 3600 * SECOND_NS, description="from one busiest hour to the next")
    low_percent: ShareOrNone = Field(default=30, description="of the load that is left when it is calmest")
    spread: bool = Field(default=False, description="VMs are busiest at different times, evenly spread over the period")


class Growth(Model):
    """The table `grow` of a load: memory that is filled beyond what was filled while booting, and not used again."""

    per_second: Size = Field(description="filled in a second: a leak, a cache that nobody bounds")
    to_percent: Share = Field(default=HUNDRED, description="of the configured memory, where it ends")


class Load(Model):
    """The table [scenarios.loads.NAME]: what the VMs of a group do all the time."""

    busy_percent: Share = Field(description="of its time that a VM computes when it is busiest; it waits beside that")
    parts: list[Part] = Field(description="parts of its memory; what no part names is not used", min_length=1)
    write_percent: ShareOrNone = Field(
        default=20, description="of the uses of a page that write; the image is only read"
    )
    day: Day | None = Field(default=None, description="how it rises and falls; else it is always at its busiest")
    grow: Growth | None = Field(default=None, description="memory that is filled as time passes")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        named = sum(part.percent for part in self.parts)
        if named > HUNDRED:
            raise Conflicts([Problem(("parts",), f"the parts come to {named} % of the memory; 100 % is all there is")])
        return self

    def touches(self, pages: int, epoch_ns: int, lasts_ns: int) -> int:
        """About how many touches a VM with so many filled pages makes in that time, when it is busiest."""
        each = (pages * part.percent * lasts_ns // max(part.every, epoch_ns) // HUNDRED for part in self.parts)
        return sum(each)


class Touches:
    """The touches of one VM under a load. Time is the load's own: it passes more slowly when there is less to do."""

    def __init__(self, load: Load, space: Space, stream: Stream, epoch_ns: int) -> None:
        self._load = load
        self._space = space
        self._block = max(1, min(BLOCK, space.pages // FEWEST_BLOCKS))
        blocks = stream.layout("parts").permutation(-(-space.pages // self._block))
        ends = np.cumsum([0, *(part.percent for part in load.parts)]) * len(blocks) // HUNDRED
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
        found = [part.between(began_ns, until_ns, self._load.write_percent) for part in self._parts]
        return np.concatenate([pages for pages, _ in found]), np.concatenate([ops for _, ops in found])

    def batch(self, began_ns: int, until_ns: int, due_ns: int) -> Batch | None:
        """The same as a batch that begins at `due_ns` and computes between its touches; None when there are none."""
        pages, ops = self.between(began_ns, until_ns)
        if not len(pages):
            return None
        work_ns = (until_ns - began_ns) * self._load.busy_percent // HUNDRED // len(pages)
        return Batch(pages, ops, None, work_ns, np.array([due_ns], np.int64))


class _Round:
    """One part: its blocks, gone through once per cycle."""

    def __init__(self, firsts: Pages, block: int, every_ns: int, stream: Stream, number: int, space: Space) -> None:
        self._firsts = firsts
        self._block = block
        self._count = len(firsts) * block
        self._every_ns = every_ns
        self._stream = stream
        self._number = number
        self._space = space
        self._cycle = -1
        self._order = firsts

    def between(self, began_ns: int, until_ns: int, write_percent: int) -> tuple[Pages, NDArray[np.uint8]]:
        pages: list[Pages] = [np.zeros(0, np.uint32)]
        ops: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
        at_ns = began_ns
        while at_ns < until_ns and self._count:
            cycle, into_ns = divmod(at_ns, self._every_ns)
            end_ns = min(until_ns, (cycle + 1) * self._every_ns)
            first = self._count * into_ns // self._every_ns
            end = self._count * (end_ns - cycle * self._every_ns) // self._every_ns
            used = self._used(cycle, first, end)
            pages.append(used)
            ops.append(self._writes(used, cycle, write_percent))
            at_ns = end_ns
        return np.concatenate(pages), np.concatenate(ops)

    def _used(self, cycle: int, first: int, end: int) -> Pages:
        if cycle != self._cycle:
            self._cycle = cycle
            self._order = self._firsts[self._stream.bits(f"load/{self._number}/{cycle}").permutation(len(self._firsts))]
        place = np.arange(first, end, dtype=np.uint32)
        pages = self._order[place // np.uint32(self._block)] + place % np.uint32(self._block)
        return np.asarray(pages[pages < self._space.pages], np.uint32)

    def _writes(self, pages: Pages, cycle: int, percent: int) -> NDArray[np.uint8]:
        """Which uses write: a hash of page and cycle, so that it does not depend on how time is cut."""
        if not percent:
            return np.zeros(len(pages), np.uint8)
        whose = self._stream.seed * 0x9E3779B97F4A7C15 + self._stream.vm * 0x85EBCA6B + cycle * 0xC2B2AE35
        mixed = pages.astype(U64) * U64(0x9E3779B97F4A7C15) + U64(whose % (1 << 64))
        mixed ^= mixed >> U64(30)
        mixed *= U64(0xBF58476D1CE4E5B9)  # of the SplitMix64 finalizer (Steele, Lea, Flood 2014)
        writes = (mixed >> U64(48)) < U64((percent << 16) // HUNDRED)
        if self._space.read_only:
            writes &= pages >= self._space.read_only
        return writes.view(np.uint8)


def level_percent(day: Day | None, now_ns: int, number: int, count: int) -> int:
    """How much of its load VM `number` of `count` has at that time: a day rises and falls in a straight line."""
    if day is None:
        return HUNDRED
    shift_ns = day.period * number // count if day.spread else 0
    into_ns = (now_ns + shift_ns) % day.period
    from_top_ns = min(into_ns, day.period - into_ns)  # 0 when busiest, half a period when calmest
    return HUNDRED - (HUNDRED - day.low_percent) * 2 * from_top_ns // day.period
