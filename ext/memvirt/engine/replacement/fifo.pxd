cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Queue
from .order cimport Order


@cython.final
cdef class Fifo(Order):
    cdef Queue _queue                   # residents in order of arrival
    cdef uint32_t *_where               # per id: its slot in the queue
    cdef uint8_t *_state                # per id: 1 if resident
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
