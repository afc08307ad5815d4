"""Time lines as Chrome's trace events: JSON that Perfetto (ui.perfetto.dev) and chrome://tracing open.

A cell is a process. Its tracks are

    phases                  a slice for fill, warm-up and measured
    memory by use           frames, stacked; they sum to the host's memory
    out of memory           pages as a value, compressed, on swap
    faults                  per simulated second, by kind
    stall                   % of the time, some and full, as PSI
    reclaim, swap, sharing …  what each mechanism did, per simulated second
    cpu of MECHANISM        % of one processor that it took; a track each
    VM NAME                 pages held, active, in the balloon; a track each

Time is the simulated time of the cell, in microseconds as the format has it, from 0 at the start of its first phase. A
counter shows its value until the next one, so what was gained between two rows stands at the first of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from memvirt.names import FAULTS, FRAME_USES, MECHANISMS, SAMPLED_OF_VM
from memvirt.results.record import Record
from memvirt.results.timeline import Timeline

# Track -> the metrics on it. Gains are shown per second, states as they are.
_STATES: Mapping[str, tuple[str, ...]] = {
    "memory by use": tuple(f"usage.{use}" for use in (*FRAME_USES[1:], FRAME_USES[0])),  # free ones on top
    "out of memory": ("stores.same", "stores.zpool", "stores.swap"),
}
_RATES: Mapping[str, tuple[str, ...]] = {
    "faults": tuple(f"fault_{kind}" for kind in FAULTS[1:]),
    "reclaim": ("reclaim_background", "reclaim_direct"),
    "compressed cache": ("evicted_zpool", "zpool_written_back"),
    "swap": ("swap_pages_out", "swap_pages_in"),
    "sharing": ("merges", "cow_breaks_shared"),
    "cloning": ("leaf_copies",),
    "balloon": ("balloon_pages_released",),
    "compaction": ("compact_moved",),
}
_SHARES: Mapping[str, tuple[str, ...]] = {
    "stall": ("stall_some_ns", "stall_full_ns"),
    **{f"cpu of {mechanism}": (f"cpu_ns.{mechanism}",) for mechanism in MECHANISMS},
}
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
    yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": record.cell}}
    yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
    yield {"ph": "M", "pid": pid, "tid": 1, "name": "thread_name", "args": {"name": "phases"}}
    yield from _slices(pid, line)
    times = [_us(ns - line.sim_ns[0]) for ns in line.sim_ns]
    for track, names in _STATES.items():
        yield from _counter(pid, track, times, {name: line.host[name] for name in names if name in line.host})
    for track, names in _RATES.items():
        rates = {name: _per_second(line, line.host[name]) for name in names if name in line.host}
        yield from _counter(pid, track, times, rates)
    for track, names in _SHARES.items():
        shares = {name: _percent(line, line.host[name]) for name in names if name in line.host}
        yield from _counter(pid, track, times, shares)
    for vm, columns in line.vms.items():
        yield from _counter(pid, f"VM {vm}", times, {name: columns[name] for name in SAMPLED_OF_VM if name in columns})


def _slices(pid: int, line: Timeline) -> Iterator[Event]:
    ends = list(accumulate(stretch.rows for stretch in line.phases))
    for stretch, end in zip(line.phases, ends, strict=True):
        first, last = line.sim_ns[end - stretch.rows], line.sim_ns[end - 1]
        place = {"ts": _us(first - line.sim_ns[0]), "dur": _us(last - first)}
        yield {"ph": "X", "pid": pid, "tid": 1, "name": stretch.phase, **place}


def _counter(
    pid: int, track: str, times: Sequence[float], columns: Mapping[str, Sequence[int | float]]
) -> Iterator[Event]:
    """The events of a counter; none where nothing ever happened."""
    names = {name: name.removeprefix("usage.").removeprefix("stores.").removeprefix("cpu_ns.") for name in columns}
    for row, ts in enumerate(times) if columns else ():
        values = {names[name]: column[row] for name, column in columns.items()}
        yield {"ph": "C", "pid": pid, "tid": 0, "name": track, "ts": ts, "args": values}


def _us(ns: int) -> float | int:
    return ns // 1000 if ns % 1000 == 0 else ns / 1000


def _per_second(line: Timeline, gained: Sequence[int]) -> list[int]:
    """Gained per simulated second after each row."""
    return [gain * NS_PER_S // ns if ns else 0 for gain, ns in _after(line, gained)]


def _percent(line: Timeline, gained_ns: Sequence[int]) -> list[float]:
    """What part of the time after each row was gained, to a hundredth of a per cent."""
    return [gain * 10_000 // ns / 100 if ns else 0 for gain, ns in _after(line, gained_ns)]


def _after(line: Timeline, gained: Sequence[int]) -> Iterable[tuple[int, int]]:
    """(gained, time) between each row and the next; nothing after the last."""
    later = [*line.sim_ns[1:], line.sim_ns[-1]]
    return zip([*gained[1:], 0], (end - begin for begin, end in zip(line.sim_ns, later, strict=True)), strict=True)
