"""What DAMON saw: regions of memory, and whether they were accessed, as damo records it.

    damo's records     JSON, or the same packed by zlib: a list of records with snapshots of regions
    perf script        kdamond.0 4452 [000] 82877.315633: damon:damon_aggregated: target_id=… nr_regions=17
                       140731667070976-140731668037632: 3 12

DAMON samples: it knows regions and how often a sample of each was found accessed, and no single access. So a region that
was accessed at all is one read of all its pages, at the end of its interval; one that was not is skipped and counted.
Each target is a stream and an address space. Source: damo's _damo_records.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from memvirt.errors import CorpusError
from memvirt.untrusted import json_value

from ..registry import Format, Head
from ..requests import Reading, Requests, Where, span
from ..source import PIECE, Source
from ..text import blocks

MOST_JSON = 1 << 28
RECORDED = re.compile(rb'\s*\[\s*\{\s*"(?:kdamond_idx|context_idx|intervals|scheme_idx|target_id|snapshots)"')
LINE = re.compile(
    rb"(\d{1,11})\.(\d{1,9}):[ \t]+damon:(?:damon_aggregated|damos_before_apply):[^\n]*?\b(target_id|target_idx)=(\d{1,20})"
    rb" nr_regions=\d+[ \t]+(\d{1,20})-(\d{1,20}):[ \t]+(-?\d{1,20})(?:[ \t]+-?\d{1,20})?[ \t\r]*$",
    re.MULTILINE,
)
UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
MOST = (1 << 64) - 1

Row = tuple[int, int, int, bytes]  # start, end, time, target


class Damon(Format):
    """Accessed regions as DAMON samples them: damo's records (JSON, packed or not) or perf script's lines."""

    name = "damon"
    time_unit = "ns"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return RECORDED.match(head.data) is not None or any(LINE.search(line) for line in head.lines()[:100])

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        if source.peek(PIECE).lstrip()[:1] == b"[":
            yield from _recorded(source, reading)
            return
        for block in blocks(source):
            rows: list[Row] = []
            found = 0
            for match in LINE.finditer(block.raw):
                seconds, fraction, _, target, start, end, accesses = match.groups()
                found += 1
                if int(accesses) > 0:
                    time = int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))
                    rows.append((int(start), int(end), time, target))
                else:
                    reading.skip("regions that were not accessed")
            reading.records += len(block)
            reading.skip("other lines", len(block) - found)
            yield _requests(rows, reading, block.line - 1)


def _requests(rows: Sequence[Row], reading: Reading, at: int) -> Requests:
    for index, (low, high, when, _) in enumerate(rows):
        if not 0 <= low <= high <= MOST or not 0 <= when <= MOST:
            raise CorpusError(f"region {at + index}: from {low} to {high} at {when} ns is none")
    reading.spaces, where = reading.streams, Where("region", at)
    start, end, time = (np.array([row[field] for row in rows], dtype=np.uint64) for field in range(3))
    stream = np.array([reading.stream(row[3]) for row in rows], dtype=np.uint32)
    first, pages = span(start, end - start, where)
    return Requests(first, pages, None, time, stream, stream, where)


def _recorded(source: Source, reading: Reading) -> Iterator[Requests]:
    text = source.read(MOST_JSON + 1)
    if len(text) > MOST_JSON:
        raise CorpusError(
            f"damo's JSON is read at once, and this is more than {MOST_JSON} bytes: record less at a time"
        )
    try:
        records = json_value(text)
    except ValueError as error:
        raise CorpusError(f"the JSON is damaged or cut: {error}") from error
    for record in _items(records, "the file"):
        target = str(_entry(record, "target_id")).encode()
        for snapshot in _items(_entry(record, "snapshots"), "snapshots"):
            time = _nanoseconds(_entry(snapshot, "end_time"))
            rows: list[Row] = []
            for region in _items(_entry(snapshot, "regions"), "regions"):
                if _accesses(_entry(region, "nr_accesses")) > 0:
                    rows.append((_number(_entry(region, "start")), _number(_entry(region, "end")), time, target))
                else:
                    reading.skip("regions that were not accessed")
                reading.records += 1
            yield _requests(rows, reading, reading.records - len(rows))


def _items(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise CorpusError(f"damo's records are damaged: {what} hold no list")
    return value


def _entry(table: Any, key: str) -> Any:
    if not isinstance(table, dict) or key not in table:
        raise CorpusError(f"damo's records are damaged: something has no '{key}'")
    return table[key]


def _number(value: Any) -> int:
    """A whole number, or text of one with or without commas."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9,]{1,30}", value.strip()) and value.strip(", "):
        return int(value.replace(",", ""))
    raise CorpusError(f"damo's records are damaged: {str(value)[:40]!r} is no number")


def _accesses(value: Any) -> float:
    """How many samples found a region accessed, or in what share of them: a number, a table, text with a unit."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("samples", "percent", "val") if value.get(key) is not None), None)
    if isinstance(value, (int, float)):
        return value
    found = re.match(r"\s*(-?[0-9][0-9,]*(?:\.[0-9]+)?)", str(value)[:64])
    if found is None:
        raise CorpusError(f"damo's records are damaged: {str(value)[:40]!r} is no number of accesses")
    return float(found[1].replace(",", ""))


def _nanoseconds(value: Any) -> int:
    """A time: nanoseconds, or text such as "1 m 2.5 s"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < MOST:
        return int(value)
    text = str(value)[:200].replace(",", "")
    total = 0
    for number, point, unit in re.findall(r"([0-9]{1,20})(?:\.([0-9]{1,9})[0-9]*)?\s*([a-z]*)", text):
        if unit and unit not in UNITS:
            break
        scale = UNITS[unit or "ns"]
        total += int(number) * scale + int(point.ljust(9, "0") if point else 0) * scale // 10**9
    else:
        if re.match(r"\s*[0-9]", text) and total <= MOST:
            return total
    raise CorpusError(f"damo's records are damaged: {str(value)[:40]!r} is no time")
