from .core cimport Core
from ..types cimport uint32_t, uint64_t
from .vm cimport Vm


cdef class Engine(Core):
    cdef dict _ended                            # {event: count} of guests that are no more; None: there are none

    cdef Vm _new_vm(self, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs, uint64_t further)
    cdef uint64_t _to_copy(self, Vm parent)
