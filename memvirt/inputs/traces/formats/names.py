"""Names, one a line: each is an object, and reading it is one page.

Any text is a name, so nothing in a file says that it is one of names; it is taken for one only when no other format
knows it, and no line has a blank or a comma in it. An empty line names nothing: it is skipped, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..registry import Certainty, Format, Head
from ..requests import Names as Numbers
from ..requests import Reading, Requests, Where
from ..source import Source
from ..text import blocks


class Names(Format):
    """Object requests as text, one name a line; each is one page, read."""

    name = "names"
    certainty = Certainty.GENERAL

    @classmethod
    def recognise(cls, head: Head) -> bool:
        lines = head.lines()
        return bool(lines) and head.is_text() and not any(set(line) & set(b" \t,;") for line in lines)

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        numbers = reading.labels = Numbers()
        for block in blocks(source):
            lines = block.strings(block.starts, block.ends)
            reading.records += len(lines)
            kept = [line for line in lines if line]
            reading.skip("empty lines", len(lines) - len(kept))
            first = np.fromiter(map(numbers.__getitem__, kept), dtype=np.uint64, count=len(kept))
            yield Requests(first, where=Where("line", block.line))
