"""A corpus: real 4 KiB pages in named classes, from which VMs are filled.

Page 0 is always the zero page, a class of its own. The other classes hold pages as they were found, zero pages and
duplicates included, because their share is a property of the class. A corpus is known by its content hash: records
name it, and two runs with equal hashes worked on equal bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import lz4.block  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from .bits import Pages

PAGE_SIZE = 4096
ZERO_CLASS = "zero"

PageBytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PageClass:
    """`pages` pages from index `first` on."""

    name: str
    first: int
    pages: int


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What a class is like, in numbers. Percentages and ratios are for people: records hold the content hash."""

    name: str
    pages: int
    zero_percent: float
    distinct_percent: float
    lz4_ratio: float


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Per page: a 64-bit hash of its bytes, its LZ4 size (4096 where it does not shrink), and two flags."""

    hash: NDArray[np.uint64]
    lz4_bytes: NDArray[np.uint16]
    zero: NDArray[np.bool_]
    same_filled: NDArray[np.bool_]


class Corpus:
    """Pages (n × 4096 bytes, read-only), the class table over them, and where they came from."""

    def __init__(self, pages: PageBytes, classes: Sequence[PageClass], provenance: Sequence[str] = ()) -> None:
        _check(pages, classes)
        self.pages = pages
        self.pages.flags.writeable = False
        self.classes = tuple(classes)
        self.provenance = tuple(provenance)

    def __len__(self) -> int:
        return len(self.pages)

    @classmethod
    def of(cls, parts: Sequence[tuple[str, PageBytes]], provenance: Sequence[str] = ()) -> "Corpus":
        """A corpus from the pages of each class; the zero page is put in front."""
        classes = [PageClass(ZERO_CLASS, 0, 1)]
        for name, pages in parts:
            classes.append(PageClass(name, classes[-1].first + classes[-1].pages, len(pages)))
        zero = np.zeros((1, PAGE_SIZE), dtype=np.uint8)
        return cls(np.concatenate([zero, *(pages for _, pages in parts)]), classes, provenance)

    @cached_property
    def sha256(self) -> str:
        """The content hash: class table and bytes, but not the provenance."""
        table = [[entry.name, entry.first, entry.pages] for entry in self.classes]
        digest = hashlib.sha256(json.dumps(table, separators=(",", ":")).encode())
        digest.update(self.pages.data)
        return digest.hexdigest()

    @cached_property
    def canonical(self) -> Pages:
        """For each page, the first page with the same bytes: equal content has one number."""
        seen: dict[bytes, int] = {}
        digests = (hashlib.blake2b(page.data, digest_size=16).digest() for page in self.pages)
        return np.array([seen.setdefault(digest, index) for index, digest in enumerate(digests)], dtype=np.uint32)

    def sources(self, names: Sequence[str]) -> Pages:
        """Indices of the pages of these classes, in the order named; CorpusError for a class it does not have."""
        table = {entry.name: entry for entry in self.classes}
        missing = [name for name in names if name not in table]
        if missing:
            raise CorpusError(f"the corpus has no class {', '.join(missing)}; it has {', '.join(table)}")
        return np.concatenate(
            [np.arange(table[name].first, table[name].first + table[name].pages, dtype=np.uint32) for name in names]
        )

    def fingerprints(self) -> Fingerprints:
        """One row per page: enough to replay sharing and compression without the bytes."""
        words = self.pages.view("<u8")
        same = (words == words[:, :1]).all(axis=1)
        hashes = b"".join(hashlib.blake2b(page.data, digest_size=8).digest() for page in self.pages)
        return Fingerprints(
            np.frombuffer(hashes, dtype="<u8").astype(np.uint64),
            np.array([_lz4_bytes(page) for page in self.pages], dtype=np.uint16),
            same & (words[:, 0] == 0),
            same,
        )

    def rows(self) -> list[ClassRow]:
        """One row per class, for a table."""
        prints = self.fingerprints()
        rows = []
        for entry in self.classes:
            part = slice(entry.first, entry.first + entry.pages)
            distinct = len(np.unique(self.canonical[part]))
            compressed = int(prints.lz4_bytes[part].sum(dtype=np.int64))
            rows.append(
                ClassRow(
                    entry.name,
                    entry.pages,
                    100 * int(prints.zero[part].sum()) / entry.pages,
                    100 * distinct / entry.pages,
                    entry.pages * PAGE_SIZE / compressed,
                )
            )
        return rows


def _lz4_bytes(page: PageBytes) -> int:
    return min(PAGE_SIZE, len(lz4.block.compress(page.data, store_size=False)))


def _check(pages: PageBytes, classes: Sequence[PageClass]) -> None:
    if pages.dtype != np.uint8 or pages.ndim != 2 or pages.shape[1] != PAGE_SIZE or not pages.flags.c_contiguous:
        raise CorpusError(f"a corpus is made of rows of {PAGE_SIZE} bytes, not of {pages.dtype} in shape {pages.shape}")
    if not len(pages) or pages[0].any():
        raise CorpusError("page 0 of a corpus must be the zero page")
    if not classes or classes[0] != PageClass(ZERO_CLASS, 0, 1):
        raise CorpusError(f"the first class of a corpus must be '{ZERO_CLASS}', page 0 alone")
    if len({entry.name for entry in classes}) != len(classes):
        raise CorpusError("two classes of the corpus have one name")
    expected = 0
    for entry in classes:
        if entry.first != expected or entry.pages < 1:
            raise CorpusError(f"class '{entry.name}' claims pages from {entry.first}, where page {expected} is next")
        expected += entry.pages
    if expected != len(pages):
        raise CorpusError(f"the classes name {expected} pages, but there are {len(pages)}")
