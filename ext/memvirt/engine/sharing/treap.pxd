from ..memory.frames cimport Slab
from ..types cimport uint32_t

# The head of every record that stands in such a tree.
cdef struct Link:
    uint32_t left
    uint32_t right
    uint32_t parent             # NONE: the root

cdef enum:
    RECORD_BYTES = 32           # of a record that begins with a Link
    PER_PAGE_SHIFT = 7          # records in a page of the slab: 128


cdef class Treap:
    cdef Slab slab
    cdef readonly uint32_t root, nr

    cdef inline Link *link(self, uint32_t id) noexcept nogil:
        return <Link *>(self.slab.page[id >> PER_PAGE_SHIFT] + (id & ((1 << PER_PAGE_SHIFT) - 1)) * RECORD_BYTES)

    cdef void clear(self) noexcept nogil
    cdef void insert(self, uint32_t id, uint32_t parent, bint left) noexcept nogil
    cdef void remove(self, uint32_t id) noexcept nogil
    cdef void replace(self, uint32_t old, uint32_t new) noexcept nogil
    cdef uint32_t first(self) noexcept nogil
    cdef uint32_t next(self, uint32_t id) noexcept nogil
    cdef void _rotate_up(self, uint32_t id) noexcept nogil
