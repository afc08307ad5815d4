from ..replacement.lists cimport Link
from ..types cimport MAX_VMS, hfn_t, uint32_t, uint64_t, vmid_t


cdef class LazyList:
    cdef readonly uint32_t nr                   # pages that are given up and still there
    cdef readonly uint64_t marked               # pages given up so far
    cdef readonly uint64_t kept                 # of them: written, pinned, merged or cloned first; like any other again
    cdef readonly uint64_t freed                # ... taken by reclaim
    cdef readonly uint64_t released             # ... given up for good, or gone with their VM
    cdef readonly uint64_t skipped              # pages that could not be given up: others have a part in them
    cdef uint32_t of[MAX_VMS]                   # of `nr`: pages of this VM
    cdef uint32_t end                           # VMs there have been with any, by id
    cdef vmid_t turn                            # whose pages go next when anybody's may
    cdef uint32_t _nr_frames
    cdef Link *_links                           # [nr_frames], and a head for each VM; NULL until there is a page

    cdef int add(self, hfn_t frame, vmid_t vm) except -1 nogil
    cdef void remove(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void renew(self, hfn_t frame, vmid_t vm) noexcept nogil        # it was accessed: the others go first
    cdef void rename(self, hfn_t frame, hfn_t new) noexcept nogil
    cdef hfn_t oldest(self, vmid_t vm) noexcept nogil                   # or NONE
    cdef vmid_t next_turn(self) noexcept nogil
    cdef bint holds(self, hfn_t frame) noexcept nogil
    cdef int _begin(self) except -1
    cpdef object check(self)
