from ..simtime cimport Actor
from .compact cimport Compactor
from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..mapping.leaf cimport Leaves
from ..mapping.mapping cimport Mapping
from ..types cimport leaf_t, uint32_t

cdef enum:
    LEAVES_PER_WAKE = 8         # Linux's khugepaged looks at pages_to_scan = 4096 pages at a time


cdef class Collapser(Actor):
    cdef readonly Mapping mapping
    cdef Frames frames
    cdef Leaves leaves
    cdef Meter meter
    cdef leaf_t cursor                          # the leaf it looks at next

    cdef bint copyable(self, leaf_t leaf) noexcept nogil
    cdef bint _try(self, leaf_t leaf) except? True nogil
