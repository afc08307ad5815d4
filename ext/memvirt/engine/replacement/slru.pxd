cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order

cdef enum:
    MOST_SEGMENTS = 16


@cython.final
cdef class Slru(Order):
    cdef Link *_links                       # ids, then one sentinel per segment
    cdef uint8_t *_state                    # per id: 1 + its segment
    cdef uint32_t _nr[MOST_SEGMENTS]        # residents of each segment
    cdef uint32_t _share                    # the most that a segment above the lowest holds
    cdef uint32_t _segments
    cdef void _enter(self, uint32_t id, uint32_t segment) noexcept nogil
    cdef void _leave(self, uint32_t id) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
