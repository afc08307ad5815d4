from ..types cimport vmid_t
from .engine cimport Engine


# Let the empty VM `child` see the parent's memory. OK, or what ran out: then the child is to be ended.
cdef int share(Engine engine, vmid_t parent, vmid_t child) except -1 nogil
