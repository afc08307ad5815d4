"""The core workloads of YCSB (Cooper et al., SoCC'10; core_workload.properties), as the pages that their requests touch.

Records lie `records_per_page` to a page behind the read-only memory; YCSB's have 1000 bytes, so four. A read is a read of
its page, an update a write, a read-modify-write is both. A scan reads the pages of up to 100 records in order. Popularity
is zipfian with YCSB's constant, 0.99, scattered over all records; in D it goes by age, the latest insert first. Inserts
go to the place of the oldest record once memory is full, as in a cache.

    A  half reads, half updates            D  95 % reads of the latest, 5 % inserts
    B  95 % reads, 5 % updates             E  95 % scans, 5 % inserts
    C  reads only                          F  half reads, half read-modify-writes
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memvirt.errors import ConfigError
from memvirt.inputs.bits import Bits, Pages

from .base import BATCH, READ, WRITE, Batch, Space, Stream, Workload
from .zipf import draw, draw_table

REQUESTS = 1 << 14  # made at a time
THETA_MILLI = 990
LONGEST_SCAN = 100
PERCENT = 1 << 16
LOOK, UPDATE, INSERT, SCAN, MODIFY = range(5)


class Ycsb(Workload):
    """What the six have in common. `mix`: per cent of each kind of request."""

    mix: ClassVar[tuple[tuple[int, int], ...]]
    latest: ClassVar[bool] = False

    accesses: int = Field(gt=0, le=1 << 40, description="pages touched per VM")
    records_per_page: int = Field(default=4, ge=1, le=64, description="records in a page of 4 KiB")

    def batches(self, space: Space, stream: Stream) -> Iterator[Batch]:
        writable = space.pages - space.read_only
        if writable == 0:
            raise ConfigError(f"{self.name} needs pages that may be written; all of them are read-only")
        left = self.accesses
        for pages, ops in self._requests(writable, stream):
            pages, ops = pages[:left] + np.uint32(space.read_only), ops[:left]
            left -= len(pages)
            for start in range(0, len(pages), BATCH):
                yield Batch(pages[start : start + BATCH], ops[start : start + BATCH])
            if not left:
                return

    def _requests(self, writable: int, stream: Stream) -> Iterator[tuple[Pages, NDArray[np.uint8]]]:
        """The touches of REQUESTS requests after the other, without end."""
        records = writable * self.records_per_page
        ranks = np.arange(records, dtype=np.uint32) if self.latest else stream.layout("ycsb").permutation(records)
        table = draw_table(ranks, THETA_MILLI)
        kinds, keys, lengths = stream.bits("request"), stream.bits("record"), stream.bits("length")
        inserted = 0
        while True:
            kind = self._kinds(kinds)
            record = draw(table, keys, REQUESTS).astype(np.int64)
            newer = inserted + np.cumsum(kind == INSERT)
            if self.latest:
                record = (newer - 1 - record) % records
            record = np.where(kind == INSERT, (newer - 1) % records, record)
            inserted = int(newer[-1])
            length = np.where(kind == SCAN, 1 + lengths.below(LONGEST_SCAN, REQUESTS).astype(np.int64), 1)
            yield self._touches(kind, record, np.minimum(length, records - record))

    def _kinds(self, bits: Bits) -> NDArray[np.int64]:
        bounds = np.cumsum([share * PERCENT // 100 for _, share in self.mix])[:-1]
        chosen = np.searchsorted(bounds, bits.u16(REQUESTS), side="right")
        kinds: NDArray[np.int64] = np.array([kind for kind, _ in self.mix], dtype=np.int64)[chosen]
        return kinds

    def _touches(
        self, kind: NDArray[np.int64], record: NDArray[np.int64], length: NDArray[np.int64]
    ) -> tuple[Pages, NDArray[np.uint8]]:
        """Pages and operations of requests, in order."""
        first = record // self.records_per_page
        count = (record + length - 1) // self.records_per_page - first + 1
        count = np.where(kind == MODIFY, 2, count)
        row = np.repeat(np.arange(len(kind)), count)
        step = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        of = kind[row]
        pages = (first[row] + np.where(of == MODIFY, 0, step)).astype(np.uint32)
        write = (of == UPDATE) | (of == INSERT) | ((of == MODIFY) & (step == 1))
        return pages, np.where(write, WRITE, READ).astype(np.uint8)


class YcsbA(Ycsb):
    """YCSB A, update heavy: half reads, half updates, zipfian."""

    name = "ycsb-a"
    mix = ((LOOK, 50), (UPDATE, 50))


class YcsbB(Ycsb):
    """YCSB B, read mostly: 95 % reads, 5 % updates, zipfian."""

    name = "ycsb-b"
    mix = ((LOOK, 95), (UPDATE, 5))


class YcsbC(Ycsb):
    """YCSB C, read only, zipfian."""

    name = "ycsb-c"
    mix = ((LOOK, 100),)


class YcsbD(Ycsb):
    """YCSB D, read latest: 95 % reads of what was inserted last, 5 % inserts."""

    name = "ycsb-d"
    mix = ((LOOK, 95), (INSERT, 5))
    latest = True


class YcsbE(Ycsb):
    """YCSB E, short ranges: 95 % scans of up to 100 records, 5 % inserts, zipfian."""

    name = "ycsb-e"
    mix = ((SCAN, 95), (INSERT, 5))


class YcsbF(Ycsb):
    """YCSB F, read-modify-write: half reads, half reads that are followed by a write of the same record, zipfian."""

    name = "ycsb-f"
    mix = ((LOOK, 50), (MODIFY, 50))
