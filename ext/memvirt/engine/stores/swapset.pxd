from .swapspace cimport SwapSpace
from ..types cimport int64_t, uint8_t, uint32_t


cdef class SwapSet(SwapSpace):
    cdef readonly tuple areas                   # highest priority first, then as given
    cdef readonly tuple priorities
    cdef uint32_t *_base                        # [nr_areas + 1]: first flat slot of each area
    cdef uint32_t *_group_end                   # [nr_areas]: one past the last area of the same priority
    cdef uint32_t *_turn                        # [nr_areas]: valid at a group's first area: whose turn it is
    cdef void **_area                           # [nr_areas]: `areas`, borrowed
    cdef uint32_t _nr_areas

    cdef uint32_t area_of(self, uint32_t slot) noexcept nogil
    cdef uint32_t take_from_group(self, uint32_t group, uint32_t n, uint32_t *slots) except? 0xFFFFFFFF nogil
    cdef uint32_t stretch(self, uint32_t n, const uint32_t *slots, uint32_t *local) noexcept nogil
    cdef uint32_t move(self, int way, uint32_t n, const uint32_t *slots, uint8_t **pages,
                       uint8_t *done) except? 0xFFFFFFFF nogil
    cdef void gather(self) noexcept nogil
