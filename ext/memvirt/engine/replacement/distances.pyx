"""Reuse distances: how many different pages were requested since a page's last request, itself included.

    pages      a  b  c  b  b  a
    distance   -  -  -  2  1  3        -: first request

A list of pages in LRU order is a stack, and the distance is the page's depth in it (Mattson, Gecsei, Slutz and Traiger,
IBM Systems Journal 9(2), 1970). So a request is a hit in an LRU cache of `capacity` pages iff its distance is at most
`capacity`, and the counts of all distances are the misses of every capacity at once:

    misses(capacity) = requests - number of distances <= capacity

Each page that was requested has one member in a set of time stamps: when it was requested last. The distance is the
number of members at or after that stamp. ranks.h counts them in a few steps; when its stamps are used up, pages are
renamed to their ranks, once in at least three requests a page, so that the set stays as small as the pages are many.

4 bytes a page for its last stamp, 0.77 bytes a page for the set (1.53 bits a stamp, four stamps a page).
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint32_t, uint64_t
from .lists cimport REPLAY_AHEAD

from memvirt.errors import ConfigError, InvariantError

cdef extern from "replacement/ranks.h":
    ctypedef struct Ranks:
        uint64_t *bits
        uint32_t members
    uint64_t ranks_size(Ranks *ranks, uint32_t n) noexcept nogil
    void ranks_lay(Ranks *ranks, uint64_t *words) noexcept nogil
    bint ranks_full(const Ranks *ranks) noexcept nogil
    uint32_t ranks_add(Ranks *ranks) noexcept nogil
    uint32_t ranks_older(const Ranks *ranks, uint32_t stamp) noexcept nogil
    void ranks_remove(Ranks *ranks, uint32_t stamp) noexcept nogil
    void ranks_pack(Ranks *ranks) noexcept nogil

cdef enum:
    STAMPS_PER_PAGE = 4                 # of which at least three are new between two renamings
    FEWEST_STAMPS = 1 << 16             # 8 KiB of bits: fewer would only rename more often
    REQUESTS_A_TIME = 1 << 20           # between two looks for Ctrl-C
    MOST_IDS = 1 << 30                  # STAMPS_PER_PAGE times as many still fit 32 bits


cdef void rename_all(Ranks *ranks, uint32_t *last, uint32_t ids) noexcept nogil:
    """Every page's stamp becomes its rank."""
    cdef uint32_t page
    for page in range(ids):
        if last[page] != NONE:
            last[page] = ranks_older(ranks, last[page])
    ranks_pack(ranks)


cdef inline uint32_t next_distance(Ranks *ranks, uint32_t *last, uint32_t ids, uint32_t page) noexcept nogil:
    """The distance of a request of page, NONE for its first; the page is the newest afterwards."""
    cdef uint32_t stamp, distance = NONE
    if ranks_full(ranks):
        rename_all(ranks, last, ids)
    stamp = last[page]
    if stamp != NONE:
        distance = ranks.members - ranks_older(ranks, stamp)
        ranks_remove(ranks, stamp)
    last[page] = ranks_add(ranks)
    return distance


cdef void measure(
    const uint32_t *pages, size_t start, size_t stop, Ranks *ranks, uint32_t *last, uint32_t ids, uint32_t *out,
    uint64_t *counts
) noexcept nogil:
    """Each distance of requests start .. stop - 1 into out, and its number into counts, where they are not NULL."""
    cdef size_t i, end = stop - 1
    cdef uint32_t distance, ahead
    for i in range(start, stop):
        prefetch_write(last + pages[min(i + REPLAY_AHEAD, end)])
        ahead = last[pages[min(i + REPLAY_AHEAD // 2, end)]]
        if ahead != NONE:
            prefetch_write(ranks.bits + ahead // 64)
        distance = next_distance(ranks, last, ids, pages[i])
        if out != NULL:
            out[i] = distance
        if counts != NULL:
            counts[0 if distance == NONE else distance] += 1


def reuse_distances(const uint32_t[::1] pages not None, uint32_t ids, uint32_t[::1] out=None,
                    uint64_t[::1] counts=None):
    """Measure the reuse distance of every request; pages are all below ids. The GIL is released.

    out: per request its distance in pages, 2**32 - 1 for the first request of a page. counts: ids + 1 numbers, to which
    are added at 0 the first requests and at d the requests of distance d. Either may be left out. Raises InvariantError
    for a page that is not below ids or an array of another length, ConfigError for more than 2**30 ids.
    """
    cdef size_t n = pages.shape[0], i, start, stop
    cdef uint32_t highest = 0
    cdef uint32_t *last
    cdef uint64_t *words
    cdef Ranks ranks
    if ids > MOST_IDS:
        raise ConfigError(f"reuse distances: {ids} different page numbers; at most {MOST_IDS} are possible")
    for i in range(n):
        highest = max(highest, pages[i])
    if n and highest >= ids:
        raise InvariantError(f"reuse distances: page {highest} is not below {ids}")
    if out is not None and <size_t>out.shape[0] != n or counts is not None and <size_t>counts.shape[0] != ids + <size_t>1:
        raise InvariantError(f"reuse distances: {n} requests over {ids} pages need as long an out, and counts of {ids + 1}")
    if n == 0:
        return
    words = NULL
    last = <uint32_t *>malloc(ids * sizeof(uint32_t))
    if last != NULL:
        stamps = min(<uint64_t>n, max(<uint64_t>FEWEST_STAMPS, <uint64_t>ids * STAMPS_PER_PAGE))
        words = <uint64_t *>calloc(ranks_size(&ranks, <uint32_t>min(stamps, <uint64_t>0xFFFFFFC0)), sizeof(uint64_t))
    if words == NULL:
        free(last)
        raise MemoryError(f"reuse distances: no memory for {ids} pages")
    try:
        with nogil:
            for i in range(ids):
                last[i] = NONE
            ranks_lay(&ranks, words)
        for start in range(0, n, REQUESTS_A_TIME):
            stop = min(start + REQUESTS_A_TIME, n)
            with nogil:
                measure(&pages[0], start, stop, &ranks, last, ids, &out[0] if out is not None else NULL,
                        &counts[0] if counts is not None else NULL)
            PyErr_CheckSignals()
    finally:
        free(last)
        free(words)
