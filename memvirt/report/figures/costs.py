"""What overcommitting gained and what it cost: trade-offs, misses, and how much of it hangs on the seed."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log
from typing import Any

from memvirt.report.columns import bounds
from memvirt.report.figures import data
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import (
    CUT,
    GROUND,
    INK,
    MUTED,
    Figure,
    Rows,
    by_run,
    coloured,
    cut,
    figure,
    filled,
    logarithm,
    marked_lines,
    number,
    ratio_axis,
    shaped,
)
from memvirt.report.statistics import MIN_SEEDS
from memvirt.report.summary import figures, ratio_label

HEIGHT, LEAST_HEIGHT = 240, 120  # of a trade-off, in pixels
PANEL = 380  # pixels beside each other, of all panels together
HALO: dict[str, Any] = {
    "fill": GROUND,
    "stroke": GROUND,
    "strokeWidth": 3,
}  # behind a text, so that lines do not cross it
LABEL_KEY = "numbers: memory promised / host memory; "
APART = (0.18, 19)  # of a panel's width, and pixels of its height: how far from each other labels are
LABEL = (0.09, 12)  # how much of it one takes
MARK = (0.015, 3.6)  # and half a mark
PLACES = {  # of a label beside its mark: pixels to the right and down, and where its text is aligned
    "a": (0, -11, "center"),
    "b": (0, 10, "center"),
    "c": (-7, 0, "right"),
    "d": (7, 0, "left"),
    "e": (-6, -8, "right"),
    "f": (6, 8, "left"),
    "g": (6, -8, "left"),
    "h": (-6, 8, "right"),
}


def tradeoff(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Effective overcommit against slowdown: a point a preset and ratio, those nothing beats in both joined by a line."""
    rows = [row for scene in scenes for row in data.tradeoff(scene)]
    if not rows:
        return "no preset has both an effective overcommit and a slowdown in this scenario"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    x = {**_linear(rows), "axis": {"tickCount": 5}}
    y = ratio_axis(rows, "slowdown", "slowdown, ×", (1.0, inf))
    height = _height(rows, y)
    _label_front(rows, x["scale"]["domain"], y["scale"], len(runs), height)
    places = sorted({row["place"] for row in rows if row["label"]})
    told = _told_apart(scenes, ratio, rows)
    grey = data.others(scenes, told, rows)
    color = coloured("preset", names, rows, told if grey else ())
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
        *(_ratio_labels(x, y, place, HALO) for place in places),  # below the marks, which it would erase
        *_marks(rows, names, told if grey else (), x, y),
        *(_ratio_labels(x, y, place, {}) for place in places),
    ]
    view = {"width": PANEL // len(runs), "height": height, "layer": layers}
    title = f"{scenes[0].name}: effective overcommit against slowdown"
    bars = ", bars: 95 % intervals" if max(row["n"] for row in rows) >= MIN_SEEDS else ""
    line = "dashes: Pareto front" if _joined(rows) else "one mark is the front"
    key = f"{LABEL_KEY if places else ''}{line}\nlower right is better; {data.means(scenes)}{bars}\n{CUT}"
    key += f"\ngrey: {len(grey)} other presets" if grey else ""
    key += f"\n{_slowdown(scenes)}"
    return figure(title, _trade_told(rows, scenes, grey), PANEL, {"data": {"values": rows}, **by_run(runs, view)}, key)


def _marks(rows: Rows, names: Sequence[str], told: Sequence[str], x: Figure, y: Figure) -> list[Figure]:
    """A mark for each row; those of presets that are not told lie below, small and grey."""
    looks = {"color": coloured("preset", names, rows, told), "shape": shaped("preset", names, rows, told)}
    marks = {"mark": {"type": "point", "opacity": 1}, "encoding": {"x": x, "y": y, **looks, "tooltip": _told(rows[0])}}
    if not told:
        return [marks]
    own: Figure = {"field": "preset", "oneOf": list(told)}
    grey = {"type": "point", "color": MUTED, "size": 14, "opacity": 1}
    below = {
        "mark": grey,
        "encoding": {"x": x, "y": y, "tooltip": _told(rows[0])},
        "transform": [{"filter": {"not": own}}],
    }
    return [below, {**marks, "transform": [{"filter": own}]}]


def _told_apart(scenes: Sequence[Scene], ratio: str, rows: Rows) -> list[str]:
    """Those of `data.told`, and of the front."""
    chosen = {*data.told(scenes, data.telling_ratio(scenes) or ratio), *(row["preset"] for row in rows if row["front"])}
    return [name for name in data.names_of(scenes) if name in chosen]


def _slowdown(scenes: Sequence[Scene]) -> str:
    """What slowdown is of."""
    return data.SLOWDOWN_OF_WORK if scenes[0].timed else data.SLOWDOWN


def _height(rows: Rows, y: dict[str, Any]) -> int:
    """Less where all marks lie in a small part of an axis that is as long as that, so that small differences look small."""
    if y["scale"].get("type") == "log":
        return HEIGHT
    low, high = map(float, y["scale"]["domain"])
    share = (max(float(row["slowdown_high"]) for row in rows) - low) / (high - low)
    return max(LEAST_HEIGHT, min(HEIGHT, round(HEIGHT * 1.5 * share)))


def _linear(rows: Rows) -> dict[str, Any]:
    """The axis of effective overcommit, from near the least one."""
    ends = [row[field] for row in rows for field in ("overcommit", "overcommit_low", "overcommit_high")]
    room = 0.06 * (max(ends) - min(ends) or 1.0)
    domain = [max(0.0, min(ends) - room), max(ends) + room]
    return number("overcommit", "effective overcommit, ×", zero=False, domain=domain, nice=False)


def _ratio_labels(x: dict[str, Any], y: dict[str, Any], place: str, look: dict[str, Any]) -> dict[str, Any]:
    """The ratios at one side of points of the front."""
    right, down, align = PLACES[place]
    return {
        "transform": [{"filter": {"and": [{"field": "label", "valid": True}, {"field": "place", "equal": place}]}}],
        "mark": {"type": "text", "dx": right, "dy": down, "align": align, "baseline": "middle", **look},
        "encoding": {"x": x, "y": y, "text": {"field": "label", "type": "nominal"}},
    }


def _quantity(field: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative"}


def _label_front(rows: Rows, across: Sequence[float], y: dict[str, Any], runs: int, height: int) -> None:
    """Give points of the front their ratio as a label and a `place` for it where no mark and no other label lies, the
    hardest first; none where there is no such place, or one is near."""
    scale = log if y.get("type") == "log" else float
    low, high = map(scale, y["domain"])
    at = [
        (
            (row["overcommit"] - across[0]) / ((across[1] - across[0]) or 1.0) / runs,
            height * (scale(row["slowdown"]) - low) / (high - low),
        )
        for row in rows
    ]
    taken: list[tuple[str, float, float]] = []
    for i in sorted(range(len(rows)), key=lambda i: (-rows[i]["ratio"], rows[i]["slowdown"])):
        row, run = rows[i], rows[i]["run"]
        row["label"] = row["place"] = None
        marks = [place for place, other in zip(at, rows, strict=True) if other["run"] == run]
        labels = [(one, other) for whose, one, other in taken if whose == run]
        for place, (right, down, _) in PLACES.items() if row["front"] else ():
            side = (right > 0) - (right < 0)
            middle = at[i][0] + side * (2 * MARK[0] + LABEL[0] / 2), at[i][1] - down
            within = LABEL[1] / 2 <= middle[1] <= height - LABEL[1] / 2
            inside = within and LABEL[0] / 2 <= middle[0] <= 1 / runs - LABEL[0] / 2
            free = not any(_near(middle, mark, (LABEL[0] / 2 + MARK[0], LABEL[1] / 2 + MARK[1])) for mark in marks)
            if inside and free and not any(_near(middle, label, APART) for label in labels):
                row |= {"label": f"{row['ratio']:.2f}", "place": place}
                taken.append((run, *middle))
                break


def _near(one: tuple[float, float], other: tuple[float, float], room: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < room[0] and abs(one[1] - other[1]) < room[1]


def _joined(rows: Rows) -> bool:
    """Whether the front of a run has more marks than one, and so a line."""
    runs = [row["run"] for row in rows if row["front"]]
    return len(runs) > len(set(runs))


def _trade_told(rows: Rows, scenes: Sequence[Scene], grey: Sequence[str]) -> str:
    """What the trade-off says, in sentences."""
    on_it: dict[float, list[str]] = {}
    for row in sorted(rows, key=lambda row: float(row["slowdown"])):
        if row["front"]:
            on_it.setdefault(row["ratio"], []).append(row["preset"])
    best = [f"at {ratio:.2f} {', '.join(dict.fromkeys(names))}" for ratio, names in sorted(on_it.items())]
    left_out = data.missing(scenes)
    front = "The dashed line is the Pareto front" if _joined(rows) else "A single mark is the Pareto front"
    return (
        f"{_slowdown(scenes).capitalize()}. Lower is faster; farther right, more content lies in each byte of the host. A "
        "mark is a preset at one ratio of memory promised to memory there; the ratios of a preset are joined. "
        f"{front}, which nothing beats in both; of marks within 1 % of each other in both it has one. "
        f"{'Numbers are ratios. ' if any(row['label'] for row in rows) else ''}On it: {'; '.join(best)}."
        + _bars_told(rows)
        + _grey_told(scenes, grey, "at the hardest ratio, and those of the front")
        + (f" Not drawn, without numbers: {left_out}." if left_out else "")
    )


def _grey_told(scenes: Sequence[Scene], grey: Sequence[str], also: str = "") -> str:
    """Who is not told apart by looks, and why."""
    if not grey:
        return ""
    return f" In colour: {data.chosen_by(scenes)}{f' {also}' if also else ''}. Grey: {', '.join(grey)}."


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
    x |= {"axis": {"labelExpr": "format(100 * datum.value, '.3~r') + ' %'", "values": sizes}}
    x["scale"]["domain"] = [sizes[0], max(sizes[-1], sizes[0] * 1.01)]
    y = number("value", "requests that missed, %")
    apart = data.told(scenes, data.telling_ratio(scenes))
    grey = data.others(scenes, apart, rows)
    layers = marked_lines(x, y, names, rows, _told(rows[0]), apart if grey else ())
    view = {"width": PANEL // len(runs), "height": 260, "layer": layers}
    hardest = sorted((row for row in rows if row["ratio"] == sizes[0]), key=lambda row: row["value"])
    optimum = [row.preset for row in scenes[0].groups[0].rows if row.role == "baseline"]
    hidden = _on_one_line(rows, apart)
    told = (
        f"{'Lower is better. ' if not optimum else f'Lower is better; {optimum[0]} knows what comes, the others do not. '}"
        f"At the smallest memory, {100 * sizes[0]:.3g} % of the pages: {_misses_told(hardest)}."
        + _bars_told(rows).partition(";")[0].rstrip(".")
        + "."
        + (f" On one line lie {'; '.join(hidden)}." if hidden else "")
        + _grey_told(scenes, grey, f"there, and {optimum[0]}" if optimum else "")
    )
    key = f"{data.means(scenes)}\naxis of memory is logarithmic"
    key += "".join(f"\n{filled(f'on one line: {names}')}" for names in hidden)
    key += f"\ngrey: {len(grey)} other orders" if grey else ""
    return figure(f"{scenes[0].name}: miss ratios", told, PANEL, {"data": {"values": rows}, **by_run(runs, view)}, key)


def _misses_told(rows: Rows) -> str:
    """Who misses least and most of rows in that order; those that print alike are not told apart."""
    low, high = (f"{row['value']:.1f} %" for row in (rows[0], rows[-1]))
    if low == high:
        return f"no difference, {low} missed under every order"
    fewest, most = ([row["preset"] for row in rows if f"{row['value']:.1f} %" == end] for end in (low, high))
    least, worst = (names[0] if len(names) == 1 else f"{len(names)} orders" for names in (fewest, most))
    return f"the fewest misses: {least} {low}; the most: {worst} {high}"


def _on_one_line(rows: Rows, shown: Sequence[str]) -> list[str]:
    """Those whose lines lie on each other, so that one is seen: they print alike at every size."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        lines.setdefault((row["run"], row["preset"]), []).append(f"{row['ratio']} {row['value']:.1f}")
    alike: dict[tuple[str, ...], list[str]] = {}
    for (run, preset), values in lines.items():
        if preset in shown:
            alike.setdefault((run, *values), []).append(preset)
    return list(dict.fromkeys(", ".join(names) for names in alike.values() if len(names) > 1))


def sensitivity(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """The deciding metric: a mark for each seed, the mean with its interval over them."""
    column = data.deciding(scenes[0])
    rows = [row for scene in scenes for row in data.over_seeds(scene, ratio, column)]
    if not rows:
        return f"no preset that finished at {data.at(scenes, ratio)} has a value for {column.title}"
    seeds = len({row["seed"] for row in rows})
    if seeds == 1:
        return "one seed was run, and one cannot differ; run with --seed 1 --seed 2 … to see what seeds change"
    if len({row["value"] for row in rows}) == 1:
        return f"{column.title} is {figures(rows[0]['value'])} under every preset and seed"
    runs = [scene.run for scene in scenes]
    names = [name for name in data.names_of(scenes) if any(row["preset"] == name for row in rows)]
    ends = [{**row, "value_low": row.get("low"), "value_high": row.get("high")} for row in rows]  # of intervals
    x = ratio_axis(ends, "value", f"{column.title}{f', {column.unit}' if column.unit else ''}", bounds(column.name))
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
    told = f"{column.title[:1].upper()}{column.title[1:]} at {data.at(scenes, ratio)} {_seeds_told(rows, seeds, column.unit)}"
    line = "; line: 95 % interval" if seeds >= MIN_SEEDS else ""
    key = f"{data.at_ratio(scenes, ratio)}\nstroke: a seed; diamond: their mean{line}"
    key += cut(x, min(row["value"] for row in rows))
    return figure(title, told, PANEL, {"data": {"values": rows}, **by_run(runs, view)}, key)


def _seeds_told(rows: Rows, seeds: int, unit: str) -> str:
    widest = max(rows, key=lambda row: abs(row["value"] - row["mean"]))
    few = "; five seeds are needed for an interval"
    value, mean = (f"{figures(widest[name])}{f' {unit}' if unit else ''}" for name in ("value", "mean"))
    return (
        f"under {seeds} seeds: a stroke is a seed, a diamond their mean"
        f"{', a line its 95 % interval' if seeds >= MIN_SEEDS else few}."
        + (f" Farthest from its mean: {widest['preset']}, {value} with a mean of {mean}." if value != mean else "")
    )
