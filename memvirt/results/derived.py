"""Every number that follows from a cell's counts: what tables show, beside the counts themselves.

The one place where numbers are divided. They are derived once, when a cell ends, and stand in its record as integers or
exact decimals, so that tables, exports and other programs read the same digits. Names, units and meanings are those of
memvirt.metrics.registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memvirt.metrics import fairness
from memvirt.names import NO_FAULTS
from memvirt.results.record import Histogram, Record, percentile, ratio_text
from memvirt.units import HUGE_ORDER, PAGE_SIZE

QUANTILES = (("p50", 500), ("p99", 990), ("p999", 999))
WINDOW_QUANTILES = (("p50", 500), ("p99", 990), ("worst", 1000))
DIGITS_OF_LEVELS = 3
PAGES_PER_MIB = 256
GIB_SHIFT = 30
COLD_NS = 120 * 10**9  # Google's far memory, ASPLOS 2019: the least age at which a page counts as cold
SHARE_UNITS = 10**6  # of a page for a share
DIGITS = 6  # of decimals that are not ratios with a custom of their own
SETTLED_CYCLES = 10
SETTLED_WITHIN = 10  # thousandths


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The raw numbers of a measured phase. Differences over the phase, or states at its end."""

    counters: dict[str, int]
    histograms: dict[str, Histogram]
    cpu_ns: dict[str, int]
    stall: dict[str, int]  # totals only
    usage: dict[str, int]
    sharing: dict[str, int]
    merge_times: tuple[int, int]  # merges, and the sum of what passed since each page was given its frame, ns
    stores: dict[str, int]
    fragmentation: Mapping[str, Any]
    vms: Mapping[str, Mapping[str, int]]  # VM -> accesses, sim_ns, stall_ns; where it is timed, work_ns and more
    timed: bool = False  # how long the phase takes was given: due times, or a time to last
    content_pages: int  # guest-visible pages that have content, summed over the samples of the phase
    used_frames: int  # host frames in use, metadata included, summed over the same samples
    configured_pages: int
    sim_ns: int
    windows: Mapping[str, Mapping[int, int]] = field(default_factory=dict)  # level -> slowdown, 1/1000 -> VM-windows
    requests: Mapping[str, Mapping[int, int]] = field(default_factory=dict)  # level -> ns since one was due -> requests
    # of groups with an objective: level -> VM-windows, those that broke it, ns waited, pages beyond what was due
    levels: Mapping[str, Sequence[int]] = field(default_factory=dict)
    held_for_shares: Mapping[str, Sequence[int]] = field(
        default_factory=dict
    )  # VM -> pages over windows, windows, shares
    share_error: Sequence[int] = (0, 0)
    cold: tuple[int, int] | None = (
        None  # pages in frames not accessed for COLD_NS, and all in frames; None: not looked at
    )
    baseline_ns: int  # of the same stream with enough memory; 0: there is none


def derived(taken: Taken) -> dict[str, int | str]:
    """Name -> value; ratios and shares as decimal strings, "" where there is none, everything else an integer."""
    return {
        "effective_overcommit": ratio_text(taken.content_pages, taken.used_frames, 3),
        "overcommit": ratio_text(taken.configured_pages, sum(taken.usage.values()), 2),
        **taken.stall,
        **_slowdowns(taken),
        **_requests(taken),
        **_service(taken),
        **_sharing(taken),
        **_lie(taken),
        **saved_frames(taken),
        **_shared(taken),
        **_stays(taken),
        **({} if taken.cold is None else {"cold_percent": ratio_text(100 * taken.cold[0], taken.cold[1], DIGITS)}),
        **_of_counts(taken),
    }


def _of_counts(taken: Taken) -> dict[str, int | str]:
    """Those that follow from counters, histograms and times, all of which a record keeps."""
    return {
        "slowdown": _slowdown(taken),
        "faults": sum(count for name, count in taken.counters.items() if name.startswith("fault_")),
        "cpu_total_ns": sum(taken.cpu_ns.values()),
        **_latencies(taken),
        **_shares(taken),
        **_states(taken),
        **_given(taken),
        **_backlog(taken),
        **{
            f"sim_ns.{kind}.{name}": value
            for kind, histogram in sorted(taken.histograms.items())
            for name, per_mille in QUANTILES
            if (value := percentile(histogram, per_mille)) is not None
        },
    }


def again(record: Record, baseline_ns: int) -> dict[str, int | str]:
    """Of a cell with VMs, those of its derived numbers that follow from what its record keeps, derived once more."""
    taken = Taken(
        counters=record.counters,
        histograms=record.histograms,
        cpu_ns=record.cpu_ns,
        stall={
            name: value if isinstance(value, int) else 0  # no engine writes text there: it will not follow
            for name, value in record.derived.items()
            if name.startswith("stall_some")
        },
        usage={},
        sharing={},
        merge_times=(0, 0),
        stores={},
        fragmentation={},
        vms=record.vms,
        timed=any("work_ns" in vm for vm in record.vms.values()),
        content_pages=0,
        used_frames=0,
        configured_pages=0,
        sim_ns=record.sim_ns,
        baseline_ns=baseline_ns,
    )
    return _of_counts(taken)


def _slowdown(taken: Taken) -> str:
    """Time over that with enough memory. Where the time is given, how much of it VMs wait says the same of their work:
    (work + stall) / work; what drivers in guests took of their processors counts as stall there."""
    if not taken.timed:
        return ratio_text(taken.sim_ns, taken.baseline_ns, 3)
    parts = ("work_ns", "stall_ns", "driver_ns")
    work, stall, driven = (sum(vm.get(part, 0) for vm in taken.vms.values()) for part in parts)
    return ratio_text(work + stall + driven, work, 3)


def _slowdowns(taken: Taken) -> dict[str, int | str]:
    """Of a fleet that lives: how slow VMs were, window by window; all of them, and those of each service level."""
    alone = [vm["slowdown_p99_milli"] for vm in taken.vms.values() if "slowdown_p99_milli" in vm]
    worst = {"slowdown_p99_worst_vm": ratio_text(max(alone), 1000, DIGITS_OF_LEVELS)} if alone else {}
    return {**_by_level("slowdown_{}", taken.windows, 1000), **worst}


def _requests(taken: Taken) -> dict[str, int | str]:
    """Of a fleet that has requests: ms from when one was due until it was done; of all, and of each service level."""
    return _by_level("request_{}_ms", {level: counts for level, counts in taken.requests.items() if counts}, 10**6)


def _by_level(name: str, counted: Mapping[str, Mapping[int, int]], unit: int) -> dict[str, int | str]:
    """Quantiles of all service levels together, and of each, in units of so much."""
    if not counted:
        return {}
    levels = {f".{level}": counts for level, counts in counted.items()}
    found: dict[str, int | str] = {}
    for ending, counts in {"": summed(counted.values()), **levels}.items():
        histogram = sorted(counts.items())
        for quantile, per_mille in WINDOW_QUANTILES:
            value = percentile(histogram, per_mille)
            found[name.format(quantile) + ending] = "" if value is None else ratio_text(value, unit, DIGITS_OF_LEVELS)
    return found


def summed(several: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Counts of the same values, added up."""
    whole: dict[int, int] = {}
    for counts in several:
        for value, count in counts.items():
            whole[value] = whole.get(value, 0) + count
    return whole


def _service(taken: Taken) -> dict[str, int | str]:
    """Of groups with an objective: how often it was broken, how long each level waited, and who held what is another's."""
    if not taken.levels:
        return {}
    amounts = [
        pages * SHARE_UNITS // (looks * shares) for pages, looks, shares in taken.held_for_shares.values() if shares
    ]
    equal, of = fairness.jain(amounts)
    wrong, held = taken.share_error
    found: dict[str, int | str] = {
        "jain_index": ratio_text(equal, of, 3),
        "share_error_percent": ratio_text(100 * wrong, held, 1),
    }
    whole = [sum(column) for column in zip(*taken.levels.values(), strict=True)]
    for ending, sums in {"": whole, **{f".{level}": sums for level, sums in taken.levels.items()}}.items():
        windows, broken, waited_ns, beyond = sums
        found[f"objective_broken_percent{ending}"] = ratio_text(100 * broken, windows, 2)
        found[f"waited_ms{ending}"] = ratio_text(waited_ns, 10**6, 1)
        if ending:
            found[f"beyond_shares_percent{ending}"] = ratio_text(200 * beyond, held, 1)
    return found


def of_trace(requests: int, misses: int, least: int) -> dict[str, int | str]:
    """What follows from the misses of an order alone; `least`: those of the optimum. Both in per cent."""
    return {
        "miss_ratio": ratio_text(100 * misses, requests, DIGITS),
        "of_optimum": ratio_text(100 * (requests - misses), requests - least, DIGITS),
    }


def fault_latencies(histograms: Mapping[str, Histogram]) -> Histogram:
    """The simulated time of every fault of every kind; neither a refill of the translation cache nor a request is one."""
    merged: dict[int, int] = {}
    for kind, histogram in histograms.items():
        if kind not in NO_FAULTS:
            for value, count in histogram:
                merged[value] = merged.get(value, 0) + count
    return sorted(merged.items())


def _states(taken: Taken) -> dict[str, int | str]:
    """Of a decider that has states: the part of the time that the host was in each."""
    spent = {name.removeprefix("state_ns."): ns for name, ns in taken.counters.items() if name.startswith("state_ns.")}
    return {f"state_percent.{name}": ratio_text(100 * ns, sum(spent.values()), DIGITS) for name, ns in spent.items()}


def _given(taken: Taken) -> dict[str, int | str]:
    """Of guests whose way of giving memory is counted: how fast, for how long, and what of it freed something."""
    counters = {name.removeprefix("guest."): count for name, count in taken.counters.items()}
    if "give_ns" not in counters:
        return {}
    gave, back = counters["ballooned"] * PAGE_SIZE, counters["deflated"] * PAGE_SIZE
    return {
        "give_gib_per_s": ratio_text(gave * 10**9, counters["give_ns"] << GIB_SHIFT, DIGITS),
        "return_gib_per_s": ratio_text(back * 10**9, counters["return_ns"] << GIB_SHIFT, DIGITS),
        "give_ms": ratio_text(counters["give_ns"], 10**6, DIGITS),
        "return_ms": ratio_text(counters["return_ns"], 10**6, DIGITS),
        "freed_percent": ratio_text(100 * counters["given_freed"], counters["ballooned"], DIGITS),
    }


def _stays(taken: Taken) -> dict[str, int | str]:
    """Of the same guests, at the end: what they have given, and what VMs hold."""
    if "guest.give_ns" not in taken.counters:
        return {}
    return {
        "given_percent": ratio_text(100 * taken.stores.get("balloon", 0), taken.configured_pages, DIGITS),
        "stays_mib": ratio_text(taken.usage.get("guest", 0), PAGES_PER_MIB, DIGITS),
    }


def _backlog(taken: Taken) -> dict[str, int | str]:
    """Of a fleet that has requests: for how long the VM that is furthest behind has had one to do, at the end."""
    behind = [vm["behind_ns"] for vm in taken.vms.values() if "behind_ns" in vm]
    return {"request_backlog_ms": ratio_text(max(behind), 10**6, 3)} if behind else {}


def _latencies(taken: Taken) -> dict[str, int | str]:
    p99_ns = percentile(fault_latencies(taken.histograms), 990)
    cow_ns = percentile(taken.histograms.get("cow", []), 999)
    return {
        "fault_p99_us": "" if p99_ns is None else ratio_text(p99_ns, 1000, 3),
        "cow_p999_us": "" if cow_ns is None else ratio_text(cow_ns, 1000, 3),
    }


def _shares(taken: Taken) -> dict[str, int | str]:
    """Parts of the phase's time, and amounts over it."""
    counters, cpu = taken.counters, taken.cpu_ns
    own = cpu.get("access", 0) + cpu.get("guest", 0)
    elapsed = max((vm["sim_ns"] for vm in taken.vms.values()), default=0)  # that of the VM that took longest
    stalled = [vm["stall_ns"] for vm in taken.vms.values()]
    worst = _largest((vm["stall_ns"], vm["sim_ns"]) for vm in taken.vms.values() if vm["sim_ns"])
    return {
        "swap_traffic_mib": ratio_text(
            counters.get("swap_pages_out", 0) + counters.get("swap_pages_in", 0), PAGES_PER_MIB, DIGITS
        ),
        "cpu_overhead_percent": ratio_text(100 * (sum(cpu.values()) - own), sum(cpu.values()), DIGITS),
        "storm_frames_per_ms": ratio_text(counters.get("fault_cow", 0) * 10**6, elapsed, DIGITS),
        "stall_percent": ratio_text(100 * taken.stall.get("stall_some_ns", 0), elapsed, DIGITS),
        "vms_stalled_percent": ratio_text(100 * sum(ns > 0 for ns in stalled), len(stalled), DIGITS),
        "worst_stall_percent": "" if worst is None else ratio_text(100 * worst[0], worst[1], DIGITS),
    }


def _largest(shares: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """The largest of some fractions, compared exactly."""
    largest: tuple[int, int] | None = None
    for part, whole in shares:
        if largest is None or part * largest[1] > largest[0] * whole:
            largest = part, whole
    return largest


def _sharing(taken: Taken) -> dict[str, int | str]:
    """What merging took."""
    merges, waited_ns = taken.merge_times
    delay_ns = waited_ns // merges if merges else None
    # Where remembering takes more frames than merging gives back, nothing was saved that could have a price.
    saved = taken.sharing.get("saved_net_frames", 0) > 0
    spent_ns = taken.sharing.get("scan_ns_per_gib_saved", 0) if saved else 0
    return {
        "merge_delay_ns": "" if delay_ns is None else delay_ns,
        "merge_delay_us": "" if delay_ns is None else ratio_text(delay_ns, 1000, 3),
        "scan_s_per_gib_saved": ratio_text(spent_ns, 10**9, DIGITS) if spent_ns else "",
    }


def _shared(taken: Taken) -> dict[str, int | str]:
    """Of all memory of the VMs, what lies in a frame with another page, and what that saves: as ESX tells it."""
    sharing = taken.sharing
    saved = sharing.get("saved_gross_frames", 0)
    return {
        "shared_percent": ratio_text(100 * (saved + sharing.get("pages_shared", 0)), taken.configured_pages, DIGITS),
        "saved_by_sharing_percent": ratio_text(100 * saved, taken.configured_pages, DIGITS),
    }


def _lie(taken: Taken) -> dict[str, int | str]:
    """How free memory, the pool and the VMs' pages lie."""
    lies, frames = taken.fragmentation, taken.usage.get("zspage", 0)
    unusable: Sequence[int] = lies.get("unusable", ())
    vms: Mapping[str, Mapping[str, int]] = lies.get("vms", {})
    present, runs, huge = (sum(vm[part] for vm in vms.values()) for part in ("present_pages", "runs", "huge_pages"))
    return {
        "unusable_2mib_percent": ratio_text(unusable[HUGE_ORDER], 10, 1) if len(unusable) > HUGE_ORDER else "",
        "zpool_waste_percent": ratio_text(100 * sum(lies.get("zpool_waste", {}).values()), frames * PAGE_SIZE, DIGITS),
        "pool_ratio": ratio_text(taken.stores.get("zpool", 0), frames, DIGITS),
        "huge_mapped_percent": ratio_text(100 * huge, present, DIGITS),
        "contiguity_pages": ratio_text(present, runs, DIGITS),
    }


def memory_sample(cycle: int, lies: Mapping[str, Any], counters: Mapping[str, int]) -> dict[str, int]:
    """What aging does to memory, in a few numbers; `mean_run` in thousandths of a page, `*_9` in thousandths."""
    vms = lies["vms"].values()
    present = sum(vm["present_pages"] for vm in vms)
    runs = sum(vm["runs"] for vm in vms)
    return {
        "cycle": cycle,
        "free_pages": lies["nr_free"],
        "unusable_9": lies["unusable"][HUGE_ORDER],
        "external_9": lies["external"][HUGE_ORDER],
        "free_runs": sum(lies["free_runs"]),
        "present_pages": present,
        "huge_pages": sum(vm["huge_pages"] for vm in vms),
        "mean_run": present * 1000 // runs if runs else 0,
        **{name: counters[name] for name in SAMPLED_COUNTERS},
    }


SAMPLED_COUNTERS = ("compact_moved", "compact_blocks", "leaf_collapses", "leaf_splits", "huge_missed")


def settled(unusable: Sequence[int]) -> int | None:
    """The first cycle (from 1) by whose end an index, in thousandths, has moved by less than SETTLED_WITHIN over
    SETTLED_CYCLES cycles; None while it still moves.

    VMs come and go in every cycle, and one free block of 2 MiB more or less is several thousandths. So it is means of
    SETTLED_CYCLES cycles that must not move any more, and three in a row: two may be equal by chance on the way.
    """
    for end in range(3 * SETTLED_CYCLES, len(unusable) + 1):
        sums = [sum(unusable[end - back * SETTLED_CYCLES :][:SETTLED_CYCLES]) for back in (3, 2, 1)]
        if max(sums) - min(sums) < SETTLED_WITHIN * SETTLED_CYCLES:
            return end
    return None


def saved_frames(taken: Taken) -> dict[str, int | str]:
    """Frames that each mechanism saves at the end of the phase."""
    sharing, stores, usage = taken.sharing, taken.stores, taken.usage
    return {
        "saved_sharing_frames": sharing.get(
            "saved_gross_frames", 0
        ),  # recounted: ksm's pages_sharing lags behind writes
        "saved_cloning_frames": sharing.get("leaves_shared", 0) + sharing.get("cow_sharing", 0),
        "saved_zpool_frames": stores.get("zpool", 0) - usage.get("zspage", 0),
        "saved_same_frames": stores.get("same", 0),
        "saved_swap_frames": stores.get("swap", 0),
        "saved_balloon_frames": stores.get("balloon", 0),
    }


def without_floats(value: Any) -> Any:
    """Plain JSON values of an engine's answer; a float in it is a defect, because records hold none."""
    if isinstance(value, Mapping):
        return {str(key): without_floats(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_floats(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, float):
        raise TypeError(f"{value!r} is a float")
    return int(value)
