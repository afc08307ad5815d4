"""A content model fitted to a corpus, and how far its pages are from those they stand for.

Everything is read off fingerprints, so a model can be fitted to a published set. Shares are counted. Kinds are found by
trying: pages of a grid of kinds are made and compressed here, each captured page goes to the kind whose sizes under the
codecs at hand are nearest to its own, and its literals are then set between those of the grid. With zstd beside lz4 the
alphabet and the period are found as well; with one codec alone only literals are. How much neighbours share is tried in
the same way, against the size of 64 KiB units. What comes out is then generated and measured, and the difference said: a
model is no better than that.

Volatility needs two captures of one source: the share of pages whose bytes are nowhere in the later one.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from .bits import Bits
from .corpus import PAGE_SIZE, Corpus, PageClass
from .fingerprints import Fingerprints, fingerprints
from .measure import BLOCKS, UNIT_PAGES
from .model import MILLION, ClassModel, ContentModel, generate, make_class, plain_pages
from .similarity import changed_blocks, nearest
from .summary import ClassSummary, summarize

LITERALS = (*range(16, 256, 16), *range(256, PAGE_SIZE, 128), PAGE_SIZE)  # of the grid of kinds
ALPHABETS = (256, 160, 96, 64, 40, 24, 16, 8)
FORMS = ((1, 1), (4, 8), (2, 8), (1, 8), (2, 6), (1, 6), (1, 5))  # (fresh, period)
LITERAL_STEP = 16  # of the literals that a model tells
EVERYTHING = (PAGE_SIZE, 256, 1, 1, MILLION)  # a page that nothing makes smaller
GRID_PAGES = 2  # made of each kind
CARRIED = tuple(range(0, 1000, 100))
TRIED_PAGES = 1024  # generated to try how much is carried
MOST_COPIES = 256  # different numbers of copies that a class is told with; rarer ones count as the nearest


def fit(prints: Fingerprints, name: str, later: Fingerprints | None = None, note: str = "") -> ContentModel:
    """A model of these fingerprints; `later` are some of the same source under the same key, taken afterwards; `note` says
    what they are of.

    CorpusError for sets that cannot be compared.
    """
    if later is not None and later.key_id != prints.key_id:
        raise CorpusError("the two sets were taken under different keys, so what changed between them is unknown")
    kinds = _grid(tuple(codec_of(key) for key in prints.sizes))
    near = _nearness(prints)
    summary = {row.name: row for row in summarize(prints).classes}
    classes: list[ClassModel] = []
    for entry in prints.classes[1:]:
        found = _class(prints, entry, near, later)
        found = found.model_copy(update={"kinds": _kinds(prints, entry, kinds)})
        classes.append(found.model_copy(update={"carried": _carried(summary[entry.name], entry, found)}))
    measured = ", ".join(f"{key} ({route})" for key, route in prints.routes.items())
    source = "; ".join(filter(None, [note, *prints.provenance, f"fitted to {len(prints) - 1} pages under {measured}"]))
    return ContentModel(name=name, source=source, classes=classes)


def codec_of(key: str) -> tuple[str, int]:
    """(name, level) of "zstd:1"."""
    name, _, level = key.partition(":")
    return name, int(level)


@dataclass(frozen=True, slots=True)
class _Nearness:
    """Of each page: whether another is nearly it and no other is it, and in how many blocks the two differ."""

    near: NDArray[np.bool_]
    changed: NDArray[np.float64]


def _nearness(prints: Fingerprints) -> _Nearness:
    copies = np.bincount(prints.canonical, minlength=len(prints))
    distinct = np.flatnonzero((copies == 1) & ~prints.same_filled)
    which, how_much = nearest(prints.sketch[distinct])
    near, changed = np.zeros(len(prints), np.bool_), np.zeros(len(prints))
    near[distinct] = which >= 0
    changed[distinct] = changed_blocks(how_much, BLOCKS)
    return _Nearness(near, changed)


def _class(prints: Fingerprints, entry: PageClass, nearness: _Nearness, later: Fingerprints | None) -> ClassModel:
    """Everything of a class that is counted; its kinds and what is carried are still to come."""
    part = entry.part
    same, zero = prints.same_filled[part], prints.zero[part]
    contents = prints.canonical[part]
    filled = same & ~zero
    values = len(np.unique(contents[filled]))
    borrowed, own = _borrowed(prints, entry)
    _, counts = np.unique(contents[own], return_counts=True)
    near = nearness.near[part]
    # Half of the pages that are near another one: the other half is what those are near to.
    changed = nearness.changed[part][near]
    return ClassModel(
        name=entry.name,
        weight=entry.pages,
        zero=_share(zero.sum(), entry.pages),
        filled=_share(filled.sum(), entry.pages),
        filled_values=max(1, values * MILLION // max(1, int(filled.sum()))),
        copies=_copies(counts, entry.pages),
        borrowed=[(name, _share(pages, entry.pages)) for name, pages in borrowed],
        near=_share(near.sum() // 2, entry.pages),
        changed_blocks=int(np.clip(round(float(changed.mean())), 1, BLOCKS)) if len(changed) else 1,
        volatile=0 if later is None else _share((~same & ~np.isin(prints.hash[part], later.hash)).sum(), entry.pages),
        kinds=[EVERYTHING],
    )


def _share(pages: "np.integer[object] | int", of: int) -> int:  # type: ignore[type-var]
    return int(pages) * MILLION // of


def _borrowed(prints: Fingerprints, entry: PageClass) -> tuple[list[tuple[str, int]], NDArray[np.bool_]]:
    """(earlier class, pages whose bytes it has) of a class, and which pages are of no earlier class and not same-filled."""
    part = entry.part
    own = ~prints.same_filled[part]
    ends = [other.first + other.pages for other in prints.classes]
    first_in = np.searchsorted(ends, prints.canonical[part], side="right")
    found = []
    for index, other in enumerate(prints.classes[1:], start=1):
        if other.first >= entry.first:
            break
        if pages := int((own & (first_in == index)).sum()):
            found.append((other.name, pages))
    return found, own & (prints.canonical[part] >= entry.first)


def _copies(counts: NDArray[np.int64], pages: int) -> list[tuple[int, int]]:
    """(copies, share of the pages in groups of that size), the most frequent sizes."""
    numbers, groups = np.unique(counts[counts > 1], return_counts=True)
    order = np.argsort(-(numbers * groups), kind="stable")
    kept = np.sort(numbers[order[:MOST_COPIES]])
    told: dict[int, int] = {}
    for number, count in zip(numbers.tolist(), groups.tolist(), strict=True):
        nearest_kept = int(kept[np.abs(kept - number).argmin()])
        told[nearest_kept] = told.get(nearest_kept, 0) + number * count
    return [(number, total * MILLION // pages) for number, total in told.items()]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Kinds that were tried, those of one alphabet and freshness in a row by literals, and their sizes."""

    kinds: NDArray[np.int64]  # [n, 4]: literals, alphabet, fresh, period
    sizes: NDArray[np.float64]  # [n, codecs]: means of pages of the kind


@cache
def _grid(codecs: tuple[tuple[str, int], ...]) -> _Grid:
    several = len({name for name, _ in codecs}) > 1
    forms = [(alphabet, *form) for alphabet in ALPHABETS for form in FORMS] if several else [(ALPHABETS[0], *FORMS[0])]
    kinds = [(literals, *form) for form in forms for literals in LITERALS]
    pages = np.concatenate([
        plain_pages(ClassModel(name="grid", weight=1, kinds=[(*kind, 1)]), Bits("fit", *kind), GRID_PAGES) for kind in kinds
    ])  # fmt: skip
    prints = fingerprints(Corpus.of([("grid", pages)]), codecs, bytes(32))
    sizes = [
        np.minimum(found.page[1:], PAGE_SIZE).reshape(-1, GRID_PAGES).mean(axis=1) for found in prints.sizes.values()
    ]
    return _Grid(np.array(kinds), np.stack(sizes, axis=1))


def _kinds(prints: Fingerprints, entry: PageClass, grid: _Grid) -> list[tuple[int, int, int, int, int]]:
    """The kinds of a class's pages by weight: of each content once, without the same-filled and those of earlier classes."""
    part = entry.part
    contents, rows = np.unique(prints.canonical[part], return_index=True)
    rows = rows[~prints.same_filled[contents] & (contents >= entry.first)] + entry.first
    if not len(rows):
        return [EVERYTHING]
    sizes = np.stack([np.minimum(found.page[rows], PAGE_SIZE) for found in prints.sizes.values()], axis=1)
    pairs, counts = np.unique(sizes, axis=0, return_counts=True)
    found = np.empty((len(pairs), 4), np.int64)
    for start in range(0, len(pairs), 256):
        asked = pairs[start : start + 256].astype(np.float64)
        best = np.abs(asked[:, None, :] - grid.sizes[None]).sum(axis=2).argmin(axis=1)
        found[start : start + 256] = grid.kinds[best]
        found[start : start + 256, 0] = _literals(grid, best, asked)
    kinds, which = np.unique(found, axis=0, return_inverse=True)
    weights = np.bincount(which.reshape(-1), weights=counts)
    shares = np.maximum(1, weights * MILLION // weights.sum()).astype(np.int64)
    # Kinds that stand together become neighbours: those of one form and alphabet, by size.
    order = np.lexsort((kinds[:, 0], kinds[:, 1], kinds[:, 2], kinds[:, 3]))
    return [(*kind, share) for kind, share in zip(kinds[order].tolist(), shares[order].tolist(), strict=True)]


def _literals(grid: _Grid, best: NDArray[np.int64], asked: NDArray[np.float64]) -> NDArray[np.int64]:
    """Literals between those of the grid, so that the size under the first codec comes out, in steps of LITERAL_STEP."""
    row = best // len(LITERALS) * len(LITERALS)
    place = best - row
    literals = grid.kinds[best, 0].astype(np.float64)
    missing = asked[:, 0] - grid.sizes[best, 0]
    beside = row + np.clip(place + np.where(missing > 0, 1, -1), 0, len(LITERALS) - 1)
    slope = grid.sizes[beside, 0] - grid.sizes[best, 0]
    apart = grid.kinds[beside, 0] - literals
    moved = np.where(np.abs(slope) > 1, missing / np.where(slope == 0, 1, slope), 0)
    set_to = literals + np.clip(moved, 0, 1) * apart
    steps: NDArray[np.int64] = np.rint(set_to / LITERAL_STEP).astype(np.int64)
    return np.clip(steps * LITERAL_STEP, LITERAL_STEP, PAGE_SIZE)


def _carried(captured: ClassSummary, entry: PageClass, model: ClassModel) -> int:
    """What of the literals the next page has too, tried until units of 64 KiB are as small, against their pages, as found."""
    key, wanted = next(iter(captured.sizes.items()))
    unit = UNIT_PAGES[-1]
    aim = wanted[-1].compressed_bytes / max(1, wanted[0].compressed_bytes)
    pages = min(TRIED_PAGES, -(-entry.pages // unit) * unit)
    # Of an earlier class only its name is at hand here: what is borrowed is made as plain pages instead.
    alone = model.model_copy(update={"borrowed": []})
    best, least = 0, np.inf
    for carried in CARRIED:
        tried = alone.model_copy(update={"carried": carried})
        made = Corpus.of([(entry.name, make_class(tried, pages, 1, {}))])
        sizes = summarize(fingerprints(made, [codec_of(key)], bytes(32))).total.sizes[key]
        apart = abs(sizes[-1].compressed_bytes / max(1, sizes[0].compressed_bytes) - aim)
        if apart >= least:
            break
        best, least = carried, apart
    return best


@dataclass(frozen=True, slots=True)
class Difference:
    """How far generated pages of a class are from the captured: points are per cent of pages, generated less captured."""

    name: str
    zero_points: float
    same_filled_points: float
    duplicate_points: float  # pages whose bytes an earlier page of the class has
    elsewhere_points: float
    near_points: float
    size_distance: dict[str, float]  # codec -> greatest gap of the two distributions of page sizes (Kolmogorov-Smirnov)
    size_bytes: dict[str, float]  # codec -> by how many bytes sizes of equal rank differ, on average (Wasserstein)
    ratios: dict[str, tuple[tuple[float, float], ...]]  # codec -> (captured, generated) for pages, 16 and 64 KiB


def differences(captured: Fingerprints, generated: Fingerprints) -> list[Difference]:
    """Class by class, and all of them last; both must have the same classes and codecs."""
    one, other = summarize(captured), summarize(generated)
    everything = slice(1, None)
    parts = [(mine.part, made.part) for mine, made in zip(captured.classes[1:], generated.classes[1:], strict=True)]
    rows = [*zip(one.classes, other.classes, strict=True), (one.total, other.total)]
    return [
        _difference(mine, theirs, captured, generated, here, there)
        for (mine, theirs), (here, there) in zip(rows, [*parts, (everything, everything)], strict=True)
    ]


def _difference(
    mine: ClassSummary, theirs: ClassSummary, captured: Fingerprints, generated: Fingerprints, here: slice, there: slice
) -> Difference:
    def points(field: str) -> float:
        return theirs.percent(getattr(theirs, field)) - mine.percent(getattr(mine, field))

    sizes = {
        key: (np.sort(captured.sizes[key].page[here]), np.sort(generated.sizes[key].page[there]))
        for key in captured.sizes
    }
    return Difference(
        mine.name,
        points("zero"),
        points("same_filled"),
        -points("distinct"),
        points("elsewhere"),
        points("near"),
        {key: distance(*pair) for key, pair in sizes.items()},
        {key: rank_gap(*pair) for key, pair in sizes.items()},
        {
            key: tuple((a.ratio, b.ratio) for a, b in zip(mine.sizes[key], theirs.sizes[key], strict=True))
            for key in captured.sizes
        },
    )


def distance(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> float:
    """The Kolmogorov-Smirnov distance of two sorted samples: the greatest gap between their distribution functions."""
    at = np.unique(np.concatenate([one, other]))
    shares = [np.searchsorted(each, at, side="right") / len(each) for each in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def rank_gap(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> float:
    """The Wasserstein distance of two sorted samples, in bytes: the area between their distribution functions."""
    at = np.unique(np.concatenate([one, other])).astype(np.float64)
    shares = [np.searchsorted(each, at[:-1], side="right") / len(each) for each in (one, other)]
    return float((np.abs(shares[0] - shares[1]) * np.diff(at)).sum())


def judged(captured: Fingerprints, model: ContentModel, seed: int = 1) -> list[Difference]:
    """How far as many pages of a model are from the captured ones."""
    made = generate(model, len(captured) - 1, seed)
    return differences(captured, fingerprints(made, [codec_of(key) for key in captured.sizes], bytes(32)))
