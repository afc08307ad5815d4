"""Belady's optimum: evict the page whose next use is farthest away. It needs the whole trace: offline only.

The future as a set of times: at any moment the residents that will be used again are exactly described by the times
of their next uses, which all differ. So no per-page state is needed in the forward pass:

    request t is a hit      iff  t is in the set (then t is taken out)
    after request t              next[t] goes in, or, if its page never comes again, one more *dead* page is resident
    a victim                     is a dead page if there is one, else the largest time in the set

The set is a tree of 64-bit words, each bit of a level saying whether a word below has any bit: member, add, remove and
maximum take at most six steps, n/8 bytes, and O(n) passes over the trace. `next` comes from one backward pass over
the trace and takes 4 bytes per request. Belady, IBM Systems Journal 5(2), 1966. A page must come in when it is used
(demand paging), so there is no bypassing.
"""

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..types cimport NONE, uint32_t, uint64_t

from memvirt.errors import ConfigError, InvariantError

cdef extern from *:
    """
    #define MV_TOP_BIT(word) (63 - (unsigned)__builtin_clzll(word))
    """
    unsigned MV_TOP_BIT(uint64_t word) noexcept nogil

cdef enum:
    LEVELS = 6                                  # 64**6 times: far above the 2**32 requests allowed

ctypedef struct Times:
    uint64_t *words[LEVELS]                     # level 0: one bit per time; above: one bit per word below
    int levels                                  # in use; the last has one word


cdef void times_free(Times *times) noexcept nogil:
    cdef int level
    for level in range(LEVELS):
        free(times.words[level])
        times.words[level] = NULL


cdef bint times_make(Times *times, size_t n) noexcept nogil:
    """The empty set of times 0 .. n - 1. False: no memory."""
    cdef int level
    for level in range(LEVELS):
        times.words[level] = NULL
    times.levels = 0
    while True:
        n = (n + 63) // 64
        times.words[times.levels] = <uint64_t *>calloc(n, sizeof(uint64_t))
        if times.words[times.levels] == NULL:
            times_free(times)
            return False
        times.levels += 1
        if n == 1:
            return True


cdef inline void times_add(Times *times, size_t time) noexcept nogil:
    cdef int level
    cdef uint64_t before
    for level in range(times.levels):
        before = times.words[level][time >> 6]
        times.words[level][time >> 6] = before | <uint64_t>1 << (time & 63)
        if before:
            return
        time >>= 6


cdef inline bint times_remove(Times *times, size_t time) noexcept nogil:
    """Take time out; whether it was in."""
    cdef int level
    if not times.words[0][time >> 6] >> (time & 63) & 1:
        return False
    for level in range(times.levels):
        times.words[level][time >> 6] &= ~(<uint64_t>1 << (time & 63))
        if times.words[level][time >> 6]:
            break
        time >>= 6
    return True


cdef inline size_t times_last(Times *times) noexcept nogil:
    """The largest time of a set that is not empty."""
    cdef size_t time = 0
    cdef int level
    for level in range(times.levels - 1, -1, -1):
        time = time << 6 | MV_TOP_BIT(times.words[level][time])
    return time


cdef void next_uses(const uint32_t *pages, size_t n, uint32_t *uses, uint32_t *seen) noexcept nogil:
    """uses[t]: when the page of request t is used next, NONE for never. seen: one NONE per page on entry."""
    cdef size_t t
    for t in range(n - 1, <size_t>-1, -1):
        uses[t] = seen[pages[t]]
        seen[pages[t]] = <uint32_t>t


cdef uint64_t optimum(const uint32_t *uses, size_t n, uint32_t capacity, Times *times) noexcept nogil:
    cdef uint64_t misses = 0
    cdef uint32_t dead = 0, resident = 0
    cdef size_t t
    for t in range(n):
        if not times_remove(times, t):
            misses += 1
            if resident < capacity:
                resident += 1
            elif dead:
                dead -= 1
            else:
                times_remove(times, times_last(times))
        if uses[t] == NONE:
            dead += 1
        else:
            times_add(times, uses[t])
    return misses


def belady_misses(const uint32_t[::1] pages not None, uint32_t ids, uint32_t capacity):
    """Fewest possible misses of demand paging with `capacity` frames; pages are all below ids.

    Raises InvariantError for a page that is not, ConfigError for 2**32 - 1 requests or more: times have 32 bits.
    """
    cdef size_t n = pages.shape[0], page, t
    cdef uint32_t highest = 0
    cdef uint32_t *uses
    cdef uint32_t *seen
    cdef Times times
    cdef uint64_t misses
    if n == 0:
        return 0
    for t in range(n):
        highest = max(highest, pages[t])
    if highest >= ids:
        raise InvariantError(f"belady: page {highest} is not below {ids}")
    if n >= <size_t>NONE:
        raise ConfigError(f"belady: {n} requests; at most {0xFFFFFFFE} are possible, simulate a part of the trace")
    uses = <uint32_t *>malloc(n * sizeof(uint32_t))
    seen = <uint32_t *>malloc(ids * sizeof(uint32_t))
    if uses == NULL or seen == NULL or not times_make(&times, n):
        free(uses)
        free(seen)
        raise MemoryError(f"belady: no memory for {n} requests over {ids} pages")
    with nogil:
        for page in range(ids):
            seen[page] = NONE
        next_uses(&pages[0], n, uses, seen)
        misses = optimum(uses, n, capacity, &times)
        free(uses)
        free(seen)
        times_free(&times)
    return misses
