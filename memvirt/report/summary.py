"""From records to what a table shows: groups of scenario and ratio, a row for each preset, a value for each column.

A value is the mean over seeds. A row whose cells did not all end shows how they ended and no values: a mean over the
seeds that happened to fit would flatter the preset. Baselines are no rows, for slowdowns were divided by them already;
but the optimum that traces are held against is one.

A best value is marked where it is told apart from the next one: over the seeds, which takes five of them. With fewer
nothing is marked, for what another seed gives is unknown. A zero is not marked (what did not happen is seen anyway),
and neither are numbers of this machine's clock. A row whose decider had no part in its numbers, in no cell of the run, is
a row of its preset in name only: it is shown and not ranked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import fsum

from memvirt.metrics.metric import Better
from memvirt.report.columns import COLUMNS, Column, bounds, columns_of
from memvirt.report.escape import plain
from memvirt.report.statistics import MIN_SEEDS, Interval, mean_interval, told_apart
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record, Role

SINGLE_RUN = "single run"
DIFFERS = 0.1  # of the mean: seeds that lie farther apart are marked
MISSING = "–"
ARROWS = {Better.HIGHER: "↑", Better.LOWER: "↓", Better.NEITHER: ""}
SCALES = ((1e4, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (float("inf"), 1e9, "G"))  # below, divided by, marked


@dataclass(frozen=True, slots=True)
class Row:
    """One preset within a group."""

    preset: str
    status: str  # "done" or how it ended
    reason: str  # what ran out, who refused; empty when done
    values: dict[str, tuple[float, ...]]  # column -> a value per seed, in the order of the seeds
    saved: dict[str, float]  # mechanism -> frames saved, mean over seeds, largest first, without zeros
    role: Role = "column"  # "baseline": the optimum, which takes no part in comparisons
    idle: bool = False  # its decider had no part in the run's numbers: it is not ranked
    column: str = ""  # the preset without its point of a sweep
    point: tuple[tuple[str, str], ...] = ()  # (setting, value) of a sweep

    @property
    def name(self) -> str:
        """The preset where the point has columns of its own."""
        return self.column or self.preset

    def value_of(self, setting: str) -> str:
        """A swept setting's value in this row."""
        return dict(self.point).get(setting, MISSING)

    @property
    def done(self) -> bool:
        return self.status == "done"

    @property
    def ending(self) -> str:
        """What ran out or who refused, in a few words; empty when done. The reason says the whole of it."""
        if self.status == "exhausted":
            return self.reason.rsplit(": ", 1)[-1].replace("_", " ")
        return {"refused": "by admission", "done": ""}.get(self.status, self.reason.split(":", 1)[0])

    def mean(self, column: str) -> float | None:
        """Mean over seeds; None when the cell has no such value."""
        values = self.values.get(column)
        return fsum(values) / len(values) if values else None

    def half(self, column: str) -> float | None:
        """How far the 95 % interval of the mean reaches; None below five seeds."""
        values = self.values.get(column, ())
        return reach(values) if len(values) >= MIN_SEEDS else None

    def differs(self, column: str) -> bool:
        """Whether its seeds lie far apart: then the mean alone says little."""
        values, mean = self.values.get(column, ()), self.mean(column)
        return bool(mean) and max(values) - min(values) > DIFFERS * abs(mean or 0)


def reach(values: Sequence[float]) -> float:
    """How far the 95 % interval of a mean reaches to its farther side."""
    interval, mean = mean_interval(values), fsum(values) / len(values)
    return max(interval.high - mean, mean - interval.low)


def averaged(values: Sequence[float], name: str) -> tuple[float, Interval | None]:
    """The mean of a metric over seeds, and its 95 % interval from five seeds on, cut at what the metric can be."""
    mean = fsum(values) / len(values)
    if len(values) < MIN_SEEDS:
        return mean, None
    found, (least, most) = mean_interval(values), bounds(name)
    return mean, Interval(max(found.low, least), min(found.high, most))


@dataclass(frozen=True, slots=True)
class Group:
    """All presets under one scenario at one overcommit ratio."""

    scenario: str  # without its ratio
    ratio: str  # an exact decimal
    description: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = COLUMNS  # what tables show
    learned: str = "slowdown"  # what the last line compares
    saved: bool = True  # whether frames saved by mechanism stand there, too
    simulated: bool = False  # a trace without a host: its ratio is the share of its pages that fits in memory
    timed: bool = False  # its VMs have work that takes time of its own: slowdown is of that

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings of a sweep: each has a column of its own."""
        return tuple(dict.fromkeys(key for row in self.rows for key, _ in row.point))

    def sections(self) -> list[tuple[Row, ...]]:
        """The rows of each point of a sweep; all in one where there is no sweep, or but one row at each point."""
        found: dict[tuple[tuple[str, str], ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.point, []).append(row)
        return [tuple(rows) for rows in found.values()] if len(found) < len(self.rows) else [self.rows]

    def columns_only(self) -> tuple[Row, ...]:
        """All rows but the optimum."""
        return tuple(row for row in self.rows if row.role == "column")

    def ranked(self) -> tuple[Row, ...]:
        """The rows that are compared: neither the optimum nor one whose decider had no part in it."""
        return tuple(row for row in self.columns_only() if not row.idle)

    @property
    def why_none(self) -> str:
        """Why it has no best row."""
        return "nobody finished" if self.ranked() or not self.rows else "nobody is ranked"

    def best(self, column: Column) -> set[str]:
        """The preset that is best in a column, with those that print alike; empty where it is not told apart from all the
        others, or where there are none: of two equal numbers, one must not be marked."""
        rows = [row for row in self.ranked() if row.done]
        means = {row.preset: mean for row in rows if (mean := row.mean(column.name)) is not None}
        if column.better is Better.NEITHER or column.wall or not means or len(self.seeds) < MIN_SEEDS:
            return set()
        sign = -1 if column.better is Better.HIGHER else 1
        first, *others = sorted(means, key=lambda preset: sign * means[preset])
        top = number(column, means[first])
        alike = {first, *(other for other in others if number(column, means[other]) == top)}
        rest = [preset for preset in others if preset not in alike]
        values = {row.preset: row.values[column.name] for row in rows if row.preset in means}
        clear = rest and all(told_apart(values[first], [values[other] for other in rest]))
        return alike if clear and means[first] != 0 and 2 * len(alike) <= len(means) else set()

    def is_best(self, row: Row, best: set[str]) -> bool:
        """Whether a row is one of the best: not the optimum, though a preset may have its name."""
        return row.role == "column" and row.preset in best


def groups(records: Iterable[Record], shown: Shown = USUAL) -> list[Group]:
    """The groups of a run's records, scenarios and presets in the order of the run, ratios ascending."""
    cells = [record for record in records if record.role == "column" or record.kind == "trace"]
    scenarios = {record.base_scenario: position for position, record in reversed(list(enumerate(cells)))}
    kept: dict[tuple[str, str], list[Record]] = {}
    for record in cells:
        kept.setdefault((record.base_scenario, record.ratio), []).append(record)
    order = sorted(kept, key=lambda key: (scenarios[key[0]], float(key[1])))
    sleeping = set(idle(cells))
    return [_group(scenario, ratio, kept[scenario, ratio], shown, sleeping) for scenario, ratio in order]


def idle(records: Iterable[Record]) -> dict[str, tuple[str, int]]:
    """Presets whose decider slept through every measured phase, or changed nothing in any and left no balloon filled: its
    name, and how many times it was asked."""
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        decider = record.config.get("host", {}).get("balloon")
        if decider and record.status == "done" and "decisions" in record.counters:
            asked, acted = counted.get((record.preset, decider), (0, 0))
            # A record without the second counter is of a version that did not count it: nothing is said of it.
            own = record.counters.get("decisions_acted", record.counters["decisions"]) + _holds(record)
            counted[record.preset, decider] = asked + record.counters["decisions"], acted + own
    return {preset: (str(decider), asked) for (preset, decider), (asked, acted) in counted.items() if not acted}


def _holds(record: Record) -> bool:
    """Whether a balloon holds at the end what a decider has put there before the measured phase."""
    return any(line["balloon_pages"][-1] for line in record.timeline.vms.values() if line.get("balloon_pages"))


def _group(scenario: str, ratio: str, records: list[Record], shown: Shown, sleeping: set[str]) -> Group:
    presets = dict.fromkeys((record.preset, record.role) for record in records)
    columns = columns_of(shown)
    return Group(
        scenario=plain(scenario),
        ratio=ratio,
        description=plain(records[0].description),
        seeds=tuple(sorted({record.seed for record in records})),
        rows=tuple(
            _row([record for record in records if (record.preset, record.role) == row], columns, row[0] in sleeping)
            for row in presets
        ),
        columns=columns,
        learned=shown.learned,
        saved=shown.saved,
        simulated=records[0].kind == "trace",
        timed=any(record.kind == "life" or is_timed(record) for record in records),
    )


def is_timed(record: Record) -> bool:
    """Whether its VMs have work that takes time of its own."""
    return any("work_ns" in vm for vm in record.vms.values())


def _row(records: list[Record], columns: Sequence[Column], sleeping: bool) -> Row:
    records = sorted(records, key=lambda record: record.seed)
    unfinished = [record for record in records if record.status != "done"]
    first = (unfinished or records)[0]
    point = tuple((plain(key), plain(value)) for key, value in first.swept.items())
    named = Row(plain(first.preset), "done", "", {}, {}, first.role, column=plain(first.column), point=point)
    if unfinished:
        share = f" ({len(unfinished)} of {len(records)} seeds)" if len(records) > 1 else ""
        return replace(named, status=first.status, reason=plain(first.reason) + share)
    values: dict[str, tuple[float, ...]] = {}
    for column in dict.fromkeys((*COLUMNS, *columns)):
        found = [value for record in records if (value := column.value(record)) is not None]
        if len(found) == len(records):
            values[column.name] = tuple(found)
    own = first.role == "column"
    return replace(named, values=values, saved=_saved(records), idle=sleeping and own)


def _saved(records: list[Record]) -> dict[str, float]:
    names = sorted({name for record in records for name in record.derived if _is_saving(name)})
    means = {
        name.removeprefix("saved_").removesuffix("_frames"): fsum(
            float(record.derived.get(name, 0)) for record in records
        )
        / len(records)
        for name in names
    }
    return dict(sorted(((name, mean) for name, mean in means.items() if mean), key=lambda item: -item[1]))


def _is_saving(name: str) -> bool:
    return name.startswith("saved_") and name.endswith("_frames")


def value_text(column: Column, row: Row) -> str:
    """A row's value in a column: its mean over seeds. Of ratios, from five seeds on, with how far the 95 % interval
    reaches; a "~" stands before a mean whose seeds lie far apart."""
    mean = row.mean(column.name)
    if mean is None:
        return MISSING
    far = "~" if row.differs(column.name) and not column.wall else ""
    half = row.half(column.name)
    return f"{far}{number(column, mean)}{spread(half) if column.unit == '×' else ''}"


def spread(half: float | None) -> str:
    """How far an interval reaches, with two places; "" where there is none, or where that rounds to nothing."""
    told = "" if half is None else f"±{half:.2f}"
    return "" if told == "±0.00" else told


def number(column: Column, value: float) -> str:
    """A value with the digits its column is read with: ratios two places, counts and amounts three figures."""
    if column.unit == "×":
        return f"{value:.2f}"
    if column.unit == "%":
        return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"
    return figures(value)


def figures(value: float) -> str:
    """Three figures, without an exponent: 0, 0.60, 1.89, 66.6, 1,753, 12.3k, 1.23M."""
    if value < 0:
        return f"−{figures(-value)}"
    divisor, suffix = next((d, s) for limit, d, s in SCALES if value < limit)
    scaled = value / divisor
    if value == int(value) and not suffix:
        return f"{scaled:,.0f}"
    return f"{scaled:,.{2 if scaled < 10 else 1 if scaled < 100 else 0}f}{suffix}"


def ratio_label(ratio: str) -> str:
    """A ratio as sections are named."""
    return f"{float(ratio):.2f}"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
