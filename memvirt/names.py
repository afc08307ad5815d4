"""The names that settings, counters and tables use, one table for each kind: plain data, read by both sides.

The engine takes its names from here and so do settings, metrics and the command line: a name is added in one place, and
`memvirt list` needs no compiled module. Where the engine has an enum of the same things, its order is the table's, and
a comment at the enum says so.

Sources: what a constant is taken from stands beside it, or in the comment above its table.
"""

from collections.abc import Mapping
from typing import NamedTuple

# ---- devices that swap lies on

# One page takes latency + one transfer. These are parameters of a model, not measurements of anyone's hardware.
DEVICE_CONSTANTS = ("read_latency_ns", "write_latency_ns", "read_page_ns", "write_page_ns", "channels")
DEVICES: Mapping[str, tuple[int, int, int, int, int]] = {
    "nvme": (44_000, 20_000, 21_141, 21_141, 16),
    "sata-ssd": (25_000, 15_000, 65_536, 65_536, 8),
    "hdd": (12_670_000, 12_670_000, 25_600, 25_600, 1),
}
DEVICE_SOURCES: Mapping[str, str] = {
    "nvme": "a raw 4 KiB O_DIRECT read measured at 65 us and sequential 1 MiB writes at 3.1 GB/s on the virtual NVMe disk "
    "of a cloud machine; write latency assumed 20 us; 16 channels assumed, each at a sixteenth",
    "sata-ssd": "assumed 90 us read; 40 us write (into the drive's cache); 500 MB/s, near SATA 3's 600 MB/s; its queue "
    "served as by 8 channels, each at an eighth of the bandwidth",
    "hdd": "7200 rpm: half a turn 4.17 ms plus an assumed average seek of 8.5 ms; 160 MB/s assumed; one arm",
}

# ---- codecs of the compressed cache

# name -> what its level means, default, lowest, highest. lz4: acceleration of LZ4_compress_fast, 65537 its own bound
# (LZ4_ACCELERATION_MAX). lz4hc: LZ4HC_CLEVEL_MIN 3 .. LZ4HC_CLEVEL_MAX 12, default 9. zstd: the levels the suites name;
# 0 would be its default, 3.
CODECS: Mapping[str, tuple[str, int, int, int]] = {
    "lz4": ("acceleration", 1, 1, 65537),
    "lz4hc": ("level", 9, 3, 12),
    "zstd": ("level", 1, -1, 3),
}
ZSTD_LEVELS = (-1, 1, 3)

# ---- what is counted (engine: counters.pxd, memory/frames.pxd, in the order of their enums)

# What a fault was, named from the entry alone. "refill" is none: only the translation cache had to be filled.
FAULTS = ("refill", "zero", "huge", "cow", "reuse", "cached", "same", "zpool", "swap")
# Where simulated processor time goes.
MECHANISMS = (
    "access", "fault", "zero", "copy", "compress", "decompress", "swap", "reclaim", "scan", "clone", "balloon", "compact",
    "guest",
)  # fmt: skip
# What a frame is used for.
FRAME_USES = ("free", "guest", "table", "zspage", "fixed", "backing", "swap_cache")

# What a time line holds of a host (engine: host/sample.pyx, in this order): states, then what is counted.
SAMPLED_STATES = (*(f"usage.{use}" for use in FRAME_USES), "stores.same", "stores.zpool", "stores.swap")
SAMPLED_COUNTS = (
    *(f"fault_{kind}" for kind in FAULTS[1:]),
    "reclaim_background", "reclaim_direct", "evicted_same", "evicted_zpool", "evicted_swap", "swap_pages_out",
    "swap_pages_in", "zpool_written_back", "merges", "cow_breaks_shared", "leaf_copies", "balloon_pages_released",
    "compact_moved", "stall_some_ns", "stall_full_ns",
    *(f"cpu_ns.{mechanism}" for mechanism in MECHANISMS),
)  # fmt: skip
SAMPLED_OF_VM = ("held_pages", "active_pages", "balloon_pages")  # states, too

# ---- page sharing

# Whose pages may merge (engine: sharing/shareindex.pxd): everyone's, those of VMs of one domain, each VM's own.
SALTING = ("global", "tenant", "vm")


class Option(NamedTuple):
    """One option of a scanner."""

    default: int | str | bool
    meaning: str
    source: str = ""  # of the default; empty: chosen by memvirt


class Scanner(NamedTuple):
    """A page-sharing scanner: what it is, what it can be told, and what it asks of the share index."""

    summary: str
    options: Mapping[str, Option]
    zero_frame: bool = True  # the index keeps zero pages apart; ksm does so only where use_zero_pages says it
    own_bound: bool = False  # it bounds the users of a frame by itself; else the index does
    seeded: bool = False  # it draws the order of its scan


_PACE = {
    "pages_to_scan": Option(4096, "pages looked at before the scanner sleeps"),
    "sleep_ns": Option(20_000_000, "simulated time it sleeps, ns; with pages_to_scan, its pace"),
}
_HINTS = Option(
    False,
    "look first at pages whose content has just arrived from a device or a store, as XLH does; at most half of what is "
    "looked at between two sleeps",
)
_BOUND = Option(
    0,
    "most pages that one frame may serve, 0: any number; further equal ones get another, which bounds what a walk of its "
    "reverse map costs",
)
_SALTING = Option(
    "tenant",
    "whose pages may merge: global (everyone's), tenant (those of VMs of one domain), vm (each VM's own); ESX's "
    "Mem.ShareForceSalting 0, 1, 2",
)
_KSM = "mm/ksm.c, Linux 6.7"
_ESX = "ESX 4's manual"

# KSM's defaults are Linux's, ESX's those of ESX 4 (scanning) and 6 (salting).
SCANNERS: Mapping[str, Scanner] = {
    "hash": Scanner(
        "memvirt's own: frames in order, one hash and one look-up each; exact sharing",
        {**_PACE, "hints": _HINTS, "max_page_sharing": _BOUND, "salting": _SALTING},
    ),
    "ksm": Scanner(
        "Linux's: stable and unstable trees walked by comparing bytes, VM by VM in address order",
        {
            "pages_to_scan": Option(100, _PACE["pages_to_scan"].meaning, _KSM),
            "sleep_ns": Option(20_000_000, _PACE["sleep_ns"].meaning, _KSM),
            "max_page_sharing": Option(256, _BOUND.meaning, _KSM),
            "use_zero_pages": Option(False, "pages of zeros go to the zero frame and are kept track of no more", _KSM),
            "smart_scan": Option(
                True, "pass over pages, ever more often, that were looked at often without a merge", _KSM
            ),
            "advisor": Option(False, "set pages_to_scan after each pass, so that passes take advisor_target_ns", _KSM),
            "advisor_target_ns": Option(
                200_000_000_000, "time for a pass that the advisor aims at, simulated ns", _KSM
            ),
            "advisor_max_cpu": Option(70, "most processor time the advisor may ask for, per cent of one core", _KSM),
            "advisor_min_pages": Option(500, "pages_to_scan that the advisor begins with", _KSM),
            "advisor_max_pages": Option(30_000, "largest pages_to_scan the advisor may set", _KSM),
            "hints": _HINTS,
            "salting": Option("global", _SALTING.meaning, "Linux knows no salting"),
        },
        zero_frame=False,
        own_bound=True,
    ),
    "esx": Scanner(
        "VMware ESX's: one hash table with hints, random order, a last chance before a page goes",
        {
            "scan_time_ns": Option(
                3_600_000_000_000, "shortest time for a pass over one VM, simulated ns (Mem.ShareScanTime)", _ESX
            ),
            "pages_per_s": Option(1024, "most pages looked at on the host in a simulated second", _ESX),
            "vm_pages_per_s": Option(1024, "most pages looked at in one VM in a simulated second", _ESX),
            "max_page_sharing": _BOUND,
            "salting": Option("vm", _SALTING.meaning, "ESX 6: Mem.ShareForceSalting 2"),
        },
        seeded=True,
    ),
    "zero-only": Scanner("merges pages of zeros and looks at nothing else", _PACE),
    "inline": Scanner(
        "no scan: a page is looked up when its content arrives", {"max_page_sharing": _BOUND, "salting": _SALTING}
    ),
}
