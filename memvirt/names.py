"""The names that settings, counters and lists use, one table for each kind: plain data, read by both sides.

The engine takes its names from here and so do settings, metrics and the command line. A name is added in one place, and
`memvirt list` imports neither the engine nor what a name stands for. Where the engine has an enum of the same things, its
order is the table's, and a comment at the enum says so. Orders of replacement have a table of their own,
memvirt.settings.orders; presets and suites are files.

Sources: what a constant is taken from stands beside it, or in the comment above its table.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from memvirt.units import suggest


class Written(NamedTuple):
    """The class that a name stands for: where it is written, and one line on it."""

    module: str  # in the folder of its kind
    name: str
    summary: str

    def load(self, folder: str) -> Any:
        """The class, from the package `folder`."""
        return getattr(import_module(f"{folder}.{self.module}"), self.name)


class Option(NamedTuple):
    """One option of a scanner or an order: its default, and which other values there are."""

    default: int | str | bool
    meaning: str
    source: str = ""  # of the default; empty: chosen by memvirt
    low: int = 1  # bounds of a number that is not the default
    high: int = 2**31 - 1
    choices: tuple[str, ...] = ()  # of a text

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, if anything."""
        if self.choices:
            if value in self.choices:
                return None
            known = ", ".join(self.choices)
            return f"unknown value {value!r}{suggest(str(value), list(self.choices))} (known: {known})"
        if isinstance(self.default, bool):
            wanted = None if isinstance(value, bool) else "true or false"
        else:
            whole = isinstance(value, int) and not isinstance(value, bool)
            fits = whole and (value == self.default or self.low <= value <= self.high)  # type: ignore[operator]
            wanted = None if fits else f"a whole number in {self.low} .. {self.high}"
        return wanted and f"{value!r} must be {wanted}; the default is {self.default}"


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


class Codec(NamedTuple):
    """A codec: what its level means, which levels there are, and the package that has it."""

    meaning: str
    default: int
    lowest: int
    highest: int
    few: tuple[int, ...] = ()  # where it has not all from the lowest to the highest: those that it has
    package: str = "lz4"


# lz4: acceleration of LZ4_compress_fast, 65537 its own bound (LZ4_ACCELERATION_MAX). lz4hc: LZ4HC_CLEVEL_MIN 3 ..
# LZ4HC_CLEVEL_MAX 12, default 9. zstd: the levels the suites name; 0 would be its default, 3.
CODECS: Mapping[str, Codec] = {
    "lz4": Codec("acceleration", 1, 1, 65537),
    "lz4hc": Codec("level", 9, 3, 12),
    "zstd": Codec("level", 1, -1, 3, (-1, 1, 3), "zstandard"),
}

# ---- what is counted (engine: counters.pxd, memory/frames.pxd, in the order of their enums)

# What a fault was, named from the entry alone. "refill" is none: only the translation cache had to be filled.
FAULTS = ("refill", "zero", "huge", "cow", "reuse", "cached", "same", "zpool", "swap")
# Histograms of a host that count no faults: refills, and parts of batches from when they were due.
NO_FAULTS = ("refill", "request")
# Where simulated processor time goes.
MECHANISMS = (
    "access", "fault", "zero", "copy", "compress", "decompress", "swap", "reclaim", "scan", "clone", "balloon", "compact",
    "guest",
)  # fmt: skip
# What a frame is used for.
FRAME_USES = ("free", "guest", "table", "zspage", "fixed", "backing", "swap_cache")

# Where the content of a page is that is in no frame (engine: BackingKind in mapping/backing.pxd).
BACKINGS = ("new", "same", "zpool", "swap")

# What a decider may call its host's state, numbered from 1 where sampled: ESX's names (VMware; "clear" since ESXi 6).
HOST_STATES = ("high", "clear", "soft", "hard", "low")
# What a time line holds of a host (engine: host/sample.pyx, in this order): states, then what is counted.
_USES = (f"usage.{use}" for use in FRAME_USES)
SAMPLED_STATES = (*_USES, "stores.same", "stores.zpool", "stores.swap", "decider_state")
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


class Scanner(NamedTuple):
    """A page-sharing scanner: what it is, its options, and what it asks of the share index."""

    summary: str
    options: Mapping[str, Option]
    zero_frame: bool = True  # the index keeps zero pages apart; ksm does so only where use_zero_pages says it
    own_bound: bool = False  # it bounds the users of a frame by itself; else the index does
    seeded: bool = False  # it draws the order of its scan


LONGEST_NS = 10**18
_PACE = {
    "pages_to_scan": Option(4096, "pages looked at before the scanner sleeps"),
    "sleep_ns": Option(20_000_000, "simulated time it sleeps, ns; with pages_to_scan, its pace", high=LONGEST_NS),
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
    low=2,
)
_SALTING = Option(
    "tenant",
    "whose pages may merge: global (everyone's), tenant (those of VMs of one domain), vm (each VM's own); ESX's "
    "Mem.ShareForceSalting 0, 1, 2",
    choices=SALTING,
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
            "sleep_ns": _PACE["sleep_ns"]._replace(source=_KSM),
            "max_page_sharing": _BOUND._replace(default=256, source=_KSM),
            "use_zero_pages": Option(False, "pages of zeros go to the zero frame and are kept track of no more", _KSM),
            "smart_scan": Option(
                True, "pass over pages, ever more often, that were looked at often without a merge", _KSM
            ),
            "advisor": Option(False, "set pages_to_scan after each pass, so that passes take advisor_target_ns", _KSM),
            "advisor_target_ns": Option(
                200_000_000_000, "time for a pass that the advisor aims at, simulated ns", _KSM, high=LONGEST_NS
            ),
            "advisor_max_cpu": Option(70, "most processor time the advisor may ask for, per cent of one core", _KSM),
            "advisor_min_pages": Option(500, "pages_to_scan that the advisor begins with", _KSM),
            "advisor_max_pages": Option(30_000, "largest pages_to_scan the advisor may set", _KSM),
            "hints": _HINTS,
            "salting": _SALTING._replace(default="global", source="Linux knows no salting"),
        },
        zero_frame=False,
        own_bound=True,
    ),
    "esx": Scanner(
        "VMware ESX's: one hash table with hints, random order, a last chance before a page goes",
        {
            "scan_time_ns": Option(
                3_600_000_000_000,
                "shortest time for a pass over one VM, simulated ns (Mem.ShareScanTime)",
                _ESX,
                high=LONGEST_NS,
            ),
            "pages_per_s": Option(1024, "most pages looked at on the host in a simulated second", _ESX),
            "vm_pages_per_s": Option(1024, "most pages looked at in one VM in a simulated second", _ESX),
            "max_page_sharing": _BOUND,
            "salting": _SALTING._replace(default="vm", source="ESX 6: Mem.ShareForceSalting 2"),
        },
        seeded=True,
    ),
    "zero-only": Scanner("merges pages of zeros and looks at nothing else", _PACE),
    "inline": Scanner(
        "no scan: a page is looked up when its content arrives", {"max_page_sharing": _BOUND, "salting": _SALTING}
    ),
}

# ---- deciders, workloads, formats of traces: classes, each in a file of its own

# In memvirt.policies.
DECIDERS: Mapping[str, Written] = {
    "proportional": Written(
        "proportional",
        "Proportional",
        "Inflate in proportion to the pages held beyond the active estimate, up to the high watermark; deflate above it.",
    ),
    "proxmox": Written("proxmox", "Proxmox", "Share-proportional sizes around a host target; needs reservations."),
    "mom": Written("mom", "Mom", "Uniform pressure on all guests from the host's free memory."),
    "ksmtuned": Written("ksmtuned", "KsmTuned", "Scan rate from host pressure; moves no balloon."),
    "esx": Written(
        "esx", "Esx", "Allocations by shares, idle tax, reservation, limit; taken as free memory's state says."
    ),
    "senpai": Written(
        "senpai", "Senpai", "Probe each VM's limit down by at most 1 % and back off by the square of its stall."
    ),
    "senpai-poking": Written(
        "poking",
        "SenpaiPoking",
        "Take one per cent of every VM that does not stall, less as swap is written faster and fills.",
    ),
    "tmo": Written("senpai", "Tmo", "Reclaim a small part of every VM that stalls less than the threshold."),
    "far-memory": Written("far_memory", "FarMemory", "Per-VM cold-age threshold: a percentile of past best ages."),
    "damon-reclaim": Written(
        "damon",
        "DamonReclaim",
        "Reclaim what is cold, oldest first, between two watermarks and within a quota of time, size and stall.",
    ),
    "kubevirt-ksm": Written(
        "kubevirt",
        "KubeVirtKsm",
        "Start, quicken, slow down and stop the sharing scanner by what is free on the node; moves no balloon.",
    ),
    "squeezed": Written(
        "squeezed",
        "Squeezed",
        "Every VM between its least and largest size at the same part of the way; stuck balloons are worked around.",
    ),
    "hyperv": Written(
        "hyperv", "HyperV", "Committed memory and a buffer for every guest, by weight where that does not fit."
    ),
    "coach": Written(
        "coach",
        "Coach",
        "Guarantee a percentile of past peaks; take of the rest what is not expected to be used, when the pool is short.",
    ),
}
# In memvirt.workloads.
WORKLOADS: Mapping[str, Written] = {
    "clone-storm": Written(
        "storms",
        "CloneStorm",
        "A clone that comes alive: it rewrites a share of the writable memory it inherited, and reads all over.",
    ),
    "cow-storm": Written(
        "storms",
        "CowStorm",
        "All VMs rewrite their read-only pages in the same order: an update of the system, installed everywhere at once.",
    ),
    "fork-and-modify": Written(
        "kernels",
        "ForkAndModify",
        "A fork that walks through what it inherited and modifies a share of it, in runs: a snapshot that is worked on.",
    ),
    "gups": Written(
        "kernels",
        "Gups",
        "GUPS: updates of words anywhere in memory, each a read and a write of a page drawn uniformly.",
    ),
    "hotspot": Written(
        "kernels",
        "Hotspot",
        "A hot set that takes most accesses, uniform within and without: YCSB's hotspot distribution.",
    ),
    "idle": Written(
        "patterns",
        "Idle",
        "Next to nothing: a few pages of the kernel's housekeeping, over and over. The rest of the VM is cold.",
    ),
    "loop": Written(
        "patterns",
        "Loop",
        "In order through a part of the memory, in scattered order of pages: a cache either holds it or it does not.",
    ),
    "masim": Written("kernels", "MasimPhases", "The phases of a masim configuration: see memvirt.inputs.masim."),
    "mixed": Written(
        "mixed", "Mixed", "A weighted mixture: each access belongs to a part by chance; the first part to end ends it."
    ),
    "phase-change": Written(
        "patterns",
        "PhaseChange",
        "A working set that moves: uniform within a set of pages, which is replaced every `period` accesses.",
    ),
    "pointer-chase": Written(
        "kernels",
        "PointerChase",
        "Dependent loads along cycles of all pages in random order: no page comes again before all others of its cycle.",
    ),
    "sequential": Written(
        "patterns",
        "Sequential",
        "From the first page to the last, again and again: the worst case for recency once memory is short.",
    ),
    "stream": Written(
        "kernels",
        "StreamKernels",
        "STREAM: three arrays, each a third of the memory, copied, scaled, added and combined, from end to end.",
    ),
    "strided": Written(
        "patterns",
        "Strided",
        "Every `stride`-th page, wrapping: a column of a matrix. A stride prime to the memory visits every page.",
    ),
    "trace": Written(
        "trace",
        "RecordedTrace",
        "Accesses from a file: what 'memvirt trace import' wrote, or a .npy of page numbers (and, in a second row, 0 or 1).",
    ),
    "uniform": Written("patterns", "Uniform", "Every page alike: no order of replacement can win."),
    "ycsb-a": Written("ycsb", "YcsbA", "YCSB A, update heavy: half reads, half updates, zipfian."),
    "ycsb-b": Written("ycsb", "YcsbB", "YCSB B, read mostly: 95 % reads, 5 % updates, zipfian."),
    "ycsb-c": Written("ycsb", "YcsbC", "YCSB C, read only, zipfian."),
    "ycsb-d": Written("ycsb", "YcsbD", "YCSB D, read latest: 95 % reads of what was inserted last, 5 % inserts."),
    "ycsb-e": Written("ycsb", "YcsbE", "YCSB E, short ranges: 95 % scans of up to 100 records, 5 % inserts, zipfian."),
    "ycsb-f": Written(
        "ycsb",
        "YcsbF",
        "YCSB F, read-modify-write: half reads, half reads that are followed by a write of the same record, zipfian.",
    ),
    "zipf": Written(
        "zipf",
        "Zipf",
        "Skewed: the k-th hottest page is asked for in proportion to k**-(theta_milli/1000); hot pages lie scattered.",
    ),
}
# In memvirt.inputs.traces.formats.
TRACE_FORMATS: Mapping[str, Written] = {
    "champsim": Written(
        "champsim", "ChampSim", "Instructions with the addresses they read and write, ChampSim's records of 64 bytes."
    ),
    "csv": Written(
        "csv", "Csv", "Requests as CSV, or text with another delimiter, whose first line names the columns."
    ),
    "damon": Written(
        "damon",
        "Damon",
        "Accessed regions as DAMON samples them: damo's records (JSON, packed or not) or perf script's lines.",
    ),
    "lackey": Written(
        "lackey", "Lackey", "Memory accesses of a program, as valgrind --tool=lackey --trace-mem=yes prints them."
    ),
    "lcs": Written(
        "lcs", "Lcs", "Object requests in libCacheSim's own format, with or without operations and tenants."
    ),
    "masim": Written(
        "masim",
        "Masim",
        "A configuration of the memory access simulator masim, made into the accesses that it describes.",
    ),
    "memvirt": Written("own", "Own", "memvirt's own trace file, Parquet."),
    "msr": Written(
        "msr",
        "Msr",
        "Block requests as CSV without a head line: time, host, disk, Read or Write, offset, size, response (MSR, SNIA).",
    ),
    "names": Written("names", "Names", "Object requests as text, one name a line; each is one page, read."),
    "npy": Written("npy", "Npy", "A NumPy array (.npy) of page numbers, and of operations in a second row."),
    "oracle-general": Written(
        "oracle_general", "OracleGeneral", "Object requests in records of 24 bytes, libCacheSim's oracleGeneral."
    ),
    "perf-faults": Written(
        "perf", "PerfFaults", "Page faults as text, from perf script -F comm,pid,tid,time,event,addr."
    ),
    "spc": Written(
        "spc",
        "Spc",
        "Block requests as CSV without a head line: unit, block of 512 bytes, size, r or w, seconds (SPC).",
    ),
    "vscsi": Written("vscsi", "Vscsi", "SCSI requests of a VMware virtual disk, records of 32 or 40 bytes."),
}
