"""What it was like: what host memory was used for, what state it was in, who waited, and how free memory lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memvirt.names import HOST_STATES
from memvirt.report.figures import data, moments
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import (
    FAINT,
    INK,
    Figure,
    Rows,
    by_run,
    coloured,
    dashed,
    figure,
    long_strokes,
    marked_lines,
    number,
)
from memvirt.report.summary import ratio_label

PANEL = 380  # pixels beside each other, of all panels together
ENDS = (1, 2, 5, 10, 20, 50, 100)  # per cent: where an axis of stalls may end


def fragmentation(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Linux's unusable free space index of every order: a line for each preset."""
    rows = [row for scene in scenes for row in data.unusable(scene, ratio)]
    if not rows:
        return f"no record at ratio {ratio_label(ratio)} says how free memory lies"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    told_apart = data.told(scenes, ratio)
    grey = data.others(scenes, told_apart, rows)
    looked = told_apart if grey else ()
    blocks = [data.block_name(order) for order in range(max(row["order"] for row in rows) + 1)]
    x: dict[str, Any] = {"field": "block", "type": "ordinal", "sort": blocks, "title": "size of the block"}
    x["axis"] = {"labelAngle": -45, "labelOverlap": False}
    y = number("percent", "free memory it cannot use, %", domain=[0, 100])
    view = {"width": PANEL // len(runs), "height": 200, "layer": marked_lines(x, y, names, rows, told=looked)}
    huge = sorted((row for row in rows if row["block"] == "2 MiB"), key=lambda row: row["percent"])
    told = (
        f"At {data.at(scenes, ratio)}, at the end of the measured phase: of free memory, what lies in blocks too small "
        "for a block of that size (Linux's unusable free space index). Lower is better."
    )
    if huge:
        low, high = (f"{row['percent']:.0f} %" for row in (huge[0], huge[-1]))
        told += f" For 2 MiB: {huge[0]['preset']} {low} to {huge[-1]['preset']} {high}." if low != high else ""
        told += f" For 2 MiB: {low} of it under every preset." if low == high else ""
    title = f"{scenes[0].name} at {ratio_label(ratio)}: unusable free memory"
    told += f" In colour: {data.chosen_by(scenes)}. Grey: {', '.join(grey)}." if grey else ""
    key = f"{data.at_ratio(scenes, ratio)}; lower is better\n{data.means(scenes)}"
    key += f"; grey: {len(grey)} other presets" if grey else ""
    return figure(title, told, PANEL, {"data": {"values": rows}, **by_run(runs, view)}, key)


OLDER = "its records hold no time line: they are of an older memvirt"
SINCE = "simulated {unit} since measuring began"
STATE_COLOURS = {
    "high": "var(--c2)",
    "clear": "var(--c5)",
    "soft": "var(--c7)",
    "hard": "var(--c4)",
    "low": "var(--c1)",
}
LONG_MS = 10_000  # from here on an axis of time counts in seconds
MUCH_MIB = 4096  # and one of memory in GiB


def memory(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Host memory by use over simulated time, stacked, a panel for each preset."""
    rows = [row for scene in scenes for row in moments.memory_uses(scene, ratio)]
    if not rows:
        return _nothing_over_time(scenes, ratio)
    free = moments.USES["free"]
    uses = [
        *(use for use in dict.fromkeys([*moments.USES.values(), *(row["use"] for row in rows)]) if use != free),
        free,
    ]
    ranks = {use: rank for rank, use in enumerate(uses)}
    unit = "GiB" if any(row["mib"] >= MUCH_MIB for row in rows) else "MiB"
    rows = [{**row, "rank": ranks[row["use"]]} for row in rows]
    rows = [{**row, "mib": row["mib"] / 1024} for row in rows] if unit == "GiB" else rows
    colours = coloured("use", uses, rows)
    colours["scale"]["range"][-1] = FAINT  # of what is free
    colours["legend"] |= {"symbolType": "square"}
    rows, since = _in_a_fit_unit(rows)
    encoding = {
        "x": number("ms", since, zero=False, nice=False),
        "y": {**number("mib", unit), "stack": "zero"},
        "color": colours,
        "order": {"field": "rank", "type": "ordinal"},
    }
    area = {"mark": {"type": "area", "line": False}, "encoding": encoding}
    told = (
        f"At {data.at(scenes, ratio)}, {_one_seed(scenes)}. What the host's frames are used for; the uses add up to its "
        "memory. Backing records say where evicted pages are. Left of 0 VMs were filled and warmed up."
    )
    return _over_time(scenes, ratio, rows, [area, _start()], ("host memory by use", ""), told)


def stall(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """The share of time in which some VM, and every VM, waited for memory, a panel for each preset."""
    rows = [row for scene in scenes for row in moments.stalls(scene, ratio)]
    if not rows:
        return _nothing_over_time(scenes, ratio)
    if not any(row["percent"] for row in rows):
        return f"no VM waited for memory at ratio {ratio_label(ratio)}"
    who = list(moments.STALLS.values())
    rows, since = _in_a_fit_unit(rows)
    end = next(end for end in ENDS if end >= min(100, max(row["percent"] for row in rows)))
    looks = {"color": coloured("who", who, rows), "strokeDash": dashed("who", who, rows)}
    encoding = {
        "x": number("ms", since, zero=False, nice=False),
        "y": number("percent", "stalled, %", domain=[0, end]),
        **{name: long_strokes(channel) for name, channel in looks.items()},
    }
    encoding["y"]["axis"] = {"tickCount": 3}
    line = {"mark": {"type": "line", "interpolate": "step-before"}, "encoding": encoding}
    told = (
        f"At {data.at(scenes, ratio)}, {_one_seed(scenes)}. The share of simulated time in which at least one VM waited "
        "for memory, and in which all that had work did (some and full of Linux's PSI). Left of 0 VMs were filled and "
        "warmed up."
    )
    short = f"\naxes of stalls end at {end} %" if end < 100 else ""
    return _over_time(scenes, ratio, rows, [line, _start()], ("time spent waiting for memory", short), told)


def states(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """The state that a decider says the host is in, as a band over simulated time, a panel for each preset that says one."""
    rows = [row for scene in scenes for row in moments.host_states(scene, ratio)]
    if not rows:
        return (
            _nothing_over_time(scenes, ratio) if not _timed(scenes, ratio) else "no decider names a state of the host"
        )
    rows, since = _in_a_fit_unit(rows)
    told_states = [name for name in HOST_STATES if any(row["state"] == name for row in rows)]
    y: dict[str, Any] = {
        "field": "state",
        "type": "nominal",
        "sort": told_states,
        "title": None,
        "scale": {"domain": told_states},
    }
    looks = {name: STATE_COLOURS[name] for name in told_states}
    color: dict[str, Any] = {"field": "state", "type": "nominal", "title": None, "legend": None}
    color["scale"] = {"domain": list(looks), "range": list(looks.values())}
    x = number("ms", since, zero=False, nice=False)
    bar = {"mark": {"type": "bar"}, "encoding": {"x": x, "x2": {"field": "until"}, "y": y, "color": color}}
    told = (
        f"At {data.at(scenes, ratio)}, {_one_seed(scenes)}. The state that free memory puts the host in, from much (high) to "
        f"least (low), as the decider names it when the time line is sampled: what is shorter is not drawn. "
        f"{_shares(scenes, ratio)} Left of 0 VMs were filled and warmed up."
    )
    return _over_time(scenes, ratio, rows, [bar, _start()], ("state of the host", ""), told)


def _shares(scenes: Sequence[Scene], ratio: str) -> str:
    """How much of the measured time each preset spent in which state, counted from decision to decision."""
    said = []
    for scene in scenes:
        for preset, record in moments.at_first_seed(scene, ratio):
            parts = {name: record.number(f"state_percent.{name}") or 0 for name in HOST_STATES}
            told = [f"{name} {part:.{0 if part >= 10 else 1}f} %" for name, part in parts.items() if part]
            said += [f"{preset}: {', '.join(told)}"] if told else []
    return f"Of the measured time, counted decision by decision: {'; '.join(said)}."


def _timed(scenes: Sequence[Scene], ratio: str) -> bool:
    return any(moments.at_first_seed(scene, ratio) for scene in scenes)


def _in_a_fit_unit(rows: Rows) -> tuple[Rows, str]:
    """The rows with their times in the unit that fits them, and the title of the axis."""
    if max(abs(row["ms"]) for row in rows) < LONG_MS:
        return rows, SINCE.format(unit="ms")
    times = ("ms", "until") if "until" in rows[0] else ("ms",)
    return [{**row, **{name: row[name] / 1000 for name in times}} for row in rows], SINCE.format(unit="s")


def _start() -> dict[str, Any]:
    """A stroke where the measured phase begins."""
    mark = {"type": "rule", "color": INK, "strokeDash": [2, 2], "strokeWidth": 1}
    return {"mark": mark, "encoding": {"x": {"datum": 0, "type": "quantitative"}}}


def _over_time(
    scenes: Sequence[Scene], ratio: str, rows: Rows, layers: list[dict[str, Any]], what: tuple[str, str], told: str
) -> Figure:
    runs = [scene.run for scene in scenes]
    names, left_out = data.panels(scenes, ratio, rows)
    rows = [row for row in rows if row["preset"] in names]
    told += left_out
    header = {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start", "labelPadding": 2}
    row = {"field": "preset", "type": "nominal", "title": None, "sort": names, "header": header}
    view = {"width": PANEL // len(runs), "height": 60, "layer": layers}
    title = f"{scenes[0].name} at {ratio_label(ratio)}: {what[0]}"
    key = f"{data.at_ratio(scenes, ratio)}; dots: measuring begins\n{_one_seed(scenes)}{what[1]}"
    return figure(title, told, PANEL, {"data": {"values": rows}, "spacing": 8, **by_run(runs, view, row)}, key)


def _one_seed(scenes: Sequence[Scene]) -> str:
    seeds = scenes[0].groups[0].seeds
    return f"seed {seeds[0]} of {len(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"


def _nothing_over_time(scenes: Sequence[Scene], ratio: str) -> str:
    if scenes[0].simulated:
        return "orders of replacement ran alone, without a host and without time"
    return OLDER if any(scene.at(ratio) for scene in scenes) else f"no preset finished at ratio {ratio_label(ratio)}"
