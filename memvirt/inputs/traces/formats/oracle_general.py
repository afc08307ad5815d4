"""Object requests in 24 bytes, as libCacheSim's oracleGeneral.

    u32 time (s) · u64 id · u32 size · i64 number of the next request of the same id

An object is one page, whatever its size; a request of size 0 is skipped. The last field is neither needed nor trusted.
There is no magic number: a file is known by times that do not go back and next requests that lie ahead.
Source: libCacheSim, customizedReader/oracle/oracleGeneralBin.h.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..registry import Certainty, Format, Head, records
from ..requests import Reading, Requests, Where, times
from ..source import Source

SECOND = 10**9
RECORD = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
NEVER = (-1, (1 << 63) - 1)


class OracleGeneral(Format):
    """Object requests in records of 24 bytes, libCacheSim's oracleGeneral."""

    name = "oracle-general"
    certainty = Certainty.PLAUSIBLE
    time_unit = "s"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return looks_like(head.records(RECORD))

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for at, rows in records(source, RECORD):
            yield objects(rows, at, reading)


def looks_like(rows: np.ndarray) -> bool:
    """Whether records can be object requests: times in order, the next request later and not beyond any file."""
    if not len(rows):
        return False
    number = np.arange(len(rows))
    ahead = np.isin(rows["next"], NEVER) | ((rows["next"] > number) & (rows["next"] < 1 << 40))
    return bool((np.diff(rows["time"].astype(np.int64)) >= 0).all() and ahead.all() and (rows["size"] < 1 << 31).all())


def objects(rows: np.ndarray, at: int, reading: Reading) -> Requests:
    """One page for each object, none where its size is 0."""
    reading.records += len(rows)
    where = Where("record", at)
    return Requests(
        rows["id"].astype(np.uint64),
        (rows["size"] > 0).astype(np.uint64),
        time_ns=times(rows["time"], SECOND, where),
        where=where,
    )
