"""Instructions as ChampSim traces them, 64 bytes each.

    u64 instruction · u8 is a branch · u8 was taken · u8[2] registers written · u8[4] registers read ·
    u64[2] addresses written · u64[4] addresses read

An address of 0 is none. An instruction is its fetch, then its reads, then its writes; each is taken to be one byte, as
the trace does not say how long it was. Source: ChampSim, inc/trace_instruction.h (input_instr).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..registry import Format, Head, records, register
from ..requests import PAGE_SHIFT, READ, WRITE, Reading, Requests
from ..source import Source

RECORD = np.dtype(
    [
        ("ip", "<u8"),
        ("branch", "u1"),
        ("taken", "u1"),
        ("registers", "u1", 6),
        ("written", "<u8", 2),
        ("read", "<u8", 4),
    ]
)
CANONICAL = 1 << 57


@register
class ChampSim(Format):
    """Instructions with the addresses they read and write, ChampSim's records of 64 bytes."""

    name = "champsim"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        rows = head.records(RECORD)
        if not len(rows):
            return False
        user = [column < CANONICAL for column in (rows["ip"], rows["written"], rows["read"])]
        branches = (rows["branch"] <= 1) & (rows["taken"] <= rows["branch"])
        return bool(branches.all() and all(column.all() for column in user) and (rows["ip"] > 1 << PAGE_SHIFT).all())

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for at, rows in records(source, RECORD):
            reading.records += len(rows)
            places = np.column_stack((rows["ip"], rows["read"], rows["written"]))
            ops = np.array([READ] + [READ] * 4 + [WRITE] * 2, dtype=np.uint8)
            if not reading.fetches:
                reading.skip("instruction fetches", len(rows))
                places, ops = places[:, 1:], ops[1:]
            there = places != 0
            if reading.fetches:
                there[:, 0] = True
            kinds = np.broadcast_to(ops, places.shape)[there]
            yield Requests(places[there] >> np.uint64(PAGE_SHIFT), ops=kinds, at=at)
