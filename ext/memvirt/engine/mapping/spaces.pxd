from ..types cimport hfn_t, leaf_t, uint32_t, vmid_t
from .mapping cimport Mapping


# A VM that maps nothing yet; nr_vpns 0: it will never run (a snapshot).
cdef int open_space(Mapping mapping, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1
# The VM gives up everything it maps, and ends.
cdef int close_space(Mapping mapping, vmid_t vm) except -1
# A page that was never written is read: the frame of zeros stands for it.
cdef int map_zeros(Mapping mapping, leaf_t leaf, uint32_t index, hfn_t zeros) except -1 nogil
# Of what it pays for, no more than that; NONE: no limit.
cdef int set_limit(Mapping mapping, vmid_t vm, uint32_t pages) except -1
# The VM maps nothing any more. Its directory pages stay.
cdef int clear_space(Mapping mapping, vmid_t vm) except -1 nogil
# The VM gives up 2 MiB that are mapped as one, for it alone, nothing of it pinned. False: they are not, nothing is done.
cdef bint drop_region(Mapping mapping, vmid_t vm, uint32_t region) except? -1 nogil
# No page of the VM is pinned any more, whether a vpn names it or not.
cdef int unpin_space(Mapping mapping, vmid_t vm) except -1 nogil
