from ..mapping.mapping cimport Mapping
from ..replacement.order cimport Marks
from ..types cimport uint32_t, vmid_t


cdef class TableMarks(Marks):
    cdef Mapping mapping
    cdef vmid_t whose                           # whose order asks; NONE16: the host's
