from ..mapping.backing cimport Backing
from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..mapping.leaf cimport Leaves
from ..mapping.mapping cimport Mapping
from ..stores.swapspace cimport SwapSpace
from ..types cimport MAX_VMS, backing_t, gfn_t, hfn_t, uint8_t, uint32_t, vmid_t

cdef enum:
    MAX_PAGE_CLUSTER = 5        # windows of at most 32 slots


# What Linux keeps of a mapping whose swap lies on a device that does not rotate (swap_readahead_info); here of a VM.
cdef struct Nearby:
    gfn_t gfn                   # of the last fault that read, or that found its page read already
    uint32_t pages              # of the last window
    uint32_t hits               # pages read ahead and then accessed since


# The number of pages that are read for a fault (__swapin_nr_pages). `near`: it lies next to the one before.
cdef uint32_t window_pages(uint32_t hits, bint near, uint32_t most, uint32_t last_pages) noexcept nogil


cdef class Window:
    cdef readonly uint32_t page_cluster         # windows are of at most 2^page_cluster slots; 0: one
    cdef readonly uint32_t previous             # the slot it started from last
    cdef readonly uint32_t hits                 # pages read ahead and then accessed, since the last fault
    cdef readonly uint32_t last_pages           # the window before
    # The number of slots around a faulting one that would be read; that are, and the fault is the last one from now on.
    cdef uint32_t pages_at(self, uint32_t slot) noexcept nogil
    cdef uint32_t next_pages(self, uint32_t slot) noexcept nogil


cdef class Readahead:
    cdef readonly Window window
    cdef Mapping mapping
    cdef Frames frames
    cdef Content content
    cdef Clock clock
    cdef Meter meter
    cdef SwapSpace swap
    cdef Leaves leaves
    cdef uint32_t *_backing_of                  # [nr_slots] the record that names a slot in use; NULL: nobody asks
    cdef readonly uint32_t nr_slots             # of that map
    cdef readonly bint by_address               # neighbours are those of the address space, not those of the area
    cdef Nearby _nearby[MAX_VMS]

    # A record names this slot from now on.
    cdef void know(self, uint32_t slot, backing_t backing) noexcept nogil
    # This VM is a new one.
    cdef void open(self, vmid_t vm) noexcept nogil
    # Pages beside it that `read` would read if there were frames; at most so many. Nothing has changed.
    cdef uint32_t wanted(self, vmid_t vm, gfn_t gfn, backing_t backing) except? 0xFFFFFFFF nogil
    cdef uint32_t most(self) noexcept nogil
    # Read the page that `backing` has into `frame`, for an access of the VM to gfn, and what else its window holds into
    # free frames. OK or IO_FAILED; the clock has waited for all of it.
    cdef int read(self, vmid_t vm, gfn_t gfn, backing_t backing, hfn_t frame) except -1 nogil
    # The VM accessed a page that was out, and found it in a frame; `ahead`: in which nobody had accessed it yet.
    cdef void found(self, vmid_t vm, gfn_t gfn, bint ahead) noexcept nogil
    cdef uint32_t _in_area(self, backing_t backing, hfn_t frame, backing_t *ids, hfn_t *frames) except? 0xFFFFFFFF nogil
    cdef uint32_t _in_memory(self, vmid_t vm, gfn_t gfn, backing_t backing, hfn_t frame, backing_t *ids,
                             hfn_t *frames) except? 0xFFFFFFFF nogil
    cdef int _take_frame(self, hfn_t *frames, uint32_t n) except -1 nogil
    cdef int _keep(self, backing_t backing, hfn_t frame, bint arrived) except -1 nogil
    cpdef object check(self)
