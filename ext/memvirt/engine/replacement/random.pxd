cimport cython

from ..types cimport uint32_t, uint64_t
from .order cimport Order


@cython.final
cdef class Random(Order):
    cdef uint32_t *_residents           # nr_resident ids in no order
    cdef uint32_t *_where               # per id: its place in _residents, NONE if absent
    cdef uint32_t _chosen               # place of the current candidate; NONE: not drawn yet
    cdef uint64_t _seed                 # state of the generator
    cdef uint32_t _draw(self, uint32_t n) noexcept nogil
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
