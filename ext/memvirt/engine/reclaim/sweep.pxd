from ..mapping.charges cimport Charges
from ..mapping.mapping cimport Mapping
from ..simtime cimport Clock
from ..types cimport MAX_VMS, gfn_t, hfn_t, uint32_t, vmid_t
from .evict cimport Eviction
from .lazyfree cimport LazyFree


cdef class Sweep:
    cdef Mapping mapping
    cdef Charges charges
    cdef Clock clock
    cdef Eviction eviction
    cdef LazyFree lazyfree
    cdef gfn_t hand[MAX_VMS]                    # where the next sweep of the VM begins

    cdef uint32_t work(self, vmid_t vm, uint32_t want, uint32_t min_age, uint32_t keep,
                       bint used_too) except? 0xFFFFFFFF nogil
    cdef uint32_t by_shares(self, uint32_t want) except? 0xFFFFFFFF nogil
    cdef uint32_t unnamed(self, uint32_t want, bint used_too) except? 0xFFFFFFFF nogil
    cdef hfn_t _page_of(self, vmid_t vm, gfn_t gfn, uint32_t *step) noexcept nogil
    cdef bint _idle(self, hfn_t frame, uint32_t min_age, hfn_t *asked) except? True nogil
