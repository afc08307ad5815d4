from ..mapping.mapping cimport Mapping
from ..types cimport uint64_t, vmid_t
from .evict cimport Eviction

cdef bint foretell(Mapping mapping, Eviction eviction, uint64_t frames, vmid_t but,
                   vmid_t providing) noexcept nogil
