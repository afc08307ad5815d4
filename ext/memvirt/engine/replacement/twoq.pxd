cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .ghosts cimport Ghosts
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class TwoQ(Order):
    cdef Link *_links                   # ids, then the sentinels of A1in and Am
    cdef uint8_t *_state                # per id: IN or HOT
    cdef uint32_t *_ghost_where         # per key
    cdef uint8_t *_ghost_tags           # per key
    cdef Ghosts _out                    # A1out: keys evicted from A1in
    cdef uint32_t _nr_in                # residents in A1in; the others are in Am
    cdef uint32_t _in_size              # planned length of A1in
    cdef uint32_t _expected             # the key expect() announced
    cdef bint _recalled                 # ... was in A1out
    cdef bint _paper                    # variant
    cdef uint32_t _list_of(self, uint32_t id) noexcept nogil
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
