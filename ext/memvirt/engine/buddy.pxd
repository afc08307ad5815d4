from .types cimport uint8_t, uint32_t, uint64_t


cdef class Buddy:
    # Free memory of pages 0 .. nr_pages - 1 as power-of-two blocks, order 0 .. MAX_ORDER.
    # Deterministic: the smallest order that has a free block, in it the lowest-numbered block; a split keeps the
    # lower half. Freed blocks coalesce fully.
    cdef readonly uint32_t nr_pages
    cdef readonly uint32_t nr_free              # pages in free blocks

    cdef int take(self, int order, uint32_t *page) except -1 nogil
    # Targeted: the block must be free; splits what contains it. OK or NO_FRAME.
    cdef int take_at(self, uint32_t page, int order) except -1 nogil
    # Up to n single pages, lowest first; returns how many (0 .. n).
    cdef uint32_t take_bulk(self, uint32_t n, uint32_t *pages) except? 0xFFFFFFFF nogil
    cdef int give(self, uint32_t page, int order) except -1 nogil
    cdef int give_bulk(self, uint32_t n, const uint32_t *pages) except -1 nogil
    cdef bint is_free(self, uint32_t page) noexcept nogil
    cdef uint32_t free_blocks(self, int order) noexcept nogil
    cpdef object check(self)
