cimport cython

from ..types cimport uint32_t, uint64_t
from .order cimport Order


ctypedef struct Place:
    uint32_t prev, next                 # the next newer and older of the ids of the same count, NONE at an end
    uint32_t rank                       # the Rank the id is in, NONE if absent

ctypedef struct Rank:
    uint64_t count                      # references of its ids, the one that brought them in included
    uint32_t higher, lower              # neighbouring ranks, NONE at an end; `higher` chains the free ranks
    uint32_t newest, oldest             # its ids, never empty while the rank is in use


@cython.final
cdef class Lfu(Order):
    cdef Place *_places                 # per id
    cdef Rank *_ranks                   # as many as residents possible; untouched memory until used
    cdef uint32_t _lowest               # the rank of the fewest references, NONE if nobody is resident
    cdef uint32_t _free                 # ranks given back, NONE if none
    cdef uint32_t _unused               # ranks from here on were never used
    cdef uint32_t _rank_above(self, uint32_t below, uint64_t count) noexcept nogil
    cdef void _enter(self, uint32_t id, uint32_t rank) noexcept nogil
    cdef void _leave(self, uint32_t id) noexcept nogil
    cdef void _raise_to(self, uint32_t id, uint64_t count) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
