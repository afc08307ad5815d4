cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class MgLru(Order):
    cdef Link *_links                   # ids, then one sentinel per generation list (number modulo 4)
    cdef uint8_t *_state                # per id: RESIDENT | ACCESSED | generation modulo 4 << GEN_SHIFT
    cdef uint32_t *_shadow              # per key: max_seq at its eviction, and EVICTED; 0 if there is none
    cdef readonly uint32_t min_seq, max_seq     # the oldest and the youngest generation
    cdef readonly uint64_t nr_refaults, nr_recent       # inserts with a shadow; those still among the generations
    cdef void _age(self) noexcept nogil
    cdef void _move(self, uint32_t id, uint32_t seq) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
