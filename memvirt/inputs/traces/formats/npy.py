"""A NumPy array of page numbers, of any width: one row, or a second one of operations (0 read, 1 write).

Numbers that are dense already are replayed from the .npy file as it is; importing renumbers those that are not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from memvirt.errors import CorpusError

from ..registry import RECORDS, Certainty, Format, Head
from ..requests import WRITE, Reading, Requests, Where
from ..source import PIECE, Source
from ..trace import mapped


class Npy(Format):
    """A NumPy array (.npy) of page numbers, and of operations in a second row."""

    name = "npy"
    certainty = Certainty.MAGIC

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return head.data.startswith(b"\x93NUMPY")

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        if (path := source.path()) is not None:
            yield from _requests(path, reading)
            return
        with tempfile.NamedTemporaryFile(prefix="memvirt-", suffix=".npy") as file:  # the rows lie one behind the other
            while data := source.read(PIECE):
                file.write(data)
            file.flush()
            yield from _requests(Path(file.name), reading)


def _requests(path: Path, reading: Reading) -> Iterator[Requests]:
    rows = mapped(path)
    pages, ops = (rows, None) if rows.ndim == 1 else (rows[0], rows[1])
    for start in range(0, len(pages), RECORDS):
        some = np.asarray(pages[start : start + RECORDS])
        kinds = None if ops is None else np.asarray(ops[start : start + RECORDS])
        if int(some.min()) < 0:
            raise CorpusError(f"page number {start + int(np.argmax(some < 0))} (from 0) is negative: {int(some.min())}")
        if kinds is not None and not 0 <= int(kinds.min()) <= int(kinds.max()) <= WRITE:
            raise CorpusError(f"operations are 0 (read) or 1 (write), not {int(kinds.min())}..{int(kinds.max())}")
        reading.records += len(some)
        yield Requests(
            some.astype(np.uint64), ops=None if kinds is None else kinds.astype(np.uint8), where=Where("number", start)
        )
