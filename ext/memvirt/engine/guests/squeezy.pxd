from .elastic cimport Elastic


cdef class Squeezy(Elastic):
    pass
