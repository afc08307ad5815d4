from ..mapping.charges cimport Charges
from ..mapping.lazylist cimport LazyList
from ..mapping.mapping cimport Mapping
from ..simtime cimport Clock
from ..types cimport hfn_t, uint32_t, vmid_t
from .evict cimport Eviction


cdef class LazyFree:
    cdef Mapping mapping
    cdef Charges charges
    cdef LazyList lazies
    cdef Clock clock
    cdef Eviction eviction

    # Frees about `want` frames of pages that were given up lazily: of this VM, to which `keep` stay charged; of anybody,
    # each as far as its reservation leaves. How many.
    cdef uint32_t of_vm(self, vmid_t vm, uint32_t want, uint32_t keep) except? 0xFFFFFFFF nogil
    cdef uint32_t of_all(self, uint32_t want) except? 0xFFFFFFFF nogil
    cdef int _free(self, hfn_t frame) except -1 nogil
