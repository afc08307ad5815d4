"""What can be captured from, and the one way to do it.

A source lists *runs*: pages that lie side by side at a place of its own counting (an address, an offset), each with a
label (heap, stack, libraries, …) for classes by mapping. It lists only pages that are held: what a
process never touched, what a sparse file has no blocks for, and what a dump left out is no page, and is counted by reason.

A `Taking` is what shall be taken of one or more sources, known before a page is read. Of more pages than are wanted it is
extents of 64 neighbours, drawn from all of them by the seed: so every class keeps its share and compression of neighbours
stays what it is. Pages are read into rows that the destination gives: those of a corpus in memory (`take`), or a buffer on
the way to a file (memvirt.inputs.written). A page that cannot be read is left out and counted; a source that ends or
shrinks in the middle is an error, because half of it is not what was asked for.
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
from memvirt.inputs.corpus import PAGE_SIZE, Corpus, PageBytes, PageClass, Progress, table_of
from memvirt.units import format_pages

RUN = np.dtype([("at", "<u8"), ("pages", "<u8"), ("label", "<u4")])
EXTENT = 64  # pages that stay together in a sample: 256 KiB, four of the largest units that are compressed as one
AT_ONCE = 1024  # pages read by one call at most: 4 MiB
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


class Destination(Protocol):
    """Where pages go that are read, one after the other."""

    def room(self, pages: int) -> PageBytes:
        """Rows for the next pages: for so many of them, or fewer, but one."""

    def keep(self, pages: int) -> None:
        """So many of these rows, from the first on, hold pages now."""


class Taking:
    """All pages of these sources, or about `most_pages` drawn from them. `pages`: how many will be read.

    CorpusError when there are none, or more than a corpus has room for.
    """

    def __init__(self, asked: Sequence[Asked], most_pages: int | None = None, seed: int = 1) -> None:
        self._asked = asked
        self._names = list(dict.fromkeys(each.class_of(label) for each in asked for label in _used(each.source)))
        found = np.concatenate([_as_extents(index, each, self._names) for index, each in enumerate(asked)])
        self._there = int(found["pages"].sum())
        if not self._there:
            raise CorpusError("nothing to capture: " + "; ".join(_nothing(each.source) for each in asked))
        if most_pages is not None and most_pages < self._there:
            found = _sample(found, most_pages, seed)
        self.pages = int(found["pages"].sum())
        if self.pages > MOST_PAGES:
            raise CorpusError(
                f"{format_pages(self.pages)} are more than a corpus can have ({format_pages(MOST_PAGES)}); "
                "take a sample: --size 8GiB"
            )
        self._found = _joined(np.sort(found, order=["class", "source", "at"]))

    def classes(self) -> list[PageClass]:
        """The class table, if every page can be read."""
        counts = np.bincount(self._found["class"], self._found["pages"], len(self._names)).astype(int).tolist()
        return self._table(counts)

    def longest_provenance(self) -> list[str]:
        """The provenance, no line of which `read` will make longer."""
        return self._provenance(Counter(dict.fromkeys(range(len(self._asked)), self.pages)))

    def read(self, into: Destination, progress: Progress | None = None) -> tuple[list[PageClass], list[str]]:
        """Read the pages; the class table of those that could be, and the provenance. CorpusError when none could be, or
        a source has ended."""
        counts, lost = [0] * len(self._names), Counter[int]()
        done = 0
        for kind, source, at, pages in self._found.tolist():
            end = at + pages * PAGE_SIZE
            while at < end:
                rows = into.room(min(AT_ONCE, (end - at) // PAGE_SIZE))
                got = self._asked[source].source.read(at, rows)
                into.keep(got)
                skipped = int(got < len(rows))  # the page behind them cannot be read
                counts[kind] += got
                lost[source] += skipped
                at, done = at + (got + skipped) * PAGE_SIZE, done + got + skipped
                if progress:
                    progress(done, self.pages)
        if not sum(counts):
            raise CorpusError(f"nothing to capture: none of the {self.pages} pages could be read")
        return self._table(counts), self._provenance(lost)

    def _table(self, counts: Sequence[int]) -> list[PageClass]:
        return table_of([(name, count) for name, count in zip(self._names, counts, strict=True) if count])

    def _provenance(self, lost: Counter[int]) -> list[str]:
        lines = []
        for index, each in enumerate(self._asked):
            left_out = each.source.left_out + Counter({"could not be read": lost[index]})
            told = "".join(f"; {count} pages {reason}" for reason, count in left_out.items() if count)
            lines.append(f"{each.name or 'by mapping'}: {each.source.name}{told}")
        if self.pages < self._there:
            lines.append(f"a sample: {self.pages} of {self._there} pages")
        return lines


class _Rows:
    """A destination in memory: the rows of a corpus, behind the zero page."""

    def __init__(self, pages: int) -> None:
        self.rows = np.empty((pages + 1, PAGE_SIZE), np.uint8)
        self.rows[0] = 0
        self.filled = 1

    def room(self, pages: int) -> PageBytes:
        return self.rows[self.filled : self.filled + pages]

    def keep(self, pages: int) -> None:
        self.filled += pages


def take(
    asked: Sequence[Asked], most_pages: int | None = None, seed: int = 1, progress: Progress | None = None
) -> Corpus:
    """A corpus in memory of all pages of these sources, or of about `most_pages` drawn from them.

    CorpusError as Taking has it, and for more than this machine's memory.
    """
    taking = Taking(asked, most_pages, seed)
    if problem := memory_problem((taking.pages + 1) * PAGE_SIZE):
        raise CorpusError(f"capturing {format_pages(taking.pages)} {problem}; take a sample of it: --size 1GiB")
    into = _Rows(taking.pages)
    classes, provenance = taking.read(into, progress)
    into.rows.flags.writeable = False  # else hosts would copy them: somebody might write to them
    return Corpus(into.rows[: into.filled], classes, provenance)


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


def _nothing(source: PageSource) -> str:
    return f"{source.name} has no pages" + "".join(f", {count} {reason}" for reason, count in source.left_out.items())
