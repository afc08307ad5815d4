"""Block requests as text, in the form of the MSR Cambridge traces at SNIA. There is no head line.

    Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime

Times count 100 ns since 1601, offset and size are bytes, the type is Read or Write. Each disk of each host is a stream
and an address space of its own: equal offsets on two disks are different pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from ..registry import Format, Head
from ..requests import READ, WRITE, Reading, Requests, Where, span, times
from ..source import Source
from ..text import blocks

TICK = 100
LINE = re.compile(rb"[0-9]{1,20},[^,]*,[0-9]{1,20},(Read|Write),[0-9]{1,20},[0-9]{1,20},[0-9]{1,20}")
FIELDS = 7
READ_WORD, WRITE_WORD = (int.from_bytes(word, "little") for word in (b"Read", b"Write"))
COMMA = ord(",")


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
            where = Where("line", block.line)
            time = block.number(starts[0], ends[0], "time")
            offset, size = block.number(starts[4], ends[4], "offset"), block.number(starts[5], ends[5], "size")
            kind = block.packed(starts[3], ends[3])
            wrong = (kind != READ_WORD) & (kind != WRITE_WORD)
            if wrong.any():
                block.refuse(int(np.argmax(wrong)), "the type is neither Read nor Write")
            block.number(starts[2], ends[2], "disk")
            disk = reading.by_name(block, starts[1], ends[2])  # host and disk
            reading.records += len(block)
            first, pages = span(offset, size, where)
            ops = np.where(kind == WRITE_WORD, WRITE, READ).astype(np.uint8)
            reading.spaces = reading.streams
            yield Requests(first, pages, ops, times(time, TICK, where), disk, disk, where)
