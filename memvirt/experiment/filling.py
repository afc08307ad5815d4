"""What the VMs of a group are filled with: booting, growing, and when an image is replaced.

    page 0                                        touched                       memory                 memory + files
    | image | zeros | within | own                | own, once the VM grows ...  | files of its guest    |

    image     the same in every VM of the same image classes, read-only. Where it has more pages than those classes have,
              it goes on with the next round of them (memvirt.inputs.varied); each patch puts a page in every place that
              no place has held before
    zeros     pages of zeros
    within    a few contents of the VM, each in many of its pages and in no other VM's, as far as the corpus has enough
    own       filled from the private classes and then written to, so that no two are equal

Where in the corpus a VM begins follows from its group's name and its number alone (`place`). So a VM holds what it holds,
however many others there are.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memvirt.experiment.fleet import blend
from memvirt.experiment.life_spec import Group
from memvirt.inputs import ClassTable
from memvirt.inputs.bits import Pages
from memvirt.workloads import BATCH, FILL, WRITE, Batch, Boot, discard
from memvirt.workloads.load import SECOND_NS, WHOLE, place

PIECES = 10  # that a VM fills in a second, booting at a rate
WITHIN = 8  # contents of a VM that occur many times within it


class Filling:
    """Of the VMs of one group. Pages are counted, and begin, as the head of this module says."""

    def __init__(self, group: Group, corpus: ClassTable, rounds: int = 1) -> None:
        """`rounds` of its image classes make the largest image of them there is."""
        self.group = group
        self._variant, self._rounds = corpus.variant, rounds
        content = group.content
        self.memory = group.memory
        self.touched = max(1, group.memory * group.touched_percent // 100)
        self.image = group.image_pages
        self.zero = self.touched * content.zero_percent // 100
        self.within = self.touched * content.within_percent // 100
        self._image = blend([corpus.canonical[corpus.sources([name])] for name in content.image])
        classes = content.image if group.files is None else group.files.classes
        self._files = blend([corpus.canonical[corpus.sources([name])] for name in classes])
        self._private = blend([corpus.canonical[corpus.sources([name])] for name in content.private])

    def boot(self, number: int, version: int = 0) -> Boot:
        """What VM `number` boots with, its image patched `version` times."""
        first_own = self.image + self.zero + self.within
        within = self.own(number, np.arange(self.within, dtype=np.int64) % WITHIN)
        own = self.own(number, np.arange(self.touched - first_own, dtype=np.int64))
        sources = np.concatenate([self.image_of(version), np.zeros(self.zero, np.uint32), within, own])
        return Boot(sources, np.arange(first_own, self.touched, dtype=np.uint32), self.touched)

    def image_of(self, version: int) -> Pages:
        """The image after so many patches."""
        around, places = np.divmod(np.arange(self.image), len(self._image))
        return self._variant(self._image[places].astype(np.uint32), around + version * self._rounds)

    def own(self, number: int, pages: NDArray[np.int64]) -> Pages:
        """The corpus pages that the VM's own ones are filled from."""
        first = len(self._private) * place(self.group.name, number) // WHOLE
        return self._private[(first + pages) % len(self._private)].astype(np.uint32)

    def files(self, pages: Pages) -> Pages:
        """The corpus pages that those of its files hold, counted from the first."""
        around, places = np.divmod(pages.astype(np.int64), len(self._files))
        return self._variant(self._files[places].astype(np.uint32), around)

    def booting(self, number: int, version: int, begins_ns: int) -> Iterator[Batch]:
        """The boot in time: all at once from `begins_ns` on, or at the group's rate. A VM that waited for memory fills
        faster until it is where it should be."""
        rate = self.group.boot.per_second
        each = BATCH if rate is None else max(1, min(BATCH, rate // PIECES))
        filled = 0
        for batch in self.boot(number, version).batches():
            for first in range(0, len(batch.pages), each):
                due_ns = begins_ns if rate is None else begins_ns + filled * SECOND_NS // rate
                yield _part(batch, slice(first, first + each), due_ns)
                filled += 0 if batch.sources is None else len(batch.pages[first : first + each])

    def patched(self, version: int, due_ns: int | None) -> Iterator[Batch]:
        """Every page of the image is replaced."""
        yield from _fills(np.arange(self.image, dtype=np.uint32), self.image_of(version), due_ns)

    def grown(self, number: int, first: int, end: int, due_ns: int | None) -> Iterator[Batch]:
        """Pages first .. end - 1 become the VM's own."""
        pages = np.arange(first, end, dtype=np.uint32)
        yield from _fills(pages, self.own(number, pages.astype(np.int64)), due_ns)
        for start in range(0, len(pages), BATCH):
            part = pages[start : start + BATCH]
            yield Batch(part, np.full(len(part), WRITE, np.uint8), None, 0, None)

    def shrunk(self, first: int, end: int, due_ns: int | None) -> Iterator[Batch]:
        """The VM needs pages first .. end - 1 no more."""
        for batch in discard(first, end - first):
            yield batch._replace(due_ns=_times(due_ns))


def _part(batch: Batch, part: slice, due_ns: int) -> Batch:
    sources = None if batch.sources is None else batch.sources[part]
    return Batch(batch.pages[part], batch.ops[part], sources, 0, _times(due_ns))


def _fills(pages: Pages, sources: Pages, due_ns: int | None) -> Iterator[Batch]:
    for first in range(0, len(pages), BATCH):
        part = slice(first, first + BATCH)
        yield Batch(pages[part], np.full(len(pages[part]), FILL, np.uint8), sources[part], 0, _times(due_ns))


def _times(due_ns: int | None) -> NDArray[np.int64] | None:
    return None if due_ns is None else np.array([due_ns], np.int64)
