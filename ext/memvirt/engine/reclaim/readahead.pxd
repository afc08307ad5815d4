from ..mapping.backing cimport Backing
from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..mapping.mapping cimport Mapping
from ..stores.swapspace cimport SwapSpace
from ..types cimport backing_t, hfn_t, uint8_t, uint32_t

cdef enum:
    MAX_PAGE_CLUSTER = 5        # windows of at most 32 slots


cdef class Window:
    # The number of slots around a faulting one that are read: Linux's rule for rotating and solid devices alike.
    cdef readonly uint32_t page_cluster         # windows are of at most 2^page_cluster slots; 0: one
    cdef readonly uint32_t previous             # the slot it started from last
    cdef readonly uint32_t hits                 # pages read ahead and then accessed, since the last fault
    cdef readonly uint32_t last_pages           # the window before
    cdef uint32_t next_pages(self, uint32_t slot) noexcept nogil


cdef class Readahead:
    cdef readonly Window window
    cdef Mapping mapping
    cdef Frames frames
    cdef Content content
    cdef Clock clock
    cdef Meter meter
    cdef SwapSpace swap
    cdef uint32_t *_backing_of                  # [nr_slots] the record that names a slot in use; NULL without readahead
    cdef readonly uint32_t nr_slots

    # A record names this slot from now on.
    cdef void know(self, uint32_t slot, backing_t backing) noexcept nogil
    # Read the slot of `backing` into `frame`, and what else its window holds into free frames. OK or IO_FAILED; the
    # clock has waited for all of it.
    cdef int read(self, backing_t backing, hfn_t frame) except -1 nogil
    cdef uint32_t _gather(self, uint32_t slot, hfn_t frame, uint32_t *slots, hfn_t *frames) except? 0xFFFFFFFF nogil
    cdef int _keep(self, uint32_t slot, hfn_t frame, bint arrived) except -1 nogil
    cpdef object check(self)
