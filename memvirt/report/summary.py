"""From records to what a table shows: groups of scenario and ratio, a row for each preset, a value for each column.

A value is the mean over seeds. A row whose cells did not all end shows how they ended and no values: a mean over the
seeds that happened to fit would flatter the preset. Baselines are no rows, for slowdowns were divided by them already;
but the optimum that traces are held against is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from memvirt.metrics.metric import Better
from memvirt.report.columns import COLUMNS, Column, columns_of
from memvirt.report.statistics import MIN_SEEDS, mean_interval, told_apart
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record, Role

SINGLE_RUN = "single run"
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
    simulated: bool = False  # a trace without a host: its ratio is the share of its pages that fits in memory

    def columns_only(self) -> tuple[Row, ...]:
        """The rows that are compared: all but the optimum."""
        return tuple(row for row in self.rows if row.role == "column")

    def best(self, column: Column) -> set[str]:
        """The presets that are best in a column, the optimum apart, and those that print alike or are not told apart from
        the best over the seeds. Empty when that is every one: of two equal numbers, one must not be marked."""
        rows = [row for row in self.columns_only() if row.done]
        means = {row.preset: mean for row in rows if (mean := row.mean(column.name)) is not None}
        if column.better is Better.NEITHER or column.wall or not means:
            return set()
        sign = -1 if column.better is Better.HIGHER else 1
        first, *others = sorted(means, key=lambda preset: sign * means[preset])
        values = {row.preset: row.values[column.name] for row in rows if row.preset in means}
        apart = told_apart(values[first], [values[other] for other in others])
        top = number(column, means[first])
        tied = {
            other for other, far in zip(others, apart, strict=True) if not far or number(column, means[other]) == top
        }
        return {first, *tied} if len(tied) < len(others) else set()

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
    return [_group(scenario, ratio, kept[scenario, ratio], shown) for scenario, ratio in order]


def _group(scenario: str, ratio: str, records: list[Record], shown: Shown) -> Group:
    presets = dict.fromkeys((record.preset, record.role) for record in records)
    columns = columns_of(shown)
    return Group(
        scenario=scenario,
        ratio=ratio,
        description=records[0].description,
        seeds=tuple(sorted({record.seed for record in records})),
        rows=tuple(
            _row([record for record in records if (record.preset, record.role) == row], columns) for row in presets
        ),
        columns=columns,
        learned=shown.learned,
        simulated=records[0].kind == "trace",
    )


def _row(records: list[Record], columns: Sequence[Column]) -> Row:
    records = sorted(records, key=lambda record: record.seed)
    unfinished = [record for record in records if record.status != "done"]
    first = (unfinished or records)[0]
    if unfinished:
        share = f" ({len(unfinished)} of {len(records)} seeds)" if len(records) > 1 else ""
        return Row(first.preset, first.status, first.reason + share, {}, {}, first.role)
    values: dict[str, tuple[float, ...]] = {}
    for column in dict.fromkeys((*COLUMNS, *columns)):
        found = [value for record in records if (value := column.value(record)) is not None]
        if len(found) == len(records):
            values[column.name] = tuple(found)
    return Row(first.preset, "done", "", values, _saved(records), first.role)


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
    """A row's value in a column: its mean, and for ratios over five seeds how far the 95 % interval reaches."""
    mean = row.mean(column.name)
    if mean is None:
        return MISSING
    values = row.values[column.name]
    if column.unit != "×" or len(values) < MIN_SEEDS:
        return number(column, mean)
    interval = mean_interval(values)
    return f"{number(column, mean)}±{max(interval.high - mean, mean - interval.low):.2f}"


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
