"""What a VM's guest counts of itself, as rows of the registry."""

from memvirt.metrics.metric import Better, Kind, Metric

_UP, _DOWN, _NONE = Better.HIGHER, Better.LOWER, Better.NEITHER

# What a guest counts whose way of giving memory was asked for (guest option elastic).
GIVING_EVENTS: tuple[tuple[str, str, Better, str], ...] = (
    ("messages", "events", _DOWN, "messages of a balloon, or requests to unplug or plug, each an exit of the VM"),
    ("given_freed", "pages", _UP, "of the pages given up, those of which the host held a frame or a copy"),
    ("unplug_moved", "pages", _DOWN, "pages moved within the guest, to empty 2 MiB"),
    ("unplug_failed_pinned", "blocks", _DOWN, "2 MiB that could not be emptied: a page of the kernel's, or locked"),
    ("unplug_failed_room", "blocks", _DOWN, "2 MiB that could not be emptied: no room for what is in them"),
    ("give_ns", "ns", _DOWN, "simulated time of giving memory, what it waited for included"),
    ("return_ns", "ns", _DOWN, "simulated time of having it back; what is then touched apart"),
    ("installed", "blocks", _NONE, "2 MiB that got frames before the guest used them again"),
)

# ... whose memory has partitions (elastic squeezy).
PARTITION_EVENTS: tuple[tuple[str, str, Better, str], ...] = (
    ("plugged_on_demand", "partitions", _NONE, "partitions plugged because an instance began in them"),
)

# ... whose driver works on the VM's own processor (driver = "vcpu").
DRIVER_EVENTS: tuple[tuple[str, str, Better, str], ...] = (
    (
        "driver_ns",
        "ns",
        _DOWN,
        "processor time of VMs that drivers in their guests took to give memory and have it back",
    ),
)

# As in engine/guests/guest.pxd, in its order: name, unit, better, meaning; registered as guest.NAME.
GUEST_EVENTS: tuple[tuple[str, str, Better, str], ...] = (
    ("guest_faults", "faults", _NONE, "faults the guest served"),
    ("guest_faults_failed", "faults", _DOWN, "faults it could not serve"),
    ("guest_zeroed", "pages", _NONE, "new anonymous pages"),
    ("cache_read", "pages", _NONE, "page cache read from its file for the first time"),
    ("cache_reread", "pages", _DOWN, "page cache read again after it was dropped"),
    ("cache_dropped", "pages", _NONE, "page cache evicted without I/O"),
    ("cache_written", "pages", _DOWN, "dirty page cache written, then evicted"),
    ("guest_swap_in", "pages", _DOWN, "pages read from the guest's own swap"),
    ("guest_swap_out", "pages", _DOWN, "pages written to the guest's own swap"),
    ("guest_swap_dropped", "pages", _NONE, "evicted without I/O: the slot still held the same bytes"),
    ("evict_failed_machine", "pages", _DOWN, "evictions the host below could not carry out"),
    ("evict_failed_slot", "pages", _DOWN, "evictions without a free slot of guest swap"),
    ("oom", "faults", _DOWN, "faults for which the guest found no page by any means"),
    ("discarded", "pages", _NONE, "pages the guest freed"),
    ("ballooned", "pages", _NONE, "pages moved into the balloon"),
    ("deflated", "pages", _NONE, "pages moved out of it"),
    ("oom_deflated", "pages", _DOWN, "of these, the ones given to an out-of-memory guest"),
    ("balloon_refused_floor", "events", _DOWN, "balloon steps cut short by the guest's floor"),
    ("balloon_refused_pages", "events", _DOWN, "balloon steps cut short: nothing free, nothing to reclaim"),
    ("balloon_refused_machine", "events", _DOWN, "balloon steps cut short by a failure below"),
    ("reported", "pages", _NONE, "pages named by free page reporting"),
    ("report_messages", "events", _NONE, "messages of free page reporting, each an exit of the VM"),
    ("report_freed", "pages", _UP, "of the pages named, those of which the host held a frame or a copy"),
    ("report_failed", "events", _DOWN, "reports that failed below"),
    *GIVING_EVENTS,
    *PARTITION_EVENTS,
    *DRIVER_EVENTS,
)

# What follows for tables, of guests whose way of giving memory was asked for.
GIVEN = (
    Metric(
        "give_gib_per_s",
        "GiB/s",
        Kind.RATIO,
        "speed at which guests gave memory",
        _UP,
        "ballooned / give_ns, a guest's",
    ),
    Metric(
        "return_gib_per_s",
        "GiB/s",
        Kind.RATIO,
        "speed at which they had it back",
        _UP,
        "deflated / return_ns, a guest's",
    ),
    Metric("give_ms", "ms", Kind.SIM_TIME, "time in which guests gave memory", _DOWN, "give_ns, summed over guests"),
    Metric("return_ms", "ms", Kind.SIM_TIME, "time in which they had it back", _DOWN, "return_ns, summed over guests"),
    Metric("given_percent", "%", Kind.RATIO, "of guests' memory, in balloons at the end", _UP, "balloons / configured"),
    Metric("freed_percent", "%", Kind.RATIO, "of the pages given, those that freed something", _UP, "freed / given"),
    Metric("stays_mib", "MiB", Kind.RATIO, "host memory that VMs hold at the end", _DOWN, "usage.guest / 256"),
)
