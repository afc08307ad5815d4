from ..simtime cimport Actor
from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..mapping.leaf cimport Leaves
from ..mapping.mapping cimport Mapping
from ..types cimport hfn_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    COMPACT_NEVER = 1001        # a threshold that no index, in thousandths, reaches


cdef class Compactor(Actor):
    cdef readonly Mapping mapping
    cdef Frames frames
    cdef Leaves leaves
    cdef Meter meter
    cdef readonly uint32_t threshold            # unusable index at order 9, per mille, from which it works by itself
    cdef uint64_t misses_seen                   # of the host's huge misses, those it has reacted to
    cdef uint32_t nr_blocks                     # 2 MiB blocks of host memory, the last perhaps short
    cdef uint16_t *used                         # [nr_blocks] frames that are not free; a short block's missing ones too
    cdef uint8_t *stuck                         # [nr_blocks] holds a frame that cannot move; valid after _survey
    cdef uint32_t destination                   # the block being filled, NONE: none yet
    cdef uint32_t below                         # its frames from here up have been looked at

    # Wakes if huge blocks have been missed since the last look, and free memory is fragmented beyond the threshold.
    cdef void look(self, int64_t now) noexcept nogil
    cdef uint32_t unusable(self) noexcept nogil
    cdef bint movable(self, hfn_t frame) noexcept nogil

    cdef void _survey(self) noexcept nogil
    cdef uint32_t _cheapest(self) noexcept nogil
    cdef uint32_t _fullest(self, uint32_t but) noexcept nogil
    cdef uint32_t _room_beside(self, uint32_t block) noexcept nogil
    cdef int _empty(self, uint32_t block) except -1 nogil
    cdef hfn_t _next_target(self, uint32_t but) noexcept nogil
    cdef int _move(self, hfn_t source, hfn_t target) except -1 nogil
    cdef void _move_metadata(self, hfn_t source, hfn_t target) noexcept nogil
