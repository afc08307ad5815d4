cimport cython

from ..types cimport uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class Lru(Order):
    cdef Link *_links                   # ids in order of their last touch; node `ids` is the sentinel
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
