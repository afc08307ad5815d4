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

import numpy as np

from ..registry import Format, Head, register
from ..requests import PAGE_SHIFT, READ, WRITE, Reading, Requests
from ..source import Source
from ..text import Block, blocks

# The process, its pid and tid, the processor, seconds and their fraction, the event, and what is said of it.
LINE = re.compile(
    rb"^[ \t]*(?:\S[^\n]*?[ \t])??(\d{1,10})(?:/ *\d{1,10})?[ \t]+(?:\[\d+\][ \t]+)?"
    rb"(\d{1,11})\.(\d{1,9}):[ \t]+(?:\d+[ \t]+)?"
    rb"((?:[\w-]+/)?(?:page-faults|faults|minor-faults|major-faults|exceptions:page_fault_user)[\w:/]*):[ \t]*([^\n]*)",
    re.MULTILINE,
)
ADDRESS = re.compile(rb"([0-9a-f]{1,16})(?:[ \t]+[0-9a-f]{5,16}\b.*)?[ \t]*\Z")
TRACEPOINT = re.compile(rb"address=(?:0x)?([0-9a-f]{1,16})\b.*\berror_code=(?:0x)?([0-9a-f]{1,8})\b")
WRITTEN = 2  # bit of x86's error code


@register
class PerfFaults(Format):
    """Page faults as text, from perf script -F comm,pid,tid,time,event,addr."""

    name = "perf-faults"
    time_unit = "s"

    @classmethod
    def recognise(cls, head: Head) -> bool:
        return head.is_text() and any(LINE.match(line) for line in head.lines()[:100])

    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        for block in blocks(source):
            yield _requests(block, reading)


def _requests(block: Block, reading: Reading) -> Requests:
    found = list(LINE.finditer(block.raw))
    count = len(found)
    reading.records += len(block)
    reading.skip("other lines", len(block) - count)
    address, time = np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.uint64)
    ops, stream = np.zeros(count, dtype=np.uint8), np.empty(count, dtype=np.uint32)
    for row, match in enumerate(found):
        process, seconds, fraction, _, what = match.groups()
        if plain := ADDRESS.match(what):
            address[row] = int(plain[1], 16)
        elif traced := TRACEPOINT.search(what):
            address[row] = int(traced[1], 16)
            ops[row] = WRITE if int(traced[2], 16) & WRITTEN else READ
        else:
            block.refuse(_line(block, match), "there is no address; use perf script -F comm,pid,tid,time,event,addr")
        nanoseconds = int(seconds) * 10**9 + int(fraction.ljust(9, b"0"))
        if nanoseconds >= 1 << 64:
            block.refuse(_line(block, match), "the time is beyond 2^64 nanoseconds")
        time[row] = nanoseconds
        stream[row] = reading.stream(process)
    reading.spaces = reading.streams
    return Requests(address >> np.uint64(PAGE_SHIFT), None, ops, time, stream, stream, block.line - 1)


def _line(block: Block, match: re.Match[bytes]) -> int:
    """In which line of the block something was found."""
    return int(np.searchsorted(block.starts, match.start(1), side="right")) - 1
