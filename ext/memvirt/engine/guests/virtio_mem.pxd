from .elastic cimport Elastic


cdef class VirtioMem(Elastic):
    pass
