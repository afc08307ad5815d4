"""What is in a corpus, in numbers for a table, a picture or a program: made of its fingerprints alone.

Shares are of pages. A page is a *duplicate* when the same bytes are in an earlier page of its class, and *elsewhere*
when they are in another class; zero pages and same-filled ones are counted apart first, since mechanisms that know them
save them without comparing. Near-duplicates (memvirt.inputs.similarity) are pages that are no copies but share most of
their 64-byte blocks with another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .corpus import PAGE_SIZE, PageClass
from .fingerprints import Fingerprints
from .measure import ENTROPY_STEPS, UNIT_PAGES
from .similarity import nearest

BUCKETS = 64  # of a distribution: 64 bytes each for pages
QUANTILES = (10, 50, 90)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Compressed sizes of units of `unit_bytes`. A size counts as no more than what was compressed."""

    unit_bytes: int
    units: int
    compressed_bytes: int
    bytes: int
    quantiles: Mapping[int, int]  # per cent -> bytes
    buckets: tuple[int, ...]  # units by size, BUCKETS steps from 0 to unit_bytes, the last one closed

    @property
    def ratio(self) -> float:
        return self.bytes / max(1, self.compressed_bytes)


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """One class, or all of them."""

    name: str
    pages: int
    zero: int  # pages of zeros
    same_filled: int  # of one value throughout, zeros included
    distinct: int  # different contents
    distinct_plain: int  # of these, the ones that are not same-filled
    elsewhere: int  # pages, not same-filled, whose bytes are in another class too
    near: int  # pages, not same-filled, without an equal page but with one nearly alike in the corpus
    entropy_bits: float  # mean over pages, of a byte
    sizes: Mapping[str, Sequence[Distribution]]  # codec -> in pages, then in larger units

    def percent(self, pages: int) -> float:
        return 100 * pages / self.pages


@dataclass(frozen=True, slots=True)
class Common:
    """Two classes, and the pages of each whose bytes the other has too; same-filled pages are left out."""

    one: str
    other: str
    pages_of_one: int
    pages_of_other: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Everything."""

    classes: tuple[ClassSummary, ...]
    total: ClassSummary
    common: tuple[Common, ...]  # pairs that have any, the most first


def summarize(prints: Fingerprints) -> Summary:
    """The summary of a corpus; the zero page that each begins with is not counted."""
    plain = ~prints.same_filled
    holders = _holders(prints)
    near = _near(prints)
    rows = [_row(prints, entry.name, [entry], holders, near) for entry in prints.classes[1:]]
    total = _row(prints, "all", prints.classes[1:], holders, near)
    contents = {entry.name: np.unique(prints.canonical[entry.part][plain[entry.part]]) for entry in prints.classes[1:]}
    return Summary(tuple(rows), total, tuple(_common(prints, contents)))


def _holders(prints: Fingerprints) -> NDArray[np.int64]:
    """For each page, how many classes have its bytes."""
    which = np.concatenate([np.full(entry.pages, index) for index, entry in enumerate(prints.classes)])
    pairs = np.unique(np.stack([prints.canonical.astype(np.int64), which], axis=1)[1:], axis=0)
    return np.bincount(pairs[:, 0], minlength=len(prints))[prints.canonical]


def _near(prints: Fingerprints) -> NDArray[np.bool_]:
    """Pages that no other equals, but that one resembles."""
    copies = np.bincount(prints.canonical, minlength=len(prints))
    distinct = np.flatnonzero((copies > 0) & ~prints.same_filled)
    which, _ = nearest(prints.sketch[distinct])
    found = np.zeros(len(prints), np.bool_)
    found[distinct] = (which >= 0) & (copies[distinct] == 1)
    return found


def _row(
    prints: Fingerprints,
    name: str,
    classes: Sequence[PageClass],
    holders: NDArray[np.int64],
    near: NDArray[np.bool_],
) -> ClassSummary:
    rows = np.concatenate([np.arange(entry.first, entry.first + entry.pages) for entry in classes])
    plain = ~prints.same_filled[rows]
    return ClassSummary(
        name=name,
        pages=len(rows),
        zero=int(prints.zero[rows].sum()),
        same_filled=int((~plain).sum()),
        distinct=len(np.unique(prints.canonical[rows])),
        distinct_plain=len(np.unique(prints.canonical[rows][plain])),
        elsewhere=int((plain & (holders[rows] > 1)).sum()),
        near=int(near[rows].sum()),
        entropy_bits=float(prints.entropy[rows].mean()) / ENTROPY_STEPS,
        sizes={key: _sizes(prints, key, rows, classes) for key in prints.sizes},
    )


def _sizes(prints: Fingerprints, key: str, rows: NDArray[np.int64], classes: Sequence[PageClass]) -> list[Distribution]:
    found = prints.sizes[key]
    pages = np.minimum(found.page[rows], PAGE_SIZE).astype(np.int64)
    units = [distribution(pages, PAGE_SIZE, len(rows) * PAGE_SIZE)]
    for unit in UNIT_PAGES:
        starts = dict(
            zip((entry.name for entry in prints.classes[1:]), unit_starts(prints.classes, unit), strict=False)
        )
        parts = [
            found.units[unit][starts[entry.name] : starts[entry.name] - (-entry.pages // unit)] for entry in classes
        ]
        units.append(distribution(np.concatenate(parts).astype(np.int64), unit * PAGE_SIZE, len(rows) * PAGE_SIZE))
    return units


def unit_starts(classes: Sequence[PageClass], unit: int) -> list[int]:
    """Where the units of each class begin, the zero page's class left out."""
    counts = [-(-entry.pages // unit) for entry in classes[1:]]
    return [0, *np.cumsum(counts).tolist()]


def distribution(sizes: NDArray[np.int64], unit_bytes: int, total_bytes: int) -> Distribution:
    """The distribution of compressed sizes, in integers: quantiles are sizes that occur."""
    ordered = np.sort(sizes)
    steps = np.minimum(ordered * BUCKETS // unit_bytes, BUCKETS - 1)
    return Distribution(
        unit_bytes,
        len(ordered),
        int(ordered.sum()),
        total_bytes,
        {percent: int(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]) for percent in QUANTILES},
        tuple(np.bincount(steps, minlength=BUCKETS).tolist()),
    )


def _common(prints: Fingerprints, contents: Mapping[str, NDArray[np.uint32]]) -> list[Common]:
    found = []
    for index, one in enumerate(prints.classes[1:]):
        for other in prints.classes[2 + index :]:
            both = np.intersect1d(contents[one.name], contents[other.name], assume_unique=True)
            if len(both):
                mine, theirs = (int(np.isin(prints.canonical[entry.part], both).sum()) for entry in (one, other))
                found.append(Common(one.name, other.name, mine, theirs))
    return sorted(found, key=lambda pair: -(pair.pages_of_one + pair.pages_of_other))
