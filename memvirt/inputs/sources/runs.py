"""What can be captured from, and the one way to do it.

A source lists *runs*: pages that lie side by side at a place of its own counting (an address, an offset), each with a
label (heap, stack, libraries, …) for classes by mapping. It lists only pages that are held: what a
process never touched, what a sparse file has no blocks for, and what a dump left out is no page, and is counted by reason.

`take` makes a corpus of one or more sources. Of more pages than are wanted it takes extents of 64 neighbours, drawn from
all of them by the seed: so every class keeps its share and compression of neighbours stays what it is. Pages are read
straight into the rows of the corpus. A page that cannot be read is left out and counted; a source that ends or shrinks
in the middle is an error, because half of it is not what was asked for.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from memvirt.environment import memory_problem
from memvirt.errors import CorpusError
from memvirt.inputs.bits import Bits
from memvirt.inputs.corpus import PAGE_SIZE, Corpus, PageBytes, Progress, table_of
from memvirt.units import format_pages

RUN = np.dtype([("at", "<u8"), ("pages", "<u8"), ("label", "<u4")])
EXTENT = 64  # pages that stay together in a sample: 256 KiB, four of the largest units that are compressed as one
AT_ONCE = 1024  # pages read by one call: 4 MiB
MOST_PAGES = (1 << 24) - (1 << 16)  # what content of fingerprints has numbers for, and some to spare

Runs = NDArray[np.void]


class PageSource(Protocol):
    """Something that has pages."""

    name: str  # in words, for the provenance
    runs: Runs  # RUN; `label` indexes labels
    left_out: Counter[str]  # pages that were not listed, by reason

    @property
    def labels(self) -> Sequence[str]:
        """What its runs may be called."""

    def read(self, at: int, rows: PageBytes) -> int:
        """Fill rows with pages from `at` on; how many, fewer where the next one cannot be read. CorpusError when it has
        ended or is not what it was."""

    def close(self) -> None:
        """Nothing is read any more."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A source and what its classes are called: one `name` for all of it, or its labels, behind the name if it has one."""

    source: PageSource
    name: str | None = None
    by_label: bool = False

    def class_of(self, label: str) -> str:
        if self.name is None:
            return label
        return f"{self.name}.{label}" if self.by_label else self.name


def make_runs(rows: Sequence[tuple[int, int, int]]) -> Runs:
    """Runs of (at, pages, label)."""
    return np.array(rows, dtype=RUN)


def take(
    asked: Sequence[Asked], most_pages: int | None = None, seed: int = 1, progress: Progress | None = None
) -> Corpus:
    """A corpus of all pages of these sources, or of about `most_pages` drawn from them.

    CorpusError when there are none, or more than this machine's memory or a corpus has room for.
    """
    names = list(dict.fromkeys(each.class_of(label) for each in asked for label in _used(each.source)))
    found = np.concatenate([_as_extents(index, each, names) for index, each in enumerate(asked)])
    there = int(found["pages"].sum())
    if not there:
        raise CorpusError("nothing to capture: " + "; ".join(_nothing(each.source) for each in asked))
    if most_pages is not None and most_pages < there:
        found = _sample(found, most_pages, seed)
    pages = int(found["pages"].sum())
    if problem := memory_problem((pages + 1) * PAGE_SIZE):
        raise CorpusError(f"capturing {format_pages(pages)} {problem}; take a sample of it: --size 1GiB")
    if pages > MOST_PAGES:
        raise CorpusError(
            f"{format_pages(pages)} are more than a corpus can have ({format_pages(MOST_PAGES)}); take a sample: --size 8GiB"
        )
    found = _joined(np.sort(found, order=["class", "source", "at"]))
    rows = np.empty((pages + 1, PAGE_SIZE), np.uint8)
    rows[0] = 0
    counts, lost = _read(asked, found, rows, len(names), progress)
    if not sum(counts):
        raise CorpusError(f"nothing to capture: none of the {pages} pages could be read")
    table = table_of([(name, count) for name, count in zip(names, counts, strict=True) if count])
    return Corpus(rows[: 1 + sum(counts)], table, _provenance(asked, lost, there, pages))


_EXTENT = np.dtype([("class", "<u4"), ("source", "<u4"), ("at", "<u8"), ("pages", "<u8")])


def _used(source: PageSource) -> list[str]:
    return [source.labels[index] for index in np.unique(source.runs["label"])]


def _as_extents(index: int, asked: Asked, names: list[str]) -> NDArray[np.void]:
    """The runs of a source, each with its class."""
    runs = asked.source.runs
    found = np.zeros(len(runs), _EXTENT)
    classes = np.array([_index(names, asked.class_of(label)) for label in asked.source.labels], np.uint32)
    found["class"] = classes[runs["label"]] if len(runs) else 0
    found["source"], found["at"], found["pages"] = index, runs["at"], runs["pages"]
    return found


def _index(names: list[str], name: str) -> int:
    return names.index(name) if name in names else 0  # a label that no run has


def _sample(found: NDArray[np.void], most_pages: int, seed: int) -> NDArray[np.void]:
    """Extents of at most EXTENT pages in an order drawn from the seed, until there are enough."""
    parts = -(-found["pages"].astype(np.int64) // EXTENT)
    cut = np.repeat(found, parts)
    within = np.arange(len(cut)) - np.repeat(np.cumsum(parts) - parts, parts)
    cut["at"] += (within * EXTENT * PAGE_SIZE).astype(np.uint64)
    cut["pages"] = np.minimum(EXTENT, cut["pages"].astype(np.int64) - within * EXTENT)
    cut = cut[Bits("capture", seed, "extents").permutation(len(cut))]
    before = np.cumsum(cut["pages"]) - cut["pages"]
    sample: NDArray[np.void] = cut[before < most_pages]
    sample["pages"][-1] = min(int(sample["pages"][-1]), most_pages - int(before[len(sample) - 1]))
    return sample


def _joined(found: NDArray[np.void]) -> NDArray[np.void]:
    """Extents that go on where the one before ends, as one."""
    ends = found["at"] + found["pages"] * np.uint64(PAGE_SIZE)
    goes_on = (found["at"][1:] == ends[:-1]) & (found["class"][1:] == found["class"][:-1])
    goes_on &= found["source"][1:] == found["source"][:-1]
    first = np.flatnonzero(np.concatenate([[True], ~goes_on]))
    joined: NDArray[np.void] = found[first].copy()
    joined["pages"] = np.add.reduceat(found["pages"], first)
    return joined


def _read(
    asked: Sequence[Asked], found: NDArray[np.void], rows: PageBytes, classes: int, progress: Progress | None
) -> tuple[list[int], Counter[int]]:
    """Read every extent into rows from 1 on: pages of each class, and pages of each source that could not be read."""
    counts, lost = [0] * classes, Counter[int]()
    here, done = 1, 0
    for kind, source, at, pages in found.tolist():
        end = at + pages * PAGE_SIZE
        while at < end:
            wanted = min(AT_ONCE, (end - at) // PAGE_SIZE)
            got = asked[source].source.read(at, rows[here : here + wanted])
            here, at = here + got, at + got * PAGE_SIZE
            counts[kind] += got
            if got < wanted:
                lost[source] += 1
                at += PAGE_SIZE
            done += got + (got < wanted)
            if progress:
                progress(done, len(rows) - 1)
    return counts, lost


def _nothing(source: PageSource) -> str:
    return f"{source.name} has no pages" + "".join(f", {count} {reason}" for reason, count in source.left_out.items())


def _provenance(asked: Sequence[Asked], lost: Counter[int], there: int, taken: int) -> list[str]:
    lines = []
    for index, each in enumerate(asked):
        left_out = each.source.left_out + Counter({"could not be read": lost[index]})
        told = "".join(f"; {count} pages {reason}" for reason, count in left_out.items() if count)
        lines.append(f"{each.name or 'by mapping'}: {each.source.name}{told}")
    if taken < there:
        lines.append(f"a sample: {taken} of {there} pages")
    return lines
