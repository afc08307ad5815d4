"""Time lines as Chrome's trace events: JSON that Perfetto (ui.perfetto.dev) and chrome://tracing open.

A cell is a process. Its tracks are

    phases                               a slice for fill, warm-up and measured
    host memory, frames:                 by use; they sum to the host's memory
    host's state, 1 high to 5 low:       as a decider calls it that has states
    evicted pages now in:                their number as a value, compressed, on swap
    faults per s:                        per simulated second, by kind
    stall, % of time:                    some and full, as PSI
    reclaim, swap, sharing … per s:      what each mechanism did, per simulated second
    cpu, % of one processor:             by mechanism
    VM NAME, pages:                      held, active, in the balloon; a track each

A track has values by name. chrome://tracing stacks them in one; Perfetto draws each for itself, under both names: "faults
per s: swap". So the unit stands in the first, and a colon ends it.

Time is the simulated time of the cell, in microseconds as the format has it, from 0 at the start of its first phase. A
counter shows its value until the next one, so what was gained between two rows stands at the first of them. A process
has one thread, of its own number: Perfetto knows a thread by its number alone, whatever process it is in.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from memvirt.names import FAULTS, FRAME_USES, MECHANISMS, SAMPLED_OF_VM
from memvirt.results.record import Record
from memvirt.results.timeline import Timeline

# Track -> what is on it: metric -> name. Gains are shown per second, states as they are.
Tracks = Mapping[str, Mapping[str, str]]
_STATES: Tracks = {
    "host memory, frames:": {f"usage.{use}": use for use in (*FRAME_USES[1:], FRAME_USES[0])},  # free ones on top
    "evicted pages now in:": {"stores.same": "a value", "stores.zpool": "zpool", "stores.swap": "swap"},
    "host's state, 1 high to 5 low:": {"decider_state": "state"},
}
_RATES: Tracks = {
    "faults per s:": {f"fault_{kind}": kind for kind in FAULTS[1:]},
    "reclaim, frames per s:": {"reclaim_background": "background", "reclaim_direct": "direct"},
    "compressed cache, pages per s:": {"evicted_zpool": "in", "zpool_written_back": "written back"},
    "swap, pages per s:": {"swap_pages_out": "out", "swap_pages_in": "in"},
    "sharing, pages per s:": {"merges": "merged", "cow_breaks_shared": "broken"},
    "cloning, leaf tables per s:": {"leaf_copies": "copied"},
    "balloon, frames per s:": {"balloon_pages_released": "released"},
    "compaction, pages per s:": {"compact_moved": "moved"},
}
_SHARES: Tracks = {
    "stall, % of time:": {"stall_some_ns": "some", "stall_full_ns": "full"},
    "cpu, % of one processor:": {f"cpu_ns.{mechanism}": mechanism for mechanism in MECHANISMS},
}
_OF_VM = {metric: metric.removesuffix("_pages") for metric in SAMPLED_OF_VM}
NS_PER_S = 10**9

Event = dict[str, Any]


def dumps(records: Sequence[Record]) -> str:
    """The trace of the records that have a time line, an event a line."""
    told = [record for record in records if record.timeline.sim_ns]
    events = (event for number, record in enumerate(told, start=1) for event in _events(number, record))
    lines = ",\n".join(json.dumps(event, separators=(",", ":"), ensure_ascii=False) for event in events)
    about = {"suite": records[0].suite, "tier": records[0].tier, **records[0].versions, "clock": "simulated"}
    head = f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about, ensure_ascii=False)},"traceEvents":['
    return f"{head}\n{lines}\n]}}\n"


def _events(pid: int, record: Record) -> Iterator[Event]:
    line = record.timeline
    yield _metadata(pid, "process_name", name=record.cell)
    yield _metadata(pid, "process_sort_index", sort_index=pid)
    yield _metadata(pid, "thread_name", name="phases")
    yield from _slices(pid, line)
    times = [_us(ns - line.sim_ns[0]) for ns in line.sim_ns]
    for tracks, shown in ((_STATES, _as_it_is), (_RATES, _per_second), (_SHARES, _percent)):
        for track, names in tracks.items():
            there = {name: shown(line, line.host[metric]) for metric, name in names.items() if metric in line.host}
            yield from _counter(pid, track, times, there)
    for vm, columns in line.vms.items():
        there = {name: columns[metric] for metric, name in _OF_VM.items() if metric in columns}
        yield from _counter(pid, f"VM {vm}, pages:", times, there)


def _metadata(pid: int, what: str, **args: Any) -> Event:
    return {"ph": "M", "pid": pid, "tid": pid, "name": what, "args": args}


def _slices(pid: int, line: Timeline) -> Iterator[Event]:
    ends = list(accumulate(stretch.rows for stretch in line.phases))
    for stretch, end in zip(line.phases, ends, strict=True):
        first, last = line.sim_ns[end - stretch.rows], line.sim_ns[end - 1]
        place = {"ts": _us(first - line.sim_ns[0]), "dur": _us(last - first)}
        yield {"ph": "X", "pid": pid, "tid": pid, "name": stretch.phase, **place}


def _counter(
    pid: int, track: str, times: Sequence[float], columns: Mapping[str, Sequence[int | float]]
) -> Iterator[Event]:
    """The events of a counter; none where nothing ever happened."""
    for row, ts in enumerate(times) if columns else ():
        values = {name: column[row] for name, column in columns.items()}
        yield {"ph": "C", "pid": pid, "tid": pid, "name": track, "ts": ts, "args": values}


def _us(ns: int) -> float | int:
    return ns // 1000 if ns % 1000 == 0 else ns / 1000


def _as_it_is(line: Timeline, states: Sequence[int]) -> Sequence[int | float]:
    return states


def _per_second(line: Timeline, gained: Sequence[int]) -> Sequence[int | float]:
    """Gained per simulated second after each row."""
    return [gain * NS_PER_S // ns if ns else 0 for gain, ns in _after(line, gained)]


def _percent(line: Timeline, gained_ns: Sequence[int]) -> Sequence[int | float]:
    """What part of the time after each row was gained, to a hundredth of a per cent."""
    return [gain * 10_000 // ns / 100 if ns else 0 for gain, ns in _after(line, gained_ns)]


def _after(line: Timeline, gained: Sequence[int]) -> Iterable[tuple[int, int]]:
    """(gained, time) between each row and the next; nothing after the last."""
    later = [*line.sim_ns[1:], line.sim_ns[-1]]
    return zip([*gained[1:], 0], (end - begin for begin, end in zip(line.sim_ns, later, strict=True)), strict=True)
