cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .ghosts cimport Ghosts
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class Arc(Order):
    cdef Link *_links                   # ids, then the sentinels of T1 and T2
    cdef uint8_t *_state                # per id: ONCE (in T1) or OFTEN (in T2)
    cdef uint32_t *_ghost_where         # per key
    cdef uint8_t *_ghost_tags           # per key: ONCE in B1, OFTEN in B2
    cdef Ghosts _ghosts1, _ghosts2      # B1 and B2: keys evicted from T1 and T2
    cdef uint32_t _nr_once, _nr_often   # lengths of T1 and T2
    cdef readonly double target         # p: how long T1 should be
    cdef uint32_t _expected             # the key expect() announced
    cdef uint8_t _recalled              # ... was a ghost: ONCE of B1, OFTEN of B2, 0 of neither
    cdef uint32_t _list_of(self, uint32_t id) noexcept nogil
    cdef uint32_t _replace(self) noexcept nogil
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
