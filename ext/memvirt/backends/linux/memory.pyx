"""A process's own memory, driven access by access, and the faults that these accesses took.

What Python itself does takes faults, too: they are not counted, for the kernel's count is read in C right before and
right after the accesses, of this thread alone. An access touches the word of its page that an engine's access touches,
and a write stores the tag that an engine's write stores: so both sides hold equal bytes after equal streams.
"""

import os

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long value)
    int PR_SET_PDEATHSIG

cdef extern from "<sys/mman.h>" nogil:
    int MCL_CURRENT
    int madvise(void *start, size_t bytes, int advice)
    int mlockall(int flags)

cdef extern from "memory.h" nogil:
    struct mv_spent:
        int64_t minor
        int64_t major
        int64_t ns

    uint8_t *mv_map(size_t bytes, int fd, int shared, void **room_of)
    void mv_unmap_room(void *room, size_t bytes)
    uint64_t mv_drive(uint8_t *start, const uint32_t *pages, const uint8_t *ops, const uint32_t *sources,
                      const uint8_t *corpus, uint64_t n, uint32_t tag_base, uint64_t *sequence, mv_spent *spent)

cdef enum:
    PAGE = 4096
    HUGEPAGE = 14
    NOHUGEPAGE = 15


def end_with_parent(int signal):
    """From now on this process gets the signal when the one that started it ends. A fork of it has to ask for itself."""
    _checked(prctl(PR_SET_PDEATHSIG, signal), "prctl")


def lock_present():
    """What this process holds now stays in memory."""
    _checked(mlockall(MCL_CURRENT), "mlockall")


cdef int _checked(int result, str call) except -1:
    if result < 0:
        raise OSError(errno, f"{call}: {os.strerror(errno)}")
    return 0


cdef class Memory:
    """`pages` pages that nobody has touched. A file makes them shared with whoever else maps it, or private: each page is
    the file's until it is written. `huge`: the kernel is asked for 2 MiB pages, otherwise it is told to use none."""

    cdef uint8_t *_start
    cdef void *_room
    cdef readonly size_t pages
    cdef readonly uint64_t sequence     # access writes so far
    cdef readonly uint32_t tag_base
    cdef readonly uint64_t loaded       # what the loads saw, summed

    def __cinit__(self, size_t pages, *, bint huge=False, int file=-1, bint shared=False, uint32_t tag_base=0):
        if not 0 < pages < (1 << 32):
            raise ValueError(f"{pages} pages")
        self.pages, self.tag_base = pages, tag_base
        self._start = mv_map(pages * PAGE, file, shared, &self._room)
        if self._start == NULL:
            raise OSError(errno, f"mmap: {os.strerror(errno)}")
        if madvise(self._start, pages * PAGE, HUGEPAGE if huge else NOHUGEPAGE) < 0 and huge:
            raise OSError(errno, f"madvise: {os.strerror(errno)}")     # NOHUGEPAGE is refused where there are none

    def __dealloc__(self):
        if self._room != NULL:
            mv_unmap_room(self._room, self.pages * PAGE)

    @property
    def address(self):
        return <uintptr_t>self._start

    def tag(self, uint32_t tag_base, uint64_t sequence):
        """The next write is the one after write number `sequence` of a VM with this tag base."""
        self.tag_base, self.sequence = tag_base, sequence

    def advise(self, size_t first, size_t count, int advice):
        """madvise of pages first .. first + count - 1."""
        self._within(first, count)
        _checked(madvise(self._start + first * PAGE, count * PAGE, advice), f"madvise {advice}")

    def drive(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None,
              const uint32_t[::1] sources=None, const uint8_t[:, ::1] corpus=None):
        """(minor faults, major faults, ns) of accesses in order. ops: 0 read, 1 write, 2 fill with row `sources` of the
        corpus."""
        cdef mv_spent spent
        cdef uint64_t i, n = pages.shape[0], rows = 0 if corpus is None else corpus.shape[0]
        if <uint64_t>ops.shape[0] != n or (sources is not None and <uint64_t>sources.shape[0] != n):
            raise ValueError(f"{n} pages, {ops.shape[0]} ops")
        if rows and corpus.shape[1] != PAGE:
            raise ValueError(f"pages of {corpus.shape[1]} bytes")
        for i in range(n):
            if pages[i] >= self.pages or ops[i] > 2 or (ops[i] == 2 and (sources is None or sources[i] >= rows)):
                raise ValueError(f"access {i}: page {pages[i]}, op {ops[i]}")
        if n == 0:
            return 0, 0, 0
        cdef const uint32_t *source = NULL
        cdef const uint8_t *row = NULL
        if sources is not None:
            source = &sources[0]
        if rows:
            row = &corpus[0, 0]
        with nogil:
            mv_drive(self._start, &pages[0], &ops[0], source, row, 0, self.tag_base, &self.sequence, &spent)
            self.loaded += mv_drive(self._start, &pages[0], &ops[0], source, row, n, self.tag_base, &self.sequence, &spent)
        return spent.minor, spent.major, spent.ns

    def copy(self, size_t first, uint8_t[:, ::1] out not None):
        """Read pages first, first + 1, … into rows."""
        cdef size_t count = out.shape[0]
        self._within(first, count)
        if out.shape[1] != PAGE:
            raise ValueError(f"rows of {out.shape[1]} bytes")
        if count:
            with nogil:
                memcpy(&out[0, 0], self._start + first * PAGE, count * PAGE)

    cdef int _within(self, size_t first, size_t count) except -1:
        if first > self.pages or count > self.pages - first:
            raise ValueError(f"pages {first} to {first + count} of {self.pages}")
        return 0
