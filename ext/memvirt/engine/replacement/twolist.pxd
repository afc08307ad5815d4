cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class TwoList(Order):
    cdef Link *_links                   # ids, then the sentinels of the inactive and the active list
    cdef uint8_t *_state                # per id: RESIDENT | ACTIVE | ACCESSED | REFERENCED
    cdef uint32_t *_shadow              # per key: the age at its eviction, NONE if there is none
    cdef readonly uint32_t nr_active
    cdef readonly uint32_t age          # evictions and activations so far, modulo AGE_MASK + 1
    cdef readonly uint64_t nr_refaults, nr_activated    # inserts with a shadow; those of them that went to active
    cdef bint _inactive_is_low(self) noexcept nogil
    cdef void _grow_older(self) noexcept nogil
    cdef void _move(self, uint32_t id, uint32_t list_, uint8_t state) noexcept nogil
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
