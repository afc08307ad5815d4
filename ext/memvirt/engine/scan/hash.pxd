from ..types cimport hfn_t, uint32_t, uint64_t
from .scanner cimport Scanner


cdef class HashScanner(Scanner):
    cdef hfn_t cursor
    cdef readonly bint zero_only
    cdef readonly uint64_t hints_followed       # frames looked at because their content had just arrived

    cdef bint _visit(self, hfn_t frame, uint32_t *looked) except? True nogil
