"""A corpus made from a seed: the same bytes everywhere, for tests and for records that must match across machines.

Its classes have the names of a captured corpus, so that every suite runs on either. Each class has one kind of content
and a fixed share of zero pages, of pages filled with one word, and of duplicates; all three are exact to one page.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from .bits import Bits
from .corpus import PAGE_SIZE, Corpus, PageBytes

WORDS = PAGE_SIZE // 8
VOCABULARY = 256
LONGEST = 10  # letters of a word, with its blank


@dataclass(frozen=True, slots=True)
class Recipe:
    """One class: its share of the corpus and what its pages are, in thousandths."""

    name: str
    kind: str
    share: int
    zero: int = 0
    filled: int = 0
    duplicate: int = 0


# Zero shares and duplication as found in captures of Debian machines, rounded; shares of the corpus as in a capture.
RECIPES = (
    Recipe("libraries", "code", 190, zero=15, duplicate=10),
    Recipe("executables", "code", 60, zero=15, duplicate=10),
    Recipe("source", "text", 125, duplicate=5),
    Recipe("heap", "pointers", 375, zero=60, filled=5, duplicate=10),
    Recipe("numeric", "numbers", 190),
    Recipe("random", "random", 60),
)


def synthetic(pages: int, seed: int) -> Corpus:
    """`pages` pages (and the zero page); at least 200, so that every class has some."""
    if not 200 <= pages <= 1 << 24:
        raise CorpusError(f"a synthetic corpus has 200 to {1 << 24} pages, not {pages}")
    if seed < 0:
        raise CorpusError(f"the seed of a corpus must not be negative, but is {seed}")
    counts = [pages * recipe.share // 1000 for recipe in RECIPES]
    counts[0] += pages - sum(counts)
    parts = [(recipe.name, make(recipe, count, seed)) for recipe, count in zip(RECIPES, counts, strict=True)]
    return Corpus.of(parts, [f"synthetic, {pages} pages, seed {seed}"])


def make(recipe: Recipe, count: int, seed: int) -> PageBytes:
    """The pages of one class, special pages scattered among the others."""
    bits = Bits("synthetic", seed, recipe.name)
    zero, filled, duplicate = (count * share // 1000 for share in (recipe.zero, recipe.filled, recipe.duplicate))
    pages = KINDS[recipe.kind](bits.child("content"), count)
    order = bits.permutation(count)
    pages[order[:zero]] = 0
    chosen = order[zero : zero + filled]
    pages.view("<u8")[chosen] = (bits.u64(filled) | np.uint64(1))[:, None]
    plain = order[zero + filled :]
    pages[plain[:duplicate]] = pages[plain[duplicate : 2 * duplicate]]
    return pages


def random_pages(bits: Bits, count: int) -> PageBytes:
    """Incompressible: raw bits, like encrypted or packed data."""
    return _pages(bits.u64(count * WORDS))


def number_pages(bits: Bits, count: int) -> PageBytes:
    """Arrays of 64-bit numbers, in turn a random walk, a sorted column, small integers, and full-width noise."""
    words = bits.u64(count * WORDS).reshape(count, WORDS)
    words[0::4] = np.cumsum(words[0::4] >> np.uint64(56), axis=1)
    words[1::4] = np.sort(words[1::4] >> np.uint64(32), axis=1)
    words[2::4] >>= np.uint64(54)
    return _pages(words)


def pointer_pages(bits: Bits, count: int) -> PageBytes:
    """A heap of objects of four words: reference count, type, a pointer into one arena, and a field.

    The field is nothing, a small number, a near pointer or eight letters, equally often.
    """
    draw = bits.u64(count * WORDS).reshape(count, WORDS // 4, 4)
    words = np.empty_like(draw)
    words[:, :, 0] = np.where(draw[:, :, 0] < np.uint64(1 << 62), np.uint64(2), np.uint64(1))
    words[:, :, 1] = np.uint64(0x5581_2000_0000) + ((draw[:, :, 1] & np.uint64(7)) << np.uint64(9))
    words[:, :, 2] = np.uint64(0x7F3A_0000_0000) + ((draw[:, :, 2] & np.uint64(0xF_FFFF)) << np.uint64(4))
    field, kind = draw[:, :, 3], draw[:, :, 3] >> np.uint64(62)
    near = np.uint64(0x7F3A_0000_0000) + ((field & np.uint64(0xFF)) << np.uint64(4))
    letters = (field & np.uint64(0x0F0F_0F0F_0F0F_0F0F)) + np.uint64(0x6161_6161_6161_6161)
    words[:, :, 3] = np.choose(kind.astype(np.int64), [np.zeros_like(field), field & np.uint64(31), near, letters])
    return _pages(words)


def code_pages(bits: Bits, count: int) -> PageBytes:
    """Machine code: words from a skewed table of 128, two words of seven with full-width operands instead."""
    table = Bits("synthetic", "code").u64(128)
    first, second = bits.below(128, count * WORDS), bits.below(128, count * WORDS)
    words = table[(first.astype(np.int64) * second) >> 7].reshape(count, WORDS)
    operand = bits.u64(count * WORDS).reshape(count, WORDS)
    for place in (2, 5):
        words[:, place::7] = operand[:, place::7]
    return _pages(words)


def text_pages(bits: Bits, count: int) -> PageBytes:
    """Text: words of 2 to 9 letters from a vocabulary of 256, the first ones far more often, with line ends."""
    lengths, letters = _vocabulary()
    need = count * PAGE_SIZE // 3 + 1  # words have 6.5 bytes on average and never less than 3, the blank included
    first, second, third = (bits.below(VOCABULARY, need).astype(np.int64) for _ in range(3))
    word = (first * second * third) // VOCABULARY**2
    size = lengths[word]
    start = np.cumsum(size) - size
    used = int(np.searchsorted(start, count * PAGE_SIZE))
    word, size, start = word[:used], size[:used], start[:used]
    text = np.empty(int(size.sum()), dtype=np.uint8)
    for place in range(LONGEST):
        reaches = size > place
        text[start[reaches] + place] = letters[word[reaches], place]
    text[(start + size - 1)[third[:used] % 12 == 0]] = ord("\n")
    return text[: count * PAGE_SIZE].reshape(count, PAGE_SIZE).copy()


KINDS: dict[str, Callable[[Bits, int], PageBytes]] = {
    "random": random_pages,
    "numbers": number_pages,
    "pointers": pointer_pages,
    "code": code_pages,
    "text": text_pages,
}


def _vocabulary() -> tuple[NDArray[np.int64], PageBytes]:
    """Length of each word with its blank, and its letters, in columns as wide as the longest."""
    bits = Bits("synthetic", "vocabulary")
    alphabet = np.frombuffer(b"eeeeetttaaaooiinnsshhrrddllucmfwygpbvk", dtype=np.uint8)
    lengths = 3 + bits.below(LONGEST - 2, VOCABULARY).astype(np.int64)
    letters = alphabet[bits.below(len(alphabet), VOCABULARY * LONGEST)].reshape(VOCABULARY, LONGEST)
    letters[np.arange(VOCABULARY), lengths - 1] = ord(" ")
    return lengths, letters


def _pages(words: NDArray[np.uint64]) -> PageBytes:
    return np.ascontiguousarray(words.astype("<u8", copy=False)).view(np.uint8).reshape(-1, PAGE_SIZE)
