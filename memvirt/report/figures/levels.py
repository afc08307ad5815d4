"""How slow VMs of each service level get as more memory is promised: what an objective for a service is held against.

A fleet that lives has its work measured VM by VM and second by second (`slowdown_p99`: of a hundred seconds of VMs the
slowest but one). A level is what the suite calls its groups of VMs; where there are several, each has a panel.
"""

from __future__ import annotations

from collections.abc import Sequence

from memvirt.report.columns import bounds
from memvirt.report.escape import plain
from memvirt.report.figures import data
from memvirt.report.figures.data import Scene
from memvirt.report.figures.style import Figure, Rows, by_run, cut, figure, marked_lines, number, ratio_axis

PANEL = 380  # pixels beside each other, of all panels together
METRIC = "slowdown_p99"
ALL = "all VMs"
KEY = "of each VM and second: (work + stall) / work, at p99"


def levels(scenes: Sequence[Scene], ratio: str) -> Figure | str:
    """Slowdown at p99 over the ratio promised, a panel for each service level."""
    rows = [row for scene in scenes for row in _of_levels(scene)]
    if not rows:
        return "its VMs do no work whose slowdown is measured second by second"
    names, runs = data.names_of(scenes), [scene.run for scene in scenes]
    found = list(dict.fromkeys(row["level"] for row in rows))
    if len(found) == 2:  # all VMs are of one level
        found = found[:1]
        rows = [row for row in rows if row["level"] == ALL]
    ratios = sorted({row["ratio"] for row in rows})
    x = number("ratio", "memory promised / host memory", zero=False, nice=False, padding=8)
    x["axis"] = {"values": ratios, "format": ".2f", "labelOverlap": "greedy"}
    if len(ratios) == 1:  # marks on one line would lie on each other
        there = [name for name in names if any(row["preset"] == name for row in rows)]
        x = {"field": "preset", "type": "nominal", "title": None, "sort": there, "axis": {"labelAngle": 0}}
    y = ratio_axis(rows, "value", "slowdown p99, ×", bounds(METRIC))
    told = data.told(scenes, data.telling_ratio(scenes))
    grey = data.others(scenes, told, rows)
    layers = marked_lines(x, y, names, rows, told=told if grey else ())
    if len(ratios) == 1:
        layers = layers[-1:]  # nothing to join
    view = {"width": PANEL // len(runs), "height": 110, "layer": layers}
    header = {"labelAngle": 0, "labelOrient": "top", "labelAnchor": "start", "labelPadding": 2}
    row = {"field": "level", "type": "nominal", "title": None, "sort": found, "header": header}
    title = f"{scenes[0].name}{f' at {ratios[0]:.2f}' if len(ratios) == 1 else ''}: slowdown by service level"
    panels = by_run(runs, view, row if len(found) > 1 else None)
    return figure(
        title,
        _told(rows, scenes) + (f" In colour: {data.chosen_by(scenes)}. Grey: {', '.join(grey)}." if grey else ""),
        PANEL,
        {"data": {"values": rows}, **panels},
        f"{KEY}\n{data.means(scenes)}"
        + cut(y, min(row["value"] for row in rows))
        + (f"\ngrey: {len(grey)} other presets" if grey else ""),
    )


def _of_levels(scene: Scene) -> Rows:
    """A row for each preset, ratio and level, the mean over seeds; all VMs together first, then levels as the suite has
    them."""
    rows: Rows = []
    for ratio in scene.ratios:
        for preset, records in scene.at(ratio):
            names = [name for name in records[0].derived if name == METRIC or name.startswith(f"{METRIC}.")]
            for name in sorted(names):
                values = [value for record in records if (value := record.number(name)) is not None]
                if len(values) == len(records):
                    level = plain(name.removeprefix(METRIC).removeprefix(".")) or ALL
                    place = {"run": scene.run, "preset": preset, "ratio": float(ratio), "level": level}
                    rows.append({**place, "value": sum(values) / len(values)})
    groups = [group for record in scene.records[:1] for group in record.config["scenario"].get("groups", ())]
    own = [plain(str(group.get("level"))) for group in groups]
    order = list(dict.fromkeys([ALL, *own, *(row["level"] for row in rows)]))
    return sorted(rows, key=lambda row: order.index(row["level"]))


def _told(rows: Rows, scenes: Sequence[Scene]) -> str:
    worst = max(rows, key=lambda row: float(row["value"]))
    left_out = data.missing(scenes)
    return (
        "Lower is better. Of each VM and second of the measured phase: work and waiting for memory, divided by work. Of a "
        "hundred of these the slowest but one, means over seeds. Highest: "
        f"{worst['value']:.3g} under {worst['preset']} at {worst['ratio']:.2f}, {worst['level']}."
        + (f" Not drawn, without numbers: {left_out}." if left_out else "")
    )
