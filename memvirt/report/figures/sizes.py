"""How large a fleet may be: the objectives of a search over the sizes that it asked."""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Any

from memvirt.experiment.searching import Found, of_records
from memvirt.experiment.sizing import LOST
from memvirt.report.escape import plain
from memvirt.report.figures import data
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import INK, Figure, Rows, by_run, figure, marked_lines, number

PANEL = 380  # pixels beside each other, of all panels together
BEYOND = (
    2.5  # times what the limit allows beyond 1: larger slowdowns lie on the upper edge, and the limit stays in sight
)


def capacity(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """A panel for each objective: its slowdown over the number of VMs, its limit, and the answers of the presets."""
    found = [(scene, each) for scene in scenes if (each := _found(scene)) is not None]
    rows = [row for scene, each in found for row in _points(scene, each)]
    if not rows:
        return "no size of the search came to an end" if found else "no search for the largest fleet was run"
    names, runs = data.names_of(scenes), [scene.run for scene, _ in found]
    group = plain(found[0][1].search.group)
    x = {
        **number("size", f"{group} VMs", zero=False, nice=False, padding=12),
        "axis": {"tickMinStep": 1, "format": "d"},
    }
    y = number("value", "slowdown, ×", zero=False, nice=False, padding=8)  # the limit lies on no frame
    *lines, points = marked_lines(x, y, names, rows, _tooltip())
    reach = {"x": x, "color": points["encoding"]["color"], "y": {**y, "field": "low"}, "y2": {"field": "high"}}
    ring = {"type": "point", "shape": "circle", "filled": False, "size": 160, "color": INK, "strokeWidth": 1}
    limit = {**y, "field": "limit", "aggregate": "max"}  # one line, though every row has it
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "rule", "color": INK, "strokeDash": [3, 3]}, "encoding": {"y": limit}},
        *lines,
        {"mark": "rule", "encoding": reach},
        points,
        {"transform": [{"filter": {"field": "answer", "equal": True}}], "mark": ring, "encoding": {"x": x, "y": y}},
    ]
    view = {"width": PANEL // len(runs), "height": 130, "layer": layers}
    header = {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start", "labelPadding": 2}
    order = list(dict.fromkeys(row["objective"] for row in rows))
    facet = {"field": "objective", "type": "nominal", "title": None, "sort": order, "header": header}
    panels = {**by_run(runs, view, facet), "resolve": {"scale": {"y": "independent"}}}
    title = f"{scenes[0].name}: how many {group} VMs"
    key = "dashes: what the objective allows; ring: the answer\nbars: least to largest over seeds"
    return figure(title, _told(found), PANEL, {"data": {"values": rows}, **panels}, key)


def _found(scene: Scene) -> Found | None:
    """What the search of a scene's run came to, if it was one."""
    return None if scene.asked is None else of_records(scene.asked, scene.records)


def _points(scene: Scene, found: Found) -> Rows:
    """A row for each objective, preset and size that came to an end: mean, least and largest slowdown over seeds."""
    rows: Rows = []
    for number_, objective in enumerate(found.objectives):
        limit = float(objective.at_most)
        top = 1 + BEYOND * (limit - 1) if limit > 1 else float("inf")
        for column in found.columns:
            answer, judged = found.answer(column), found.judged(column)
            for size in sorted({size for sizes in judged.values() for size in sizes}):
                asked = [sizes[size].values[number_] for sizes in judged.values() if size in sizes]
                values = [float(value) for value in asked if value is not None]
                if not values:
                    continue
                mean = fsum(values) / len(values)
                rows.append(
                    {
                        "run": scene.run,
                        "preset": plain(column.removesuffix(LOST)),
                        "objective": f"{objective.name}, at most {objective.at_most}",
                        "size": size,
                        "slowdown": mean,
                        "value": min(mean, top),
                        "low": min(*values, top),
                        "high": min(max(values), top),
                        "limit": limit,
                        "n": len(values),
                        "answer": answer.outcome == "found" and size == answer.size,
                    }
                )
    return rows


def _tooltip() -> list[dict[str, Any]]:
    titles = {"preset": "preset", "size": "VMs", "slowdown": "slowdown", "n": "seeds"}
    return [{"field": name, "title": title} for name, title in titles.items()]


def _told(found: Sequence[tuple[Scene, Found]]) -> str:
    """What the figure says, in sentences."""
    search = found[0][1].search
    answers = []
    for scene, each in found:
        where = f" in {scene.run}" if len(found) > 1 else ""
        for column in each.columns:
            answer = each.answer(column)
            size = {"found": str(answer.size), "all": f"{answer.size} or more", "none": "none"}.get(
                answer.outcome, "open"
            )
            answers.append(f"{plain(column.removesuffix(LOST))}{where} {size}")
    return (
        "Every size that the search asked, a panel for each objective, its limit dashed. A mark is the mean over seeds, a "
        "bar reaches from the least to the largest; most sizes were asked with one seed. The answer, "
        f"{plain(search.group)} VMs with which every seed meets all objectives, is ringed: {', '.join(answers)}. Larger "
        f"slowdowns than {BEYOND:g} times what a limit allows lie on the upper edge; sizes that came to no end have no mark."
    )
