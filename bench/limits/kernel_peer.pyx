"""The kernel beside which memvirt is measured: thin wrappers of kernel.h. All times are nanoseconds in total."""

import os

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from "<sys/mman.h>" nogil:
    enum:
        MADV_MERGEABLE
        MADV_PAGEOUT
    int munmap(void *start, size_t bytes)
    int madvise(void *start, size_t bytes, int advice)

cdef extern from "<stdlib.h>" nogil:
    void *aligned_alloc(size_t alignment, size_t bytes)

cdef extern from "kernel.h" nogil:
    uint8_t *kernel_map(size_t bytes, int huge)
    int64_t kernel_touch(uint8_t *start, size_t bytes)
    int64_t kernel_stores(uint8_t *start, const uint32_t *pages, uint32_t n)
    int64_t kernel_cow(uint8_t *start, size_t bytes)
    int64_t kernel_fork()
    int64_t kernel_transfer(int fd, int writing, uint8_t *buffer, size_t bytes, const uint32_t *offsets, uint32_t n)
    int64_t kernel_ring_reads(int fd, uint8_t *buffer, const uint32_t *offsets, uint32_t n, uint32_t depth)


cdef int64_t checked(int64_t spent) except -1:
    if spent < 0:
        raise OSError(errno, os.strerror(errno))
    return spent


cdef class Memory:
    """Private anonymous memory of this process."""
    cdef uint8_t *start
    cdef readonly size_t bytes

    def __cinit__(self, size_t pages, bint huge=False):
        self.bytes = pages * 4096
        self.start = kernel_map(self.bytes, huge)
        if self.start == NULL:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        if self.start != NULL:
            munmap(self.start, self.bytes)

    def touch(self):
        """A store to each page in order."""
        return kernel_touch(self.start, self.bytes)

    def stores(self, const uint32_t[::1] pages not None):
        return kernel_stores(self.start, &pages[0], pages.shape[0])

    def cow(self):
        """A forked child writes every page."""
        return checked(kernel_cow(self.start, self.bytes))

    def load(self, const uint8_t[:, ::1] pages not None):
        """Fill it, from its first page on; where the rows end, from the first row again."""
        cdef size_t i
        for i in range(self.bytes // 4096):
            memcpy(self.start + i * 4096, &pages[i % pages.shape[0], 0], 4096)

    def mergeable(self):
        checked(madvise(self.start, self.bytes, MADV_MERGEABLE))

    def page_out(self):
        checked(madvise(self.start, self.bytes, MADV_PAGEOUT))


def fork_ns():
    """fork() of this process, as the parent sees it."""
    return checked(kernel_fork())


def transfer_ns(int fd, bint writing, size_t bytes, const uint32_t[::1] offsets not None, pages=None):
    """Transfers of `bytes` each at offsets (in units of `bytes`), one at a time, through one aligned buffer. `pages`: what
    to write from, uint8 [n, 4096], each transfer taking the next rows."""
    cdef uint8_t *buffer = <uint8_t *>aligned_alloc(4096, bytes)
    cdef const uint8_t[:, ::1] rows
    cdef uint32_t i
    cdef size_t per = bytes // 4096
    cdef int64_t spent = 0
    memset(buffer, 0xA5, bytes)
    try:
        if pages is None:
            return checked(kernel_transfer(fd, writing, buffer, bytes, &offsets[0], offsets.shape[0]))
        rows = pages
        for i in range(offsets.shape[0]):
            memcpy(buffer, &rows[i * per % <size_t>(rows.shape[0] - per + 1), 0], bytes)
            spent += checked(kernel_transfer(fd, writing, buffer, bytes, &offsets[i], 1))
        return spent
    finally:
        free(buffer)


def ring_reads_ns(int fd, const uint32_t[::1] offsets not None, uint32_t depth):
    """4 KiB reads at these pages through io_uring, `depth` (at most 256) in flight."""
    cdef uint8_t *buffer
    if not 1 <= depth <= 256:
        raise ValueError(f"depth {depth}: 1 to 256")
    buffer = <uint8_t *>aligned_alloc(4096, <size_t>depth * 4096)
    try:
        return checked(kernel_ring_reads(fd, buffer, &offsets[0], offsets.shape[0], depth))
    finally:
        free(buffer)
