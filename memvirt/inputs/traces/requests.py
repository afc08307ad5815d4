"""Requests, and the pages that they touch: the one rule for all formats.

A request is the ordered list of the 4 KiB pages that it touches, from the one of its first byte to that of its last. A
request for an object is one page. A modify is a read of all its pages, then a write of them. What touches nothing is
skipped, and counted by reason.

    first      page of the first byte, or the object, uint64
    pages      how many pages, uint64; None: one each
    ops        READ, WRITE or MODIFY, uint8; None: all are reads
    time_ns    nanoseconds, uint64; None: the format has no times
    stream     who asked, uint32, a number that Reading.stream gave; None: there is one
    space      the address space of `first`, uint32, a number that Reading.space gave; None: there is one
    where      what each is called in messages: "record 3", "line 7"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

if TYPE_CHECKING:
    from .text import Block, Places

READ, WRITE, MODIFY = range(3)

PAGE_SHIFT = 12
PIECE = 1 << 20  # pages expanded at a time
MOST_PAGES = (1 << 20) + 1  # of one request, unless the user allows more: 4 GiB from any byte on
MOST_STREAMS = 1 << 20

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Where:
    """Names of successive records, or of some of them: `rows`, counted from the first; None: all."""

    what: str
    first: int
    rows: NDArray[np.int64] | None = None

    def name(self, row: int) -> str:
        """What one of them is called."""
        return f"{self.what} {self.first + (row if self.rows is None else int(self.rows[row]))}"

    def of(self, rows: NDArray[np.int64]) -> Where:
        """The names of some of them."""
        return Where(self.what, self.first, rows if self.rows is None else self.rows[rows])


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in the order of the file."""

    first: U64
    pages: U64 | None = None
    ops: U8 | None = None
    time_ns: U64 | None = None
    stream: U32 | None = None
    space: U32 | None = None
    where: Where = Where("record", 0)


@dataclass(frozen=True, slots=True)
class Touches:
    """Pages one by one: `key` in `space`, the operation READ or WRITE, time and stream where there are any."""

    key: U64
    ops: U8
    time_ns: U64 | None
    stream: U32 | None
    space: U32 | None


class Names(dict[bytes, int]):
    """Numbers 0, 1, 2 … for names, in the order in which they are asked for."""

    def __missing__(self, name: bytes) -> int:
        number = self[name] = len(self)
        return number


@dataclass(slots=True)
class Reading:
    """What is learned while a file is read: records, what was skipped and why, streams and spaces by name."""

    fetches: bool = True  # an instruction fetch is a read; without, it is skipped
    most_pages: int = MOST_PAGES
    records: int = 0
    time_unit: str = ""  # where the file itself says it
    skipped: Counter[str] = field(default_factory=Counter)
    streams: Names = field(default_factory=Names)
    spaces: Names = field(default_factory=Names)
    labels: Names | None = (
        None  # of objects, where the file names them by text: the key of a page is the number of its name
    )

    def skip(self, reason: str, count: int = 1) -> None:
        """So many records touch nothing, for this reason."""
        if count:
            self.skipped[reason] += count

    def stream(self, name: bytes) -> int:
        """The number of a stream; CorpusError when there are too many to be streams."""
        number = self.streams[name]
        if number >= MOST_STREAMS:
            raise CorpusError(f"more than {MOST_STREAMS} streams; is that column really who asked?")
        return number

    def by_name(self, block: Block, starts: Places, ends: Places, names: Names | None = None) -> U32:
        """The numbers of streams, or other `names`, that stand in fields of text."""
        names = self.streams if names is None else names
        if not len(starts):
            return np.empty(0, dtype=np.uint32)
        if int((ends - starts).max()) > 8:
            texts = block.strings(starts, ends)
            numbers = np.fromiter(map(names.__getitem__, texts), dtype=np.uint32, count=len(texts))
        else:
            numbers = _by_word(block.packed(starts, ends), names)
        if len(names) > MOST_STREAMS:
            raise CorpusError(f"more than {MOST_STREAMS} streams or spaces; is that column really one?")
        return numbers


def _by_word(words: U64, names: Names) -> U32:
    """The numbers of names of at most eight bytes, given as one number each."""
    if (words == words[0]).all():
        return np.full(len(words), names[_unpacked(int(words[0]))], dtype=np.uint32)
    values, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    numbers = np.empty(len(values), dtype=np.uint32)
    for index in np.argsort(first):
        numbers[index] = names[_unpacked(int(values[index]))]
    return numbers[inverse]


def _unpacked(word: int) -> bytes:
    return word.to_bytes(8, "little").rstrip(b"\0")


def span(address: U64, size: U64, where: Where) -> tuple[U64, U64]:
    """(first page, pages) of bytes address to address + size - 1; no page where size is 0.

    CorpusError where the last byte would be beyond 64 bits.
    """
    last = address + np.maximum(size, np.uint64(1)) - np.uint64(1)
    if (last < address).any():
        row = int(np.argmax(last < address))
        raise CorpusError(f"{where.name(row)}: {size[row]} bytes from {address[row]:#x} on end beyond 64-bit addresses")
    first = address >> np.uint64(PAGE_SHIFT)
    pages = (last >> np.uint64(PAGE_SHIFT)) - first + np.uint64(1)
    pages[size == 0] = 0
    return first, pages


def span_of_sectors(sector: U64, size: U64, where: Where) -> tuple[U64, U64]:
    """(first page, pages) of `size` bytes from a sector of 512 bytes on."""
    first = sector >> np.uint64(3)
    last = ((sector & np.uint64(7)) << np.uint64(9)) + np.maximum(size, np.uint64(1)) - np.uint64(1)
    if (wrong := last < size >> np.uint64(1)).any():  # wrapped around
        row = int(np.argmax(wrong))
        raise CorpusError(f"{where.name(row)}: a request of {size[row]} bytes is longer than any disk")
    pages = (last >> np.uint64(PAGE_SHIFT)) + np.uint64(1)
    pages[size == 0] = 0
    return first, pages


def times(values: NDArray[np.integer], unit_ns: int, where: Where) -> U64:
    """Times in units of `unit_ns`, as nanoseconds. CorpusError for negative ones, and those beyond 64 bits."""
    most = ((1 << 64) - 1) // unit_ns
    low = int(values.min()) if len(values) else 0
    if low < 0 or (len(values) and int(values.max()) > most):
        row = int(np.argmax((values < 0) if low < 0 else (values > most)))
        raise CorpusError(f"{where.name(row)}: the time {values[row]} (in units of {unit_ns} ns) is not one")
    return values.astype(np.uint64) * np.uint64(unit_ns)


def touches(requests: Requests, reading: Reading) -> Iterator[Touches]:
    """The pages of the requests, PIECE at a time. What touches none is counted as skipped."""
    kept = _without_empty(requests, reading)
    if kept.pages is not None and len(kept.pages) and int(kept.pages.max()) > reading.most_pages:
        row = int(np.argmax(kept.pages > reading.most_pages))
        raise CorpusError(
            f"{kept.where.name(row)}: a request touches {int(kept.pages[row])} pages, the most is {reading.most_pages}; "
            f"if that is what you have, allow it: --most-pages {int(kept.pages.max())}"
        )
    kept = _modifies_apart(kept)
    if kept.pages is None or (len(kept.pages) and int(kept.pages.max()) == 1):
        for begin in range(0, len(kept.first), PIECE):
            cut = slice(begin, begin + PIECE)
            yield _taken(kept, cut, kept.first[cut])
        return
    yield from _expanded(kept, kept.pages)


def _without_empty(requests: Requests, reading: Reading) -> Requests:
    if requests.pages is None:
        return requests
    some = requests.pages != 0
    empty = len(some) - int(np.count_nonzero(some))
    reading.skip("no bytes", empty)
    return _rows(requests, np.flatnonzero(some)) if empty else requests


def _modifies_apart(requests: Requests) -> Requests:
    """Each modify as a read and a write."""
    if requests.ops is None or not (requests.ops == MODIFY).any():
        return requests
    both = requests.ops == MODIFY
    rows = np.repeat(np.arange(len(both)), both.astype(np.int64) + 1)
    apart = _rows(requests, rows)
    assert apart.ops is not None
    second = np.zeros(len(rows), dtype=np.bool_)
    second[1:] = rows[1:] == rows[:-1]
    ops = np.where(apart.ops == MODIFY, second.view(np.uint8), apart.ops)
    return Requests(apart.first, apart.pages, ops, apart.time_ns, apart.stream, apart.space, apart.where)


def _expanded(requests: Requests, pages: U64) -> Iterator[Touches]:
    """Many requests together while they are short, a long one in pieces."""
    ends = np.cumsum(pages, dtype=np.uint64)
    row = 0
    while row < len(pages):
        before = ends[row] - pages[row]
        stop = max(row + 1, int(np.searchsorted(ends, before + np.uint64(PIECE), side="right")))
        for begin in range(0, int(pages[row]) if stop == row + 1 else 1, PIECE):
            counts = np.minimum(pages[row:stop] - np.uint64(begin), np.uint64(PIECE)).astype(np.int64)
            rows = np.repeat(np.arange(row, stop), counts)
            starts = np.cumsum(counts) - counts
            within = (np.arange(len(rows)) - np.repeat(starts, counts)).astype(np.uint64)
            yield _taken(requests, rows, requests.first[rows] + within + np.uint64(begin))
        row = stop


def _taken(requests: Requests, rows: slice | NDArray[np.int64], key: U64) -> Touches:
    ops = np.zeros(len(key), dtype=np.uint8) if requests.ops is None else requests.ops[rows]
    time_ns, stream, space = (
        None if column is None else column[rows] for column in (requests.time_ns, requests.stream, requests.space)
    )
    return Touches(key, ops, time_ns, stream, space)  # type: ignore[arg-type]


def _rows(requests: Requests, rows: NDArray[np.int64]) -> Requests:
    """Some of the requests, in this order."""
    first = requests.first[rows]
    pages, ops, time_ns, stream, space = (
        None if column is None else column[rows]
        for column in (requests.pages, requests.ops, requests.time_ns, requests.stream, requests.space)
    )
    return Requests(first, pages, ops, time_ns, stream, space, requests.where.of(rows))  # type: ignore[arg-type]
