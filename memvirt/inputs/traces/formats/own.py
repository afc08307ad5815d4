"""memvirt's own trace file, read in again: the same touches, their pages numbered anew."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..registry import RECORDS, Certainty, Format, Head
from ..requests import Reading, Requests
from ..source import PIECE, Source
from ..trace import ParquetTrace


class Own(Format):
    """memvirt's own trace file, Parquet."""

    name = "memvirt"
    certainty = Certainty.MAGIC
    time_unit = "ns"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return head.data.startswith(b"PAR1")

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        if (path := source.path()) is not None:
            yield from _requests(ParquetTrace(path), reading)
            return
        with tempfile.NamedTemporaryFile(
            prefix="memvirt-", suffix=".parquet"
        ) as file:  # what it holds is told at its end
            while data := source.read(PIECE):
                file.write(data)
            file.flush()
            yield from _requests(ParquetTrace(Path(file.name)), reading)


def _requests(trace: ParquetTrace, reading: Reading) -> Iterator[Requests]:
    for number, name in enumerate(trace.info.streams):
        label = name.encode()
        reading.stream(label if label not in reading.streams else b"%s (%d)" % (label, number))
    for chunk in trace.chunks(RECORDS):
        reading.records += len(chunk.pages)
        yield Requests(chunk.pages.astype(np.uint64), None, chunk.ops, chunk.time_ns, chunk.stream)
