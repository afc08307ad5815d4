from ..content.content cimport Content
from ..reclaim.fault cimport Faults
from .guest cimport Guest
from .guest_disk cimport GuestDisk
from .hardware cimport Hardware
from ..types cimport gfn_t, int64_t, uint32_t, vmid_t


cdef class HostHardware(Hardware):
    # The hardware a guest runs on: its accesses are those of VM `vm` on this host.
    cdef readonly Faults faults
    cdef Content content
    cdef readonly vmid_t vm
    cdef readonly GuestDisk disk            # guest swap and written file blocks, or None
    cdef bint reporting                     # what is released is named by a message of free page reporting
    cdef uint32_t nr_freed                  # frames that came free by it

    cdef int end(self) except -1
    cdef void _waited_since(self, int64_t began) noexcept nogil
    cdef int _release_reported(self, gfn_t gfn) except -1 nogil
    # Get a disk that holds what the other's does. `instead`: hardware that ends when this is in its place, or None.
    cdef int share_disk(self, HostHardware other, HostHardware instead) except -1
    cdef int check_disk(self, Guest guest) except -1
