"""What a trace is like, as Vega-Lite specifications: plain dicts, one function each, with the data inside.

They hold numbers and names only, so that any Vega-Lite renderer draws them and any reader can check them.
"""

from collections.abc import Sequence
from typing import Any

from memvirt.report.figures.style import SCHEMA, Figure
from memvirt.simulation.curve import Curve
from memvirt.simulation.profile import Profile
from memvirt.units import PAGE_SIZE

FIGURES = ("working-set", "reuse-distances", "phases", "stream-sharing", "miss-ratios")


def working_set(profile: Profile) -> Figure:
    """The working set over the trace, and how much of it was new: two lines over touches, or over time."""
    timed = all(each.start_ns is not None for each in profile.intervals) and bool(profile.intervals)
    begin = profile.intervals[0].start_ns or 0 if timed else 0
    values = [
        {"at": ((each.start_ns or 0) - begin) / 1e9 if timed else each.start, "pages": pages, "part": kind}
        for each in profile.intervals
        for kind, pages in (("working set", each.pages), ("never touched before", each.new_pages))
    ]
    window = profile.intervals[0].touches if profile.intervals else 0
    return _figure(
        f"Working set in windows of {window} touches",
        values,
        {"type": "line", "interpolate": "step-after"},
        x=_axis("at", "quantitative", "seconds" if timed else "touches"),
        y=_axis("pages", "quantitative", "pages of 4 KiB"),
        color={"field": "part", "type": "nominal", "title": None},
    )


def reuse_distances(profile: Profile) -> Figure:
    """How many touches come back after how many other pages: bars by octave, and the first touches apart."""
    values = [{"distance": f"{each.low}", "order": i, "touches": each.touches} for i, each in enumerate(profile.reuse)]
    values.append({"distance": "first touch", "order": len(values), "touches": profile.first_touches})
    return _figure(
        "Reuse distances",
        values,
        {"type": "bar"},
        x={**_axis("distance", "ordinal", "from this many pages up to twice as many"), "sort": {"field": "order"}},
        y=_axis("touches", "quantitative", "touches"),
    )


def miss_ratios(curves: Sequence[Curve]) -> Figure:
    """The miss ratio of every order at every size; a band where it is an estimate."""
    values = [
        {
            "replacement": curve.replacement,
            "MiB": capacity * PAGE_SIZE / 2**20,
            "miss_ratio": ratio,
            "low": max(0.0, ratio - error),
            "high": min(1.0, ratio + error),
        }
        for curve in curves
        for capacity, ratio, error in zip(
            curve.capacities, curve.miss_ratios(), curve.errors or (0.0,) * len(curve.capacities), strict=True
        )
    ]
    size = {**_axis("MiB", "quantitative", "memory, MiB"), "scale": {"type": "log"}}
    color = {"field": "replacement", "type": "nominal", "title": "order"}
    line = {
        "mark": {"type": "line", "point": True},
        "encoding": {"x": size, "y": _axis("miss_ratio", "quantitative", "miss ratio"), "color": color},
    }
    band = {
        "mark": {"type": "errorband"},
        "encoding": {
            "x": size,
            "y": _axis("low", "quantitative", "miss ratio"),
            "y2": {"field": "high"},
            "color": color,
        },
    }
    estimated = any(curve.errors is not None for curve in curves)
    title = "Miss ratios" + (", estimated from samples, with 95 % intervals" if estimated else "")
    return {
        "$schema": SCHEMA,
        "title": title,
        "data": {"values": values},
        "layer": [band, line] if estimated else [line],
    }


def phases(profile: Profile) -> Figure:
    """Which phase the trace is in: a bar for each run of one."""
    values = [
        {"phase": each.name, "from": each.start, "to": each.start + each.touches, "pages": each.pages}
        for each in profile.phases
    ]
    return _figure(
        "Phases",
        values,
        {"type": "bar"},
        x=_axis("from", "quantitative", "touches"),
        x2={"field": "to"},
        y=_axis("phase", "nominal", "phase"),
        tooltip=[{"field": name} for name in ("phase", "from", "to", "pages")],
    )


def stream_sharing(profile: Profile) -> Figure:
    """How many pages one stream has to itself, two share, and so on."""
    values = [{"streams": i, "pages": pages} for i, pages in enumerate(profile.pages_by_streams, 1)]
    return _figure(
        "Pages by how many streams touch them",
        values,
        {"type": "bar"},
        x=_axis("streams", "ordinal", "streams that touch the page"),
        y=_axis("pages", "quantitative", "pages of 4 KiB"),
    )


def of_trace(profile: Profile) -> dict[str, Figure]:
    """Those of FIGURES that have something to show, by name."""
    found = {
        "working-set": working_set(profile),
        "reuse-distances": reuse_distances(profile),
        "phases": phases(profile),
    }
    if len(profile.streams) > 1:
        found["stream-sharing"] = stream_sharing(profile)
    if profile.curves:
        found["miss-ratios"] = miss_ratios(profile.curves)
    return found


def _figure(title: str, values: list[dict[str, Any]], mark: dict[str, Any], **encoding: Any) -> Figure:
    return {"$schema": SCHEMA, "title": title, "data": {"values": values}, "mark": mark, "encoding": encoding}


def _axis(field: str, kind: str, title: str) -> dict[str, Any]:
    return {"field": field, "type": kind, "title": title}
