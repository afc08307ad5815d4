"""What overcommitting gained and what it cost: trade-offs, misses, and how much of it hangs on the seed."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

from memvirt.report.figures import data
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import (
    CUT,
    GROUND,
    INK,
    LEAST_SPREAD,
    Figure,
    Rows,
    by_run,
    coloured,
    cut,
    figure,
    logarithm,
    marked_lines,
    number,
    ratio_axis,
    shaped,
)
from memvirt.report.statistics import MIN_SEEDS
from memvirt.report.summary import figures, ratio_label

PANEL = 380  # pixels beside each other, of all panels together
HALO: dict[str, Any] = {
    "fill": GROUND,
    "stroke": GROUND,
    "strokeWidth": 3,
}  # behind a text, so that lines do not cross it
FRONT_KEY = f"numbers: memory promised / host memory; dashes: Pareto front\n{CUT}"
LABEL = (0.18, 0.08)  # of the width and height: how much of a panel a label takes


def tradeoff(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Effective overcommit against slowdown: a point a preset and ratio, those nothing beats in both joined by a line."""
    rows = [row for scene in scenes for row in data.tradeoff(scene)]
    if not rows:
        return "no preset has both an effective overcommit and a slowdown in this scenario"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    x = {**number("overcommit", "effective overcommit, ×", zero=False, nice=True, padding=12), "axis": {"tickCount": 5}}
    y = ratio_axis(rows, "slowdown", data.SLOWDOWN_OF_WORK if scenes[0].timed else data.SLOWDOWN)
    color = coloured("preset", names, rows)
    front = {"filter": {"field": "front", "equal": True}}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "line", "opacity": 0.35},
            "encoding": {"x": x, "y": y, "color": color, "order": _quantity("ratio")},
        },
        {
            "transform": [front],
            "mark": {"type": "line", "color": INK, "strokeDash": [3, 3], "strokeWidth": 1},
            "encoding": {"x": x, "y": y, "order": _quantity("overcommit")},
        },
        *_error_bars(rows, x, y),
        {
            "mark": {"type": "point", "opacity": 1},
            "encoding": {
                "x": x,
                "y": y,
                "color": color,
                "shape": shaped("preset", names, rows),
                "tooltip": _told(rows[0]),
            },
        },
        _ratio_labels(x, y, HALO),
        _ratio_labels(x, y, {}),
    ]
    _label_front(rows)
    view = {"width": PANEL // len(runs), "height": 240, "layer": layers}
    title = f"{scenes[0].name}: effective overcommit against slowdown"
    return figure(title, _trade_told(rows, scenes), PANEL, {"data": {"values": rows}, **by_run(runs, view)}, FRONT_KEY)


def _ratio_labels(x: dict[str, Any], y: dict[str, Any], look: dict[str, Any]) -> dict[str, Any]:
    """The ratios beside points of the front."""
    return {
        "transform": [{"filter": {"field": "label", "valid": True}}],
        "mark": {"type": "text", "dy": -9, **look},
        "encoding": {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}},
    }


def _quantity(field: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative"}


def _label_front(rows: Rows) -> None:
    """Give points of the front their ratio as a label, the hardest first, none where it would lie on another."""
    x_span = (max(row["overcommit"] for row in rows) - min(row["overcommit"] for row in rows)) or 1.0
    y_span = max(
        log(max(row["slowdown"] for row in rows) / min(row["slowdown"] for row in rows)), log(1 + LEAST_SPREAD)
    )
    labelled: Rows = []
    for row in sorted(rows, key=lambda row: (-row["ratio"], row["slowdown"])):
        row["label"] = None
        near = (
            abs(row["overcommit"] - other["overcommit"]) < x_span * LABEL[0]
            and abs(log(row["slowdown"] / other["slowdown"])) < y_span * LABEL[1]
            for other in labelled
            if other["run"] == row["run"]
        )
        if row["front"] and not any(near):
            row["label"] = f"{row['ratio']:.2f}"
            labelled.append(row)


def _trade_told(rows: Rows, scenes: Sequence[Scene]) -> str:
    """What the trade-off says, in sentences."""
    on_it: dict[float, list[str]] = {}
    for row in sorted(rows, key=lambda row: float(row["slowdown"])):
        if row["front"]:
            on_it.setdefault(row["ratio"], []).append(row["preset"])
    best = [f"at {ratio:.2f} {', '.join(dict.fromkeys(names))}" for ratio, names in sorted(on_it.items())]
    left_out = data.missing(scenes)
    return (
        "Lower is faster; farther right, more content lies in each byte of the host. A mark is a preset at one ratio of "
        "memory promised to memory there; the ratios of a preset are joined. The dashed line is the Pareto front, "
        f"which nothing beats in both; numbers on it are ratios. On it: {'; '.join(best)}."
        + _bars_told(rows)
        + (f" Not drawn, without numbers: {left_out}." if left_out else "")
    )


def _error_bars(rows: Rows, x: dict[str, Any], y: dict[str, Any]) -> list[dict[str, Any]]:
    """Intervals in both directions, where any row has one."""
    if all(row["n"] < MIN_SEEDS for row in rows):
        return []
    across = {**x, "field": "overcommit_low"}, {"field": "overcommit_high"}
    up = {**y, "field": "slowdown_low"}, {"field": "slowdown_high"}
    rule = {"type": "rule", "opacity": 0.6}
    return [
        {"mark": rule, "encoding": {"x": across[0], "x2": across[1], "y": y}},
        {"mark": rule, "encoding": {"x": x, "y": up[0], "y2": up[1]}},
    ]


def _bars_told(rows: Rows) -> str:
    """What the marks stand for, in seeds."""
    counts = sorted({row["n"] for row in rows})
    if counts[-1] < MIN_SEEDS:
        return f" Means over {counts[-1]} seeds, too few for intervals." if counts[-1] > 1 else " One seed."
    return f" Means over {counts[-1]} seeds; bars are 95 % intervals, cut at what a value can be."


def _told(row: dict[str, Any]) -> list[dict[str, Any]]:
    """What a mark says when it is pointed at."""
    titles = {"run": "run", "preset": "preset", "ratio": "ratio", "overcommit": "effective overcommit"}
    titles |= {"slowdown": "slowdown", "value": "value", "seed": "seed", "n": "seeds"}
    return [
        {"field": name, "title": titles[name], **({"format": ".4~f"} if isinstance(value, float) else {})}
        for name, value in row.items()
        if name in titles
    ]


def miss_ratios(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Miss ratio over the share of a trace that fits in memory, a line for each order."""
    rows = [row for scene in scenes if scene.simulated for row in data.over_ratios(scene, "miss_ratio")]
    if not rows:
        return "no order of replacement ran alone on a trace in this scenario"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    sizes = sorted({row["ratio"] for row in rows})
    x = logarithm("ratio", "memory, share of the trace's pages", sizes[0], sizes[-1])
    x |= {"axis": {"format": "~%", "values": sizes}}
    x["scale"]["domain"] = [sizes[0], max(sizes[-1], sizes[0] * 1.01)]
    y = number("value", "requests that missed, %")
    layers = marked_lines(x, y, names, rows, _told(rows[0]))
    view = {"width": PANEL // len(runs), "height": 260, "layer": layers}
    hardest = sorted((row for row in rows if row["ratio"] == sizes[0]), key=lambda row: row["value"])
    optimum = [row.preset for row in scenes[0].groups[0].rows if row.role == "baseline"]
    told = (
        f"{'Lower is better. ' if not optimum else f'Lower is better; {optimum[0]} knows what comes, the others do not. '}"
        f"At the smallest memory, {sizes[0]:.0%} of the pages, the fewest misses: "
        f"{hardest[0]['preset']} {hardest[0]['value']:.1f} %; the most: {hardest[-1]['preset']} "
        f"{hardest[-1]['value']:.1f} %." + _bars_told(rows).partition(";")[0].rstrip(".") + "."
    )
    return figure(f"{scenes[0].name}: miss ratios", told, PANEL, {"data": {"values": rows}, **by_run(runs, view)})


def sensitivity(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """The deciding metric: a mark for each seed, the mean with its interval over them."""
    column = data.deciding(scenes[0])
    rows = [row for scene in scenes for row in data.over_seeds(scene, ratio, column)]
    if not rows:
        return f"no preset that finished at ratio {ratio_label(ratio)} has a value for {column.title}"
    seeds = len({row["seed"] for row in rows})
    if seeds == 1:
        return "one seed was run, and one cannot differ; run with --seed 1 --seed 2 … to see what seeds change"
    if len({row["value"] for row in rows}) == 1:
        return f"{column.title} is {figures(rows[0]['value'])} under every preset and seed"
    runs = [scene.run for scene in scenes]
    names = [name for name in data.names_of(scenes) if any(row["preset"] == name for row in rows)]
    ends = [{**row, "value_low": row.get("low"), "value_high": row.get("high")} for row in rows]  # of intervals
    x = ratio_axis(ends, "value", f"{column.title}{f', {column.unit}' if column.unit else ''}")
    y = {"field": "preset", "type": "nominal", "sort": names, "title": None}
    interval = {"x": {**x, "field": "low", "aggregate": "min"}, "x2": {"field": "high", "aggregate": "max"}, "y": y}
    mean = {"x": {**x, "field": "mean", "aggregate": "mean"}, "y": y}
    stroke = {"type": "tick", "thickness": 1.5, "size": 14, "color": "var(--c0)"}
    if x["scale"].get("type") == "log":  # an interval down to 0 ends at the axis
        rows = [{**row, "low": max(row["low"] or 0, x["scale"]["domain"][0])} for row in rows]
    layers = [
        {"mark": stroke, "encoding": {"x": x, "y": y, "tooltip": _told(rows[0])}},
        *([{"mark": {"type": "rule", "color": INK}, "encoding": interval}] if seeds >= MIN_SEEDS else []),
        {"mark": {"type": "point", "shape": "diamond", "color": INK, "size": 40}, "encoding": mean},
    ]
    view = {"width": PANEL // len(runs), "height": {"step": 22}, "layer": layers}
    title = f"{scenes[0].name} at {ratio_label(ratio)}: {column.title} by seed"
    told = f"{column.title.capitalize()} at ratio {ratio_label(ratio)} {_seeds_told(rows, seeds)}"
    line = "; line: 95 % interval" if seeds >= MIN_SEEDS else ""
    key = f"{data.at_ratio(scenes, ratio)}\nstroke: a seed; diamond: their mean{line}"
    key += cut(x, min(row["value"] for row in rows))
    return figure(title, told, PANEL, {"data": {"values": rows}, **by_run(runs, view)}, key)


def _seeds_told(rows: Rows, seeds: int) -> str:
    widest = max(rows, key=_apart)
    few = "; five seeds are needed for an interval"
    return (
        f"under {seeds} seeds: a stroke is a seed, a diamond their mean"
        f"{', a line its 95 % interval' if seeds >= MIN_SEEDS else few}. "
        f"Farthest from its mean: {widest['preset']}, by {_apart(widest):.1%}."
    )


def _apart(row: dict[str, Any]) -> float:
    """How far a seed's value lies from the mean, as a share of it."""
    return abs(float(row["value"]) / float(row["mean"]) - 1) if row["mean"] else 0.0
