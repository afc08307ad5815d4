from ..content.content cimport Content
from ..reclaim.fault cimport Faults
from .guest cimport Guest
from .guest_disk cimport GuestDisk
from .hardware cimport Hardware
from ..types cimport gfn_t, int64_t, uint32_t, vmid_t


# What it costs to give memory to the host and to have it back; as GivingCosts of memvirt.settings.costs.
cdef struct Giving:
    int64_t give_page           # a guest gives up a page: taken from its allocator, named to the host
    int64_t return_page         # ... has it back
    int64_t release_page        # the host frees the frame behind such a page; 0: in give_page
    int64_t release_block       # ... 2 MiB that are mapped as one
    int64_t give_block          # a guest gives up 2 MiB of its free memory, as one
    int64_t return_block
    int64_t offline_block       # a guest unplugs 2 MiB, the moving of its pages apart
    int64_t online_block        # ... plugs them
    int64_t claim_block         # the host takes a free 2 MiB in the guest's own allocator
    int64_t restore_block       # ... and leaves it to the guest again
    int64_t unplug_block        # a guest unplugs 2 MiB of a partition that is free
    int64_t plug_block          # ... plugs them
    int64_t message             # a message of one of these leaves the guest


cdef class HostHardware(Hardware):
    # The hardware a guest runs on: its accesses are those of VM `vm` on this host.
    cdef readonly Faults faults
    cdef Content content
    cdef readonly vmid_t vm
    cdef Giving costs
    cdef readonly GuestDisk disk            # guest swap and written file blocks, or None
    cdef bint reporting                     # what is released is named by a message of free page reporting
    cdef readonly bint hints                # what is named so is only a hint: the host takes it when it needs a frame
    cdef uint32_t nr_freed                  # pages behind which the host held something, and does no more
    cdef int64_t aside_ns                   # time in which the host worked, or the guest waited for its disk

    cdef int end(self) except -1
    cdef void _waited_since(self, int64_t began) noexcept nogil
    cdef void _host_spends(self, int64_t ns) noexcept nogil
    cdef int _release_held(self, gfn_t gfn, int64_t cost) except -1 nogil
    # Get a disk that holds what the other's does. `instead`: hardware that ends when this is in its place, or None.
    cdef int share_disk(self, HostHardware other, HostHardware instead) except -1
    cdef int check_disk(self, Guest guest) except -1
