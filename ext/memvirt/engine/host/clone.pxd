from ..mapping.mapping cimport Mapping
from ..reclaim.reclaim cimport Reclaim
from ..types cimport uint32_t, vmid_t


cdef class Cloner:
    cdef readonly Mapping mapping
    cdef readonly Reclaim reclaim

    cdef uint32_t directory_pages(self, vmid_t parent, vmid_t child) noexcept nogil
    # Let the empty VM `child` see the parent's memory. OK or NO_FRAME (then the child maps nothing).
    cdef int share(self, vmid_t parent, vmid_t child) except -1 nogil
