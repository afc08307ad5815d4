cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class Sieve(Order):
    cdef Link *_links                   # residents in order of arrival; node `ids` is the sentinel
    cdef uint8_t *_state                # per id: RESIDENT | REFERENCED
    cdef uint32_t _hand                 # where the sweep goes on, towards newer pages; the sentinel: at the oldest
    cdef void _pass(self, uint32_t id) noexcept nogil
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
