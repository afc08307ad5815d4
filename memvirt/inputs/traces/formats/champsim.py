"""Instructions as ChampSim traces them, 64 bytes each.

    u64 instruction · u8 is a branch · u8 was taken · u8[2] registers written · u8[4] registers read ·
    u64[2] addresses written · u64[4] addresses read

An address of 0 is none. An instruction is its fetch, then its reads, then its writes; each is taken to be one byte, as
the trace does not say how long it was. Source: ChampSim, inc/trace_instruction.h (input_instr).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..registry import Certainty, Format, Head, records
from ..requests import PAGE_SHIFT, READ, WRITE, Reading, Requests, Where
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
NEAR = 1 << 16  # most instructions follow one that is not further away


class ChampSim(Format):
    """Instructions with the addresses they read and write, ChampSim's records of 64 bytes."""

    name = "champsim"
    certainty = Certainty.PLAUSIBLE

    @classmethod
    def recognise(cls, head: Head) -> bool:
        rows = head.records(RECORD)
        if not len(rows):
            return False
        places = np.concatenate((rows["ip"], rows["written"].ravel(), rows["read"].ravel()))
        valid = (places == 0) | ((places >= 1 << PAGE_SHIFT) & (places < CANONICAL))
        branches = (rows["branch"] <= 1) & (rows["taken"] <= rows["branch"])
        steps = np.abs(np.diff(rows["ip"].astype(np.int64)))
        near = not len(steps) or int(np.median(steps)) < NEAR
        return bool(valid.all() and branches.all() and (rows["ip"] > 0).all() and near)

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for at, rows in records(source, RECORD):
            reading.records += len(rows)
            columns = [rows["ip"], *(rows["read"][:, i] for i in range(4)), *(rows["written"][:, i] for i in range(2))]
            ops = [READ] * 5 + [WRITE] * 2
            used = [index for index, column in enumerate(columns) if index == 0 or column.any()]
            if not reading.fetches:
                reading.skip("instruction fetches", len(rows))
                used = used[1:]
            places = np.empty((len(rows), len(used)), dtype=np.uint64)
            for place, index in enumerate(used):
                places[:, place] = columns[index]
            there = places != 0
            if reading.fetches:
                there[:, 0] = True
            kinds = np.broadcast_to(np.array([ops[index] for index in used], dtype=np.uint8), places.shape)[there]
            yield Requests(
                places[there] >> np.uint64(PAGE_SHIFT), ops=kinds, where=Where("access of the records from", at)
            )
