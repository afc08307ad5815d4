"""The names that settings, counters and tables use, one table for each kind: plain data, read by both sides.

The engine takes its names from here and so do settings, metrics and the command line: a name is added in one place, and
`memvirt list` needs no compiled module. Where the engine has an enum of the same things, its order is the table's, and
a comment at the enum says so.

Sources: what a constant is taken from stands beside it, or in the comment above its table.
"""

from collections.abc import Mapping

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
