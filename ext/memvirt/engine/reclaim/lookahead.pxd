from ..mapping.mapping cimport Mapping
from ..types cimport uint32_t, vmid_t


# These pages are accessed next. For VMs without a guest.
cdef void look_ahead(Mapping mapping, vmid_t vm, const uint32_t *pages, uint32_t n) noexcept nogil
