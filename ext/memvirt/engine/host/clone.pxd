from ..mapping.mapping cimport Mapping
from ..reclaim.reclaim cimport Reclaim
from ..types cimport gfn_t, hfn_t, uint32_t, vmid_t


cdef class Cloner:
    cdef readonly Mapping mapping
    cdef readonly Reclaim reclaim

    cdef uint32_t directory_pages(self, vmid_t parent, vmid_t child) noexcept nogil
    # True if `frames` frames for tables are secured. Else no page has gone in vain.
    cdef bint may_take(self, vmid_t vm, uint32_t frames) except? False nogil
    cdef int _copy_pinned(self, vmid_t parent, vmid_t child) except -1 nogil
    cdef int _copy_page(self, vmid_t child, gfn_t gfn, hfn_t frame) except -1 nogil
    # Let the empty VM `child` see the parent's memory. OK, or what ran out: then the child is to be ended.
    cdef int share(self, vmid_t parent, vmid_t child) except -1 nogil
