from .clock cimport Clock
from .content cimport Content
from .counters cimport Meter
from .frames cimport Frames
from .mapping cimport Listener, Mapping
from .types cimport hfn_t, uint32_t, uint64_t

cdef struct Cell:
    hfn_t frame                 # NONE: empty
    uint32_t tag                # upper half of the hash


cdef class ShareIndex(Listener):
    cdef readonly Mapping mapping
    cdef readonly Frames frames
    cdef readonly Content content
    cdef Clock clock
    cdef Meter meter
    cdef readonly hfn_t zero_frame          # NONE: zero pages are merged like any other
    cdef Cell *cell                         # [mask + 1] open addressing, linear probing
    cdef uint32_t mask
    cdef readonly uint32_t nr_cells_used
    cdef uint64_t hash_mask                 # tests narrow it to force collisions: bytes must decide
    cdef readonly uint64_t breaks           # merged frames that stopped being one
    cdef readonly uint64_t false_matches    # equal hash, different bytes
    cdef readonly uint64_t no_frame         # merges put off for want of a frame

    # A look-up in two steps, so that the cell can be on its way while the next page is hashed: `ahead` hashes and asks
    # for the cell, `find_or_add` uses it. The frame must not change in between.
    cdef uint64_t ahead(self, hfn_t frame) noexcept nogil
    cdef hfn_t find_or_add(self, hfn_t frame, uint64_t hash) except? 0xFFFFFFFE nogil
    cdef bint merge(self, hfn_t duplicate, hfn_t kept) except? True nogil
    cdef bint merge_zero(self, hfn_t frame) except? True nogil
    cdef void rebuild(self) noexcept nogil
    cdef uint64_t key_of(self, hfn_t frame) noexcept nogil
    cdef void _insert(self, hfn_t frame, uint64_t hash) noexcept nogil
    cdef bint _same_domain(self, hfn_t a, hfn_t b) noexcept nogil
    cdef bint _mergeable(self, hfn_t frame) noexcept nogil
    cdef uint32_t _splits(self, hfn_t frame) noexcept nogil
    cdef int _split(self, hfn_t frame) except -1 nogil
