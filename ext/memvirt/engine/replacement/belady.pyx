"""Belady's optimum: evict the page whose next use is farthest away. It needs the whole trace: offline only.

The future as a set of times: at any moment the residents that will be used again are exactly described by the times
of their next uses, which all differ. So no per-page state is needed in the forward pass:

    request t is a hit      iff  t is in the set (then t is taken out)
    after request t              next[t] goes in, or, if its page never comes again, one more *dead* page is resident
    a victim                     is a dead page if there is one, else the largest time in the set

The set is that of bitset.h: member, add, remove and greatest take at most six steps, n/8 bytes. `next` comes from one
backward pass over the trace and takes 4 bytes per request. Belady, IBM Systems Journal 5(2), 1966. A page must come in
when it is used (demand paging), so there is no bypassing.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..types cimport NONE, uint32_t, uint64_t

from memvirt.errors import ConfigError, InvariantError

cdef extern from "memory/bitset.h":
    ctypedef struct Places:
        pass
    uint64_t places_size(Places *places, uint32_t n) noexcept nogil
    uint64_t *places_lay(Places *places, uint64_t *words) noexcept nogil
    bint places_has(const Places *places, uint32_t number) noexcept nogil
    void places_add(Places *places, uint32_t number) noexcept nogil
    void places_remove(Places *places, uint32_t number) noexcept nogil
    uint32_t places_greatest(const Places *places) noexcept nogil


cdef enum:
    REQUESTS_A_TIME = 1 << 20               # between two looks for Ctrl-C

ctypedef struct Memory:
    Places times                            # next uses of the residents that have one
    uint32_t dead                           # residents that have none
    uint32_t resident, capacity


cdef void next_uses(const uint32_t *pages, size_t start, size_t stop, uint32_t *uses, uint32_t *seen) noexcept nogil:
    """uses[t] of requests stop - 1 .. start: when the page of request t is used next, NONE for never. seen: the same of
    every page, as the requests from `stop` on have left it."""
    cdef size_t t = stop
    while t > start:
        t -= 1
        uses[t] = seen[pages[t]]
        seen[pages[t]] = <uint32_t>t


cdef uint64_t optimum(const uint32_t *uses, size_t start, size_t stop, Memory *memory) noexcept nogil:
    """Misses of requests start .. stop - 1."""
    cdef Places *times = &memory.times
    cdef uint64_t misses = 0
    cdef size_t t
    for t in range(start, stop):
        if places_has(times, <uint32_t>t):
            places_remove(times, <uint32_t>t)
        else:
            misses += 1
            if memory.resident < memory.capacity:
                memory.resident += 1
            elif memory.dead:
                memory.dead -= 1
            else:
                places_remove(times, places_greatest(times))
        if uses[t] == NONE:
            memory.dead += 1
        else:
            places_add(times, uses[t])
    return misses


def belady_misses(const uint32_t[::1] pages not None, uint32_t ids, uint32_t capacity):
    """Fewest possible misses of demand paging with `capacity` frames; pages are all below ids.

    Raises InvariantError for a page that is not, ConfigError for 2**32 - 1 requests or more: times have 32 bits.
    """
    cdef size_t n = pages.shape[0], page, t, start, stop
    cdef uint32_t highest = 0
    cdef uint32_t *uses
    cdef uint32_t *seen
    cdef uint64_t *words
    cdef Memory memory
    cdef uint64_t misses = 0
    if n == 0:
        return 0
    for t in range(n):
        highest = max(highest, pages[t])
    if highest >= ids:
        raise InvariantError(f"belady: page {highest} is not below {ids}")
    if n >= <size_t>NONE:
        raise ConfigError(f"belady: {n} requests; at most {0xFFFFFFFE} are possible, simulate a part of the trace")
    memory.dead = memory.resident = 0
    memory.capacity = capacity
    uses = <uint32_t *>malloc(n * sizeof(uint32_t))
    seen = <uint32_t *>malloc(ids * sizeof(uint32_t))
    words = <uint64_t *>calloc(places_size(&memory.times, <uint32_t>n), sizeof(uint64_t))
    try:
        if uses == NULL or seen == NULL or words == NULL:
            raise MemoryError(f"belady: no memory for {n} requests over {ids} pages")
        with nogil:
            places_lay(&memory.times, words)
            for page in range(ids):
                seen[page] = NONE
        stop = n
        while stop:
            start = (stop - 1) // REQUESTS_A_TIME * REQUESTS_A_TIME
            with nogil:
                next_uses(&pages[0], start, stop, uses, seen)
            stop = start
            PyErr_CheckSignals()
        for start in range(0, n, REQUESTS_A_TIME):
            with nogil:
                misses += optimum(uses, start, min(start + REQUESTS_A_TIME, n), &memory)
            PyErr_CheckSignals()
    finally:
        free(uses)
        free(seen)
        free(words)
    return misses
