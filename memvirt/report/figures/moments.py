"""What figures draw over simulated time: rows of moments, each so many rows of a record's time line.

All are of a run's first seed: time lines of several seeds have no mean that anybody saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from memvirt.names import HOST_STATES
from memvirt.report.figures.data import MIB, Scene
from memvirt.report.figures.style import Rows
from memvirt.results.record import Record

USES = {
    "guest": "pages of VMs",
    "table": "page tables",
    "zspage": "compressed pool",
    "swap_cache": "cache of swap",
    "backing": "backing records",
    "fixed": "fixed metadata",
    "free": "free",
}
MOST_MOMENTS = {"measured": 64}  # of a phase in a figure; of the others a third
STALLS = {"stall_some_ns": "some VM waited", "stall_full_ns": "every VM waited"}


def moments(record: Record) -> list[tuple[range, float]]:
    """Rows of a record's time line in groups, evenly, and when each ends: ms from the start of the measured phase."""
    line = record.timeline
    measured = line.of_phase("measured")
    begin = line.sim_ns[measured[0]] if measured else 0
    found = []
    for stretch in line.phases:
        rows = line.of_phase(stretch.phase)
        most = MOST_MOMENTS.get(stretch.phase, MOST_MOMENTS["measured"] // 3)
        width = -(-len(rows) // most)
        groups = [rows[at : at + width] for at in range(0, len(rows), width)]
        found += [(group, (line.sim_ns[group[-1]] - begin) / 1e6) for group in groups]
    return [
        each for i, each in enumerate(found) if i == 0 or each[1] > found[i - 1][1]
    ]  # a phase begins where one ended


def at_first_seed(scene: Scene, ratio: str) -> list[tuple[str, Record]]:
    """(preset, record of its first seed) of presets that finished and have a time line."""
    return [(preset, records[0]) for preset, records in scene.at(ratio) if records[0].timeline.sim_ns]


def memory_uses(scene: Scene, ratio: str) -> Rows:
    """A row for each preset, moment and use of host memory, in MiB: of the first seed, states at the end of moments."""
    rows: Rows = []
    for preset, record in at_first_seed(scene, ratio):
        host = record.timeline.host
        uses = dict.fromkeys([*USES, *(name.removeprefix("usage.") for name in host if name.startswith("usage."))])
        used = {use: host[f"usage.{use}"] for use in uses if f"usage.{use}" in host}
        for group, ms in moments(record):
            place = {"run": scene.run, "preset": preset, "ms": ms}
            rows += [
                {**place, "use": USES.get(use, use), "mib": column[group[-1]] / MIB} for use, column in used.items()
            ]
    return rows


def host_states(scene: Scene, ratio: str) -> Rows:
    """A row for each preset and stretch of time in one state of the host, as its decider names it: from when to when, in
    ms. Presets whose decider names none have no rows."""
    rows: Rows = []
    for preset, record in at_first_seed(scene, ratio):
        own: Rows = []
        for state, start, until in _stretches(record):
            if own and own[-1]["state"] == state and own[-1]["until"] == start:
                own[-1]["until"] = until
            else:
                own.append({"run": scene.run, "preset": preset, "state": state, "ms": start, "until": until})
        rows += own
    return rows


def _stretches(record: Record) -> Iterator[tuple[str, float, float]]:
    """(state, from, to) of each row of a time line that names one."""
    line = record.timeline
    measured, said = line.of_phase("measured"), line.host.get("decider_state", ())
    if not measured or not said:
        return
    begin = line.sim_ns[measured[0]]
    for before, row in pairwise(range(len(line.sim_ns))):
        if said[row] and line.sim_ns[row] > line.sim_ns[before]:
            yield HOST_STATES[said[row] - 1], (line.sim_ns[before] - begin) / 1e6, (line.sim_ns[row] - begin) / 1e6


def stalls(scene: Scene, ratio: str) -> Rows:
    """A row for each preset and moment: the share of the time since the one before in which some VM, and every VM,
    waited for memory. Of the first seed."""
    rows: Rows = []
    for preset, record in at_first_seed(scene, ratio):
        line = record.timeline
        for (_, before), (group, ms) in pairwise(moments(record)):
            for name, who in STALLS.items():
                gained = sum(line.host[name][row] for row in group) if name in line.host else 0
                percent = min(100.0, gained / (ms - before) / 1e4)
                rows.append({"run": scene.run, "preset": preset, "ms": ms, "who": who, "percent": percent})
    return rows
