"""What fills a VM: the operating system image, then private memory, then what the guest gives up again."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memvirt.inputs.bits import Pages

from .base import BATCH, DISCARD, FILL, READ, WRITE, Batch


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot, from page `first` on: `sources[i]` is the corpus page that lands in page first + i.

    The pages `again` are written to once more, which makes their content the VM's own; a zero page among them is read,
    and stays zero. The pages from `freed_from` on are handed back to the guest's free list when all is filled. Pages
    count from 0, whatever `first` is.
    """

    sources: Pages
    again: Pages
    freed_from: int
    first: int = 0

    def batches(self) -> Iterator[Batch]:
        count = len(self.sources)
        for start in range(0, count, BATCH):
            part = self.sources[start : start + BATCH]
            yield _batch(np.arange(start, start + len(part), dtype=np.uint32) + np.uint32(self.first), FILL, part)
        for start in range(0, len(self.again), BATCH):
            pages = self.again[start : start + BATCH]
            ops = np.where(self.sources[pages] == 0, READ, WRITE).astype(np.uint8)
            yield Batch(pages + np.uint32(self.first), ops)
        yield from discard(self.first + self.freed_from, count - self.freed_from)


def discard(first: int, count: int) -> Iterator[Batch]:
    """The guest frees `count` pages from `first` on."""
    for start in range(first, first + count, BATCH):
        yield _batch(np.arange(start, min(start + BATCH, first + count), dtype=np.uint32), DISCARD)


def _batch(pages: Pages, op: int, sources: Pages | None = None) -> Batch:
    return Batch(pages, np.full(len(pages), op, dtype=np.uint8), sources)
