"""Block requests as text, in the form of the Storage Performance Council's traces. There is no head line.

    ASU,LBA,Size,Opcode,Timestamp[,more]

The unit (ASU) is a stream and an address space of its own, LBA counts 512 bytes, size is bytes, the opcode is r or w in
either case, the time is seconds with a fraction. Further fields are allowed and mean nothing here. Source: SPC Trace
File Format Specification, revision 1.0.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from ..registry import Format, Head
from ..requests import READ, WRITE, Reading, Requests, Where, span_of_sectors
from ..source import Source
from ..text import blocks

SECOND = 10**9
FIELDS = 5
COMMA = ord(",")
LINE = re.compile(rb" *[0-9]{1,10} *, *[0-9]{1,20} *, *[0-9]{1,20} *, *[rRwW] *, *[0-9]{1,11}(\.[0-9]*)? *(,.*)?")


class Spc(Format):
    """Block requests as CSV without a head line: unit, block of 512 bytes, size, r or w, seconds (SPC)."""

    name = "spc"
    time_unit = "s"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        lines = head.lines()[:100]
        return bool(lines) and head.is_text() and LINE.fullmatch(lines[0]) is not None

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for block in blocks(source):
            starts, ends = block.fields(COMMA, FIELDS, more=True)
            places = [block.stripped(start, end) for start, end in zip(starts, ends, strict=True)]
            block.number(*places[0], "unit")
            sector, size = block.number(*places[1], "block"), block.number(*places[2], "size")
            kind = block.packed(*places[3]) | np.uint64(0x20)  # in lower case
            write = kind == ord("w")
            if (wrong := ~write & (kind != ord("r"))).any():
                block.refuse(int(np.argmax(wrong)), "the opcode is neither r nor w")
            time = block.fixed(*places[4], SECOND, "time")
            unit = reading.by_name(block, *places[0])
            reading.spaces = reading.streams
            reading.records += len(block)
            where = Where("line", block.line)
            first, pages = span_of_sectors(sector, size, where)
            ops = np.where(write, WRITE, READ).astype(np.uint8)
            yield Requests(first, pages, ops, time, unit, unit, where)
