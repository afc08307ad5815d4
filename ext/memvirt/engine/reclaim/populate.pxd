from ..types cimport vmid_t
from .fault cimport Faults

# Give the VM all its pages now. OK, or what ran out.
cdef int populate(Faults faults, vmid_t vm) except -1 nogil
