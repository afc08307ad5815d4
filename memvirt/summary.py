"""From records to what a table shows: groups of scenario and ratio, a row for each preset, a value for each column.

A value is the mean over seeds. A row whose cells did not all end shows how they ended and no values: a mean over the
seeds that happened to fit would flatter the preset. Baselines are not rows; slowdowns were divided by them already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from memvirt.metrics import FAULT_KINDS, Better
from memvirt.plan import BASELINE
from memvirt.record import Histogram, Record, percentile
from memvirt.stats import MIN_SEEDS, mean_interval

HUGE_ORDER = 9  # 2 MiB of 4 KiB pages
PAGES_PER_MIB = 256
SINGLE_RUN = "single run"
P99 = 990
MISSING = "–"
ARROWS = {Better.HIGHER: "↑", Better.LOWER: "↓", Better.NEITHER: ""}
SCALES = ((1e4, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M"), (float("inf"), 1e9, "G"))  # below, divided by, marked


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a cell: what tables head it with, and how it follows from a record."""

    name: str
    title: str  # in words
    head: str  # the same in narrow lines
    unit: str  # "" for a count
    better: Better
    value: Callable[[Record], float | None]  # None: this cell has none (no fault, no baseline)
    wall: bool = False  # of this machine's clock: marked as a single run, never compared


@dataclass(frozen=True, slots=True)
class Row:
    """One preset within a group."""

    preset: str
    status: str  # "done" or how it ended
    reason: str  # what ran out, who refused; empty when done
    values: dict[str, tuple[float, ...]]  # column -> a value per seed, in the order of the seeds
    saved: dict[str, float]  # mechanism -> frames saved, mean over seeds, largest first, without zeros

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

    def best(self, column: Column) -> set[str]:
        """The presets that are best in a column; none when nobody is, or every one is."""
        means = {row.preset: mean for row in self.rows if row.done and (mean := row.mean(column.name)) is not None}
        if column.better is Better.NEITHER or column.wall or len(set(means.values())) < 2:
            return set()
        top = max(means.values()) if column.better is Better.HIGHER else min(means.values())
        return {preset for preset, mean in means.items() if mean == top}


def _derived(name: str) -> Callable[[Record], float | None]:
    return lambda record: float(text) if (text := record.derived.get(name, "")) != "" else None


def fault_latencies(record: Record) -> Histogram:
    """The simulated time of every fault of every kind; a refill of the translation cache is not a fault."""
    merged: dict[int, int] = {}
    for kind in FAULT_KINDS:
        if kind != "refill":
            for value, count in record.histograms.get(kind, ()):
                merged[value] = merged.get(value, 0) + count
    return sorted(merged.items())


def _p99_us(record: Record) -> float | None:
    value = percentile(fault_latencies(record), P99)
    return None if value is None else value / 1000


def _swap_mib(record: Record) -> float:
    pages = record.counters.get("swap_pages_out", 0) + record.counters.get("swap_pages_in", 0)
    return pages / PAGES_PER_MIB


def _unusable_percent(record: Record) -> float | None:
    index: Sequence[int] = record.fragmentation.get("unusable", ())
    return index[HUGE_ORDER] / 10 if len(index) > HUGE_ORDER else None


def _overhead_percent(record: Record) -> float | None:
    total = sum(record.cpu_ns.values())
    own = record.cpu_ns.get("access", 0) + record.cpu_ns.get("guest", 0)
    return 100 * (total - own) / total if total else None


def _speed(record: Record) -> float | None:
    speed = record.measured.get("accesses_per_s")
    return None if speed is None else speed / 1e6


_UP, _DOWN = Better.HIGHER, Better.LOWER
COLUMNS = (
    Column(
        "effective_overcommit",
        "effective overcommit",
        "effective\novercommit",
        "×",
        _UP,
        _derived("effective_overcommit"),
    ),
    Column("slowdown", "slowdown", "slowdown", "×", _DOWN, _derived("slowdown")),
    Column("faults", "faults", "faults", "", _DOWN, _derived("faults")),
    Column("fault_p99_us", "p99 fault latency", "p99\nfault", "µs", _DOWN, _p99_us),
    Column("swap_traffic_mib", "swap traffic", "swap\ntraffic", "MiB", _DOWN, _swap_mib),
    Column(
        "unusable_2mib_percent", "free memory unusable as 2 MiB", "unusable\nas 2 MiB", "%", _DOWN, _unusable_percent
    ),
    Column("cpu_overhead_percent", "CPU share of memory management", "CPU\nshare", "%", _DOWN, _overhead_percent),
    Column("simulated_maccesses_per_s", "simulator speed", "simulator\nspeed", "M/s", _UP, _speed, wall=True),
)
BY_NAME = {column.name: column for column in COLUMNS}


def groups(records: Iterable[Record]) -> list[Group]:
    """The groups of a run's records, scenarios and presets in the order of the run, ratios ascending."""
    cells = [record for record in records if not record.preset.startswith(BASELINE)]
    scenarios = {base_name(record): position for position, record in reversed(list(enumerate(cells)))}
    kept: dict[tuple[str, str], list[Record]] = {}
    for record in cells:
        kept.setdefault((base_name(record), record.ratio), []).append(record)
    order = sorted(kept, key=lambda key: (scenarios[key[0]], float(key[1])))
    return [_group(scenario, ratio, kept[scenario, ratio]) for scenario, ratio in order]


def base_name(record: Record) -> str:
    """The scenario's name without the ratio that is appended to it."""
    return str(record.config.get("scenario", {}).get("name", record.scenario))


def _group(scenario: str, ratio: str, records: list[Record]) -> Group:
    presets = dict.fromkeys(record.preset for record in records)
    return Group(
        scenario=scenario,
        ratio=ratio,
        description=str(records[0].config.get("scenario", {}).get("description", "")),
        seeds=tuple(sorted({record.seed for record in records})),
        rows=tuple(_row([record for record in records if record.preset == preset]) for preset in presets),
    )


def _row(records: list[Record]) -> Row:
    records = sorted(records, key=lambda record: record.seed)
    unfinished = [record for record in records if record.status != "done"]
    if unfinished:
        first = unfinished[0]
        share = f" ({len(unfinished)} of {len(records)} seeds)" if len(records) > 1 else ""
        return Row(first.preset, first.status, first.reason + share, {}, {})
    values: dict[str, tuple[float, ...]] = {}
    for column in COLUMNS:
        found = [value for record in records if (value := column.value(record)) is not None]
        if len(found) == len(records):
            values[column.name] = tuple(found)
    return Row(records[0].preset, "done", "", values, _saved(records))


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
