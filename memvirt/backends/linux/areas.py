"""Swap areas of our own: a file, or a zram device; and the compressed cache in front of the file.

An area is written down before it is on, has a priority above all others, and is refused while another one is on: what
goes to swap is counted for the machine as a whole. Its header is written here, for mkswap may be absent.
"""

from __future__ import annotations

import os
import secrets
import struct
from contextlib import suppress
from pathlib import Path

from memvirt.backends.linux import kernel
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.undo import Changes, write
from memvirt.environment import disk_problem, meminfo, swap_folder
from memvirt.units import PAGE_SIZE

HIGHEST = 32767  # priority
ZSWAP = Path("/sys/module/zswap/parameters")
CLUSTER = Path("/proc/sys/vm/page-cluster")
SPARE_PAGES = 2048  # for what is not ours: other processes' pages may go out, too


def require_none() -> None:
    """Missing while another swap area is on."""
    kernel.require_root("swap areas are turned on and off")
    areas = kernel.swap_areas()
    if areas:
        raise Missing(f"another swap area is in use ({', '.join(areas)}): its traffic cannot be told from ours")


def header(pages: int) -> bytes:
    """The first page of an area of so many pages: union swap_header of include/linux/swap.h, version 1."""
    fields = struct.pack("<III", 1, pages - 1, 0) + secrets.token_bytes(16)
    return bytes(1024) + fields.ljust(PAGE_SIZE - 1024 - 10, b"\0") + b"SWAPSPACE2"


def file(changes: Changes, pages: int) -> Path:
    """A file of so many pages, on."""
    require_none()
    size = (pages + SPARE_PAGES) * PAGE_SIZE
    if problem := disk_problem(size):
        raise Missing(problem)
    path = swap_folder() / f"memvirt-area-{secrets.token_hex(8)}"
    changes.will_undo("unlink", str(path))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            os.pwrite(descriptor, header(size // PAGE_SIZE), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Missing(f"no swap file can be made in {path.parent}: {error.strerror}") from error
    _turn_on(changes, path)
    return path


def zram(changes: Changes, pages: int, codec: str = "lz4") -> Path:
    """A zram device of so many pages, on; its folder in /sys/block."""
    require_none()
    number = changes.new_zram()
    block = Path(f"/sys/block/zram{number}")
    if codec not in kernel.read(block / "comp_algorithm").replace("[", " ").replace("]", " ").split():
        raise Missing(f"this kernel's zram has no {codec}")
    size = (pages + SPARE_PAGES) * PAGE_SIZE
    write(block / "comp_algorithm", codec)
    write(block / "disksize", size)
    device = Path(f"/dev/zram{number}")
    if not device.exists():  # nobody makes device files here
        major, minor = map(int, kernel.read(block / "dev").split(":"))
        changes.will_undo("unlink", str(device))
        os.mknod(device, 0o600 | 0o060000, os.makedev(major, minor))
    with open(device, "r+b", buffering=0) as opened:
        opened.write(header(size // PAGE_SIZE))
    _turn_on(changes, device)
    return block


def _turn_on(changes: Changes, path: Path) -> None:
    changes.will_undo("swapoff", str(path))
    try:
        kernel.swap_on(str(path), HIGHEST)
    except OSError as error:
        raise Missing(f"{path} cannot be a swap area: {error}") from error


def one_page_at_a_time(changes: Changes) -> None:
    """No readahead."""
    changes.set({CLUSTER: 0})


def zswap(changes: Changes, codec: str = "lz4") -> str:
    """The compressed cache on; its codec: this one, if the kernel has it. To be called before the area is on."""
    kernel.require_root("zswap's parameters are changed")
    if not ZSWAP.exists():
        raise Missing("this kernel has no zswap (CONFIG_ZSWAP)")
    if meminfo().get("Zswapped", 0):
        raise Missing("zswap is in use on this machine")
    with suppress(Missing):
        changes.set({ZSWAP / "compressor": codec})
    changes.set({ZSWAP / "max_pool_percent": 50, ZSWAP / "enabled": "Y"})
    return kernel.setting(ZSWAP / "compressor")


def no_zswap(changes: Changes) -> None:
    """The compressed cache off."""
    if ZSWAP.exists() and kernel.setting(ZSWAP / "enabled") != "N":
        changes.set({ZSWAP / "enabled": "N"})


def compressed_device(changes: Changes, pages: int) -> Path:
    """zram of so many pages as the one way out of memory; its folder in /sys/block."""
    require_none()
    one_page_at_a_time(changes)
    no_zswap(changes)
    return zram(changes, pages)


def compressed_cache(changes: Changes, pages: int) -> str:
    """zswap in front of a file of so many pages; its codec."""
    require_none()
    one_page_at_a_time(changes)
    codec = zswap(changes)
    file(changes, pages)
    return codec


def plain_file(changes: Changes, pages: int) -> Path:
    """A file of so many pages as the one way out of memory."""
    require_none()
    one_page_at_a_time(changes)
    no_zswap(changes)
    return file(changes, pages)


def zram_state(block: Path) -> dict[str, int]:
    """mm_stat of a zram device (Documentation/admin-guide/blockdev/zram.rst)."""
    names = ("orig", "compressed", "used", "limit", "most_used", "same", "compacted", "huge", "huge_since")
    return dict(zip(names, map(int, kernel.read(block / "mm_stat").split()), strict=False))


def traffic() -> dict[str, int]:
    """What has gone to and come from swap on this machine so far, in pages."""
    found = kernel.table(kernel.VMSTAT)
    return {
        name: found.get(name, 0) for name in ("pswpin", "pswpout", "swpin_zero", "swpout_zero", "zswpin", "zswpout")
    }
