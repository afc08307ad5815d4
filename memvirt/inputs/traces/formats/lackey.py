"""Memory accesses as valgrind's lackey prints them, with --trace-mem=yes.

    I  04001000,3        an instruction fetch
     S 1ffefff7a8,8      a store
     L 04022fff,8        a load
     M 0421c7cc,4        a modify: a load and a store

The kind stands in column 0 (I) or 1, the address from column 3 on, in hexadecimal, then the size in bytes. Everything
else that valgrind prints is skipped and counted. Source: valgrind's lackey/lk_main.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from ..registry import Format, Head
from ..requests import MODIFY, READ, WRITE, Reading, Requests, Where, span
from ..source import Source
from ..text import Block, blocks

LINE = re.compile(rb"(I | [SLM]) +[0-9a-fA-F]{1,16},[0-9]{1,9}")
COMMA, BLANK = b", "


class Lackey(Format):
    """Memory accesses of a program, as valgrind --tool=lackey --trace-mem=yes prints them."""

    name = "lackey"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        lines = head.lines()[:1000]
        found = sum(LINE.fullmatch(line) is not None for line in lines)
        return found > 0 and found + sum(line.startswith((b"==", b"SB ")) or not line for line in lines) == len(lines)

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for block in blocks(source):
            yield from _requests(block, reading)


def _requests(block: Block, reading: Reading) -> Iterator[Requests]:
    first, second, third = (block.first(at) for at in range(3))
    fetch = (first == ord("I")) & (second == BLANK)
    data = (first == BLANK) & ((second == ord("L")) | (second == ord("S")) | (second == ord("M")))
    rows = np.flatnonzero((fetch | data) & (third == BLANK))
    reading.records += len(block)
    reading.skip("other lines", len(block) - len(rows))
    if not reading.fetches:
        reading.skip("instruction fetches", int(np.count_nonzero(fetch[rows])))
        rows = rows[~fetch[rows]]
    if not len(rows):
        return
    starts, ends = block.stripped(block.starts[rows] + 2, block.ends[rows])
    commas = np.flatnonzero(block.bytes == COMMA)
    index = np.searchsorted(commas, starts)
    comma = commas[np.minimum(index, len(commas) - 1)] if len(commas) else ends
    comma = np.where((index < len(commas)) & (comma < ends), comma, ends)
    address, good = block.hexadecimal(starts, comma)
    size, fine = block.decimal(comma + 1, ends)
    if not (good & fine).all():
        block.refuse(int(rows[np.argmin(good & fine)]), "no hexadecimal address, comma and decimal size")
    kinds = np.zeros(256, dtype=np.uint8)
    kinds[[ord("I"), ord("L"), ord("S"), ord("M")]] = READ, READ, WRITE, MODIFY
    where = Where("line", block.line, rows)
    yield Requests(*span(address, size, where), kinds[np.where(fetch[rows], first[rows], second[rows])], where=where)
