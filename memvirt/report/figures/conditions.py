"""What it was like: how long faults took, what host memory was used for, who waited, and how free memory lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memvirt.report.figures import data
from memvirt.report.figures.data import ALL_FAULTS, FAULT_NAMES, Scene
from memvirt.report.figures.style import (
    FAINT,
    INK,
    Figure,
    Rows,
    by_run,
    coloured,
    dashed,
    figure,
    filled,
    logarithm,
    long_strokes,
    marked_lines,
    number,
)
from memvirt.report.summary import figures, ratio_label

PANEL = 380  # pixels beside each other, of all panels together
SHARE = "format(100 - 100 / datum.value, '.6~r')"  # per cent of faults, from 1 / (1 - share)
ENDS = (1, 2, 5, 10, 20, 50, 100)  # per cent: where an axis of stalls may end


def latency(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Percentile curves of fault latency, a panel for each kind: the slowest faults are at the right."""
    rows = [row for scene in scenes for row in data.latencies(scene, ratio)]
    if not rows:
        return f"no preset that finished at ratio {ratio_label(ratio)} had a fault"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    kinds.sort(key=[ALL_FAULTS, *FAULT_NAMES.values(), *kinds].index)
    if len(kinds) == 2:
        kinds = kinds[1:]  # all faults are of one kind
    times = {kind: {row["us"] for row in rows if row["kind"] == kind} for kind in kinds}
    constant = [kind for kind in kinds if len(times[kind]) == 1]
    shown = [kind for kind in kinds if kind not in constant]
    flat = ", ".join(f"{kind} {_time(next(iter(times[kind])))}" for kind in constant)
    if not shown:
        return f"all faults of a kind took as long at ratio {ratio_label(ratio)}: {flat}"
    counts = _counts(rows, kinds[0])  # of all faults, or of the one kind that there is
    rows = [row for row in rows if row["kind"] in shown]
    x = {**logarithm("over", "share of faults that took at most so long, %", 1, max(row["over"] for row in rows))}
    x["axis"] = {"values": [2, 10, 100, 1000, 10**4, 10**5, 10**6], "labelExpr": SHARE}
    x["axis"] |= {"labelOverlap": "greedy", "labelSeparation": 4}
    y = logarithm("us", "µs", min(row["us"] for row in rows), max(row["us"] for row in rows))
    looks = {"color": coloured("preset", names, rows), "strokeDash": dashed("preset", names, rows)}
    encoding = {"x": x, "y": y, **{name: long_strokes(channel) for name, channel in looks.items()}}
    mark = {"type": "line", "interpolate": "step-after"}
    view = {"mark": mark, "width": PANEL // len(runs), "height": 110, "encoding": encoding}
    header = {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start", "labelPadding": 2}
    row = {"field": "kind", "type": "nominal", "title": None, "sort": shown, "header": header}
    slowest = max((row for row in rows if row["kind"] != ALL_FAULTS or len(shown) == 1), key=lambda each: each["us"])
    told = (
        f"At ratio {ratio_label(ratio)}: the share of faults that took at most so long, waiting included. Every fault is "
        f"counted, in simulated time. Faults{', mean over seeds' if len(scenes[0].groups[0].seeds) > 1 else ''}: "
        f"{', '.join(counts)}. The longest: {_time(slowest['us'])}, {slowest['kind']}, under {slowest['preset']}."
        + (f" Not drawn, for they always took as long: {flat}." if flat else "")
    )
    title = f"{scenes[0].name} at {ratio_label(ratio)}: fault latency"
    counted = filled(f"faults, {data.means(scenes)}: {', '.join(counts)}")
    key = f"{data.at_ratio(scenes, ratio)}; waiting included\n{counted}"
    return figure(title, told, PANEL, {"data": {"values": rows}, **by_run(runs, view, row)}, key)


def _counts(rows: Rows, kind: str) -> list[str]:
    """How many faults of a kind each preset had."""
    several = len({row["run"] for row in rows}) > 1
    found = {(row["run"], row["preset"]): row["count"] for row in rows if row["kind"] == kind}
    return [
        f"{preset}{f' in {run}' if several else ''} {figures(round(count))}" for (run, preset), count in found.items()
    ]


def _time(us: float) -> str:
    """Three digits in the unit that fits, without an exponent."""
    unit, scale = ("s", 1e6) if us >= 1e6 else ("ms", 1e3) if us >= 1e3 else ("µs", 1.0)
    return f"{us / scale:,.0f} {unit}" if us >= 1000 * scale else f"{us / scale:.3g} {unit}"


def fragmentation(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Linux's unusable free space index of every order: a line for each preset."""
    rows = [row for scene in scenes for row in data.unusable(scene, ratio)]
    if not rows:
        return f"no record at ratio {ratio_label(ratio)} says how free memory lies"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    blocks = [data.block_name(order) for order in range(max(row["order"] for row in rows) + 1)]
    x: dict[str, Any] = {"field": "block", "type": "ordinal", "sort": blocks, "title": "size of the block"}
    x["axis"] = {"labelAngle": -45, "labelOverlap": False}
    y = number("percent", "free memory it cannot use, %", domain=[0, 100])
    view = {"width": PANEL // len(runs), "height": 200, "layer": marked_lines(x, y, names, rows)}
    huge = sorted((row for row in rows if row["block"] == "2 MiB"), key=lambda row: row["percent"])
    told = (
        f"At ratio {ratio_label(ratio)}, at the end of the measured phase: of free memory, what lies in blocks too small "
        "for a block of that size (Linux's unusable free space index). Lower is better."
    )
    if huge:
        low, high = (f"{row['percent']:.0f} %" for row in (huge[0], huge[-1]))
        told += f" For 2 MiB: {huge[0]['preset']} {low} to {huge[-1]['preset']} {high}." if low != high else ""
        told += f" For 2 MiB: {low} of it under every preset." if low == high else ""
    title = f"{scenes[0].name} at {ratio_label(ratio)}: unusable free memory"
    key = f"{data.at_ratio(scenes, ratio)}; lower is better\n{data.means(scenes)}"
    return figure(title, told, PANEL, {"data": {"values": rows}, **by_run(runs, view)}, key)


OLDER = "its records hold no time line: they are of an older memvirt"
SINCE = "simulated {unit} since measuring began"
LONG_MS = 10_000  # from here on an axis of time counts in seconds
MUCH_MIB = 4096  # and one of memory in GiB


def memory(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Host memory by use over simulated time, stacked, a panel for each preset."""
    rows = [row for scene in scenes for row in data.memory_uses(scene, ratio)]
    if not rows:
        return _nothing_over_time(scenes, ratio)
    free = data.USES["free"]
    uses = [*(use for use in dict.fromkeys([*data.USES.values(), *(row["use"] for row in rows)]) if use != free), free]
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
        f"At ratio {ratio_label(ratio)}, {_one_seed(scenes)}. What the host's frames are used for; the uses add up to its "
        "memory. Backing records say where evicted pages are. Left of 0 VMs were filled and warmed up."
    )
    return _over_time(scenes, ratio, rows, [area, _start()], ("host memory by use", ""), told)


def stall(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """The share of time in which some VM, and every VM, waited for memory, a panel for each preset."""
    rows = [row for scene in scenes for row in data.stalls(scene, ratio)]
    if not rows:
        return _nothing_over_time(scenes, ratio)
    if not any(row["percent"] for row in rows):
        return f"no VM waited for memory at ratio {ratio_label(ratio)}"
    who = list(data.STALLS.values())
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
        f"At ratio {ratio_label(ratio)}, {_one_seed(scenes)}. The share of simulated time in which at least one VM waited "
        "for memory, and in which all that had work did (some and full of Linux's PSI). Left of 0 VMs were filled and "
        "warmed up."
    )
    short = f"\naxes of stalls end at {end} %" if end < 100 else ""
    return _over_time(scenes, ratio, rows, [line, _start()], ("time spent waiting for memory", short), told)


def _in_a_fit_unit(rows: Rows) -> tuple[Rows, str]:
    """The rows with their times in the unit that fits them, and the title of the axis."""
    if max(abs(row["ms"]) for row in rows) < LONG_MS:
        return rows, SINCE.format(unit="ms")
    return [{**row, "ms": row["ms"] / 1000} for row in rows], SINCE.format(unit="s")


def _start() -> dict[str, Any]:
    """A stroke where the measured phase begins."""
    mark = {"type": "rule", "color": INK, "strokeDash": [2, 2], "strokeWidth": 1}
    return {"mark": mark, "encoding": {"x": {"datum": 0, "type": "quantitative"}}}


def _over_time(
    scenes: Sequence[Scene], ratio: str, rows: Rows, layers: list[dict[str, Any]], what: tuple[str, str], told: str
) -> Figure:
    runs = [scene.run for scene in scenes]
    names = [name for name in data.names_of(scenes) if any(row["preset"] == name for row in rows)]
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
