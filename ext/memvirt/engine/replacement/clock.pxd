cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Queue
from .order cimport Order


@cython.final
cdef class Clock(Order):
    cdef Queue _queue                   # residents; the hand stands at the oldest
    cdef uint32_t *_where               # per id: its slot in the queue
    cdef uint8_t *_state                # per id: RESIDENT | REFERENCED
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
