from .elastic cimport Elastic


cdef class HugeBalloon(Elastic):
    pass
