cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class ClockPro(Order):
    cdef Link *_links                       # ids, then keys (ghosts), then the sentinel; by their last turn
    cdef uint8_t *_state                    # per id: RESIDENT, HOT, TEST, REFERENCED
    cdef uint32_t _head                     # the sentinel; a hand that stands there has passed everybody
    cdef uint32_t _hot_hand, _cold_hand, _test_hand     # nobody older is hot, cold and resident, or in test
    cdef uint32_t _nr_hot, _nr_ghosts       # the other residents are cold
    cdef readonly uint32_t cold_target      # m_c: how many residents should be cold
    cdef uint32_t _size                     # residents that memory has room for, as the last eviction showed
    cdef bint _full                         # somebody was evicted since the beginning
    cdef bint _is_hot(self, uint32_t node) noexcept nogil
    cdef bint _in_test(self, uint32_t node) noexcept nogil
    cdef void _push(self, uint32_t node) noexcept nogil
    cdef void _cut(self, uint32_t node) noexcept nogil
    cdef void _drop_ghost(self, uint32_t node) noexcept nogil
    cdef void _end_test(self, uint32_t node) noexcept nogil
    cdef void _to_next_hot(self) noexcept nogil
    cdef void _run_hot(self, bint force) noexcept nogil
    cdef void _heat(self, uint32_t id) noexcept nogil
    cdef void _limit_ghosts(self) noexcept nogil
    cdef void _take_place(self, uint32_t node, uint32_t new) noexcept nogil
    cdef void _leave(self, uint32_t id) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
