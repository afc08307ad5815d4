from ..types cimport PAGE_SIZE, uint8_t, uint16_t, uint32_t, uint64_t
from .codec cimport Codec

cdef enum:
    NO_FIT = PAGE_SIZE + 1      # the length of what a codec makes no smaller than a page

cdef void lengths_of(Codec codec, const uint64_t *page, uint32_t source, uint16_t *length,
                     uint16_t *tagged) noexcept nogil
