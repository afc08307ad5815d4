from ..content.content cimport Content
from ..reclaim.fault cimport Faults
from .guest cimport Guest
from .hardware cimport Hardware
from ..stores.swapspace cimport SwapSpace
from ..types cimport gfn_t, int64_t, uint32_t, vmid_t


cdef class HostHardware(Hardware):
    # The hardware a guest runs on: its accesses are those of VM `vm` on this host.
    cdef readonly Faults faults
    cdef Content content
    cdef readonly vmid_t vm
    cdef readonly SwapSpace disk            # guest swap and written file blocks, or None
    cdef uint32_t *check_sum                # [disk slots] checksum of what was written
    cdef uint32_t nr_disk_slots
    cdef bint reporting                     # what is released is named by a message of free page reporting
    cdef uint32_t nr_freed                  # frames that came free by it

    cdef void end(self) noexcept
    cdef void _waited_since(self, int64_t began) noexcept nogil
    cdef int _release_reported(self, gfn_t gfn) except -1 nogil
    cdef int copy_disk(self, HostHardware parent, Guest guest) except -1
