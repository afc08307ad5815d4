"""Page choices that follow a plain rule: uniform, sequential, strided, loop, idle, and a working set that moves."""

import math

import numpy as np
from pydantic import Field

from memvirt.inputs.bits import Pages

from .base import Accesses, Pick, Share, Space, Stream, share_of


class Uniform(Accesses):
    """Every page alike: no order of replacement can win."""

    name = "uniform"

    def pick(self, space: Space, stream: Stream) -> Pick:
        bits = stream.bits("uniform")
        return lambda done, count: bits.below(space.pages, count)


class Sequential(Accesses):
    """From the first page to the last, again and again: the worst case for recency once memory is short."""

    name = "sequential"

    def pick(self, space: Space, stream: Stream) -> Pick:
        return lambda done, count: _steps(done, count, 1, space.pages)


class Strided(Accesses):
    """Every `stride`-th page, wrapping: a column of a matrix. A stride prime to the memory visits every page."""

    name = "strided"
    stride: int = Field(default=7, ge=1, le=1 << 30, description="distance of successive accesses, in pages")

    def pick(self, space: Space, stream: Stream) -> Pick:
        return lambda done, count: _steps(done, count, self.stride, space.pages)


class Loop(Accesses):
    """In order through a part of the memory, in scattered order of pages: a cache either holds it or it does not."""

    name = "loop"
    set_percent: Share = Field(default=50, description="pages of the loop, as a share of the memory worked in")

    def pick(self, space: Space, stream: Stream) -> Pick:
        ring = stream.layout("loop").permutation(space.pages)[: share_of(space.pages, self.set_percent)]
        return lambda done, count: ring[_steps(done, count, 1, len(ring))]


class Idle(Accesses):
    """Next to nothing: a few pages of the kernel's housekeeping, over and over. The rest of the VM is cold."""

    name = "idle"
    hot_pages: int = Field(default=16, ge=1, description="pages that are touched; all others never are")

    def pick(self, space: Space, stream: Stream) -> Pick:
        hot = stream.layout("idle").permutation(space.pages)[: self.hot_pages]
        bits = stream.bits("idle")
        return lambda done, count: hot[bits.below(len(hot), count)]


class PhaseChange(Accesses):
    """A working set that moves: uniform within a set of pages, which is replaced every `period` accesses.

    Sets follow each other along a ring of all pages in scattered order; `overlap_percent` of a set stays in the next.
    Warm-up and measured phase start with the same set.
    """

    name = "phase-change"
    set_percent: Share = Field(default=25, description="pages of the working set, share of the memory worked in")
    overlap_percent: int = Field(default=0, ge=0, le=99, description="share of a working set that the next one keeps")
    period: int = Field(gt=0, le=1 << 40, description="accesses until the working set moves")

    def pick(self, space: Space, stream: Stream) -> Pick:
        ring = stream.layout("phase-change").permutation(space.pages)
        held = share_of(space.pages, self.set_percent)
        step = max(1, held - held * self.overlap_percent // 100)
        bits = stream.bits("phase-change")

        def pick(done: int, count: int) -> Pages:
            epoch = np.arange(done, done + count, dtype=np.uint64) // np.uint64(self.period)
            # Reduced before it is multiplied: the number of the epoch is not bounded by the memory.
            start = (epoch % np.uint64(space.pages // math.gcd(space.pages, step))) * np.uint64(step)
            pages: Pages = ring[(start + bits.below(held, count)) % np.uint64(space.pages)]
            return pages

        return pick


def _steps(done: int, count: int, stride: int, pages: int) -> Pages:
    """Pages number done, done + 1, … of a walk over `pages` pages in steps of `stride`."""
    start = done * stride % pages
    walk = np.arange(count, dtype=np.uint64)
    walk *= np.uint64(stride % pages)
    walk += np.uint64(start)
    walk %= np.uint64(pages)
    return walk.astype(np.uint32)
