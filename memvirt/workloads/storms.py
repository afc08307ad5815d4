"""Storms: many VMs that break what they share at the same time."""

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from memvirt.errors import ConfigError

from .base import BATCH, READ, WRITE, Batch, Share, Space, Stream, Workload, share_of


class CloneStorm(Workload):
    """A clone that comes alive: it rewrites a share of the writable memory it inherited, and reads all over.

    Writes and reads alternate. The writes go once through the pages to rewrite, in scattered order of its own, then
    through them again, which costs nothing more; the reads are uniform. So exactly `dirty_percent` gets private.
    """

    name = "clone-storm"
    accesses: int = Field(gt=0, le=1 << 40, description="accesses per VM, half of them writes")
    dirty_percent: Share = Field(default=33, description="share of the writable pages that the clone rewrites")

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        writable = space.pages - space.read_only
        if writable == 0:
            raise ConfigError("a clone storm needs pages that may be written; all of them are read-only")
        dirty = stream.layout("clone-storm").permutation(writable)[: share_of(writable, self.dirty_percent)]
        dirty += np.uint32(space.read_only)
        bits = stream.bits("clone-storm")
        for done in range(0, self.accesses, BATCH):
            count = min(BATCH, self.accesses - done)
            pages = bits.below(space.pages, count)
            ops = np.full(count, READ, dtype=np.uint8)
            ops[::2] = WRITE
            turns = np.arange(done // 2, done // 2 + len(ops[::2]), dtype=np.int64)
            pages[::2] = dirty[turns % len(dirty)]
            yield Batch(pages, ops)


class CowStorm(Workload):
    """All VMs rewrite their read-only pages in the same order: an update of the system, installed everywhere at once.

    The read-only part is what a fleet shares, so every first write demands a frame. A VM without such a part rewrites
    all it has.
    """

    name = "cow-storm"
    accesses: int = Field(gt=0, le=1 << 40, description="writes per VM")
    dirty_percent: Share = Field(default=100, description="share of the read-only pages that is rewritten")

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        dirty = share_of(space.read_only or space.pages, self.dirty_percent)
        for done in range(0, self.accesses, BATCH):
            turns = np.arange(done, min(done + BATCH, self.accesses), dtype=np.int64)
            yield Batch((turns % dirty).astype(np.uint32), np.full(len(turns), WRITE, dtype=np.uint8))
