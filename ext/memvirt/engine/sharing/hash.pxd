from ..types cimport hfn_t, uint32_t, uint64_t
from .scanner cimport Scanner


cdef class HashScanner(Scanner):
    cdef hfn_t cursor
    cdef bint met                   # a page in the pass that goes on: one without is none
    cdef readonly bint zero_only
    cdef bint foresees              # the cells of pages to come are asked for

    cdef hfn_t waiting              # hashed, its cell asked for, not looked up yet; NONE between slices
    cdef uint64_t waiting_hash

    cdef bint _share(self, hfn_t frame) except? True nogil
    cdef bint _share_waiting(self) except? True nogil
