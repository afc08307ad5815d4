from ..counters cimport Meter
from ..memory.frames cimport Frames
from ..types cimport gfn_t, hfn_t, leaf_t, uint32_t, vmid_t
from .ages cimport Ages
from .backing cimport Backings
from .leaf cimport Leaves
from .recency cimport Recency
from .rmap cimport ReverseMap
from .tcache cimport Tcache


cdef class Tables:
    cdef Frames frames
    cdef Leaves leaves
    cdef Backings backings
    cdef Tcache tcache
    cdef ReverseMap rmap
    cdef Recency recency
    cdef Ages ages
    cdef Meter meter

    cdef uint32_t frames_to_reach(self, vmid_t vm, gfn_t gfn) noexcept nogil
    cdef leaf_t reach(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFF nogil
    cdef int split(self, leaf_t leaf) except -1 nogil
    cdef bint collapsible(self, leaf_t leaf) noexcept nogil
    cdef int collapse(self, leaf_t leaf) except -1 nogil
    cdef uint32_t frames_to_copy_leaf(self, leaf_t leaf) noexcept nogil
    cdef int copy_leaf(self, uint32_t slot) except -1 nogil
    cdef void translate(self, vmid_t vm, uint32_t vpn, leaf_t leaf, uint32_t index, bint writable) noexcept nogil
    cdef bint test_and_clear_accessed(self, hfn_t frame) except -1 nogil
    cdef uint32_t harvest_leaf(self, leaf_t leaf) except? 0xFFFFFFFF nogil
