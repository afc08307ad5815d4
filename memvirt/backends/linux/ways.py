"""A story told in several ways: what memory holds, and in which order its pages are touched.

A count that is equal for one content and one order may be so by chance. So what must be exact is counted in six ways: three
mixes of contents by two orders. Of the rows that the ways give of one number, that one is shown in which the two sides are
furthest apart; all of them are equal when it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.tenant import Tenant
from memvirt.backends.rows import Row
from memvirt.errors import TenantError
from memvirt.inputs.bits import Bits
from memvirt.inputs.corpus import Corpus

SHARE = 4  # a way has so many parts of the memory less

Pages = NDArray[np.uint32]
Mix = Callable[[Bits, Corpus, int], Pages]
Order = Callable[[Bits, int, int], Pages]


# ---- what memory holds


def _alike(bits: Bits, corpus: Corpus, pages: int) -> Pages:
    """Zeros, few contents that many pages have, and contents of which two are in each VM."""
    sixteenth = pages // 16
    few = 1 + bits.below(64, 2 * sixteenth)
    pairs = 65 + np.arange(pages - 3 * sixteenth) // 2 % (len(corpus) - 65)
    found = np.concatenate([np.zeros(sixteenth), few, pairs]).astype(np.uint32)
    return found[bits.permutation(pages)]


def _fleet(bits: Bits, corpus: Corpus, pages: int) -> Pages:
    """Pages of programs and of heaps, as a fleet of one image has them."""
    return bits.below(len(corpus), pages)


def _same(bits: Bits, corpus: Corpus, pages: int) -> Pages:
    """Three contents in nearly all pages: more users than a frame may have."""
    few = bits.below(3, pages)
    rare = bits.below(8, pages) == 0
    few[rare] = 3 + bits.below(len(corpus) - 3, int(rare.sum()))
    return few


MIXES: Mapping[str, Mix] = {"alike": _alike, "a fleet": _fleet, "few contents": _same}


# ---- which pages are touched


def _scattered(bits: Bits, pages: int, count: int) -> Pages:
    return bits.permutation(pages)[:count].astype(np.uint32)


def _in_a_row(bits: Bits, pages: int, count: int) -> Pages:
    return ((int(bits.below(pages, 1)[0]) + np.arange(count)) % pages).astype(np.uint32)


ORDERS: Mapping[str, Order] = {"scattered": _scattered, "in a row": _in_a_row}


@dataclass(frozen=True)
class Way:
    """One of them. `name`: of the story, so that no two stories draw alike."""

    name: str
    mix: str
    order: str
    pages: int
    seed: int
    process: Callable[[], Tenant]  # stands for the VM of every way, one after the other; it holds the corpus

    @cached_property
    def corpus(self) -> Corpus:
        return contents(self.seed)

    @cached_property
    def bits(self) -> Bits:
        return Bits("validate", self.seed, self.name, self.mix, self.order)

    @cached_property
    def sources(self) -> Pages:
        """What each page is filled with, as pages of the corpus."""
        return self.filled(self.pages)

    def filled(self, pages: int) -> Pages:
        """The same of so many pages."""
        return MIXES[self.mix](self.bits, self.corpus, pages).astype(np.uint32)

    def some(self, count: int, pages: int | None = None) -> Pages:
        """So many different pages, in this way's order; another time others."""
        return ORDERS[self.order](self.bits, pages or self.pages, count)


Story = Callable[[str, Way], Iterator[Row]]


def by_all_ways(name: str, story: Story, pages: int, seed: int) -> Iterator[Row]:
    """The rows of a story, each of the way in which the two sides are furthest apart. Where a way cannot be gone to its end,
    what was found so far is told first."""
    found: dict[str, list[Row]] = {}
    try:
        with ExitStack() as opened:
            process = cache(lambda: opened.enter_context(Tenant(np.ascontiguousarray(contents(seed).pages))))
            for mix, order in product(MIXES, ORDERS):
                for row in story(name, Way(name, mix, order, max(64, pages // SHARE), seed, process)):
                    found.setdefault(row.what, []).append(row)
    except (Missing, TenantError, OSError):
        yield from map(furthest, found.values())
        raise
    yield from map(furthest, found.values())


def furthest(rows: list[Row]) -> Row:
    """The row whose sides are furthest apart, of equal ones the largest, with how many were measured; one that was skipped
    only if all were."""
    measured = [row for row in rows if row.difference is not None]
    if not measured:
        return rows[0]
    worst = max(measured, key=lambda row: (row.failed, abs(row.difference or 0), row.kernel or 0))
    return replace(worst, ways=len(measured))
