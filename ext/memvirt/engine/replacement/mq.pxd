cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .ghosts cimport Ghosts
from .lists cimport Link
from .order cimport Order


@cython.final
cdef class Mq(Order):
    cdef Link *_links                   # ids, then one sentinel per queue
    cdef uint8_t *_state                # per id: 1 + its queue
    cdef uint32_t *_references          # per id: since it came in, and before if a ghost remembered
    cdef uint64_t *_expires             # per id: when it has to leave its queue for the one below
    cdef uint32_t *_ghost_where         # per key
    cdef uint8_t *_ghost_tags           # per key
    cdef uint32_t *_ghost_references    # per key, valid while it is a ghost
    cdef Ghosts _out                    # Qout: keys evicted
    cdef uint32_t _queues
    cdef uint64_t _lifetime             # in ticks
    cdef uint64_t _now                  # ticks so far: references and insertions
    cdef uint32_t _expected             # the key expect() announced
    cdef uint32_t _remembered           # ... and the references its ghost had, 0 if it was none
    cdef void _enter(self, uint32_t id, uint32_t queue) noexcept nogil
    cdef void _enter_by_references(self, uint32_t id) noexcept nogil
    cdef void _tick(self) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
