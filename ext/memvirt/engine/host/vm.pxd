from .core cimport VmState
from ..types cimport uint8_t, uint64_t


cdef class Vm(VmState):
    cdef uint64_t _copy(self, uint64_t address, uint64_t length, const uint8_t *source, uint8_t *target) except? 0
