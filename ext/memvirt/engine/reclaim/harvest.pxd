from ..counters cimport Meter
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport Frames
from ..simtime cimport Actor


cdef class Harvester(Actor):
    # Collects accessed marks at intervals.
    cdef Mapping mapping
    cdef Frames frames
    cdef Meter meter

    cdef void _count_ages(self) noexcept nogil
