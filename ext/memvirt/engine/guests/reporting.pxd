from ..mapping.lazylist cimport LazyList
from ..simtime cimport Actor
from .balloon cimport Balloon
from .guest cimport Guest
from ..types cimport MAX_VMS, int64_t, uint32_t, vmid_t


cdef class Reporting(Actor):
    # Who asks the guests of a host for their free blocks.
    cdef LazyList lazies
    cdef void *worker[MAX_VMS]      # the Balloon of each VM, which knows its guest; borrowed. NULL: no VM
    cdef int64_t due_ns[MAX_VMS]    # when the VM's next pass begins; FOREVER: nothing is to be reported

    cdef void join(self, vmid_t vm, Balloon worker) noexcept
    cdef void leave(self, vmid_t vm) noexcept
    # The VM has done something: a pass is due when its guest has a block to report.
    cdef int look(self, vmid_t vm, int64_t now) except -1 nogil
    cdef uint32_t _first(self) noexcept nogil
    cdef void _plan(self, uint32_t vm, Guest guest, int64_t now) noexcept nogil
    cdef uint32_t _pass(self, uint32_t vm, Guest guest) except? 0xFFFFFFFF nogil
