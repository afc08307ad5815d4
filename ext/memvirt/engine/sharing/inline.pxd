from .scanner cimport Scanner


cdef class InlineScanner(Scanner):
    pass
