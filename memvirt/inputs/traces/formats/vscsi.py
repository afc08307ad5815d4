"""SCSI requests of a virtual disk, as VMware's vscsi tracing writes them, in two versions of a record.

    1    u32 serial · u32 bytes · u32 segments · u16 command · u16 version · u64 block of 512 bytes · u64 time (µs)
    2    u16 command · u16 version · u32 serial · u32 bytes · u32 segments · u64 block · u64 time · u64 response (µs)

The version is the high byte of `version`, and is where a file is known by: every record has it. Commands that neither
read nor write touch nothing and are counted. Source: libCacheSim, customizedReader/vscsi.h; SCSI Block Commands for
the numbers of READ and WRITE with 6, 10, 12 and 16 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memvirt.errors import CorpusError

from ..registry import Format, Head, records
from ..requests import READ, WRITE, Reading, Requests, Where, span_of_sectors, times
from ..source import Source

MICROSECOND = 1000
RECORDS = {
    1: np.dtype(
        [
            ("serial", "<u4"),
            ("bytes", "<u4"),
            ("segments", "<u4"),
            ("command", "<u2"),
            ("version", "<u2"),
            ("block", "<u8"),
            ("time", "<u8"),
        ]
    ),
    2: np.dtype(
        [
            ("command", "<u2"),
            ("version", "<u2"),
            ("serial", "<u4"),
            ("bytes", "<u4"),
            ("segments", "<u4"),
            ("block", "<u8"),
            ("time", "<u8"),
            ("response", "<u8"),
        ]
    ),
}
READS, WRITES = (0x08, 0x28, 0xA8, 0x88), (0x0A, 0x2A, 0xAA, 0x8A)
OTHER = 2

KIND = np.full(1 << 16, OTHER, dtype=np.uint8)
KIND[list(READS)], KIND[list(WRITES)] = READ, WRITE


class Vscsi(Format):
    """SCSI requests of a VMware virtual disk, records of 32 or 40 bytes."""

    name = "vscsi"
    time_unit = "us"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return version_of(head) is not None

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        data = source.peek(RECORDS[2].itemsize)
        version = version_of(Head(data, False)) if data else 1
        if version is None:
            raise CorpusError(
                "record 0 is of neither version: its version field is not 0x01.. at byte 14, or 0x02.. at 2"
            )
        for at, rows in records(source, RECORDS[version]):
            wrong = rows["version"] >> 8 != version
            if wrong.any():
                row = int(np.argmax(wrong))
                raise CorpusError(
                    f"record {at + row} (from byte {(at + row) * rows.itemsize} on) is not of version {version} as those "
                    "before: the file is damaged there"
                )
            reading.records += len(rows)
            kind = KIND[rows["command"]]
            where = Where("record", at)
            if others := int(np.count_nonzero(kind == OTHER)):
                reading.skip("other commands", others)
                where = where.of(np.flatnonzero(kind != OTHER))
                rows, kind = rows[kind != OTHER], kind[kind != OTHER]
            first, pages = span_of_sectors(rows["block"].astype(np.uint64), rows["bytes"].astype(np.uint64), where)
            yield Requests(first, pages, kind, times(rows["time"], MICROSECOND, where), where=where)


def version_of(head: Head) -> int | None:
    """The version whose field has its number in every record that is there."""
    for version, record in RECORDS.items():
        rows = head.records(record)
        if len(rows) and (rows["version"] >> 8 == version).all():
            return version
    return None
