"""A corpus with more different pages than it has: behind its own, variants of some.

A VM of gigabytes has an image of more pages than a corpus has of a class. Were those used again and again, pages that should
be equal in all VMs would be equal within each, and an image that is patched would hold what it held before. So a page can be
had in rounds: round 0 is the page as it is, each other round one that differs from it in two words and from everything else.
Two, because pages that differ in one alone would be one page with a tag in that word.

Which pages of a class are equal to each other is a property of the class, and so it is of each round. A page that is filled
with one value stays what it is in every round: memory has as many zero pages as the class says.

Of fingerprints there are no bytes to change: a variant gets a number of its own, and is compressed as its page is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .bits import Pages
from .corpus import ClassTable, Corpus, PageClass
from .fingerprints import Fingerprints, Table

NAME = "variants"  # of the class that they are
WORDS = (170, 340)  # that differ
KEPT_PAGES = 3 << 15  # 384 MiB
U64 = np.uint64
OWN = U64(1 << 63)  # no tag, and so no written page, has this bit
STEP = U64(0x9E3779B97F4A7C15)  # of the SplitMix64 generator (Steele, Lea, Flood 2014), and its finalizer below


class Varied(ClassTable):
    """A corpus with variants of its pages. Numbers of its own pages stay what they are, and so does its hash."""

    def __init__(self, corpus: ClassTable, rounds: Mapping[str, int]) -> None:
        """`rounds`: class -> rounds beside round 0."""
        most = np.zeros(len(corpus), np.int64)
        for name, count in rounds.items():
            pages = np.unique(corpus.canonical[corpus.sources([name])])
            most[pages] = np.maximum(most[pages], count)
        most[_same_filled(corpus)] = 0
        ends = np.cumsum(most)
        self._most, self._first = most, len(corpus) + ends - most
        self._of = np.repeat(np.arange(len(corpus), dtype=np.uint32), most)
        self._round = (np.arange(len(self._of)) - np.repeat(ends - most, most) + 1).astype(U64)
        added = [PageClass(NAME, len(corpus), len(self._of))] if len(self._of) else []
        super().__init__(len(corpus) + len(self._of), [*corpus.classes, *added], corpus.provenance)
        self._corpus = corpus

    @cached_property
    def canonical(self) -> Pages:
        """For each page, the first page with the same bytes."""
        own = np.arange(len(self._corpus), len(self), dtype=np.uint32)
        return np.concatenate([self._corpus.canonical, own])

    @property
    def sha256(self) -> str:
        """The corpus's: what is added follows from it."""
        return self._corpus.sha256

    def variant(self, pages: Pages, rounds: NDArray[np.int64]) -> Pages:
        """Those pages of the corpus, each first of its equals, in those rounds."""
        has = (rounds > 0) & (rounds <= self._most[pages])
        return np.where(has, self._first[pages] + rounds - 1, pages).astype(np.uint32)


class VariedBytes(Varied):
    """Of a corpus with bytes."""

    def __init__(self, corpus: Corpus, rounds: Mapping[str, int]) -> None:
        super().__init__(corpus, rounds)
        added = corpus.pages[self._of]
        words = added.view("<u8")
        mixed = (self._of.astype(U64) << U64(32)) + self._round
        for word in WORDS:
            mixed = _mixed(mixed)
            words[:, word] = mixed | OWN
        self.pages = np.concatenate([corpus.pages, added])
        self.pages.flags.writeable = False


class VariedPrints(Varied):
    """Of fingerprints."""

    def __init__(self, corpus: Fingerprints, rounds: Mapping[str, int]) -> None:
        super().__init__(corpus, rounds)
        self._prints = corpus

    def table(self, codec: str, level: int) -> Table:
        """What content of fingerprints is made from; CorpusError for a codec or level that was not measured."""
        _, same, values, page, tagged = self._prints.table(codec, level)
        added = len(self._of)
        return (
            self.canonical,
            np.concatenate([same, np.zeros(added, np.uint8)]),
            np.concatenate([values, np.zeros(added, U64)]),
            np.concatenate([page, page[self._of]]),
            np.concatenate([tagged, tagged[self._of]]),
        )


_last: dict[tuple[ClassTable, tuple[tuple[str, int], ...]], Varied] = {}  # at most one


def varied(corpus: ClassTable, rounds: Mapping[str, int]) -> Varied:
    """The corpus, with so many rounds of each class beside round 0.

    The last one is kept, if it is small: the next cell of a run is of the same scenario as a rule, and all that hosts find
    out of its pages stays known with it.
    """
    key = corpus, tuple(sorted(rounds.items()))
    found = _last.get(key)
    if found is None:
        _last.clear()  # first: the memory of a run is that of one
        found = _made(corpus, rounds)
        if len(found) <= KEPT_PAGES:
            _last[key] = found
    return found


def _made(corpus: ClassTable, rounds: Mapping[str, int]) -> Varied:
    if isinstance(corpus, Fingerprints):
        return VariedPrints(corpus, rounds)
    assert isinstance(corpus, Corpus)
    return VariedBytes(corpus, rounds)


def _same_filled(corpus: ClassTable) -> NDArray[np.bool_]:
    if isinstance(corpus, Fingerprints):
        return corpus.same_filled
    assert isinstance(corpus, Corpus)
    words = corpus.pages.view("<u8")
    return np.asarray((words == words[:, :1]).all(axis=1))


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = values + STEP
    values = (values ^ values >> U64(30)) * U64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> U64(27)) * U64(0x94D049BB133111EB)
    return values ^ values >> U64(31)
