from ..simtime cimport Clock
from .compact cimport Compactor
from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..mapping.leaf cimport Leaves
from ..mapping.mapping cimport Mapping
from ..types cimport int64_t, leaf_t, uint32_t

cdef enum:
    LEAVES_PER_WAKE = 8         # Linux's khugepaged looks at pages_to_scan = 4096 pages at a time


cdef class Collapser:
    cdef readonly Mapping mapping
    cdef Frames frames
    cdef Leaves leaves
    cdef Clock clock
    cdef Meter meter
    cdef readonly int64_t interval_ns           # simulated time it sleeps between two looks; 0: works only when asked
    cdef public int64_t now_ns                  # its clock
    cdef leaf_t cursor                          # the leaf it looks at next

    # Look at `want` leaves from the cursor on (NONE: all of them once); returns how many became huge.
    cdef uint32_t scan(self, uint32_t nr_leaves) except? 0xFFFFFFFF nogil
    cdef int catch_up(self, int64_t now) except -1 nogil
    cdef bint copyable(self, leaf_t leaf) noexcept nogil
    cdef bint _try(self, leaf_t leaf) except? True nogil
