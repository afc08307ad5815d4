"""What follows from a cell's counts: the numbers tables show. Integers in, integers and exact decimals out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memvirt.results.record import Histogram, percentile, ratio_text

QUANTILES = (("p50", 500), ("p99", 990), ("p999", 999))


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
    content_pages: int  # guest-visible pages that have content, summed over the samples of the phase
    used_frames: int  # host frames in use, metadata included, summed over the same samples
    configured_pages: int
    sim_ns: int
    baseline_ns: int  # of the same stream with enough memory; 0: there is none


def derived(taken: Taken) -> dict[str, int | str]:
    """Name -> value; ratios and shares as decimal strings, everything else an integer."""
    found: dict[str, int | str] = {
        "effective_overcommit": ratio_text(taken.content_pages, taken.used_frames, 3),
        "slowdown": ratio_text(taken.sim_ns, taken.baseline_ns, 3),
        "overcommit": ratio_text(taken.configured_pages, sum(taken.usage.values()), 2),
        "faults": sum(count for name, count in taken.counters.items() if name.startswith("fault_")) - _missed(taken),
        "cpu_total_ns": sum(taken.cpu_ns.values()),
        **taken.stall,
    }
    merges, waited_ns = taken.merge_times
    found["merge_delay_ns"] = waited_ns // merges if merges else ""
    found |= saved_frames(taken)
    for kind, histogram in sorted(taken.histograms.items()):
        for name, per_mille in QUANTILES:
            value = percentile(histogram, per_mille)
            if value is not None:
                found[f"sim_ns.{kind}.{name}"] = value
    return found


def _missed(taken: Taken) -> int:
    """fault_around_missed counts tries within faults, not faults."""
    return taken.counters.get("fault_around_missed", 0)


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
