"""Columns of tables: what a number is headed with, and how it follows from a record.

A suite names its columns by metrics of the registry, the deciding one first; a suite that names none has `COLUMNS`.
Every metric can be a column. The ones below have heads of their own, or follow from several parts of a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from memvirt.metrics.metric import Better
from memvirt.metrics.registry import FAULT_KINDS, REGISTRY
from memvirt.results.record import Histogram, Record, percentile
from memvirt.workloads.aging import HUGE_ORDER

PAGES_PER_MIB = 256
PAGE_BYTES = 4096
P99, P999 = 990, 999


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


def _percent_of(part: str) -> Callable[[Record], float | None]:
    """A derived share as percent."""
    share = _derived(part)

    def percent(record: Record) -> float | None:
        value = share(record)
        return None if value is None else 100 * value

    return percent


def _cow_p999_us(record: Record) -> float | None:
    value = percentile(record.histograms.get("cow", []), P999)
    return None if value is None else value / 1000


def _elapsed_ns(record: Record) -> int:
    """Simulated time of the phase: that of the VM that took longest."""
    return max((vm["sim_ns"] for vm in record.vms.values()), default=0)


def _storm_frames_per_ms(record: Record) -> float | None:
    elapsed = _elapsed_ns(record)
    return record.counters.get("fault_cow", 0) * 1e6 / elapsed if elapsed else None


def _stall_percent(record: Record) -> float | None:
    elapsed = _elapsed_ns(record)
    return 100 * int(record.derived.get("stall_some_ns", 0)) / elapsed if elapsed else None


def _vms_stalled_percent(record: Record) -> float | None:
    stalled = [vm["stall_ns"] > 0 for vm in record.vms.values()]
    return 100 * sum(stalled) / len(stalled) if stalled else None


def _worst_stall_percent(record: Record) -> float | None:
    return max((100 * vm["stall_ns"] / vm["sim_ns"] for vm in record.vms.values() if vm["sim_ns"]), default=None)


def _merge_delay_us(record: Record) -> float | None:
    delay = record.derived.get("merge_delay_ns", "")
    return None if delay == "" else int(delay) / 1000


def _scan_s_per_gib(record: Record) -> float | None:
    spent = record.sharing.get("scan_ns_per_gib_saved")
    return spent / 1e9 if spent else None


def _zpool_waste_percent(record: Record) -> float | None:
    waste: Mapping[str, int] = record.fragmentation.get("zpool_waste", {})
    held = record.usage.get("zspage", 0) * PAGE_BYTES
    return 100 * sum(waste.values()) / held if held else None


def _pool_ratio(record: Record) -> float | None:
    frames = record.usage.get("zspage", 0)
    return record.stores.get("zpool", 0) / frames if frames else None


def _of_vms(record: Record, name: str) -> int:
    vms: Mapping[str, Mapping[str, int]] = record.fragmentation.get("vms", {})
    return sum(vm[name] for vm in vms.values())


def _huge_mapped_percent(record: Record) -> float | None:
    present = _of_vms(record, "present_pages")
    return 100 * _of_vms(record, "huge_pages") / present if present else None


def _mean_run(record: Record) -> float | None:
    runs = _of_vms(record, "runs")
    return _of_vms(record, "present_pages") / runs if runs else None


def _plain(name: str) -> Callable[[Record], float | None]:
    """A number that stands in a record as it is."""

    def value(record: Record) -> float | None:
        parts: tuple[Mapping[str, int | str], ...] = (record.derived, record.counters, record.sharing)
        found = next((part[name] for part in parts if name in part), "")
        return None if found == "" else float(found)

    return value


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


def _registered(name: str, head: str = "", value: Callable[[Record], float | None] | None = None) -> Column:
    """A column of a metric; its head is its name over two lines, unless given."""
    metric = REGISTRY[name]
    title = head.replace("\n", " ") or name.replace("_", " ")
    words = title.split()
    folded = " ".join(words[: (len(words) + 1) // 2]) + "\n" + " ".join(words[(len(words) + 1) // 2 :])
    unit = metric.unit if metric.unit in ("×", "%", "ns", "µs", "s/GiB", "1/ms", "bytes", "1/1000") else ""
    return Column(name, title, head or folded.strip(), unit, metric.better, value or _plain(name))


BY_NAME = {
    column.name: column
    for column in (
        *COLUMNS,
        _registered("miss_ratio", "miss\nratio", _percent_of("miss_ratio")),
        _registered("of_optimum", "hits /\noptimum", _percent_of("of_optimum")),
        _registered("compulsory_misses", "compulsory\nmisses"),
        _registered("pages_shared", "pages\nshared"),
        _registered("pages_sharing", "pages\nsharing"),
        _registered("zero_pages", "zero\npages"),
        _registered("saved_net_frames", "frames\nsaved net"),
        _registered("saved_zero_pages", "of it\nzeros"),
        _registered("saved_intra_pages", "within\nVMs"),
        _registered("saved_inter_pages", "between\nVMs"),
        _registered("sharing_debt_frames", "sharing\ndebt"),
        _registered("scan_s_per_gib_saved", "CPU per\nGiB saved", _scan_s_per_gib),
        _registered("merge_delay_us", "time to\nmerge", _merge_delay_us),
        _registered("storm_frames_per_ms", "frames\ndemanded", _storm_frames_per_ms),
        _registered("stall_percent", "stalled", _stall_percent),
        _registered("vms_stalled_percent", "VMs\nstalled", _vms_stalled_percent),
        _registered("worst_stall_percent", "worst\nstalled", _worst_stall_percent),
        _registered("cow_p999_us", "p99.9\nCOW write", _cow_p999_us),
        _registered("pool_ratio", "pool\nratio", _pool_ratio),
        _registered("zpool_waste_percent", "pool\nwaste", _zpool_waste_percent),
        _registered("huge_mapped_percent", "mapped\nhuge", _huge_mapped_percent),
        _registered("contiguity_pages", "mean run\nof pages", _mean_run),
        _registered("compact_moved", "compaction\nmoved"),
    )
}


def column(name: str) -> Column:
    """The column of a registered metric."""
    return BY_NAME[name] if name in BY_NAME else _registered(name)


def columns_of(record: Record) -> tuple[Column, ...]:
    """What the table of a record's suite shows."""
    return tuple(column(name) for name in record.shown.get("columns", ())) or COLUMNS
