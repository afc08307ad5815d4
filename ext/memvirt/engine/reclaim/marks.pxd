from ..mapping.mapping cimport Mapping
from ..replacement.order cimport Marks
from ..types cimport uint32_t


cdef class TableMarks(Marks):
    cdef Mapping mapping
