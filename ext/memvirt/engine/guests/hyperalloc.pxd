from .elastic cimport Elastic


cdef class HyperAlloc(Elastic):
    pass
