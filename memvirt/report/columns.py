"""Columns of tables: what a number is headed with. How it follows from counts is memvirt.results.derived's.

A suite names its columns by metrics of the registry, the deciding one first; a suite that names none has `COLUMNS`.
Every metric can be a column. The ones below have heads of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from memvirt.metrics.metric import Better, Kind
from memvirt.metrics.registry import REGISTRY
from memvirt.names import HOST_STATES
from memvirt.results.manifest import Shown
from memvirt.results.record import Record


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a cell: what tables head it with."""

    name: str  # of a metric of the registry
    title: str  # in words
    head: str  # the same in narrow lines
    unit: str  # "" for a count
    better: Better
    wall: bool = False  # of this machine's clock: marked as a single run, never compared

    def value(self, record: Record) -> float | None:
        """The number in a record; None: this cell has none (no fault, no baseline)."""
        return _clocked(record, self.name) if self.wall else record.number(self.name)


def _clocked(record: Record, name: str) -> float | None:
    """A number of this machine's clock."""
    found = record.measured.get("accesses_per_s" if name == SPEED else name)
    if isinstance(found, Mapping):  # phase -> ns
        found = found.get("measured")
    return None if found is None else found / 1e6 if name == SPEED else float(found)


SPEED = "simulated_maccesses_per_s"


_UP, _DOWN = Better.HIGHER, Better.LOWER
COLUMNS = (
    Column("effective_overcommit", "effective overcommit", "effective\novercommit", "×", _UP),
    Column("slowdown", "slowdown", "slowdown", "×", _DOWN),
    Column("faults", "faults", "faults", "", _DOWN),
    Column("fault_p99_us", "p99 fault latency", "p99\nfault", "µs", _DOWN),
    Column("swap_traffic_mib", "swap traffic", "swap\ntraffic", "MiB", _DOWN),
    Column("unusable_2mib_percent", "free memory unusable as 2 MiB", "unusable\nas 2 MiB", "%", _DOWN),
    Column("cpu_overhead_percent", "CPU to manage memory", "CPU to\nmanage", "%", _DOWN),
    Column(SPEED, "simulator speed", "simulator\nspeed", "M/s", _UP, wall=True),
)


# How names end that say their unit, which stands beside them instead; longer endings first.
TOLD = {
    "_gib_per_s": "GiB/s", "_per_s": "1/s", "_percent": "%", "_frames": "frames", "_pages": "pages", "_bytes": "bytes",
    "_mib": "MiB", "_ns": "ns", "_us": "µs", "_ms": "ms",
}  # fmt: skip
SILENT = ("events", "calls", "attempts", "index", "state")  # units that tell nothing beside a name


def _registered(name: str, head: str = "") -> Column:
    """A column of a metric. Its head is its name in words over two lines, unless given: without its unit, which stands
    beside it unless the words say it, and whose it is (`waited_ms.gold`) below or behind a comma."""
    metric = REGISTRY[name]
    base, _, whose = name.partition(".")
    if base == "guest":
        base, whose = whose.removeprefix("guest_"), "in guests"
    ending = next((each for each, unit in TOLD.items() if base.endswith(each) and unit in (metric.unit, "ns")), "")
    words = base.removesuffix(ending).split("_")
    half = len(words) if whose else (len(words) + 1) // 2
    lines = head.split("\n") if head else [" ".join(words[:half]), " ".join(words[half:])]
    title = " ".join(filter(None, lines))
    if whose and (not head or metric.unit == "×"):
        lines, title = [title, whose.replace("_", " ")], f"{title}, {whose.replace('_', ' ')}"
    said = metric.unit in SILENT or {metric.unit, metric.unit.removesuffix("s")} & {*title.split()}
    unit = "" if said else metric.unit
    return Column(name, title, "\n".join(filter(None, lines)), unit, metric.better, metric.kind is Kind.WALL_TIME)


BY_NAME = {
    column.name: column
    for column in (
        *COLUMNS,
        _registered("miss_ratio", "miss\nratio"),
        _registered("of_optimum", "hits /\noptimum"),
        _registered("compulsory_misses", "compulsory\nmisses"),
        _registered("pages_shared", "pages\nshared"),
        _registered("pages_sharing", "pages\nsharing"),
        _registered("zero_pages", "zero\npages"),
        _registered("saved_net_frames", "frames\nsaved net"),
        _registered("saved_zero_pages", "saved as\nzeros"),
        _registered("saved_intra_pages", "saved\nwithin VMs"),
        _registered("saved_inter_pages", "saved\nbetween VMs"),
        _registered("saved_sharing_frames", "saved by\nsharing"),
        _registered("shared_percent", "in shared\nframes"),
        _registered("saved_by_sharing_percent", "saved by\nsharing"),
        _registered("saved_cloning_frames", "saved by\ncloning"),
        _registered("saved_zpool_frames", "saved by\ncompression"),
        _registered("cow_breaks_shared", "merges undone\nby writes"),
        _registered("sharing_debt_frames", "sharing\ndebt"),
        _registered("scan_s_per_gib_saved", "CPU per\nGiB saved"),
        _registered("merge_delay_us", "time to\nmerge"),
        _registered("storm_frames_per_ms", "frames\ndemanded"),
        _registered("stall_percent", "some VM\nstalled"),
        _registered("vms_stalled_percent", "VMs\nstalled"),
        _registered("worst_stall_percent", "worst VM\nstalled"),
        _registered("cow_p999_us", "p99.9\nCOW write"),
        _registered("pool_ratio", "pool\nratio"),
        _registered("zpool_waste_percent", "pool\nwaste"),
        _registered("huge_mapped_percent", "mapped\nhuge"),
        _registered("contiguity_pages", "mean run\nof pages"),
        _registered("compact_moved", "moved by\ncompaction"),
        _registered("compact_blocks", "2 MiB\nblocks made"),
        _registered("huge_missed", "huge first\ntouches missed"),
        _registered("harvested", "accessed\nmarks found"),
        _registered("cold_percent", "cold\npages"),
        _registered("stays_mib", "memory held\nat the end"),
        _registered("give_gib_per_s", "giving\nspeed"),
        _registered("give_ms", "time to\ngive"),
        _registered("return_gib_per_s", "return\nspeed"),
        _registered("return_ms", "time to\nreturn"),
        _registered("guest.messages", "messages\nof guests"),
        _registered("guest.unplug_moved", "moved to\nunplug"),
        _registered("usage.guest", "frames\nof VMs"),
        _registered("slowdown_p99_worst_vm", "slowdown p99,\nworst VM"),
        *(_registered(f"slowdown_worst{whose}", "worst\nslowdown") for whose in ("", ".gold", ".silver", ".bronze")),
        *(_registered(f"state_percent.{name}", f"time in\nstate {name}") for name in HOST_STATES),
    )
}


# Metrics that may be negative, by how their names begin; shares that may be more than all of what they are of.
SIGNED = ("saved_", "general_profit", "extfrag")
OPEN = ("beyond_shares_percent", "share_error_percent")


def bounds(name: str) -> tuple[float, float]:
    """The least and the most that a metric can be: no interval of a mean reaches farther."""
    if name.startswith(SIGNED):
        return -inf, inf
    if name.startswith("slowdown_"):  # (work + waiting) / work
        return 1.0, inf
    share = REGISTRY[name].unit == "%" and not name.startswith(OPEN)
    return 0.0, 100.0 if share else inf


def column(name: str) -> Column:
    """The column of a registered metric."""
    return BY_NAME[name] if name in BY_NAME else _registered(name)


def columns_of(shown: Shown) -> tuple[Column, ...]:
    """What a run's tables show."""
    return tuple(column(name) for name in shown.columns) or COLUMNS
