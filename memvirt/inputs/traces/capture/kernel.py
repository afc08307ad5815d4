"""What is asked of the kernel about another process, by number: PAGEMAP_SCAN, userfaultfd, process_madvise.

Structures and numbers: include/uapi/linux/fs.h and userfaultfd.h of Linux 6.7, where these calls are complete.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import struct

import numpy as np
from numpy.typing import NDArray

from memvirt.errors import CorpusError
from memvirt.inputs.sources.process import PAGEMAP_SCAN, SCAN

WP_MATCHING, CHECK_WPASYNC = 1, 2
WRITTEN, PRESENT = 2, 8
REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])
REGIONS = 1 << 14  # told by one call

UFFDIO_API, UFFDIO_REGISTER, UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
UFFD_API = 0xAA
FEATURE_PAGEFAULT_WP, FEATURE_WP_UNPOPULATED, FEATURE_WP_ASYNC = 1, 1 << 13, 1 << 15
REGISTER_WP, PROTECT = 2, 1
USERFAULTFD = 323  # on x86-64
USER_MODE_ONLY = 1

PROCESS_MADVISE = 440
MADV_PAGEOUT = 21
MOST_VECTORS = 1024

_libc = ctypes.CDLL(None, use_errno=True)


def scan(pagemap: int, start: int, end: int, flags: int, category: int) -> NDArray[np.void]:
    """The regions of pages in this category between two addresses, of a process whose pagemap is open.

    OSError with ENOTTY where the kernel has no PAGEMAP_SCAN, ESRCH where the process is gone.
    """
    found = []
    buffer = np.zeros(REGIONS, dtype=REGION)
    while start < end:
        argument = bytearray(
            SCAN.pack(SCAN.size, flags, start, end, 0, buffer.ctypes.data, REGIONS, 0, 0, category, 0, category)
        )
        count = fcntl.ioctl(pagemap, PAGEMAP_SCAN, argument)
        found.append(buffer[:count].copy())
        walked = SCAN.unpack(argument)[4]
        if walked <= start:
            break
        start = walked
    return np.concatenate(found) if found else np.empty(0, dtype=REGION)


def open_pagemap(pid: int) -> int:
    """/proc/PID/pagemap, open; CorpusError where it may not be, or the kernel cannot scan it."""
    try:
        handle = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    except PermissionError as error:
        raise CorpusError(
            f"the pages of process {pid} may not be looked at: be its user and let it be traced "
            "(kernel.yama.ptrace_scope), or be root"
        ) from error
    except OSError as error:
        raise CorpusError(f"process {pid} is gone") from error
    try:
        scan(handle, 0, 4096, 0, PRESENT)
    except OSError as error:
        os.close(handle)
        if error.errno == errno.ENOTTY:
            raise CorpusError("this kernel has no PAGEMAP_SCAN: Linux 6.7 or newer is needed") from error
        raise CorpusError(f"the pages of process {pid} cannot be scanned: {error.strerror}") from error
    return handle


def enable_async_protection(handle: int) -> None:
    """Tell a userfaultfd that faults on protected pages are to be resolved by the kernel, and remembered."""
    features = FEATURE_PAGEFAULT_WP | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC
    try:
        fcntl.ioctl(handle, UFFDIO_API, bytearray(struct.pack("<3Q", UFFD_API, features, 0)))
    except OSError as error:
        raise CorpusError(
            "this kernel's userfaultfd has no asynchronous write protection: Linux 6.7 is needed"
        ) from error


def register(handle: int, start: int, end: int) -> bool:
    """Follow writes between two addresses; whether that memory can be followed."""
    try:
        fcntl.ioctl(handle, UFFDIO_REGISTER, bytearray(struct.pack("<4Q", start, end - start, REGISTER_WP, 0)))
    except OSError:  # special memory, or memory that is gone
        return False
    return True


def page_out(process: int, ranges: list[tuple[int, int]]) -> None:
    """Ask for all pages in these ranges of a process to be paged out; what has vanished since is passed over."""
    for first in range(0, len(ranges), MOST_VECTORS):
        some = ranges[first : first + MOST_VECTORS]
        vectors = array.array("Q", [word for start, end in some for word in (start, end - start)])
        address, _ = vectors.buffer_info()
        done = _libc.syscall(PROCESS_MADVISE, process, ctypes.c_void_p(address), len(some), MADV_PAGEOUT, 0)
        if done < 0:
            number = ctypes.get_errno()
            if number == errno.EPERM:
                raise CorpusError("paging a process out needs CAP_SYS_NICE and CAP_SYS_PTRACE: be root")
            if number == errno.ENOSYS:
                raise CorpusError("this kernel has no process_madvise: Linux 5.10 or newer is needed")
            if number not in (errno.ESRCH, errno.ENOMEM, errno.EINVAL):
                raise CorpusError(f"process_madvise failed: {os.strerror(number)}")
