"""What every number means: name, unit, kind, meaning, derivation, and which direction is better.

Tables take their heads from here; tests ask `unregistered(names)` for what a host reports and no entry explains.
Kinds: a *counter* only grows; a *gauge* is a state at one moment; a *histogram* holds every value; a *ratio* is derived
from others; *sim time* is modelled nanoseconds, *wall time* this machine's clock. They never share a column.
Families stand for a metric per member: `sim_ns.KIND` per fault kind, `cpu_ns.MECHANISM`, `usage.STATE`, and so on.
"""

from collections.abc import Iterable

from memvirt.errors import ConfigError
from memvirt.metrics.guests import GIVEN, GUEST_EVENTS
from memvirt.metrics.levels import LEVELS_KEPT
from memvirt.metrics.metric import Better, Kind, Metric
from memvirt.metrics.sharing import SHARING, SHARING_TIMES
from memvirt.metrics.states import STATES_NAMED
from memvirt.names import FAULTS, FRAME_USES, MECHANISMS
from memvirt.units import suggest

# The events of a host (engine/counters.pxd, in its order): name, unit, better, meaning.
_UP, _DOWN, _NONE = Better.HIGHER, Better.LOWER, Better.NEITHER
_EVENTS: tuple[tuple[str, str, Better, str], ...] = (
    ("reads", "accesses", _NONE, "loads by VMs"),
    ("writes", "accesses", _NONE, "stores by VMs"),
    ("fills", "pages", _NONE, "pages given a content of the corpus as a whole"),
    ("discards", "pages", _NONE, "freed by a VM; without a guest nothing happens, and reporting tells the host"),
    ("tcache_refills", "accesses", _DOWN, "the translation cache had no entry, the table served it"),
    ("fault_zero", "faults", _NONE, "first touch: a frame of zeros"),
    ("fault_huge", "faults", _NONE, "first touch served with a whole 2 MiB block"),
    ("fault_cow", "faults", _DOWN, "write to a frame that others map too: copied"),
    (
        "fault_reuse",
        "faults",
        _NONE,
        "write to a page protected for others, as clones and merged pages are, that have gone: made writable, no copy",
    ),
    ("fault_cached", "faults", _DOWN, "content was out, but a frame still cached it"),
    ("fault_same", "faults", _DOWN, "same-filled page made again from its value"),
    ("fault_zpool", "faults", _DOWN, "page decompressed from the compressed cache"),
    ("fault_swap", "faults", _DOWN, "page read from swap"),
    ("leaf_copies", "leaf tables", _NONE, "shared leaf tables copied at the first write in their 2 MiB"),
    ("leaf_splits", "leaf tables", _DOWN, "huge leaves demoted to 512 entries"),
    ("leaf_collapses", "leaf tables", _UP, "small leaves promoted to a huge one"),
    ("huge_missed", "attempts", _DOWN, "no free 2 MiB block for a thin-huge first touch: served with 4 KiB"),
    ("evicted", "pages", _DOWN, "pages taken out of their frames, by any way"),
    ("evicted_clean", "pages", _NONE, "evicted without a write: the backing still held the same bytes"),
    ("evicted_same", "pages", _NONE, "evicted as a value: all words equal"),
    ("evicted_zpool", "pages", _NONE, "evicted into the compressed cache"),
    ("evicted_swap", "pages", _DOWN, "evicted to swap"),
    ("evict_failed", "pages", _DOWN, "no store took the page: it stayed where it was"),
    ("reclaim_background", "pages", _NONE, "frames freed by the background reclaimer, between low and high"),
    ("reclaim_direct", "pages", _DOWN, "frames freed by the access that needed one, below min"),
    ("reclaim_limit", "pages", _NONE, "frames freed because a VM reached its limit"),
    ("reclaim_proactive", "pages", _NONE, "frames freed because a decider asked"),
    ("reclaim_scanned", "pages", _DOWN, "candidates that reclaim looked at"),
    ("reclaim_spared_accessed", "pages", _NONE, "candidates kept: accessed since the last look"),
    ("reclaim_spared_reserved", "pages", _NONE, "candidates kept: their VM is within its reservation"),
    ("harvests", "passes", _NONE, "passes that collected accessed marks"),
    ("harvested", "pages", _NONE, "accessed marks found by them"),
    ("reject_incompressible", "pages", _DOWN, "the compressed cache declined: too large when compressed"),
    ("reject_pool_full", "pages", _DOWN, "the compressed cache declined: at its limit or inside its hysteresis"),
    (
        "reject_pool_frame",
        "pages",
        _DOWN,
        "the compressed cache declined: no frame for a zspage, or for its tables to grow",
    ),
    ("reject_swap_full", "pages", _DOWN, "swap declined: no free slot"),
    ("reject_backing_frame", "pages", _DOWN, "eviction declined: no frame for backing records"),
    ("zpool_written_back", "pages", _DOWN, "oldest compressed pages decompressed and moved to swap"),
    ("zpool_writeback_failed", "pages", _DOWN, "of these, the ones swap did not take"),
    ("swap_pages_out", "pages", _DOWN, "pages written to swap, zpool writeback included"),
    ("swap_pages_in", "pages", _DOWN, "pages read from swap, readahead included"),
    ("swap_write_failed", "pages", _DOWN, "swap writes that failed: nothing was lost"),
    ("swap_read_failed", "pages", _DOWN, "swap reads that failed: reported as an error"),
    ("readahead_pages", "pages", _NONE, "pages read from swap before they were asked for"),
    ("readahead_hits", "pages", _UP, "of these, the ones then accessed"),
    ("readahead_dropped", "pages", _DOWN, "of these, the ones reclaimed before anyone asked for them"),
    ("exhausted_no_frame", "events", _DOWN, "an access found no frame after all reclaim"),
    ("exhausted_limit", "events", _DOWN, "an access found no frame within its VM's limit"),
    ("charged_over_limit", "frames", _DOWN, "left by their payer to VMs of which none had room below its limit"),
    ("limit_unmet", "pages", _DOWN, "above a VM's limit, found when they should have gone and could not"),
    ("reservation_unmet", "events", _DOWN, "an access found no frame though its VM had fewer than are reserved for it"),
    ("stops", "events", _DOWN, "accesses stopped for want of memory (on_exhausted = stop)"),
    ("waits", "events", _DOWN, "waits for memory (on_exhausted = wait)"),
    ("kills", "VMs", _DOWN, "VMs killed for want of memory (on_exhausted = kill)"),
    ("clones", "VMs", _NONE, "clones made"),
    ("clone_leaves", "leaf tables", _NONE, "leaf tables shared by them"),
    ("clone_pinned_copied", "pages", _DOWN, "copied at once for a clone or snapshot: its parent has them pinned"),
    ("merges", "pages", _UP, "pages merged with an equal one, bytes compared"),
    ("merges_zero", "pages", _UP, "of these, the ones merged with the zero frame"),
    ("cow_breaks_shared", "faults", _DOWN, "writes that undid a merge"),
    ("balloon_pages_released", "pages", _NONE, "frames the host got back through balloons"),
    ("compact_moved", "pages", _DOWN, "pages moved by compaction"),
    ("compact_blocks", "blocks", _UP, "free 2 MiB blocks made by compaction"),
    ("compact_failed_unmovable", "calls", _DOWN, "compactions that ended: every block left holds an unmovable frame"),
    ("compact_failed_room", "calls", _DOWN, "compactions that ended: the frames to move outnumber the free ones"),
    ("compact_failed_frame", "calls", _DOWN, "compactions that ended: a free frame was refused"),
    ("collapse_copied", "leaves", _NONE, "leaf_collapses that had to copy their 512 pages into a free block"),
    ("collapse_missed", "leaves", _DOWN, "leaf tables that could be collapsed if a 2 MiB block were free"),
)
# What its stores, devices and facade count (memvirt.stores, memvirt.host): name, unit, better, meaning.
_STORE_EVENTS: tuple[tuple[str, str, Better, str], ...] = (
    ("pool_limit_hits", "events", _DOWN, "times the compressed cache reached its limit"),
    ("reject_pool_limit", "pages", _DOWN, "of reject_pool_full: the cache was at its limit"),
    ("reject_pool_hysteresis", "pages", _DOWN, "of reject_pool_full: it had been, and was not yet down far enough"),
    ("reject_pool_handle", "pages", _DOWN, "of reject_pool_full: its handles can name no further zspage"),
    ("pool_stored_raw", "pages", _DOWN, "of evicted_zpool: kept as they are, as they do not compress"),
    ("pool_rotations", "pages", _NONE, "compressed pages that writeback looked at: sent round, or moved to swap"),
    ("pool_compact_moved", "pages", _DOWN, "compressed pages moved by compaction of the pool"),
    ("pool_compact_freed", "frames", _UP, "frames given back by compaction of the pool"),
    ("fault_zero_read", "faults", _NONE, "reads of untouched pages that the frame of zeros served (on-write)"),
    ("device_read_requests", "requests", _DOWN, "reads from the disks of swap and guests, neighbours in one request"),
    ("device_write_requests", "requests", _DOWN, "writes to the disks of swap and guests, neighbours in one request"),
    ("device_pages_read", "pages", _DOWN, "by these reads: swap-in, readahead, guests' swap-in and page cache"),
    ("device_pages_written", "pages", _DOWN, "by these writes: swap-out, guests' swap-out and dirty page cache"),
    ("device_queued_ns", "ns", _DOWN, "simulated time that requests waited for a free channel"),
    ("decisions", "decisions", _NONE, "times the decider was asked"),
    ("decisions_acted", "decisions", _NONE, "of these, those that changed a balloon, frames, turns or a pace"),
    ("targets_clipped", "targets", _NONE, "targets of the decider beyond what a VM can give; left out without any"),
    ("blocked_ns", "ns", _DOWN, "time in which the decider kept VMs from running; left out without any"),
    ("lazy_marked", "pages", _NONE, "given up lazily (hinted, MADV_FREE); left out, as the next four, without any"),
    ("lazy_kept", "pages", _NONE, "of these, the ones written, pinned, merged or cloned before the host took them"),
    ("lazy_freed", "pages", _UP, "of these, the ones the host took for want of frames: without I/O, nothing kept"),
    ("lazy_released", "pages", _NONE, "of these, the ones given up for good, or gone with their VM, before that"),
    ("lazy_skipped", "pages", _NONE, "not given up lazily: merged, or others map them or their copy, too"),
    ("swap_clusters_discarded", "clusters", _NONE, "clusters of slots given back to the file system"),
)

# States, times and what is derived from events.
_STATES: tuple[Metric, ...] = (
    Metric("sim_ns", "ns", Kind.SIM_TIME, "simulated time of the phase, summed over VMs", _DOWN, "modelled"),
    Metric(
        "stall_some_ns", "ns", Kind.SIM_TIME, "time in which some access waited for memory", _DOWN, "modelled, as PSI"
    ),
    Metric(
        "stall_full_ns",
        "ns",
        Kind.SIM_TIME,
        "time in which all VMs with work waited for memory",
        _DOWN,
        "modelled, as PSI",
    ),
    Metric("wall_ns", "ns", Kind.WALL_TIME, "time of the phase on this machine", _DOWN, "clock of this machine"),
    Metric("accesses_per_s", "1/s", Kind.WALL_TIME, "accesses simulated a second", _UP, "(reads + writes) / wall_ns"),
    Metric(
        "effective_overcommit",
        "×",
        Kind.RATIO,
        "guest-visible content for each host byte that holds it",
        _UP,
        "guest-visible bytes that have content / host bytes that hold them, metadata included, measured phase",
        "A full host holds about as much content under every preset that does not share: then the fleet decides the ratio,\n"
        "not the preset, and a difference in the last digit means nothing.",
    ),
    Metric(
        "slowdown",
        "×",
        Kind.RATIO,
        "time against the same stream with enough memory",
        _DOWN,
        "sim_ns / sim_ns of the same stream on a host with enough memory",
        "Of a program that does nothing but access memory: an access that hits costs what the cost model says (hit, 100 ns\n"
        "unless set), and nothing is computed in between. One read of 65 us from swap stands against 650 hits, so slowdowns\n"
        "of hundreds are right for such a stream, and are no service's. A program that computes for T ns between two\n"
        "accesses is slower by (T + 100 s) / (T + 100), s being the slowdown. Where a scenario's pace or a trace's times\n"
        "say how long a phase takes, it is that of the work that VMs do then: (work + stall) / work, sleep left out.",
    ),
    *(
        Metric(f"slowdown_{name}{ending}", "×", Kind.RATIO, f"{text} of {whose}, over seconds", _DOWN, "of VM-windows")
        for ending, whose in (("", "VMs"), *((f".{level}", f"{level} VMs") for level in ("gold", "silver", "bronze")))
        for name, text in (
            ("p50", "median slowdown"),
            ("p99", "99th percentile of slowdown"),
            ("worst", "worst slowdown"),
        )
    ),
    *LEVELS_KEPT,
    *STATES_NAMED,
    Metric("overcommit", "×", Kind.RATIO, "memory promised to memory there", _NONE, "configured / host frames"),
    Metric("pool_ratio", "×", Kind.RATIO, "compression with the pool's slack", _UP, "pages in the pool / its frames"),
    Metric("compression_ratio", "×", Kind.RATIO, "compression of what is stored", _UP, "4096 · objects / their bytes"),
    Metric("zpool_rounding_bytes", "bytes", Kind.GAUGE, "lost by rounding to size classes", _DOWN, "Σ class - length"),
    Metric("zpool_sparse_bytes", "bytes", Kind.GAUGE, "lost in unfilled zspages", _DOWN, "Σ free objects · class"),
    Metric("shared_percent", "%", Kind.RATIO, "of VMs' memory, in shared frames", _UP, "(frames + saved) / configured"),
    Metric("saved_by_sharing_percent", "%", Kind.RATIO, "of VMs' memory, saved by merging", _UP, "saved / configured"),
    Metric("saved_sharing_frames", "frames", Kind.GAUGE, "saved by merging", _UP, "saved_gross_frames"),
    Metric("saved_cloning_frames", "frames", Kind.GAUGE, "saved by shared leaves", _UP, "Σ (holders - 1) · entries"),
    Metric("saved_zpool_frames", "frames", Kind.GAUGE, "saved by compression", _UP, "pages in the pool - its frames"),
    Metric("saved_same_frames", "frames", Kind.GAUGE, "saved by same-filled pages", _UP, "pages kept as a value"),
    Metric("saved_swap_frames", "frames", Kind.GAUGE, "pages on swap only", _NONE, "slots in use without a frame"),
    Metric("saved_balloon_frames", "frames", Kind.GAUGE, "held by balloons", _NONE, "Σ balloon sizes"),
    Metric("free_frames", "frames", Kind.GAUGE, "frames free now", _NONE, "buddy allocator"),
    Metric(
        "cold_percent",
        "%",
        Kind.RATIO,
        "of pages in frames, cold: not accessed for 2 minutes",
        _NONE,
        "pages by age at the last harvest of accessed marks / pages of VMs in frames; fleets that live",
    ),
    Metric(
        "extfrag_order9",
        "1/1000",
        Kind.GAUGE,
        "external fragmentation index for 2 MiB",
        _DOWN,
        "Linux's: -1000 when a block fits; else towards 0 lack of memory, towards 1000 fragmentation",
    ),
    Metric(
        "unusable_order9",
        "1/1000",
        Kind.GAUGE,
        "free memory that no 2 MiB block can use",
        _DOWN,
        "Linux's unusable free space index; 1000 with nothing free",
    ),
    Metric("contiguity_pages", "pages", Kind.GAUGE, "mean contiguous run gfn to frame", _UP, "entries / runs"),
    Metric("faults", "faults", Kind.COUNTER, "faults of every kind", _DOWN, "Σ fault_*"),
    Metric("fault_p99_us", "µs", Kind.SIM_TIME, "99th percentile of all faults' time", _DOWN, "complete histograms"),
    Metric(
        "request_backlog_ms", "ms", Kind.RATIO, "the oldest request not done", _DOWN, "at the end, since it was due"
    ),
    Metric("sim_ns.request", "ns", Kind.HISTOGRAM, "modelled time of a request since it was due", _DOWN, "complete"),
    Metric("cow_p999_us", "µs", Kind.SIM_TIME, "99.9th percentile of a write that copies", _DOWN, "sim_ns.cow"),
    Metric(
        "swap_traffic_mib",
        "MiB",
        Kind.RATIO,
        "written to and read from the host's swap",
        _DOWN,
        "(out + in) / 256",
    ),
    Metric("unusable_2mib_percent", "%", Kind.RATIO, "free memory that no 2 MiB block can use", _DOWN, "index / 10"),
    Metric(
        "cpu_overhead_percent",
        "%",
        Kind.RATIO,
        "managing memory, of all processor time that memory took, background work included",
        _DOWN,
        "1 - own / all",
        "All is what accesses and guests took (own), and what faults, reclaim, compression, copying and scanning took. What\n"
        "VMs compute is not in it, and neither are processors that idle: it is no share of the processors there are. Where\n"
        "VMs hardly access memory, a scanner that nobody waits for comes to 97 % at a slowdown of 1.00.",
    ),
    Metric("simulated_maccesses_per_s", "M/s", Kind.WALL_TIME, "speed of the simulator", _UP, "accesses_per_s"),
    Metric("stall_percent", "%", Kind.RATIO, "of the phase, some VM waited for memory", _DOWN, "stall_some / elapsed"),
    Metric("vms_stalled_percent", "%", Kind.RATIO, "VMs that waited for memory", _DOWN, "VMs with stall_ns / VMs"),
    Metric(
        "worst_stall_percent",
        "%",
        Kind.RATIO,
        "of its own time, the VM that waited most",
        _DOWN,
        "max stall_ns / sim_ns",
    ),
    Metric("storm_frames_per_ms", "1/ms", Kind.RATIO, "frames that writes demanded", _NONE, "fault_cow / elapsed"),
    Metric(
        "merge_delay_ns",
        "ns",
        Kind.SIM_TIME,
        "mean time from getting a frame to its merge",
        _DOWN,
        "of the phase's merges",
    ),
    Metric(
        "merge_delay_us", "µs", Kind.SIM_TIME, "mean time from getting a frame to its merge", _DOWN, "merge_delay_ns"
    ),
    Metric(
        "scan_s_per_gib_saved",
        "s/GiB",
        Kind.RATIO,
        "scanner's time for a GiB saved",
        _DOWN,
        "its ns, gross; none where nothing is saved net",
    ),
    Metric("zpool_waste_percent", "%", Kind.RATIO, "of the pool, lost to rounding and gaps", _DOWN, "waste / zspages"),
    Metric("huge_mapped_percent", "%", Kind.RATIO, "of VMs' pages, under huge leaves", _UP, "huge / present pages"),
    Metric("requests", "requests", Kind.COUNTER, "page numbers of a trace", _NONE),
    Metric("misses", "requests", Kind.COUNTER, "of these, not in memory", _DOWN),
    Metric("compulsory_misses", "requests", Kind.COUNTER, "first requests of a page: no order avoids them", _NONE),
    Metric("miss_ratio", "%", Kind.RATIO, "requests that missed", _DOWN, "misses / requests"),
    Metric("of_optimum", "%", Kind.RATIO, "hits, against belady's on the same trace", _UP, "hits / belady's hits"),
)
# What time lines hold beside these.
_OUT_OF_MEMORY = (
    ("same", "contents out of memory that are kept as a value"),
    ("zpool", "contents out of memory that are compressed"),
    ("swap", "contents out of memory that are on swap"),
    ("balloon", "pages that all balloons together hold"),
)
_OF_VM = (
    ("held_pages", "frames charged to the VM"),
    ("active_pages", "pages of the VM that the last harvest found accessed"),
    ("balloon_pages", "pages in the VM's balloon"),
)


def _families() -> list[Metric]:
    """One metric for each member of a family, and what a guest counts."""
    rows = [
        Metric(f"sim_ns.{fault}", "ns", Kind.HISTOGRAM, f"modelled time of every fault '{fault}'", _DOWN, "complete")
        for fault in FAULTS
    ]
    rows += [
        Metric(
            f"wall_ns.{fault}", "ns", Kind.HISTOGRAM, f"this machine's time, fault '{fault}'", _DOWN, "every 64th timed"
        )
        for fault in FAULTS
    ]
    rows += [
        Metric(
            f"cpu_ns.{name}",
            "ns",
            Kind.SIM_TIME,
            f"simulated processor time of mechanism '{name}'",
            _DOWN,
            "Σ modelled costs",
        )
        for name in MECHANISMS
    ]
    rows += [
        Metric(
            f"stall_{state}_avg{seconds}",
            "1/100 %",
            Kind.GAUGE,
            f"time {state} VMs waited for memory, average over {seconds} s",
            _DOWN,
            "exponential, moved every 2 simulated seconds, as PSI",
        )
        for state in ("some", "full")
        for seconds in (10, 60, 300)
    ]
    rows += [
        Metric(f"usage.{use}", "frames", Kind.GAUGE, f"host frames in use as '{use}'", _NONE, "sums to host memory")
        for use in FRAME_USES
    ]
    rows += [Metric(f"stores.{place}", "pages", Kind.GAUGE, text, _NONE, "records") for place, text in _OUT_OF_MEMORY]
    rows += [Metric(name, "pages", Kind.GAUGE, text, _NONE, "of a VM") for name, text in _OF_VM]
    rows += [Metric(name, unit, kind, text, better, how) for name, unit, kind, better, text, how in SHARING]
    for name, better, text in SHARING_TIMES:
        rows += [
            Metric(f"{name}.{part}", unit, kind, f"{meaning}: {text}", better, "from the complete histogram")
            for part, unit, kind, meaning in (
                ("count", "pages", Kind.COUNTER, "number"),
                ("sum", "ns", Kind.SIM_TIME, "sum"),
                ("max", "ns", Kind.SIM_TIME, "largest"),
                ("p50", "ns", Kind.SIM_TIME, "median"),
                ("p90", "ns", Kind.SIM_TIME, "90th percentile"),
                ("p99", "ns", Kind.SIM_TIME, "99th percentile"),
            )
        ]
    rows += [Metric(f"guest.{name}", unit, Kind.COUNTER, text, better) for name, unit, better, text in GUEST_EVENTS]
    return [*rows, *GIVEN]


REGISTRY: dict[str, Metric] = {
    metric.name: metric
    for metric in [
        *(Metric(name, unit, Kind.COUNTER, text, better) for name, unit, better, text in (*_EVENTS, *_STORE_EVENTS)),
        *_STATES,
        *_families(),
    ]
}


def describe(name: str) -> Metric:
    """The registry's entry; ConfigError with a suggestion when there is none."""
    if name not in REGISTRY:
        raise ConfigError(f"unknown metric '{name}'{suggest(name, list(REGISTRY))}")
    return REGISTRY[name]


def names(kind: Kind | None = None) -> list[str]:
    """Registered names, in order; of one kind when given."""
    return [name for name, metric in REGISTRY.items() if kind in (None, metric.kind)]


def unregistered(reported: Iterable[str]) -> list[str]:
    """Of the names a host or a record reports, those that have no entry here, sorted."""
    return sorted(set(reported) - set(REGISTRY))


# Of what records hold beside what is registered: numbers whose names say what they are.
_PLAIN_UNITS = {"accesses": "accesses", "cpu_total_ns": "ns", "count": "faults"}
_OF_FAMILY = {"sim_ns.": "ns", "fragmentation.": "1/1000"}


def unit_of(name: str) -> str:
    """The unit of a number in a record or a frame; "" for text, and for what has no entry."""
    if name in REGISTRY:
        return REGISTRY[name].unit
    family = next((unit for prefix, unit in _OF_FAMILY.items() if name.startswith(prefix)), "")
    return _PLAIN_UNITS.get(name, family)
