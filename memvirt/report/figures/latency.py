"""How long faults took: percentile curves, a panel for each kind of fault, the slowest faults at the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memvirt.report.figures import data
from memvirt.report.figures.data import ALL_FAULTS, FAULT_NAMES, Scene
from memvirt.report.figures.style import (
    MUTED,
    Figure,
    Rows,
    by_run,
    coloured,
    dashed,
    figure,
    filled,
    logarithm,
    long_strokes,
)
from memvirt.report.summary import figures, ratio_label

PANEL = 380  # pixels beside each other, of all panels together
HEIGHT = 110
LINE: Mapping[str, Any] = {"type": "line", "interpolate": "step-after"}
SHARE = "format(100 - 100 / datum.value, '.6~r')"  # per cent of faults, from 1 / (1 - share)
TICKS = (2, 10, 100, 1000, 10**4, 10**5, 10**6)  # the same: 50, 90, 99 % and so on


def latency(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Percentile curves of fault latency, a panel for each kind."""
    rows = [row for scene in scenes for row in data.latencies(scene, ratio)]
    if not rows:
        return f"no preset that finished at {data.at(scenes, ratio)} had a fault"
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    kinds.sort(key=[ALL_FAULTS, *FAULT_NAMES.values(), *kinds].index)
    if len(kinds) == 2:
        kinds = kinds[1:]  # all faults are of one kind
    times = {kind: {row["us"] for row in rows if row["kind"] == kind} for kind in kinds}
    constant = [kind for kind in kinds if len(times[kind]) == 1]
    shown = [kind for kind in kinds if kind not in constant]
    flat = ", ".join(f"{kind} {_time(next(iter(times[kind])))}" for kind in constant)
    if not shown:
        return f"all faults of a kind took as long at {data.at(scenes, ratio)}: {flat}"
    counts = _counts(rows, kinds[0])  # of all faults, or of the one kind that there is
    rows = [row for row in rows if row["kind"] in shown]
    told = data.told(scenes, ratio)
    grey = data.others(scenes, told, rows)
    runs = [scene.run for scene in scenes]
    view = {"width": PANEL // len(runs), "height": HEIGHT, "layer": _curves(scenes, rows, told if grey else ())}
    header = {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start", "labelPadding": 2}
    row = {"field": "kind", "type": "nominal", "title": None, "sort": shown, "header": header}
    said = _said(scenes, rows, counts, ratio)
    said += f" Not drawn, for they always took as long: {flat}." if flat else ""
    said += f" In colour: {data.chosen_by(scenes)}. Grey: {', '.join(grey)}." if grey else ""
    title = f"{scenes[0].name} at {ratio_label(ratio)}: fault latency"
    named = [text for name, text in counts if not grey or name in told]
    counted = filled(f"faults, {data.means(scenes)}: {', '.join(named)}")
    key = f"{data.at_ratio(scenes, ratio)}; waiting included\n{counted}"
    key += f"\ngrey: {len(grey)} other presets" if grey else ""
    return figure(title, said, PANEL, {"data": {"values": rows}, "spacing": 8, **by_run(runs, view, row)}, key)


def _curves(scenes: Sequence[Scene], rows: Rows, told: Sequence[str]) -> list[Figure]:
    """The curves; where some presets are told apart from the others, these lie grey below them."""
    names = data.names_of(scenes)
    x = {**logarithm("over", "share of faults that took at most so long, %", 1, max(row["over"] for row in rows))}
    x["axis"] = {"values": list(TICKS), "labelExpr": SHARE, "labelAngle": -45, "labelOverlap": False}
    y = logarithm("us", "µs", min(row["us"] for row in rows), max(row["us"] for row in rows))
    looks = {"color": coloured("preset", names, rows, told), "strokeDash": dashed("preset", names, rows, told)}
    encoding = {"x": x, "y": y, **{name: long_strokes(channel) for name, channel in looks.items()}}
    if not told:
        return [{"mark": LINE, "encoding": encoding}]
    own: Figure = {"field": "preset", "oneOf": list(told)}
    below = {"x": x, "y": y, "detail": {"field": "preset", "type": "nominal"}}
    return [
        {
            "transform": [{"filter": {"not": own}}],
            "mark": {**LINE, "color": MUTED, "strokeWidth": 1},
            "encoding": below,
        },
        {"transform": [{"filter": own}], "mark": LINE, "encoding": encoding},
    ]


def _said(scenes: Sequence[Scene], rows: Rows, counts: Sequence[tuple[str, str]], ratio: str) -> str:
    kinds = {row["kind"] for row in rows}
    slowest = max((row for row in rows if row["kind"] != ALL_FAULTS or len(kinds) == 1), key=lambda each: each["us"])
    return (
        f"At {data.at(scenes, ratio)}: the share of faults that took at most so long, waiting included. Every fault is "
        f"counted, in simulated time. Faults{', mean over seeds' if len(scenes[0].groups[0].seeds) > 1 else ''}: "
        f"{', '.join(text for _, text in counts)}. The longest: {_time(slowest['us'])}, {slowest['kind']}, under "
        f"{slowest['preset']}."
    )


def _counts(rows: Rows, kind: str) -> list[tuple[str, str]]:
    """(preset, how many faults of a kind it had)."""
    several = len({row["run"] for row in rows}) > 1
    found = {(row["run"], row["preset"]): row["count"] for row in rows if row["kind"] == kind}
    return [
        (preset, f"{preset}{f' in {run}' if several else ''} {figures(round(count))}")
        for (run, preset), count in found.items()
    ]


def _time(us: float) -> str:
    """Three digits in the unit that fits, without an exponent."""
    unit, scale = ("s", 1e6) if us >= 1e6 else ("ms", 1e3) if us >= 1e3 else ("µs", 1.0)
    return f"{us / scale:,.0f} {unit}" if us >= 1000 * scale else f"{us / scale:.3g} {unit}"
