"""Block requests as text, in the form of the MSR Cambridge traces at SNIA. There is no head line.

    Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime

Times count 100 ns since 1601, offset and size are bytes, the type is Read or Write. Each disk of each host is a stream
and an address space of its own: equal offsets on two disks are different pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..registry import Format, Head, register
from ..requests import READ, U32, WRITE, Reading, Requests, span, times
from ..source import Source
from ..text import Block, Places, blocks

TICK = 100
LINE = re.compile(rb"[0-9]{1,20},[^,]*,[0-9]{1,20},(Read|Write),[0-9]{1,20},[0-9]{1,20},[0-9]{1,20}")
FIELDS = 7
READ_WORD, WRITE_WORD = (int.from_bytes(word, "little") for word in (b"Read", b"Write"))
COMMA = ord(",")


@register
class Msr(Format):
    """Block requests as CSV without a head line: time, host, disk, Read or Write, offset, size, response (MSR, SNIA)."""

    name = "msr"
    time_unit = "100 ns"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        lines = head.lines()[:100]
        return bool(lines) and all(LINE.fullmatch(line) for line in lines[:1]) and head.is_text()

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for block in blocks(source):
            starts, ends = block.fields(COMMA, FIELDS)
            at = block.line - 1
            time = number(block, starts[0], ends[0], "time")
            offset, size = number(block, starts[4], ends[4], "offset"), number(block, starts[5], ends[5], "size")
            kind = block.packed(starts[3], ends[3])
            wrong = (kind != READ_WORD) & (kind != WRITE_WORD)
            if wrong.any():
                block.refuse(int(np.argmax(wrong)), "the type is neither Read nor Write")
            disk = _disks(block, starts, ends, reading)
            reading.records += len(block)
            first, pages = span(offset, size, at)
            ops = np.where(kind == WRITE_WORD, WRITE, READ).astype(np.uint8)
            reading.spaces = reading.streams
            yield Requests(first, pages, ops, times(time, TICK, at), disk, disk, at)


def number(block: Block, starts: Places, ends: Places, what: str) -> NDArray[np.uint64]:
    """A column of decimal numbers; a line without one is refused."""
    values, good = block.decimal(starts, ends)
    if not good.all():
        block.refuse(int(np.argmin(good)), f"the {what} is no whole number below 2^64")
    return values


def _disks(block: Block, starts: list[Places], ends: list[Places], reading: Reading) -> U32:
    """The stream of each line: its host and disk, the text from the one to the other."""
    number(block, starts[2], ends[2], "disk")
    if int((ends[2] - starts[1]).max()) <= 8:
        return by_word(block.packed(starts[1], ends[2]), reading)
    return reading.by_stream(block.strings(starts[1], ends[2]))


def by_word(words: NDArray[np.uint64], reading: Reading) -> U32:
    """The stream of each name of at most eight bytes."""
    if (words == words[0]).all():
        return np.full(len(words), reading.stream(_name(int(words[0]))), dtype=np.uint32)
    values, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    numbers = np.empty(len(values), dtype=np.uint32)
    for index in np.argsort(first):
        numbers[index] = reading.stream(_name(int(values[index])))
    return numbers[inverse]


def _name(word: int) -> bytes:
    return word.to_bytes(8, "little").rstrip(b"\0")
