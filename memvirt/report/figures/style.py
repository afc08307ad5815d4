"""How figures look: one palette, one set of shapes and dashes, two sets of sizes.

A specification names its colours by variables of style sheets, `var(--c0)` and so on. On a page they follow the reader's
theme without drawing again; `in_print` puts the colours of paper in their places. Colours are Okabe and Ito's ("Color
Universal Design", 2008), which colour-blind readers tell apart, the yellow one last and grey in place of black. No
colour speaks alone: what has a colour has a shape or a dash of its own, too.

`usermeta.across` of a specification is the width of its panels beside each other, without axes and legends: who draws
it into a given width multiplies the panels' widths alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil, floor, inf, log10
from textwrap import wrap
from typing import Any

from memvirt.report.figures import looks

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
Figure = dict[str, Any]
Rows = list[dict[str, Any]]

COLOURS = looks.COLOURS
WIDE_SPREAD = 10  # of ratios, largest to least: from here on their axis is logarithmic
LEAST_SPREAD = 0.01  # of the least value: an axis spans no less than what is alike
MARGIN = 0.05  # of a span: how far beyond its values an axis goes
CUT = "axes begin near the least value, not at 0"
TINY = 1e-12  # in place of what has no logarithm
DECADES = 2  # of a logarithmic axis: of more only powers of ten are marked
STAR = "M0-1L.3-.4.95-.3.5.15.6.8 0 .5-.6.8-.5.15-.95-.3-.3-.4Z"
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
    STAR,
)
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4], [10, 3], [1, 3], [6, 2, 1, 2, 1, 2], [12, 6])
PAPER = {
    "var(--c0)": "#0072B2",
    "var(--c1)": "#D55E00",
    "var(--c2)": "#009E73",
    "var(--c3)": "#CC79A7",
    "var(--c4)": "#E69F00",
    "var(--c5)": "#56B4E9",
    "var(--c6)": "#767676",
    "var(--c7)": "#F0E442",
    "var(--mute)": "#B5BAC0",
    "var(--ink)": "#000000",
    "var(--faint)": "#E4E4E4",
    "var(--ground)": "#FFFFFF",
}
INK, FAINT, GROUND, MUTED = "var(--ink)", "var(--faint)", "var(--ground)", "var(--mute)"
FONT = "Liberation Sans"  # of the drawing library, so that figures are the same everywhere
STROKE = 480  # of a legend: the square of how long a dashed stroke is, in pixels
NAME_LIMIT = 150  # pixels of a name in an axis or a legend, then it ends with three dots
PRINT_NAME_LIMIT = 90
LETTERS = 7  # points, in print
KEY_LETTERS = 56  # in a line of a key
LETTER = 0.6  # of its size: how wide a letter is


def figure(title: str, description: str, across: int, view: Mapping[str, Any], key: str = "") -> Figure:
    """A specification: what it shows in a title, how to read its marks in the lines below (`key`), what it says in a
    description, and the view itself, its rows inside."""
    lines = key.split("\n")
    axes = "".join(f" {line.capitalize()}." for line in lines if line.startswith("axes"))  # where a page has no title
    runs = len({row["run"] for row in view["data"]["values"]})
    return {
        "$schema": SCHEMA,
        "title": {"text": title, "anchor": "start", **({"subtitle": lines} if key else {})},
        "description": description + axes,
        "usermeta": {"across": across, "runs": runs},
        **view,
    }


def colour(index: int) -> str:
    """The colour of the index-th of some names."""
    return f"var(--c{index % COLOURS})"


def coloured(field: str, names: Sequence[str], rows: Rows, told: Collection[str] = ()) -> dict[str, Any]:
    """Colours by a field: of presets those that they have everywhere, of others in the order of the names. A legend of those
    that the rows have. Where there are too many, those that are not `told` are grey and not in the legend."""
    looks = [
        MUTED if told and name not in told else colour(at)
        for name, (at, _) in zip(names, _looks(field, names), strict=True)
    ]
    return _channel(field, names, looks, rows, told)


def shaped(field: str, names: Sequence[str], rows: Rows, told: Collection[str] = ()) -> dict[str, Any]:
    """Shapes by a field. Where colours come round again, shapes are shifted by one: no two names have both alike."""
    return _channel(field, names, [SHAPES[at] for _, at in _looks(field, names)], rows, told)


def dashed(field: str, names: Sequence[str], rows: Rows, told: Collection[str] = ()) -> dict[str, Any]:
    """Dashes by a field, as shapes are."""
    return _channel(field, names, [DASHES[at] for _, at in _looks(field, names)], rows, told)


def _looks(field: str, names: Sequence[str]) -> list[looks.Look]:
    if field == "preset":
        return looks.of(names)
    return [(i % COLOURS, (i % COLOURS + i // COLOURS) % len(SHAPES)) for i in range(len(names))]


def marked_lines(
    x: Figure,
    y: Figure,
    names: Sequence[str],
    rows: Rows,
    tooltip: Sequence[Mapping[str, Any]] = (),
    told: Collection[str] = (),
) -> list[Figure]:
    """Layers of dashed lines, one for each preset, and of shapes on them, the last. Lines have their looks by value and no
    legend: in a legend of both, the outlines of shapes would be dashed and look broken. Where some are `told` the others
    are grey, plain and below them."""
    there, hints = {row["preset"] for row in rows}, {"tooltip": list(tooltip)} if tooltip else {}
    grey = [name for name in names if told and name in there and name not in told]
    lines = [
        {
            "transform": [{"filter": {"field": "preset", "equal": name}}],
            "mark": {"type": "line", "color": colour(at), "strokeDash": DASHES[dash]},
            "encoding": {"x": x, "y": y},
        }
        for name, (at, dash) in zip(names, looks.of(names), strict=True)
        if name in there and name not in grey
    ]
    muted: list[Figure] = [_muted_lines(x, y, grey)] if grey else []
    marks = {"color": coloured("preset", names, rows, told), "shape": shaped("preset", names, rows, told)}
    shown = {"transform": [{"filter": {"field": "preset", "oneOf": list(told)}}]} if grey else {}
    return [
        *muted,
        *lines,
        {**shown, "mark": {"type": "point", "opacity": 1}, "encoding": {"x": x, "y": y, **marks, **hints}},
    ]


def _muted_lines(x: Figure, y: Figure, grey: Sequence[str]) -> Figure:
    """The lines of presets that are not told apart by looks."""
    return {
        "transform": [{"filter": {"field": "preset", "oneOf": list(grey)}}],
        "mark": {"type": "line", "color": MUTED, "strokeWidth": 1},
        "encoding": {"x": x, "y": y, "detail": {"field": "preset", "type": "nominal"}},
    }


def long_strokes(channel: Figure) -> Figure:
    """The channel of a dashed line, the strokes of its legend as long as it takes to see a dash."""
    return {**channel, "legend": {**channel["legend"], "symbolType": "stroke", "symbolSize": STROKE}}


def cut(axis: Figure, least: float) -> str:
    """A line of a key that says where a linear axis begins, unless the least value is 0; "" of a logarithmic one, whose
    ticks say it."""
    return "" if axis["scale"].get("type") == "log" or least <= 0 else f"\n{CUT}"


def filled(words: str) -> str:
    """Words in lines of a key that fit a column of a paper; what a comma ends stays together."""
    kept = ", ".join(each.replace(" ", "\u00a0") for each in words.split(", "))
    return "\n".join(wrap(kept, KEY_LETTERS, break_on_hyphens=False)).replace("\u00a0", " ")


def _channel(
    field: str, names: Sequence[str], looks: Sequence[Any], rows: Rows, told: Collection[str]
) -> dict[str, Any]:
    there = {row[field] for row in rows}
    legend = {"values": [name for name in names if name in there and (not told or name in told)]}
    scale = {"domain": list(names), "range": list(looks)}
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": legend}


def number(field: str, title: str | None, *, zero: bool = True, **scale: Any) -> dict[str, Any]:
    """A quantitative channel with the title of its axis."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero, **scale}}


def logarithm(field: str, title: str | None, low: float, high: float) -> dict[str, Any]:
    """A channel on a logarithmic scale from at most low to at least high, both positive: it begins and ends at 1, 2 or 5
    times a power of ten. Ticks are there, or at the powers alone when there are many."""
    low, high = max(low, TINY), max(high, TINY)  # of a damaged record they may be anything
    first, last = floor(log10(low) + 1e-9), ceil(log10(high) - 1e-9)
    many = last - first > DECADES
    ticks = [m * 10.0**e for e in range(first, last + 1) for m in (1, 2, 5)]
    start = max((tick for tick in ticks if tick <= low * 1.0001), default=low)
    end = min((tick for tick in ticks if tick >= high * 0.9999 and tick > start), default=high)
    shown = [tick for tick in (ticks[::3] if many else ticks) if start <= tick <= end]
    channel = {"field": field, "type": "quantitative", "title": title}
    scale = {"type": "log", "domain": [start, end], "nice": False}
    return {**channel, "scale": scale, "axis": {"values": shown, "format": ",~r"}}  # no exponent


def ratio_axis(rows: Rows, field: str, title: str, bounds: tuple[float, float] = (-inf, inf)) -> dict[str, Any]:
    """A linear axis, or a logarithmic one where the largest value is many times the least. `field`_low and `field`_high
    of the rows, where they have them, lie on it, too. It ends at `bounds`: beyond them nothing can be."""
    ends = [(row.get(f"{field}_low") or row[field], row.get(f"{field}_high") or row[field]) for row in rows]
    low, high = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    if 0 < low * WIDE_SPREAD < high:
        return logarithm(field, title, low, high)
    least = LEAST_SPREAD * abs(low) or 1.0  # differences of a thousandth are not drawn large
    margin = MARGIN * max(high - low, least)
    end = min(max(bounds[1], high), max(high, low + least) + margin)
    start = max(min(bounds[0], low), min(low - margin, end - least))
    return number(field, title, zero=False, domain=[start, end], nice=False)


def by_run(runs: Sequence[str], layers: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A view for each run beside each other, and for each member of a row's field below each other; as it is when there
    is one run and no row."""
    facet: dict[str, Any] = {"row": dict(row)} if row else {}
    if len(runs) > 1:
        facet["column"] = {"field": "run", "type": "nominal", "title": None, "sort": list(runs)}
    return {"facet": facet, "spec": dict(layers)} if facet else dict(layers)


def in_print(spec: Any, config: Mapping[str, Any] | None = None) -> Any:
    """The specification with the colours of paper, and a configuration for it when one is given."""
    if isinstance(spec, dict):
        plain = {key: in_print(value) for key, value in spec.items()}
        return plain | ({"config": in_print(config)} if config is not None else {})
    if isinstance(spec, (list, tuple)):
        return [in_print(each) for each in spec]
    return PAPER.get(spec, spec) if isinstance(spec, str) else spec


def config(font: str, size: float, names: int) -> dict[str, Any]:
    """What is the same in all figures, for letters of a size in pixels (points on paper)."""
    line = max(1.0, size / 8)
    axis = {
        "labelFontSize": size,
        "titleFontSize": size,
        "titleFontWeight": "normal",
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": FAINT,
        "gridWidth": 0.5,
        "labelLimit": names,
        "labelOverlap": True,
        "tickSize": size / 3,
    }
    heading = {"labelFontSize": size, "labelColor": INK, "titleColor": INK, "labelFontWeight": "normal"}
    return {
        "font": font,
        "background": None,
        "axis": axis,
        "header": {**heading, "titleFontSize": size, "titleFontWeight": "normal", "labelLimit": names},
        "legend": {
            "labelFontSize": size,
            "titleFontSize": size,
            "titleFontWeight": "normal",
            "labelColor": INK,
            "titleColor": INK,
            "labelLimit": names,
            "orient": "bottom",
            "columns": 4,
            "symbolOpacity": 1,
            "symbolSize": 5 * size,
            "symbolStrokeWidth": 1.2 * line,
        },
        "title": {
            "color": INK,
            "subtitleColor": INK,
            "fontSize": size + 1,
            "subtitleFontSize": size,
            "fontWeight": "normal",
        },
        "view": {"stroke": FAINT},
        "line": {"strokeWidth": 1.2 * line},
        "point": {"size": 4 * size, "filled": True},
        "rule": {"color": INK},
        "text": {"fontSize": size, "color": INK},
        "bar": {"color": colour(0)},
        "aria": False,
    }


IN_PRINT = config(FONT, LETTERS, PRINT_NAME_LIMIT)
ON_SCREEN = config("system-ui, 'Liberation Sans', sans-serif", 12, NAME_LIMIT)
