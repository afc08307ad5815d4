"""LZ4 alone, and the thrashing loop, through the same C functions that the engine calls."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from memvirt.engine.content.codec cimport Lz4

cdef extern from "buddy.h" nogil:
    int64_t limits_now_ns()

cdef extern from "store.h" nogil:
    ctypedef int (*LimitPack)(void *, const char *, char *, int, int, int)
    ctypedef int (*LimitUnpack)(const char *, char *, int, int)
    ctypedef struct LimitThrash:
        uint32_t nr_pages, nr_frames, hand
        uint8_t *arena
        uint8_t *slot
        uint16_t *length
        uint32_t *frame_of
        uint32_t *page_of
        uint8_t *referenced
        LimitPack pack
        LimitUnpack unpack
        void *state
        uint64_t misses
    void limit_thrash_out(LimitThrash *t, uint32_t page, const uint8_t *bytes)
    void limit_thrash_run(LimitThrash *t, const uint32_t *pages, uint32_t n)


def lz4_ns(Lz4 codec not None, const uint8_t[:, ::1] pages not None, const uint32_t[::1] order not None, int room):
    """(compress, decompress) of these pages in this order, nanoseconds per page. Blocks lie one after the other; they
    are decompressed in another order, each into a page of its own. A page that does not fit into `room` bytes takes part
    in the first only."""
    cdef uint32_t n = order.shape[0], i, page
    cdef uint8_t *blocks = <uint8_t *>calloc(n, 4096)
    cdef uint64_t *at = <uint64_t *>malloc((n + 1) * sizeof(uint64_t))
    cdef uint8_t *target = <uint8_t *>malloc(<size_t>n * 4096)
    memset(target, 1, <size_t>n * 4096)
    cdef int length
    cdef uint32_t kept = 0
    cdef int64_t packing, unpacking
    at[0] = 0
    with nogil:
        packing = limits_now_ns()
        for i in range(n):
            length = codec._compress(codec._state, <const char *>&pages[order[i], 0], <char *>blocks + at[i], 4096,
                                     room, codec.level)
            at[i + 1] = at[i] + (length if length > 0 else 0)
        packing = limits_now_ns() - packing
        unpacking = limits_now_ns()
        for i in range(n):
            page = (i * <uint64_t>2654435761) % n       # any order but the one they lie in
            if at[page + 1] > at[page]:
                codec._decompress(<const char *>blocks + at[page], <char *>target + <size_t>i * 4096,
                                  <int>(at[page + 1] - at[page]), 4096)
                kept += 1
        unpacking = limits_now_ns() - unpacking
    free(blocks)
    free(target)
    free(at)
    return <double>packing / n, <double>unpacking / max(kept, 1)


cdef class Thrash:
    """The loop's memory: `frames` of the pages resident, the others compressed."""
    cdef LimitThrash t
    cdef Lz4 codec          # owns t.state

    def __cinit__(self, Lz4 codec not None, const uint8_t[:, ::1] pages not None, uint32_t frames):
        cdef uint32_t page
        cdef uint32_t n = pages.shape[0]
        self.codec = codec
        self.t.nr_pages, self.t.nr_frames = n, frames
        self.t.arena = <uint8_t *>calloc(frames, 4096)
        self.t.slot = <uint8_t *>calloc(n, 4096)
        self.t.length = <uint16_t *>calloc(n, 2)
        self.t.frame_of = <uint32_t *>calloc(n, 4)
        self.t.page_of = <uint32_t *>calloc(frames, 4)
        self.t.referenced = <uint8_t *>calloc(frames, 1)
        self.t.pack = <LimitPack>codec._compress
        self.t.unpack = <LimitUnpack>codec._decompress
        self.t.state = codec._state
        if not (self.t.arena and self.t.slot and self.t.length and self.t.frame_of and self.t.page_of
                and self.t.referenced):
            raise MemoryError(f"{n} pages")
        for page in range(n):
            if page < frames:
                self.t.frame_of[page] = self.t.page_of[page] = page
                memcpy(self.t.arena + <size_t>page * 4096, &pages[page, 0], 4096)
            else:
                limit_thrash_out(&self.t, page, &pages[page, 0])

    def __dealloc__(self):
        free(self.t.arena)
        free(self.t.slot)
        free(self.t.length)
        free(self.t.frame_of)
        free(self.t.page_of)
        free(self.t.referenced)

    @property
    def misses(self):
        return self.t.misses

    def run(self, const uint32_t[::1] pages not None):
        """Store to these pages; nanoseconds per access."""
        cdef int64_t start = limits_now_ns()
        with nogil:
            limit_thrash_run(&self.t, &pages[0], pages.shape[0])
        return <double>(limits_now_ns() - start) / pages.shape[0]
