"""What this machine's kernel says of itself, and why something of it cannot be had.

All is read from /proc and /sys. `Missing` is the one exception for what a machine lacks: it says what and why, and
becomes the reason of a row that is skipped.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memvirt.environment import chosen

PAGEMAP_PRESENT = np.uint64(1 << 63)  # Documentation/admin-guide/mm/pagemap.rst
PAGEMAP_SWAPPED = np.uint64(1 << 62)
PAGEMAP_EXCLUSIVE = np.uint64(1 << 56)
SWAPS = Path("/proc/swaps")
VMSTAT = Path("/proc/vmstat")


class Missing(Exception):
    """Something that this machine, its kernel or this user does not have."""


def read(path: Path) -> str:
    """A file of the kernel's; Missing when it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise Missing(f"{path} cannot be read: {error.strerror}") from error


def number(path: Path) -> int:
    """The number in a file of the kernel's."""
    text = read(path)
    try:
        return int(text.split()[0])
    except (IndexError, ValueError):
        raise Missing(f"{path} holds no number: {text[:40]!r}") from None


def setting(path: Path) -> str:
    """A setting as it would be written: of "[none] scan-time" it is none."""
    return chosen(read(path))


def table(path: Path) -> dict[str, int]:
    """Lines of a name and a number, as of vmstat, memory.stat and meminfo (there in kB)."""
    found = {}
    for line in read(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[1].lstrip("-").isdigit():
            found[words[0].rstrip(":")] = int(words[1])
    return found


def queued_ns() -> int:
    """For how long this thread could have run, but others had the processor; 0 where the kernel does not say. (Its file:
    Documentation/scheduler/sched-stats.rst.)"""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def require_root(what: str) -> None:
    """Missing unless this process may do everything."""
    if os.geteuid():
        raise Missing(f"needs root: {what}")


def swap_areas() -> list[str]:
    """Paths of the swap areas that are on."""
    return [line.split()[0] for line in read(SWAPS).splitlines()[1:]]


def pagemap(address: int, pages: int, pid: int | str = "self") -> NDArray[np.uint64]:
    """An entry per page from this address on."""
    path = f"/proc/{pid}/pagemap"
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(file, pages * 8, address // 4096 * 8)
        finally:
            os.close(file)
    except OSError as error:
        raise Missing(f"{path} cannot be read: {error.strerror}") from error
    if len(data) != pages * 8:
        raise Missing(f"{path} ends early: {len(data) // 8} of {pages} pages")
    return np.frombuffer(data, np.uint64)


def present(address: int, pages: int, pid: int) -> int:
    """How many of a process's pages from this address on are in memory and mapped."""
    return int(((pagemap(address, pages, pid) & PAGEMAP_PRESENT) != 0).sum())


def swap_on(path: str, priority: int) -> None:
    """swapon(2)."""
    _call("swapon", path.encode(), 0x8000 | priority)  # SWAP_FLAG_PREFER


def swap_off(path: str) -> None:
    """swapoff(2): what is out comes back first."""
    _call("swapoff", path.encode())


def _call(name: str, *arguments: bytes | int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def memory_file(name: str) -> int:
    """A file in memory of no name, open; Missing where there is none to be had."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError as error:
        raise Missing(f"memfd_create is refused ({error.strerror}): Linux has it since 3.17") from error


def punch_hole(file: int, first: int, length: int) -> None:
    """fallocate(2): these bytes of a file are no longer held."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = 0x03  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
    if libc.fallocate(file, mode, ctypes.c_int64(first), ctypes.c_int64(length)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"fallocate: {os.strerror(number)}")
