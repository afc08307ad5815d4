from ..types cimport hfn_t, uint32_t
from .scanner cimport Scanner


cdef class HashScanner(Scanner):
    cdef hfn_t cursor
    cdef readonly bint zero_only

    cdef bint _visit(self, hfn_t frame) except? True nogil
