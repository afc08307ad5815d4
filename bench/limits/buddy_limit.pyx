"""Buddy allocator, ours against the classic lists: the same loops over both, timed inside C.

Patterns, all of order 0, each returning nanoseconds per take + give:
  bulk     take every page, give them back in the order they came
  random   take every page, give them back in a random order: `ns` counts both halves
  pair     take one, give it back, over and over, half of memory being held at random places: no split, no merge
  whole    the same with no other page held: every take splits ten times, every give merges ten times
  churn    half of memory held; replace a randomly chosen held page, over and over
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from memvirt.engine.memory.buddy cimport Buddy

cdef extern from "buddy.h" nogil:
    ctypedef struct Classic:
        uint32_t nr_pages
    int classic_new(Classic *c, uint32_t nr_pages)
    void classic_delete(Classic *c)
    int classic_take(Classic *c, int order, uint32_t *page)
    void classic_give(Classic *c, uint32_t page, int order)
    int64_t limits_now_ns()
    uint64_t limits_draw(uint64_t *state)
    void limits_shuffle(uint32_t *items, uint32_t n)

PATTERNS = ("bulk", "random", "pair", "churn", "whole")


cdef class _Pages:
    """Scratch for the page numbers held."""
    cdef uint32_t *at

    def __cinit__(self, uint32_t n):
        self.at = <uint32_t *>malloc(n * sizeof(uint32_t))
        if self.at is NULL:
            raise MemoryError(f"no memory for {n} page numbers")

    def __dealloc__(self):
        free(self.at)


def classic_ns(uint32_t pages, str pattern, uint32_t repeats=3):
    """Nanoseconds per take + give of the classic lists, the least of `repeats` runs."""
    cdef Classic classic
    if classic_new(&classic, pages):
        raise MemoryError(f"no memory for {pages} list nodes")
    try:
        return min(_classic(&classic, pages, PATTERNS.index(pattern)) for _ in range(repeats + 1))
    finally:
        classic_delete(&classic)


def ours_ns(Buddy buddy, str pattern, uint32_t repeats=3):
    """The same of an empty Buddy; it is empty again afterwards."""
    if buddy.nr_free != buddy.nr_pages:
        raise ValueError(f"{buddy.nr_pages - buddy.nr_free} pages are taken: the loops need them all")
    return min(_ours(buddy, PATTERNS.index(pattern)) for _ in range(repeats + 1))


cdef double _classic(Classic *classic, uint32_t n, int pattern) except? -1:
    cdef _Pages pages = _Pages(n)
    cdef uint32_t *held = pages.at
    cdef uint32_t i, _, j, half = 0 if pattern == 4 else n // 2
    cdef uint64_t state = 1
    cdef int64_t spent, start
    with nogil:
        start = limits_now_ns()
        for i in range(n):
            classic_take(classic, 0, held + i)
        spent = limits_now_ns() - start
        if pattern > 0:
            limits_shuffle(held, n)
        if pattern <= 1:
            start = limits_now_ns()
            for i in range(n):
                classic_give(classic, held[i], 0)
            return <double>(spent + limits_now_ns() - start) / n
        for i in range(half, n):
            classic_give(classic, held[i], 0)
        start = limits_now_ns()
        for _ in range(n):
            if pattern != 3:
                classic_take(classic, 0, held + half)
                classic_give(classic, held[half], 0)
            else:
                j = limits_draw(&state) % half
                classic_give(classic, held[j], 0)
                classic_take(classic, 0, held + j)
        spent = limits_now_ns() - start
        for i in range(half):
            classic_give(classic, held[i], 0)
        return <double>spent / n


cdef double _ours(Buddy buddy, int pattern) except? -1:
    cdef uint32_t n = buddy.nr_pages
    cdef _Pages pages = _Pages(n)
    cdef uint32_t *held = pages.at
    cdef uint32_t i, _, j, half = 0 if pattern == 4 else n // 2
    cdef uint64_t state = 1
    cdef int64_t spent, start
    with nogil:
        start = limits_now_ns()
        for i in range(n):
            buddy.take(0, held + i)
        spent = limits_now_ns() - start
        if pattern > 0:
            limits_shuffle(held, n)
        if pattern <= 1:
            start = limits_now_ns()
            for i in range(n):
                buddy.give(held[i], 0)
            return <double>(spent + limits_now_ns() - start) / n
        for i in range(half, n):
            buddy.give(held[i], 0)
        start = limits_now_ns()
        for _ in range(n):
            if pattern != 3:
                buddy.take(0, held + half)
                buddy.give(held[half], 0)
            else:
                j = limits_draw(&state) % half
                buddy.give(held[j], 0)
                buddy.take(0, held + j)
        spent = limits_now_ns() - start
        for i in range(half):
            buddy.give(held[i], 0)
        return <double>spent / n
