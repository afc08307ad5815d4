"""Page faults as `perf script` prints them: the first touch of every page, or of every page that came back.

    perf record -e page-faults -c 1 -d -- PROGRAM
    perf script -F comm,pid,tid,time,event,addr

The address is what counts: without the field addr, perf prints where the instruction was, which is something else, and
such lines are refused. The tracepoint exceptions:page_fault_user is read too; bit 1 of its error code says that the
access was a write. The software event does not say, and is taken for a read. Each process is a stream and an address
space; without a pid, each thread is. Other lines are skipped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memvirt.untrusted import whole

from ..registry import Format, Head
from ..requests import PAGE_SHIFT, READ, U8, U32, U64, WRITE, Reading, Requests, Where
from ..source import Source
from ..text import Block, Places, blocks

EVENTS = (b"page-faults", b"faults", b"minor-faults", b"major-faults")
TRACED = b"exceptions:page_fault_user:"
TRACEPOINT = re.compile(rb".*?(\S+)\s+(?:\[\d+\]\s+)?([0-9.]+):\s+(?:\d+\s+)?exceptions:page_fault_user:(.*)")
SAID = re.compile(rb".*\baddress=(?:0x)?([0-9a-f]{1,16})\b.*\berror_code=(?:0x)?([0-9a-f]{1,8})\b")
LINE = re.compile(
    rb".*\d\.\d+:\s+(\d+\s+)?(page-faults|faults|minor-faults|major-faults|exceptions:page_fault_user)\b.*"
)
SECOND = 10**9
COLON, SLASH, BRACKET = b":/["
WRITTEN = 2  # bit of x86's error code


class PerfFaults(Format):
    """Page faults as text, from perf script -F comm,pid,tid,time,event,addr."""

    name = "perf-faults"
    time_unit = "s"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return head.is_text() and any(LINE.fullmatch(line) for line in head.lines()[:100])

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for block in blocks(source):
            yield _requests(block, reading)


@dataclass(frozen=True, slots=True)
class _Faults:
    """Columns of some lines."""

    rows: Places
    address: U64
    ops: U8
    time_ns: U64
    stream: U32


def _requests(block: Block, reading: Reading) -> Requests:
    plain = _plain(block, reading)
    traced = _traced(block, reading) if TRACED in block.raw else None
    reading.spaces = reading.streams
    reading.records += len(block)
    found = plain if traced is None else _merged(plain, traced)
    reading.skip("other lines", len(block) - len(found.rows))
    first = found.address >> np.uint64(PAGE_SHIFT)
    return Requests(
        first, None, found.ops, found.time_ns, found.stream, found.stream, Where("line", block.line, found.rows)
    )


def _plain(block: Block, reading: Reading) -> _Faults:
    """The lines of the software events. From the right: an address (and an instruction), the event, perhaps a period, the
    time, perhaps the processor, the process; what is left of it is the program's name, whatever that is."""
    starts, ends = block.tokens()
    colons = np.flatnonzero(block.bytes == COLON)
    if not len(colons) or not len(starts):
        return _columns([], [], [], [], [])
    last = colons[np.maximum(np.searchsorted(colons, block.ends) - 1, 0)]
    event = np.searchsorted(starts, last, side="right") - 1
    begin = np.searchsorted(starts, block.starts)  # the line's first token
    rows = np.flatnonzero(
        (last >= block.starts) & (last < block.ends) & (event - begin >= 2) & (ends[event] == last + 1)
    )
    rows = rows[_is_fault(block, starts[event[rows]], ends[event[rows]])]
    event, begin = event[rows], begin[rows]
    time = np.where(block.bytes[ends[event - 1] - 1] == COLON, event - 1, event - 2)
    process = np.where(block.bytes[starts[time - 1]] == BRACKET, time - 2, time - 1)
    if (short := (time <= begin) | (process < begin)).any():
        block.refuse(int(rows[np.argmax(short)]), "a process, a time and an event are needed before the address")
    count = np.searchsorted(starts, block.ends[rows]) - event - 1  # of tokens behind the event
    place = np.minimum(event + 1, len(starts) - 1)
    address, good = block.hexadecimal(starts[place], ends[place])
    beside = np.minimum(event + 2, len(starts) - 1)
    good &= (count == 1) | ((count > 1) & block.hexadecimal(starts[beside], ends[beside])[1])
    if not good.all():
        block.refuse(int(rows[np.argmin(good)]), "there is no address; use perf script -F comm,pid,tid,time,event,addr")
    nanoseconds = block.fixed(starts[time], ends[time] - 1, SECOND, "time", rows)
    stream = reading.by_name(block, starts[process], _upto(block, SLASH, starts[process], ends[process]))
    return _Faults(rows, address, np.full(len(rows), READ, dtype=np.uint8), nanoseconds, stream)


def _is_fault(block: Block, starts: Places, ends: Places) -> NDArray[np.bool_]:
    """Whether the event is one of page faults, with or without a modifier (page-faults:u:)."""
    words = block.packed(starts, np.minimum(ends, starts + 8))
    found = np.zeros(len(starts), dtype=np.bool_)
    for name in EVENTS:
        whole = (name + b":")[:8]
        found |= words & np.uint64((1 << 8 * len(whole)) - 1) == int.from_bytes(whole, "little")
    return found


def _upto(block: Block, mark: int, starts: Places, ends: Places) -> Places:
    """Where the mark is in each field, else the field's end."""
    marks = np.flatnonzero(block.bytes == mark)
    if not len(marks):
        return ends
    found = marks[np.minimum(np.searchsorted(marks, starts), len(marks) - 1)]
    return np.where((found >= starts) & (found < ends), found, ends)


def _traced(block: Block, reading: Reading) -> _Faults:
    """The lines of the tracepoint, one by one."""
    rows, address, ops, time, stream = [], [], [], [], []
    for row in range(len(block)):
        line = block.text(row)
        if TRACED not in line or (found := TRACEPOINT.fullmatch(line)) is None:
            continue
        said = SAID.fullmatch(found[3])
        before, _, fraction = found[2].partition(b".")
        seconds = whole(before.decode(), (1 << 64) // SECOND - 1)
        if said is None or seconds is None or not fraction.isdigit():
            block.refuse(row, "a time, an address and an error code are needed")
        rows.append(row)
        address.append(int(said[1], 16))
        ops.append(WRITE if int(said[2], 16) & WRITTEN else READ)
        time.append(seconds * SECOND + int(fraction[:9].ljust(9, b"0")))
        stream.append(reading.stream(found[1].partition(b"/")[0]))
    return _columns(rows, address, ops, time, stream)


def _columns(rows: list[int], address: list[int], ops: list[int], time: list[int], stream: list[int]) -> _Faults:
    return _Faults(
        np.array(rows, np.int64),
        np.array(address, np.uint64),
        np.array(ops, np.uint8),
        np.array(time, np.uint64),
        np.array(stream, np.uint32),
    )


def _merged(one: _Faults, other: _Faults) -> _Faults:
    """All of them in the order of their lines."""
    order = np.argsort(np.concatenate((one.rows, other.rows)), kind="stable")

    def both(column: str) -> NDArray[Any]:
        merged: NDArray[Any] = np.concatenate((getattr(one, column), getattr(other, column)))[order]
        return merged

    return _Faults(both("rows"), both("address"), both("ops"), both("time_ns"), both("stream"))
