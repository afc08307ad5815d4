"""libCacheSim's own format, LCS: a header, then records of one length.

The header of today has 8192 bytes:

    u64 magic · u64 version · 8000 bytes of statistics: i64 their version, i64 requests, … · 168 unused · u64 magic

and versions 1 to 8 are records of these fields (the tenant is in the upper 24 bits of op; features follow from
version 4 on: 1, 2, 4, 8, 16 of 32 bits):

    1         u32 time (s) · u64 id · u32 size · i64 next
    2         u32 time · u64 id · u32 size · u32 op, tenant · i64 next
    3 to 8    u32 time · u64 id · i64 size · u32 op, tenant · u32 ttl · i64 next

In 2024 it had 1024 bytes and named the fields of its records by a string of Python's struct module:

    u64 magic · char[240] fields · u8 which field is id, size, time, last, next, op, ttl, tenant, content type ·
    231 unused · i64 requests · 63 · i64 … · u32 fields · u32 bytes a record · u64 version · u64 magic

An object is one page. Operations that change an object are writes; deleting one touches nothing. Source: libCacheSim,
customizedReader/lcs.h and generalReader/lcs.h (October 2024), include/libCacheSim/enum.h for the operations.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError

from ..registry import Certainty, Format, Head, records
from ..requests import READ, WRITE, Reading, Requests, Where, times
from ..source import Source

SECOND = 10**9
MAGIC = struct.pack("<Q", 0x123456789ABCDEF0)
LONG, SHORT = 8192, 1024
# nop get gets set add cas replace append prepend delete incr decr read write update; others are not known
READS, WRITES, DELETE = (0, 1, 2, 12), (3, 4, 5, 6, 7, 8, 10, 11, 13, 14), 9
FEATURES = {4: 1, 5: 2, 6: 4, 7: 8, 8: 16}
SIZED = {1: "<u4", 2: "<u4"}
KINDS = {"c": "i1", "b": "i1", "B": "u1", "h": "i2", "H": "u2", "i": "i4", "I": "u4", "l": "i4", "L": "u4"}
KINDS |= {"q": "i8", "Q": "u8", "f": "f4", "d": "f8"}


@dataclass(frozen=True, slots=True)
class _Header:
    record: np.dtype[np.void]
    bytes: int
    requests: int  # 0: it does not say


class Lcs(Format):
    """Object requests in libCacheSim's own format, with or without operations and tenants."""

    name = "lcs"
    certainty = Certainty.MAGIC
    time_unit = "s"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return head.data.startswith(MAGIC)

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        header = _header(source)
        for at, rows in records(source, header.record, header.bytes):
            yield _requests(rows, at, reading)
        if header.requests not in (0, reading.records):
            raise CorpusError(
                f"the header speaks of {header.requests} requests, {reading.records} follow it; copy the file again"
            )


def _header(source: Source) -> _Header:
    head = source.peek(LONG)
    if not head.startswith(MAGIC):
        raise CorpusError("it does not begin with LCS's magic number")
    if head[LONG - 8 : LONG] == MAGIC:
        header = _long(source.read(LONG))
    elif head[SHORT - 8 : SHORT] == MAGIC:
        header = _short(source.read(SHORT))
    else:
        raise CorpusError(
            f"the header has no second magic number at byte {SHORT - 8} or {LONG - 8}: it is damaged or cut"
        )
    if header.requests < 0:
        raise CorpusError(f"the header is damaged: it speaks of {header.requests} requests")
    return header


def _long(head: bytes) -> _Header:
    version, _, requests = struct.unpack_from("<Qqq", head, 8)
    if not 1 <= version <= 8:
        raise CorpusError(f"LCS version {version}; versions 1 to 8 can be read")
    fields = [("time", "<u4"), ("id", "<u8"), ("size", SIZED.get(version, "<i8"))]
    fields += [("op", "u1"), ("tenant", "V3")] if version > 1 else []
    fields += [("ttl", "<u4")] if version > 2 else []
    fields += [("next", "<i8"), ("features", f"V{4 * FEATURES.get(version, 0)}")]
    return _Header(np.dtype(fields), LONG, requests)


def _short(head: bytes) -> _Header:
    text = head[8:248].rstrip(b"\0").decode("latin-1")
    roles = dict(
        zip(("id", "size", "time", "last", "next", "op", "ttl", "tenant", "content"), head[248:257], strict=True)
    )
    requests = struct.unpack_from("<q", head, 488)[0]
    _, length, _ = struct.unpack_from("<IIQ", head, 1000)
    if not text.startswith("<") or not text[1:] or any(kind not in KINDS for kind in text[1:]):
        raise CorpusError(f"the header is damaged: its records have the fields {text!r}")
    kinds = [f"<{KINDS[kind]}" for kind in text[1:]]
    names = [f"field{number}" for number in range(1, len(kinds) + 1)]
    for role, number in roles.items():
        if number > len(kinds):
            raise CorpusError(f"the header is damaged: field {number} of {len(kinds)} is said to hold the {role}")
        if number and role in ("id", "size", "time", "op", "tenant"):
            if text[number] in "fd":
                raise CorpusError(f"the header is damaged: a {role} is a whole number, field {number} is none")
            names[number - 1] = role
    record = np.dtype(list(zip(names, kinds, strict=True)))
    if "id" not in names or record.itemsize != length:
        raise CorpusError(f"the header is damaged: no id, or {record.itemsize} bytes of fields in records of {length}")
    return _Header(record, SHORT, requests)


def _requests(rows: NDArray[np.void], at: int, reading: Reading) -> Requests:
    fields = rows.dtype.names or ()
    reading.records += len(rows)
    where = Where("record", at)
    ops, stream = np.zeros(len(rows), dtype=np.uint8), None
    some = rows["size"] > 0 if "size" in fields else np.ones(len(rows), dtype=np.bool_)
    if "op" in fields:
        kind = rows["op"].astype(np.int64) & 0xFF
        deleted, unknown = kind == DELETE, ~np.isin(kind, (*READS, *WRITES, DELETE))
        reading.skip("deletions", int(np.count_nonzero(deleted)))
        reading.skip("unknown operations", int(np.count_nonzero(unknown)))
        if (dropped := deleted | unknown).any():
            rows, some, kind = rows[~dropped], some[~dropped], kind[~dropped]
            where = where.of(np.flatnonzero(~dropped))
        ops = np.where(np.isin(kind, WRITES), WRITE, READ).astype(np.uint8)
    if "tenant" in fields:
        stream = by_tenant(_tenants(rows["tenant"]), reading)
    time = times(rows["time"], SECOND, where) if "time" in fields else None
    return Requests(rows["id"].astype(np.uint64), some.astype(np.uint64), ops, time, stream, where=where)


def _tenants(column: NDArray[Any]) -> NDArray[np.int64]:
    """Tenants as numbers: those of 24 bits are three bytes, the first the lowest."""
    if column.dtype.kind != "V":
        return column.astype(np.int64)
    low, middle, high = np.ascontiguousarray(column).view(np.uint8).reshape(-1, 3).T.astype(np.int64)
    return low | middle << 8 | high << 16


def by_tenant(tenants: NDArray[np.int64], reading: Reading) -> NDArray[np.uint32]:
    """A stream for each tenant, in the order in which they first ask."""
    if not len(tenants):
        return np.empty(0, dtype=np.uint32)
    values, first, inverse = np.unique(tenants, return_index=True, return_inverse=True)
    numbers = np.empty(len(values), dtype=np.uint32)
    for index in np.argsort(first):
        numbers[index] = reading.stream(str(values[index]).encode())
    return numbers[inverse]
