"""The figure `savings`: the waterfall of what was saved, drawn, and what each GiB of a step cost beside it.

What a balloon holds is drawn hollow. A guest gave those frames up, whether it had content there or not, so they are not
what effective overcommit counts: content of guests in each frame in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memvirt.report.figures import data, waterfall
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import LETTER, LETTERS, Figure, Rows, by_run, figure, number
from memvirt.report.summary import figures, ratio_label

PANEL = 380  # pixels beside each other, of all panels together
WHOLE = {"invalid": None}  # of marks whose rows all have numbers: nothing is filtered, and layers have one source
NARROWEST = {"mib": 94, "cost": 57}  # points: the panels of savings in one column of a paper
LEAST_COST = 0.001  # s/GiB: less is told as less, and not by an exponent
HOLLOW = 0.2  # how much of its colour a bar of frames has that guests gave up
GIVEN_UP_KEY = "hollow, balloon: given up by guests, content or not;\neffective overcommit does not count it"


def savings(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """The waterfall of each preset, and what each GiB of a step cost beside it."""
    rows = [row for scene in scenes for row in waterfall.savings(scene, ratio)]
    if not rows:
        return f"no mechanism saved a frame at ratio {ratio_label(ratio)}"
    names, left_out = data.panels(scenes, ratio, rows)
    told = _savings_told(rows, ratio, _unit(rows)) + left_out
    rows = [row for row in rows if row["preset"] in names]
    runs = list(dict.fromkeys(row["run"] for row in rows))
    unit = _unit(rows)
    values = [_labelled(row, unit[1]) for row in rows]
    y = {"field": "step", "type": "nominal", "sort": None, "title": None}  # in the order of the rows
    header = {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start", "labelPadding": 2}
    row = {"field": "preset", "type": "nominal", "title": None, "sort": names, "header": header}
    bare = {**row, "header": {**header, "labelExpr": "''"}}
    across = PANEL - 60
    size: dict[str, Any] = {"height": {"step": 13}}
    size |= {"view": {"stroke": None}}  # no frame that numbers behind bars could cross
    amounts = {**size, "width": int(across * 0.62 / len(runs)), "layer": _bars(values, y, unit[0])}
    cost = {**size, "width": int(across * 0.38 / len(runs)), "layer": _cost_bars(values, y)}
    own = {"spacing": 12, "resolve": {"scale": {"y": "independent"}}}  # a preset shows the steps that it has
    view = {"hconcat": [{**by_run(runs, amounts, row), **own}, {**by_run(runs, cost, bare), **own}]}
    title = f"{scenes[0].name} at {ratio_label(ratio)}: what was saved, and its cost"
    key = f"{data.at_ratio(scenes, ratio)}; grey: what remains"
    key += f"\n{data.means(scenes)}"
    key += f"\n{GIVEN_UP_KEY}" if any(row["sign"] == "given up" for row in rows) else ""
    key += "\nall N: one cost, of N steps together" if any(row["shared"] > 1 for row in rows) else ""
    return figure(title, told, across, {"data": {"values": values}, **view}, key)


def _labelled(row: dict[str, Any], unit: float) -> dict[str, Any]:
    """A step in the unit, with its texts."""
    amount = row["mib"] / unit
    sign = "−" if amount < 0 else "" if row["sign"] == "net" else "+"
    found = {**row, "from": row["from"] / unit, "to": row["to"] / unit, "amount": amount}
    found |= {"end": max(found["from"], found["to"]), "label": sign + _short(abs(amount))}
    return {**found, "cost": row["cost"] or 0.0, "cost_label": _cost_text(row["cost"], row["shared"])}


def _cost_text(cost: float | None, shared: int) -> str:
    """A cost, and how many steps it is of when it is of several: beside the other ones (0) stands nothing."""
    if cost is None:
        return "–" if shared else ""
    amount = "<0.001" if 0 < cost < LEAST_COST else f"{cost:.2g}" if cost < 1 else figures(cost)
    return amount + (f", all {shared}" if shared > 1 else "")


def _short(amount: float) -> str:
    """Three digits, or all of those before the point."""
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.3g}"


def _bars(rows: Rows, y: dict[str, Any], unit: str) -> list[dict[str, Any]]:
    """The waterfall: bars from where the last one ended, with signed numbers."""
    x = number("from", f"{unit} saved", domain=_room(rows, "label", NARROWEST["mib"], "from", "to"))
    signs = {"saved": "var(--c2)", "given up": "var(--c2)", "spent": "var(--c1)", "net": "var(--c6)"}
    scale = {"domain": list(signs), "range": list(signs.values())}
    color = {"field": "sign", "type": "nominal", "scale": scale, "legend": None}
    hollow = {"condition": {"test": "datum.sign === 'given up'", "value": HOLLOW}, "value": 1}
    outline = {"condition": {"test": "datum.sign === 'given up'", "value": signs["given up"]}, "value": None}
    tooltip = [{"field": "step"}, {"field": "amount", "title": unit, "format": ".4~f"}]
    bar = {"y": y, "x": x, "x2": {"field": "to"}, "color": color, "tooltip": tooltip}
    bar |= {"fillOpacity": hollow, "stroke": outline}
    return [{"mark": {"type": "bar", **WHOLE}, "encoding": bar}, _text(y, x, "end", "label")]


def _cost_bars(rows: Rows, y: dict[str, Any]) -> list[dict[str, Any]]:
    x = number("cost", "CPU s/GiB", domain=_room(rows, "cost_label", NARROWEST["cost"], "cost"))
    bare = {**y, "axis": {"labels": False, "ticks": False}}
    x["stack"] = None
    return [
        {"mark": {"type": "bar", "color": "var(--c4)", **WHOLE}, "encoding": {"y": bare, "x": x}},
        _text(bare, x, "cost", "cost_label"),
    ]


def _text(y: dict[str, Any], x: dict[str, Any], at: str, label: str) -> dict[str, Any]:
    return {
        "mark": {"type": "text", "align": "left", "dx": 3, **WHOLE},
        "encoding": {"y": y, "x": {**x, "field": at}, "text": {"field": label, "type": "nominal"}},
    }


def _room(rows: Rows, label: str, panel: float, *fields: str) -> list[float]:
    """From zero, or the least value, to so much more than bars reach that the number behind each has room in a panel of
    so many points."""
    low = min(0.0, *(row[field] for row in rows for field in fields))
    high = 0.0
    for row in rows:
        share = min(0.6, (len(row[label]) + 1) * LETTER * LETTERS / panel)
        high = max(high, (max(row[field] for field in fields) - share * low) / (1 - share))
    return [low, high or 1.0]


def _unit(rows: Rows) -> tuple[str, float]:
    largest = max(abs(row["to"]) for row in rows)
    return ("GiB", 1024.0) if largest >= 2048 else ("MiB", 1.0)


def _savings_told(rows: Rows, ratio: str, unit: tuple[str, float]) -> str:
    nets = {(row["run"], row["preset"]): row["mib"] / unit[1] for row in rows if row["step"] == waterfall.NET}
    given = {(row["run"], row["preset"]): row["mib"] / unit[1] for row in rows if row["sign"] == "given up"}
    several = len({run for run, _ in nets}) > 1
    sums = ", ".join(
        f"{preset}{f' in {run}' if several else ''} {'−' if mib < 0 else ''}{_short(abs(mib))}"
        + (f" ({_short(given[run, preset])} of it the balloon's)" if (run, preset) in given else "")
        for (run, preset), mib in nets.items()
    )
    balloon = (
        " Hollow, balloon: frames that guests gave up, whether or not they held content; effective overcommit does not "
        "count them."
    )
    return (
        f"At ratio {ratio_label(ratio)}, at the end of the measured phase. Bars add up from the left, mechanism by "
        "mechanism (merged: zero pages, pages of one VM, pages of several); metadata is taken off, and the last bar is "
        f"what remains: {sums} {unit[0]}.{balloon if given else ''} Beside it, simulated processor seconds of the measured "
        "phase for each GiB: the scanner's for what was merged (one cost, of these steps together, at the first of them), "
        "compression's and decompression's, swap's, cloning's and the balloon's. Faults, copies and looking for victims "
        "belong to no one mechanism and are not in it; what is below 1 % of all that was saved has no cost."
    )
