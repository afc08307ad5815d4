"""A corpus: real 4 KiB pages in named classes, from which VMs are filled.

Page 0 is always the zero page, a class of its own. The other classes hold pages as they were found, zero pages and
duplicates included, because their share is a property of the class. A corpus is known by its content hash: records
name it, and two runs with equal hashes worked on equal bytes.

What a fleet asks of it (how many pages a class has, which of them are equal) needs no bytes. So that half is
`ClassTable`, and fingerprints of a corpus are the other thing that has it.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError
from memvirt.units import PAGE_SIZE as PAGE_SIZE

from .bits import Pages

ZERO_CLASS = "zero"
CLASS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")

PageBytes = NDArray[np.uint8]
Progress = Callable[[int, int], None]  # pages done, pages in all


@dataclass(frozen=True, slots=True)
class PageClass:
    """`pages` pages from index `first` on."""

    name: str
    first: int
    pages: int

    @property
    def part(self) -> slice:
        return slice(self.first, self.first + self.pages)


class ClassTable(ABC):
    """Pages in named classes, whatever is known of the pages; and where they came from."""

    def __init__(self, pages: int, classes: Sequence[PageClass], provenance: Sequence[str] = ()) -> None:
        _check_classes(pages, classes)
        self._pages = pages
        self.classes = tuple(classes)
        self.provenance = tuple(provenance)

    def __len__(self) -> int:
        return self._pages

    @property
    @abstractmethod
    def canonical(self) -> Pages:
        """For each page, the first page with the same bytes: equal content has one number."""

    @property
    @abstractmethod
    def sha256(self) -> str:
        """The content hash: class table and content, but not the provenance."""

    def variant(self, pages: Pages, rounds: NDArray[np.int64]) -> Pages:
        """Those pages, each first of its equals, in those rounds (memvirt.inputs.varied): a corpus as it is has round 0
        alone."""
        return pages

    def sources(self, names: Sequence[str]) -> Pages:
        """Indices of the pages of these classes, in the order named; CorpusError for a class it does not have."""
        table = {entry.name: entry for entry in self.classes}
        missing = [name for name in names if name not in table]
        if missing:
            raise CorpusError(f"the corpus has no class {', '.join(missing)}; it has {', '.join(table)}")
        return np.concatenate(
            [np.arange(table[name].first, table[name].first + table[name].pages, dtype=np.uint32) for name in names]
        )


class Corpus(ClassTable):
    """Pages (n × 4096 bytes, read-only), the class table over them, and where they came from."""

    def __init__(
        self, pages: PageBytes, classes: Sequence[PageClass], provenance: Sequence[str] = (), sha256: str = ""
    ) -> None:
        """`sha256`: the content hash, where it was made with the pages."""
        if pages.dtype != np.uint8 or pages.ndim != 2 or pages.shape[1] != PAGE_SIZE or not pages.flags.c_contiguous:
            raise CorpusError(
                f"a corpus is made of rows of {PAGE_SIZE} bytes, not of {pages.dtype} in shape {pages.shape}"
            )
        if not len(pages) or pages[0].any():
            raise CorpusError("page 0 of a corpus must be the zero page")
        super().__init__(len(pages), classes, provenance)
        self.pages = pages
        self.pages.flags.writeable = False
        self._sha256 = sha256

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.pages.flags.writeable = False

    @classmethod
    def of(cls, parts: Sequence[tuple[str, PageBytes]], provenance: Sequence[str] = ()) -> "Corpus":
        """A corpus from the pages of each class; the zero page is put in front."""
        zero = np.zeros((1, PAGE_SIZE), dtype=np.uint8)
        pages = np.concatenate([zero, *(pages for _, pages in parts)])
        return cls(pages, table_of([(name, len(pages)) for name, pages in parts]), provenance)

    @cached_property
    def sha256(self) -> str:
        if self._sha256:
            return self._sha256
        digest = class_table_hash(self.classes)
        digest.update(self.pages.data)
        return digest.hexdigest()

    @cached_property
    def canonical(self) -> Pages:
        seen: dict[bytes, int] = {}
        digests = (hashlib.blake2b(page.data, digest_size=16).digest() for page in self.pages)
        return np.array([seen.setdefault(digest, index) for index, digest in enumerate(digests)], dtype=np.uint32)


def table_of(parts: Sequence[tuple[str, int]]) -> list[PageClass]:
    """The class table of classes with these numbers of pages, after the zero page."""
    classes = [PageClass(ZERO_CLASS, 0, 1)]
    for name, pages in parts:
        classes.append(PageClass(name, classes[-1].first + classes[-1].pages, pages))
    return classes


def class_table_hash(classes: Sequence[PageClass]) -> "hashlib._Hash":
    """A hash of a class table, to be updated with the content: of a corpus, page after page."""
    table = [[entry.name, entry.first, entry.pages] for entry in classes]
    return hashlib.sha256(json.dumps(table, separators=(",", ":")).encode())


def class_name_problem(name: str) -> str:
    """Why a class of a corpus cannot be called so; "" when it can."""
    if name == ZERO_CLASS:
        return f"class '{name}' is the zero page's, which every corpus has; choose another name"
    if not CLASS_NAME.fullmatch(name):
        return f"class {name!r}: a name has up to 64 letters, digits and . _ + -, and begins with a letter or digit"
    return ""


def _check_classes(pages: int, classes: Sequence[PageClass]) -> None:
    if not classes or classes[0] != PageClass(ZERO_CLASS, 0, 1):
        raise CorpusError(f"the first class of a corpus must be '{ZERO_CLASS}', page 0 alone")
    if len({entry.name for entry in classes}) != len(classes):
        raise CorpusError("two classes of the corpus have one name")
    expected = 0
    for entry in classes:
        if entry.first != expected or entry.pages < 1:
            raise CorpusError(f"class '{entry.name}' claims pages from {entry.first}, where page {expected} is next")
        expected += entry.pages
    if expected != pages:
        raise CorpusError(f"the classes name {expected} pages, but there are {pages}")
