cimport cython

from ..types cimport int64_t, uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Marks, Order

ctypedef struct Sizes:
    # What the statistics say. Decisions other than how much to look at are made by these.
    uint32_t inactive, active           # pages of the lists
    uint64_t activated                  # nr_activated


@cython.final
cdef class TwoList(Order):
    cdef Link *_links                   # ids, then the sentinels of the inactive and the active list
    cdef uint8_t *_state                # per id: RESIDENT | ACTIVE | ACCESSED | REFERENCED | WORKINGSET
    cdef uint32_t *_shadow              # per key: the age at its eviction, EVICTED and WAS_ACTIVE; 0 if there is none
    cdef readonly uint32_t nr_active
    cdef readonly uint32_t age          # evictions and activations so far, modulo AGE_MASK + 1
    # Inserts with a shadow; those of them that went to active; those of these that had been there before
    cdef readonly uint64_t nr_refaults, nr_activated, nr_restored
    cdef readonly uint64_t nr_deactivated
    cdef uint32_t _waiting[2]           # the newest pages of the lists that their sizes do not count yet
    # A round
    cdef bint _over                     # the next one has not begun
    cdef uint32_t _priority
    cdef uint32_t _due[2]               # pages still to look at in this priority: of the inactive, of the active list
    cdef bint _may_deactivate           # in this priority: inactive was low, or refaults had activated pages
    cdef uint32_t _batch                # of the inactive ones those of the batch that has begun
    cdef uint32_t _gone, _gone_here     # named since the round began, since the priority did
    cdef uint32_t _met                  # the page of the batch that was looked at and is still there; NONE
    cdef bint _named                    # it is counted in _gone
    cdef uint64_t _began                # `activated` of the statistics when the round began
    cdef uint64_t _began_before         # ... when the round before it did
    # Statistics
    cdef int64_t _stats_ns              # how old they may be; 0: not at all
    cdef int64_t _period                # of the last flush; -1: there was none, they are exact
    cdef Sizes _flushed
    cdef bint _near(self, uint32_t shadow) noexcept nogil
    cdef Sizes _statistics(self) noexcept nogil
    cdef bint _inactive_is_low(self) noexcept nogil
    cdef void _grow_older(self) noexcept nogil
    cdef void _move(self, uint32_t id, uint32_t list_, uint8_t state) noexcept nogil
    cdef uint32_t _listed(self, uint32_t list_) noexcept nogil
    cdef void _put_on_lists(self) noexcept nogil
    cdef void _begin_priority(self) noexcept nogil
    cdef void _begin_round(self) noexcept nogil
    cdef int _begin_batch(self, Marks marks) except -1 nogil
    cdef int _end_batch(self, Marks marks) except -1 nogil
    cdef uint32_t _look(self, Marks marks, bint in_round) except? 0xFFFFFFFE nogil
    cdef uint32_t _meet(self, Marks marks) except? 0xFFFFFFFE nogil
    cdef void _count_gone(self, int more) noexcept nogil
    cdef int _keep(self, uint32_t id) except -1 nogil
    cdef int _deactivate(self, uint32_t pages, Marks marks) except -1 nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
