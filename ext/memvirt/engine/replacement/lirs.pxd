cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .ghosts cimport Ghosts
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class Lirs(Order):
    cdef Link *_stack                   # S: ids, then keys (ghosts), then the sentinel
    cdef Link *_queue                   # Q: ids, then the sentinel
    cdef uint8_t *_state                # per id: RESIDENT, and LIR
    cdef uint32_t *_ghost_where         # per key
    cdef uint8_t *_ghost_tags           # per key
    cdef Ghosts _ghosts                 # keys of pages that left while in S, by when they left
    cdef uint32_t _top                  # the sentinel of S
    cdef uint32_t _nr_stack             # nodes in S
    cdef uint32_t _nr_low               # LIR pages
    cdef uint32_t _low_size             # how many of them there may be in a memory of `capacity` pages
    cdef uint32_t _low_limit            # ... in the memory that there is
    cdef uint32_t _high_size            # HIR pages that memory shall have room for
    cdef bint _is_low(self, uint32_t node) noexcept nogil
    cdef void _raise_to_top(self, uint32_t id) noexcept nogil
    cdef void _out_of_stack(self, uint32_t node) noexcept nogil
    cdef void _drop_ghost(self, uint32_t key) noexcept nogil
    cdef void _prune(self) noexcept nogil
    cdef void _demote(self) noexcept nogil
    cdef void _promote(self, uint32_t id) noexcept nogil
    cdef void _limit_stack(self) noexcept nogil
    cdef void _leave(self, uint32_t id) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
