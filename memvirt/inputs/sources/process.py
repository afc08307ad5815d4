"""The memory of a live process: /proc/PID/maps says what there is, pagemap what of it is held, mem has the bytes.

Only pages that the process holds are read, present or swapped out (which brings them in): a read of any other would make
the kernel map one. Where the kernel has PAGEMAP_SCAN (6.7), it also names pages that are mapped to its zero page, which
cost no memory; they are left out and counted. Device memory is never read, since reading may do something.

The process goes on while it is read. A page may be caught in the middle of a change, as it may be in a snapshot of a
running machine; a mapping that goes away is counted; a process that ends is an error.
"""

import fcntl
import os
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError
from memvirt.inputs.corpus import PAGE_SIZE, PageBytes

from .runs import Runs, make_runs

# ioctl PAGEMAP_SCAN and its argument, struct pm_scan_arg of linux/fs.h: size, flags, start, end, walk_end, vec, vec_len,
# max_pages, category_inverted, category_mask, category_anyof_mask, return_mask.
PAGEMAP_SCAN = 0xC0606610
PRESENT, SWAPPED, ZERO_PAGE = 1 << 3, 1 << 4, 1 << 5
SCAN = struct.Struct("12Q")
SCANNED_AT_ONCE = 4096  # ranges
HELD = 62  # pagemap: bits 62 (swapped) and 63 (present)
ENTRIES_AT_ONCE = 1 << 16

LABELS = ("heap", "stack", "anonymous", "shared", "libraries", "program", "files")
KERNELS_OWN = "[v", "[uprobes]"  # vdso, vvar, vsyscall: the kernel's, the same in every process
SHARED = ("/memfd:", "/dev/shm/", "/SYSV", "/dev/zero")
DEVICES = "/dev/"


def label_of(path: str, program: str = "") -> str:
    """What a mapping is, from the name that maps gives it; "" for what is not captured."""
    name = path.removesuffix(" (deleted)")
    if not name or name.startswith("[anon"):
        return "anonymous"
    if name == "[heap]":
        return "heap"
    if name.startswith("[stack"):
        return "stack"
    if name.startswith(SHARED):
        return "shared"
    if name.startswith((*KERNELS_OWN, DEVICES)):
        return ""
    if name == program:
        return "program"
    return "libraries" if ".so" in os.path.basename(name) else "files"


class Process:
    """A source: a process of this machine. CorpusError for one that is not there, or that this user may not read."""

    labels = LABELS

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._root = Path("/proc") / str(pid)
        self.left_out: Counter[str] = Counter()
        self.name, self._started = f"process {pid}", 0
        try:
            self._started = self._start_time()
            command = (self._root / "comm").read_text(errors="replace").strip()
            self.name = f"process {pid} ({command})"
            self._memory = os.open(self._root / "mem", os.O_RDONLY)
        except (FileNotFoundError, ProcessLookupError) as error:
            if self._started and self._alive():
                raise CorpusError(self._nothing()) from error
            raise CorpusError(f"process {pid}: there is none of this number, or it has ended") from error
        except OSError as error:
            raise CorpusError(self._denied(error)) from error
        try:
            self.runs = self._held(self._mappings())
        except (FileNotFoundError, ProcessLookupError) as error:
            self.close()
            raise CorpusError(f"{self.name} ended before its memory could be read") from error
        except OSError as error:
            self.close()
            raise CorpusError(self._denied(error)) from error

    def close(self) -> None:
        os.close(self._memory)

    def read(self, at: int, rows: PageBytes) -> int:
        try:
            got = os.preadv(self._memory, [rows.data], at)
        except OSError:  # the mapping has gone, or cannot be read
            got = -1
        if got < rows.nbytes and not self._alive():
            raise CorpusError(f"{self.name} ended while its memory was read; nothing was written")
        return max(0, got) // PAGE_SIZE

    def _alive(self) -> bool:
        try:
            return self._start_time() == self._started
        except OSError:
            return False

    def _start_time(self) -> int:
        """Field 22 of stat: a number that was given anew has another. ProcessLookupError for a zombie."""
        state, *fields = (self._root / "stat").read_text(errors="replace").rpartition(")")[2].split()
        if state in "ZXx":
            raise ProcessLookupError
        return int(fields[18])

    def _mappings(self) -> list[tuple[int, int, int]]:
        """(start, end, label) of all that may be captured."""
        try:
            program = os.readlink(self._root / "exe")
        except OSError:
            program = ""
        found = []
        with open(self._root / "maps", errors="surrogateescape") as lines:
            for line in lines:
                span, _mode, _offset, _device, _inode, *path = line.rstrip("\n").split(None, 5)
                start, end = (int(each, 16) for each in span.split("-"))
                label = label_of(path[0] if path else "", program)
                if label:
                    found.append((start, end, LABELS.index(label)))
                elif path[0].startswith(DEVICES):
                    self.left_out["of devices left out"] += (end - start) // PAGE_SIZE
        if not found:
            raise CorpusError(self._nothing())
        return found

    def _held(self, mappings: list[tuple[int, int, int]]) -> Runs:
        """The runs of pages that the process holds."""
        pagemap = os.open(self._root / "pagemap", os.O_RDONLY)
        found: list[tuple[int, int, int]] = []
        scans = True
        try:
            for start, end, label in mappings:
                ranges = self._scanned(pagemap, start, end) if scans else None
                scans = ranges is not None
                ranges = self._listed(pagemap, start, end) if ranges is None else ranges
                found += [(first, (last - first) // PAGE_SIZE, label) for first, last in ranges]
        finally:
            os.close(pagemap)
        return make_runs(found)

    def _scanned(self, pagemap: int, start: int, end: int) -> list[tuple[int, int]] | None:
        """Ranges of held pages by PAGEMAP_SCAN; None where the kernel does not have it."""
        ranges = np.zeros((SCANNED_AT_ONCE, 3), np.uint64)
        found: list[tuple[int, int]] = []
        while start < end:
            held, told = PRESENT | SWAPPED, PRESENT | SWAPPED | ZERO_PAGE
            where, room = ranges.ctypes.data, len(ranges)
            argument = bytearray(SCAN.pack(SCAN.size, 0, start, end, 0, where, room, 0, 0, 0, held, told))
            try:
                count = fcntl.ioctl(pagemap, PAGEMAP_SCAN, argument)
            except OSError:
                return None
            for first, last, kind in ranges[:count].tolist():
                if kind & ZERO_PAGE:
                    self.left_out["mapped to the kernel's zero page left out"] += (last - first) // PAGE_SIZE
                else:
                    found.append((first, last))
            reached = SCAN.unpack(argument)[4]
            start = reached if reached > start else end
        return found

    def _listed(self, pagemap: int, start: int, end: int) -> list[tuple[int, int]]:
        """Ranges of held pages from the entries of pagemap, 8 bytes a page."""
        found: list[tuple[int, int]] = []
        for first in range(start, end, ENTRIES_AT_ONCE * PAGE_SIZE):
            pages = min(ENTRIES_AT_ONCE, (end - first) // PAGE_SIZE)
            raw = os.pread(pagemap, 8 * pages, first // PAGE_SIZE * 8)
            held = np.frombuffer(raw, "<u8", len(raw) // 8) >> np.uint64(HELD) != 0
            found += [(first + low * PAGE_SIZE, first + high * PAGE_SIZE) for low, high in _true_runs(held)]
        return found

    def _nothing(self) -> str:
        return f"{self.name} has no memory of its own: a kernel thread, or it is just ending"

    def _denied(self, error: OSError) -> str:
        """Who may read it."""
        said = f"process {self.pid} cannot be read: {error.strerror or error}"
        remedy = "run as root (with CAP_SYS_PTRACE)"
        with suppress(OSError):
            if os.geteuid() not in (0, os.stat(self._root).st_uid):
                return f"{said}; it belongs to another user: run as that user, or as root"
        with suppress(OSError, ValueError):
            if scope := int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text()):
                remedy += f", or set kernel.yama.ptrace_scope to 0: it is {scope}"
        return f"{said}; {remedy}"


def _true_runs(held: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[first, last) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
