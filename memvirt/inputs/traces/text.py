"""Lines of text as columns, by array operations: a block of lines at a time, no Python per line.

A block is a buffer of whole lines, with where each begins and ends. Fields are pairs of arrays of positions in the
buffer. A number is read eight digits at a time: one 64-bit load per eight digits of all lines at once, and three
multiplications that add neighbouring digits (pairs, fours, eights).

Lines count from 1. A line longer than MAX_LINE is an error, so that a file without line ends takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from .requests import U8, U64
from .source import Source

BLOCK = 1 << 22
MAX_LINE = 1 << 20
PAD = 24  # bytes before and after the lines, so that loads of eight bytes stay within the buffer

Places = NDArray[np.int64]
_U = np.uint64

NO_DIGIT = 0x80
HEX = np.full(256, NO_DIGIT, dtype=np.uint8)
HEX[ord("0") : ord("9") + 1] = range(10)
HEX[ord("a") : ord("f") + 1] = HEX[ord("A") : ord("F") + 1] = range(10, 16)

SPACE, TAB, NEWLINE, RETURN, POINT = b" \t\n\r."
NANO = 9
TENS = np.array([10**power for power in range(NANO + 1)], dtype=np.uint64)


class Block:
    """Some lines. `starts` and `ends` are their places in `bytes`, without what ends them; `line` counts from 1."""

    __slots__ = ("_hex", "bytes", "ends", "line", "raw", "starts")

    def __init__(self, lines: bytes, line: int) -> None:
        self.raw = b"".join((bytes(PAD), lines, b"" if lines.endswith(b"\n") else b"\n", bytes(PAD)))
        self.bytes: U8 = np.frombuffer(self.raw, dtype=np.uint8)
        self.line = line
        breaks = np.flatnonzero(self.bytes == NEWLINE)
        self.starts: Places = np.concatenate((np.array([PAD]), breaks[:-1] + 1))
        self.ends: Places = breaks - ((self.bytes[breaks - 1] == RETURN) & (breaks > self.starts))
        self._hex: U8 | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, row: int) -> bytes:
        """One line."""
        return self.raw[int(self.starts[row]) : int(self.ends[row])]

    def refuse(self, row: int, what: str) -> NoReturn:
        """Raise CorpusError about a line."""
        shown = self.text(row)[:60].decode("utf-8", "backslashreplace")
        raise CorpusError(f"line {self.line + row}: {what}; the line is {shown!r}")

    def first(self, at: int = 0) -> U8:
        """The bytes at this distance from each line's start; 0 where the line is shorter."""
        inside = self.starts + at < self.ends
        return np.where(inside, self.bytes[np.minimum(self.starts + at, len(self.bytes) - 1)], 0).astype(np.uint8)

    def decimal(self, starts: Places, ends: Places) -> tuple[U64, NDArray[np.bool_]]:
        """(values, good): what is no decimal number below 2^64 is not good, and its value means nothing."""
        return _decimal(self.bytes, starts, ends)

    def number(self, starts: Places, ends: Places, what: str, rows: Places | None = None) -> U64:
        """The same, where a line without a number is refused. `rows`: which lines the fields are of; all, in order."""
        values, good = self.decimal(starts, ends)
        if not good.all():
            self.refuse(_row(good, rows), f"the {what} is no whole number below 2^64")
        return values

    def fixed(self, starts: Places, ends: Places, unit: int, what: str, rows: Places | None = None) -> U64:
        """Decimal numbers with or without a fraction, times `unit`, at most 10^9, rounded down; exact in integers."""
        points = np.flatnonzero(self.bytes == POINT)
        index = np.searchsorted(points, starts)
        point = points[np.minimum(index, len(points) - 1)] if len(points) else ends
        point = np.where((index < len(points)) & (point < ends), point, ends)
        whole, good = self.decimal(starts, point)
        value = whole * _U(unit)
        good = good & (whole <= _U(((1 << 64) - 1) // unit))
        if (fractional := point < ends).any():
            last = np.minimum(ends, point + 1 + NANO)
            part, fine = self.decimal(np.minimum(point + 1, ends), last)
            right = self.decimal(last, ends)[1]
            there = last - point - 1
            scaled = part * _U(unit) // TENS[np.clip(there, 0, NANO)]
            good = good & (~fractional | ((fine | (there <= 0)) & (right | (last >= ends))))
            before = value
            value = value + np.where(fractional & (there > 0), scaled, _U(0))
            good = good & (value >= before)
        if not good.all():
            self.refuse(_row(good, rows), f"the {what} is no number that fits in 64 bits of nanoseconds")
        return value

    def after(self, rows: int) -> Block:
        """The block without its first lines."""
        end = int(self.starts[rows]) if rows < len(self) else len(self.raw) - PAD
        return (
            Block(self.raw[end : len(self.raw) - PAD], self.line + rows) if end < len(self.raw) - PAD else _none(self)
        )

    def hexadecimal(self, starts: Places, ends: Places) -> tuple[U64, NDArray[np.bool_]]:
        """The same for up to 16 hexadecimal digits, of either case, without 0x."""
        if self._hex is None:
            self._hex = HEX[self.bytes]
        width = ends - starts
        digits = self._hex
        high, fine = _hex8(digits, ends - 8, width - 8)
        low, good = _hex8(digits, ends, width)
        return (high << _U(32)) | low, good & fine & (width > 0) & (width <= 16)

    def packed(self, starts: Places, ends: Places) -> U64:
        """Up to eight bytes of each field as one number, the first lowest; all ones where it is longer."""
        width = ends - starts
        words = _loads(self.bytes, starts)
        words &= (_U(1) << (_U(8) * np.clip(width, 0, 7).astype(np.uint64))) - _U(1) | np.where(
            width >= 8, ~_U(0), _U(0)
        )
        return np.where(width > 8, ~_U(0), words)

    def strings(self, starts: Places, ends: Places) -> list[bytes]:
        """The fields as they stand."""
        raw = self.raw
        return [raw[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def fields(self, delimiter: int, count: int, more: bool = False) -> tuple[list[Places], list[Places]]:
        """(starts, ends) of the first `count` fields of every line. A line with fewer is refused, and one with more
        unless they are allowed."""
        marks = np.flatnonzero((self.bytes == delimiter) | (self.bytes == NEWLINE))
        if len(marks) == count * len(self) and (self.bytes[marks[count - 1 :: count]] == NEWLINE).all():
            grid = marks.reshape(-1, count)
            return [self.starts, *(grid[:, column] + 1 for column in range(count - 1))], [
                *(grid[:, column] for column in range(count - 1)),
                self.ends,
            ]
        return self._ragged(marks[self.bytes[marks] == delimiter], count, more)

    def _ragged(self, places: Places, count: int, more: bool) -> tuple[list[Places], list[Places]]:
        """The same where lines have different numbers of fields; `places` are those of the delimiters."""
        index = np.searchsorted(places, self.starts)
        found = np.searchsorted(places, self.ends) - index + 1
        wrong = (found < count) if more else (found != count)
        if wrong.any():
            row = int(np.argmax(wrong))
            self.refuse(row, f"{int(found[row])} fields, {'at least ' if more else ''}{count} are needed")
        starts, ends = [self.starts], []
        for column in range(count):
            inner = places[np.minimum(index + column, max(len(places) - 1, 0))] if len(places) else self.ends
            ends.append(np.where(found - 1 > column, inner, self.ends))
            starts.append(ends[-1] + 1)
        return starts[:count], ends

    def tokens(self) -> tuple[Places, Places]:
        """(starts, ends) of all runs of what is neither blank nor end of a line, of all lines."""
        blank = _blank(self.bytes) | (self.bytes == NEWLINE) | (self.bytes == RETURN) | (self.bytes == 0)
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        return edges[::2], edges[1::2]

    def stripped(self, starts: Places, ends: Places) -> tuple[Places, Places]:
        """The fields without blanks and tabs around them."""
        starts, ends = starts.copy(), ends.copy()
        while (ahead := (starts < ends) & _blank(self.bytes[starts])).any():
            starts += ahead
        while (behind := (starts < ends) & _blank(self.bytes[ends - 1])).any():
            ends -= behind
        return starts, ends


def _row(good: NDArray[np.bool_], rows: Places | None) -> int:
    """The first line that is not good."""
    return int(np.argmin(good)) if rows is None else int(rows[np.argmin(good)])


def _none(block: Block) -> Block:
    """A block of no lines."""
    empty = Block(b"\n", block.line)
    empty.starts = empty.ends = np.empty(0, dtype=np.int64)
    return empty


def blocks(source: Source) -> Iterator[Block]:
    """All lines of a source."""
    line, left = 1, b""
    while data := source.read(BLOCK):
        data = left + data
        end = data.rfind(b"\n") + 1
        if end:
            block = Block(data[:end], line)
            if int((block.ends - block.starts).max()) > MAX_LINE:
                _too_long(line + int(np.argmax(block.ends - block.starts)))
            yield block
            line += len(block)
        left = data[end:]
        if len(left) > MAX_LINE:
            _too_long(line)
    if left:
        yield Block(left, line)


def _too_long(line: int) -> NoReturn:
    raise CorpusError(f"line {line} is longer than {MAX_LINE} bytes; this is no text of lines")


def _blank(values: U8) -> NDArray[np.bool_]:
    blank: NDArray[np.bool_] = (values == SPACE) | (values == TAB)
    return blank


def _loads(values: U8, places: Places) -> U64:
    """The eight bytes from each place on, as one little-endian number."""
    words: U64 = np.ndarray((len(values) - 7,), dtype="<u8", buffer=values.data, strides=(1,))
    return words[places].astype(np.uint64, copy=False)


# Of eight loaded bytes, the last `width` ones; and zeros as digits for the others.
KEEP = np.array(
    [0, *(((1 << 64) - 1) << (8 * (8 - width)) & ((1 << 64) - 1) for width in range(1, 9))], dtype=np.uint64
)
ZEROS = ~KEEP & _U(0x3030303030303030)


def _last8(values: U8, ends: Places, width: Places, fill: U64 | None = None) -> U64:
    """The last eight bytes before each end, those before the field replaced: by 0, or by `fill`."""
    there = np.clip(width, 0, 8)
    if len(there) and (there == there[0]).all():
        there = there[:1]
    words = _loads(values, np.maximum(ends - 8, 0))
    words &= KEEP[there]
    if fill is not None:
        words |= fill[there]
    return words


def _decimal(digits: U8, starts: Places, ends: Places) -> tuple[U64, NDArray[np.bool_]]:
    width = ends - starts
    value, good = _decimal8(digits, ends, width)
    widest = int(width.max()) if len(width) else 0
    if widest > 8:
        higher, fine = _decimal8(digits, ends - 8, width - 8)
        value, good = value + higher * _U(10**8), good & fine
    if widest > 16:
        higher, fine = _decimal8(digits, ends - 16, width - 16)
        below = value <= _U(2**64 - 1 - 1844 * 10**16)  # 18446744073709551615 is the largest
        good &= fine & (width <= 20) & ((higher < _U(1844)) | ((higher == _U(1844)) & below))
        value = value + higher * good.astype(np.uint64) * _U(10**16)
    return value, good & (width > 0)


def _decimal8(values: U8, ends: Places, width: Places) -> tuple[U64, NDArray[np.bool_]]:
    """(the number that the last eight digits make, whether all are digits). Each step adds neighbours, of which the
    left one counts ten, 100, 10,000 times."""
    words = _last8(values, ends, width, ZEROS)
    good = ((words + _U(0x4646464646464646)) | (words - _U(0x3030303030303030))) & _U(0x8080808080808080) == 0
    words &= _U(0x0F0F0F0F0F0F0F0F)
    words *= _U(1 + (10 << 8))
    words >>= _U(8)
    words &= _U(0x00FF00FF00FF00FF)
    words *= _U(1 + (100 << 16))
    words >>= _U(16)
    words &= _U(0x0000FFFF0000FFFF)
    words *= _U(1 + (10_000 << 32))
    words >>= _U(32)
    return words, good


def _hex8(digits: U8, ends: Places, width: Places) -> tuple[U64, NDArray[np.bool_]]:
    """The same for hexadecimal digits that were looked up already."""
    words = _last8(digits, ends, width)
    good = (words & _U(0x8080808080808080)) == 0
    words = ((words << _U(4)) | (words >> _U(8))) & _U(0x00FF00FF00FF00FF)
    words = ((words << _U(8)) | (words >> _U(16))) & _U(0x0000FFFF0000FFFF)
    return ((words << _U(16)) | (words >> _U(32))) & _U(0xFFFFFFFF), good
