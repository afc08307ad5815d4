"""What figures draw, made from records: plain rows of names and numbers, and nothing that a figure would compute.

A *scene* is one scenario of one run. A figure is given the scenes of a scenario, one for each run that has it, and a
ratio. So runs stand beside each other on the same axes.

Names come from files of users; they are spelled as memvirt.report.escape.plain spells them, here and in the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import fsum

from memvirt.metrics.metric import Better
from memvirt.report.columns import Column
from memvirt.report.escape import plain
from memvirt.report.figures.style import Rows
from memvirt.report.runs import Run
from memvirt.report.standing import TIE
from memvirt.report.summary import Group, Row, averaged, ratio_label
from memvirt.results.derived import fault_latencies
from memvirt.results.manifest import Asked
from memvirt.results.record import Histogram, Record
from memvirt.units import PAGE_SIZE

MIB = 2**20 // PAGE_SIZE  # frames
ALL_FAULTS = "all faults"
FAULT_NAMES = {
    "zero": "first touch",
    "huge": "first touch, 2 MiB",
    "cow": "write that copies",
    "reuse": "write, last holder",
    "cached": "still in a frame",
    "same": "same-filled",
    "zpool": "decompressed",
    "swap": "read from swap",
}
SLOWDOWN = "slowdown: time / time with enough memory"
SLOWDOWN_OF_WORK = "slowdown: (work + stall) / work"
LEFT_OUT = ("refill",)  # of the translation cache: too many and too short to see beside faults
FINEST = 10**6  # of 1 / (1 - share): curves end at 99.9999 %
STEP = 1.02  # points of a curve nearer than this to the last one are left out


@dataclass(frozen=True, slots=True)
class Scene:
    """One scenario of one run."""

    run: str
    name: str
    description: str
    groups: tuple[Group, ...]  # a ratio each, ascending
    records: tuple[Record, ...] = field(repr=False)  # of the scenario, baselines included
    asked: Asked | None = None  # of the run
    presets: tuple[str, ...] = ()  # of all runs that are shown together, whether they finished or not

    @property
    def ratios(self) -> list[str]:
        return [group.ratio for group in self.groups]

    @property
    def searched(self) -> bool:
        """Whether its sizes are those of a search for the largest fleet."""
        return self.asked is not None and self.asked.search is not None

    @property
    def simulated(self) -> bool:
        """Whether an order of replacement ran alone, without a host."""
        return self.groups[0].simulated

    @property
    def timed(self) -> bool:
        """Whether its VMs have work that takes time of its own: slowdown is of that, sleep left out."""
        return any("work_ns" in vm for record in self.records for vm in record.vms.values())

    def group(self, ratio: str) -> Group | None:
        return next((group for group in self.groups if group.ratio == ratio), None)

    def at(self, ratio: str) -> list[tuple[str, list[Record]]]:
        """(preset, its records over seeds) at a ratio, presets that finished every seed; the optimum is no preset."""
        group = self.group(ratio)
        done = [row.preset for row in group.columns_only() if row.done] if group else []
        there = [record for record in self.records if record.ratio == ratio and record.role == "column"]
        return [(preset, [record for record in there if plain(record.preset) == preset]) for preset in done]


def scenes(runs: Sequence[Run]) -> list[list[Scene]]:
    """The scenes of each scenario, runs in order; runs of different suites have no scenario in common."""
    found: dict[tuple[str, str], list[Scene]] = {}
    presets = tuple(dict.fromkeys(row.preset for run in runs for group in run.groups() for row in group.rows))
    for run in runs:
        every = run.groups()
        for name in dict.fromkeys(group.scenario for group in every):
            members = tuple(group for group in every if group.scenario == name)
            records = tuple(record for record in run.records if plain(record.base_scenario) == name)
            scene = Scene(plain(run.name), name, members[0].description, members, records, run.manifest.asked, presets)
            found.setdefault((run.manifest.suite, name), []).append(scene)
    return list(found.values())


def names_of(scenes: Iterable[Scene]) -> list[str]:
    """Every preset of what is shown together, in the order of the runs: what colours and shapes go by."""
    return list(dict.fromkeys(preset for each in scenes for preset in each.presets))


def ratios(scenes: Iterable[Scene]) -> list[str]:
    """The ratios that any of the scenes has, ascending."""
    return sorted({ratio for each in scenes for ratio in each.ratios}, key=float)


def telling_ratio(scenes: Sequence[Scene]) -> str:
    """The hardest ratio that at least half of the presets finished, of those that finished any: one that is refused
    everywhere has no say (traces: the smallest capacity). Where there is none, the one that most finished."""
    known = ratios(scenes)
    if scenes[0].simulated:
        return known[0]
    finished = {ratio: {(i, name) for i, each in enumerate(scenes) for name, _ in each.at(ratio)} for ratio in known}
    half = len(set[object]().union(*finished.values())) / 2
    return max(known, key=lambda ratio: (min(len(finished[ratio]), half), float(ratio)))


MANY = 8  # presets: of more a figure tells some, and the others are grey or left out
ENDS = 3  # of those that are told: the best, and as many of the last


def told(scenes: Sequence[Scene], ratio: str) -> list[str]:
    """The presets that a figure tells apart by looks, in the order of the runs: all, or, of more than MANY, the best and the
    last ones in the deciding column at a ratio, with the optimum of traces. A rank that many have alike is not wider."""
    names = [name for name in names_of(scenes) if any(name in _finished(each) for each in scenes)]
    group = next((group for each in scenes if (group := each.group(ratio)) is not None), None)
    if len(names) <= MANY or group is None:
        return names
    column = deciding(scenes[0])
    sign = -1 if column.better is Better.HIGHER else 1
    marks = [
        (sign * mean, row.preset) for row in group.ranked() if row.done and (mean := row.mean(column.name)) is not None
    ]
    ranked = [name for _, name in sorted(marks)]
    optimum = [row.preset for row in group.rows if row.role == "baseline"]
    chosen = {*ranked[:ENDS], *ranked[-ENDS:], *optimum}
    return [name for name in names if name in chosen]


def _finished(scene: Scene) -> set[str]:
    return {row.preset for group in scene.groups for row in group.rows if row.done}


def others(scenes: Sequence[Scene], told: Sequence[str], rows: Rows) -> list[str]:
    """Presets that rows have and that are not told."""
    there = {row["preset"] for row in rows}
    return [name for name in names_of(scenes) if name in there and name not in told]


def panels(scenes: Sequence[Scene], ratio: str, rows: Rows) -> tuple[list[str], str]:
    """The presets of rows that have a panel each in a figure, and a sentence about the others, where there are too many."""
    there = {row["preset"] for row in rows}
    names = [name for name in names_of(scenes) if name in there]
    if len(names) <= MANY:
        return names, ""
    chosen = [name for name in told(scenes, ratio) if name in there]
    left = [name for name in names if name not in chosen]
    return chosen, f" Drawn are {chosen_by(scenes)}; not drawn, for want of room: {', '.join(left)}."


def chosen_by(scenes: Sequence[Scene]) -> str:
    """By what those that are told were chosen."""
    return f"the best and the last {ENDS} in {deciding(scenes[0]).title}"


def at(scenes: Sequence[Scene], ratio: str) -> str:
    """The ratio in words: of a trace it is a capacity."""
    return f"{'capacity' if scenes[0].simulated else 'ratio'} {ratio_label(ratio)}"


def at_ratio(scenes: Sequence[Scene], ratio: str) -> str:
    """What the ratio in a title is of: a line of the key."""
    whole = "memory / pages of the trace" if scenes[0].simulated else "memory promised / host memory"
    return f"{ratio_label(ratio)}: {whole}"


def means(scenes: Sequence[Scene]) -> str:
    """What a mark is of, in seeds: of a key."""
    seeds = max(len(group.seeds) for each in scenes for group in each.groups)
    return f"mean of {seeds} seeds" if seeds > 1 else "one seed"


def missing(scenes: Iterable[Scene], ratio: str | None = None) -> str:
    """Which presets have no numbers, and how they ended; "" when all have."""
    told: dict[str, list[str]] = {}
    for each in scenes:
        for group in each.groups:
            for row in group.rows:
                if not row.done and ratio in (None, group.ratio):
                    told.setdefault(row.status, []).append(row.preset + (f" at {group.ratio}" if ratio is None else ""))
    return "; ".join(f"{status}: {', '.join(dict.fromkeys(places))}" for status, places in told.items())


# ---- numbers over seeds


def tradeoff(scene: Scene) -> Rows:
    """A row for each preset and ratio that finished: effective overcommit and slowdown, with intervals where there are
    any, and whether it is on the Pareto front (`_front`)."""
    rows: Rows = []
    for group in scene.groups:
        for row in group.columns_only():
            if row.done and all(min(row.values.get(name, (0,))) > 0 for name in ("effective_overcommit", "slowdown")):
                rows.append(_trade(scene, group, row))
    for best in _front(rows):
        best["front"] = True
    return rows


def _front(rows: Rows) -> Rows:
    """Rows that none of the front equals in both, slowdown and overcommit; within a tie they are equal.

    Best first, by the ratio of the two: so a row that is beaten by however little is beaten by one of the front, and a
    line along it never turns back.
    """
    found: Rows = []
    for row in sorted(rows, key=lambda row: row["slowdown"] / row["overcommit"]):
        slowest, least = row["slowdown"] * (1 + TIE), row["overcommit"] / (1 + TIE)
        if not any(best["slowdown"] <= slowest and best["overcommit"] >= least for best in found):
            found.append(row)
    return found


def _trade(scene: Scene, group: Group, row: Row) -> dict[str, object]:
    found: dict[str, object] = {
        "run": scene.run,
        "preset": row.preset,
        "ratio": float(group.ratio),
        "n": len(row.values["slowdown"]),
        "front": False,
    }
    for name, column in (("overcommit", "effective_overcommit"), ("slowdown", "slowdown")):
        mean, interval = averaged(row.values[column], column)
        low, high = (interval.low, interval.high) if interval else (mean, mean)
        # Less memory makes nothing faster, unless a seed shows it: an interval that reaches farther down says nothing.
        least = min(1.0, *row.values["slowdown"]) if name == "slowdown" else 0.0
        found |= {name: mean, f"{name}_low": max(low, least), f"{name}_high": high}
    return found


def over_ratios(scene: Scene, name: str) -> Rows:
    """A row for each preset and ratio that has a metric: its mean and interval; the optimum of traces is a preset."""
    rows: Rows = []
    for group in scene.groups:
        for row in group.rows:
            values = row.values.get(name)
            if row.done and values:
                mean, interval = averaged(values, name)
                rows.append(
                    {
                        "run": scene.run,
                        "preset": row.preset,
                        "ratio": float(group.ratio),
                        "value": mean,
                        "low": interval.low if interval else mean,
                        "high": interval.high if interval else mean,
                        "n": len(values),
                    }
                )
    return rows


def deciding(scene: Scene) -> Column:
    """The column that the run's line under the table speaks of: slowdown, or a suite's first."""
    columns = scene.groups[0].columns
    if scene.groups[0].learned == "slowdown":
        return next((column for column in columns if column.name == "slowdown"), columns[0])
    return next((column for column in columns if column.better is not Better.NEITHER), columns[0])


def over_seeds(scene: Scene, ratio: str, column: Column) -> Rows:
    """A row for each preset and seed: the value, and the same as per cent above the preset's mean."""
    group = scene.group(ratio)
    rows: Rows = []
    for row in group.columns_only() if group else ():
        values = row.values.get(column.name)
        if not row.done or not values or group is None:
            continue
        mean, interval = averaged(values, column.name)
        for seed, value in zip(group.seeds, values, strict=False):
            rows.append(
                {
                    "run": scene.run,
                    "preset": row.preset,
                    "seed": seed,
                    "value": value,
                    "mean": mean,
                    "low": interval.low if interval else None,
                    "high": interval.high if interval else None,
                }
            )
    return rows


# ---- histograms and indices


def latencies(scene: Scene, ratio: str) -> Rows:
    """Percentile curves, a row a point: `over` is 1 / (1 - share of faults at most that long), `us` the time.

    One curve for each preset and kind of fault, and one for all kinds together. Seeds are counted together; `count` is
    how many faults they are for each seed.
    """
    rows: Rows = []
    for preset, records in scene.at(ratio):
        kinds: dict[str, list[Histogram]] = {ALL_FAULTS: [fault_latencies(each.histograms) for each in records]}
        for kind in dict.fromkeys([*FAULT_NAMES, *(kind for each in records for kind in each.histograms)]):
            if kind not in LEFT_OUT:
                kinds[fault_name(kind)] = [each.histograms[kind] for each in records if kind in each.histograms]
        for name, histograms in kinds.items():
            count = sum(number for histogram in histograms for _, number in histogram) / len(records)
            place = {"run": scene.run, "preset": preset, "kind": name, "count": count}
            rows += [{**place, "over": over, "us": us} for over, us in curve(histograms)]
    return rows


def fault_name(kind: str) -> str:
    """A kind of fault in words, or as it is called."""
    return FAULT_NAMES.get(kind, kind)


def curve(histograms: Sequence[Histogram]) -> list[tuple[float, float]]:
    """The points of a percentile curve, ascending; empty when nothing was counted."""
    counts: dict[int, int] = {}
    for histogram in histograms:
        for value, count in histogram:
            counts[value] = counts.get(value, 0) + count
    total = sum(counts.values())
    points: list[tuple[float, float]] = []
    seen = 0
    for value in sorted(counts):
        start = total / (total - seen)
        if not points or start >= points[-1][0] * STEP or seen + counts[value] == total:
            points.append((round(min(start, FINEST), 6), value / 1000))
        seen += counts[value]
    if points:
        points.append((float(min(max(total, points[-1][0] * STEP), FINEST)), points[-1][1]))
    return points


def unusable(scene: Scene, ratio: str) -> Rows:
    """A row for each preset and order: the share of free memory that no block of that order can use, mean over seeds."""
    rows: Rows = []
    for preset, records in scene.at(ratio):
        indices = [each.fragmentation.get("unusable", ()) for each in records]
        orders = min((len(index) for index in indices), default=0)
        for order in range(orders):
            percent = fsum(index[order] / 10 for index in indices) / len(indices)
            place = {"run": scene.run, "preset": preset, "order": order, "block": block_name(order)}
            rows.append({**place, "percent": percent})
    return rows


def block_name(order: int) -> str:
    """The size of a block of 2**order pages."""
    size = PAGE_SIZE << order
    return f"{size >> 20} MiB" if size >= 2**20 else f"{size >> 10} KiB"
