"""What this machine takes for one operation on a page, in nanoseconds of processor time of the thread that does it.

An operation is done to many pages in an order of the caller's, so that each is as cold as it is in a host under pressure,
and the clock is read twice: a reading takes as long as a fast operation. What an operation does is what the engine's does:
its own kernels over a page (content/pageops.h), its own route to the codec. What is computed is returned, so that no
compiler leaves it out. Processor time, for others who run on the same processor are no part of what an operation costs.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from memvirt.engine.content.codec cimport Codec

cdef extern from "content/pageops.h" nogil:
    int mv_same_filled(const uint8_t *page)
    uint64_t mv_hash(const uint8_t *page)

cdef extern from *:
    """
    #include <stdint.h>
    #include <time.h>

    static inline int64_t mv_now_ns(void)
    {
        struct timespec now;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    """
    int64_t mv_now_ns() nogil

cdef enum:
    PAGE = 4096
    ROOM = 2 * PAGE

OPERATIONS = ("load", "clear", "copy", "half_copy", "compare", "same_filled", "hash")


cdef uint64_t _once(int operation, uint8_t *page, const uint8_t *other, uint32_t turn) noexcept nogil:
    if operation == 0:
        return (<const uint64_t *>page)[(turn * <uint32_t>2654435761 >> 7) & 511]
    if operation == 1:
        memset(page, 0, PAGE)
    elif operation == 2:
        memcpy(page, other, PAGE)
    elif operation == 3:
        memcpy(page, other, PAGE // 2)
    elif operation == 4:
        return memcmp(page, other, PAGE) == 0
    elif operation == 5:
        return mv_same_filled(page)
    else:
        return mv_hash(page)
    return page[0]


def per_page(str operation not None, uint8_t[:, ::1] pages not None, uint8_t[:, ::1] others not None,
             const uint32_t[::1] order not None):
    """(ns of all, what was computed): one of OPERATIONS on rows of `pages` in that order. copy, half_copy and compare
    read the row of the same number of `others`."""
    cdef int code = OPERATIONS.index(operation)
    cdef uint32_t i, n = order.shape[0]
    cdef uint64_t found = 0
    cdef int64_t began
    _checked(pages, order)
    _checked(others, order)
    if n == 0:
        return 0, 0
    with nogil:
        began = mv_now_ns()
        for i in range(n):
            found += _once(code, &pages[order[i], 0], &others[order[i], 0], i)
        began = mv_now_ns() - began
    return began, found


def packed(Codec codec not None, const uint8_t[:, ::1] pages not None, const uint32_t[::1] order not None,
           uint8_t[:, ::1] blocks not None, uint32_t[::1] lengths not None):
    """ns of compressing rows of `pages` in that order into rows of `blocks` (8192 bytes each); `lengths` become those of
    the blocks, 0 for a page that does not fit."""
    cdef uint32_t i, n = order.shape[0]
    cdef int64_t began
    _checked(pages, order)
    if blocks.shape[0] < n or blocks.shape[1] != ROOM or lengths.shape[0] < n:
        raise ValueError(f"{n} pages, {blocks.shape[0]} rows of {blocks.shape[1]} bytes, {lengths.shape[0]} lengths")
    if n == 0:
        return 0
    with nogil:
        began = mv_now_ns()
        for i in range(n):
            lengths[i] = codec.compress(&pages[order[i], 0], &blocks[i, 0], ROOM)
        began = mv_now_ns() - began
    return began


def unpacked(Codec codec not None, const uint8_t[:, ::1] blocks not None, const uint32_t[::1] lengths not None,
             uint8_t[:, ::1] pages not None, const uint32_t[::1] order not None):
    """ns of decompressing the first blocks into rows of `pages` in that order. ValueError for a block that is none."""
    cdef uint32_t i, done = 0, n = order.shape[0]
    cdef int64_t began
    _checked(pages, order)
    if blocks.shape[0] < n or blocks.shape[1] != ROOM or lengths.shape[0] < n:
        raise ValueError(f"{n} pages, {blocks.shape[0]} rows of {blocks.shape[1]} bytes, {lengths.shape[0]} lengths")
    for i in range(n):
        if lengths[i] > ROOM:
            raise ValueError(f"block {i}: {lengths[i]} bytes")
    if n == 0:
        return 0
    with nogil:
        began = mv_now_ns()
        for i in range(n):
            done += codec.decompress(&blocks[i, 0], lengths[i], &pages[order[i], 0]) == PAGE
        began = mv_now_ns() - began
    if done != n:
        raise ValueError(f"{n - done} of {n} blocks are none")
    return began


cdef int _checked(const uint8_t[:, ::1] pages, const uint32_t[::1] order) except -1:
    cdef uint32_t i
    if pages.shape[1] != PAGE:
        raise ValueError(f"rows of {pages.shape[1]} bytes")
    for i in range(<uint32_t>order.shape[0]):
        if order[i] >= <uint64_t>pages.shape[0]:
            raise ValueError(f"page {order[i]} of {pages.shape[0]}")
    return 0
