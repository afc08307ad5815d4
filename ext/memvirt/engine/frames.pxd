from .buddy cimport Buddy
from .content cimport Content
from .types cimport hfn_t, site_t, uint8_t, uint16_t, uint32_t, uint64_t, vmid_t

cdef enum FrameState:
    FRAME_FREE = 0              # in the buddy allocator; bytes are garbage (poisoned in debug builds)
    FRAME_GUEST = 1             # holds guest content; where/backing/charge valid
    FRAME_TABLE = 2             # holds a leaf or directory table
    FRAME_ZSPAGE = 3            # part of a zspage
    FRAME_FIXED = 4             # metadata of fixed size, taken at creation of the host or of a VM
    FRAME_RMAP = 5              # reverse-map nodes of shared frames
    NR_FRAME_STATES = 6

cdef enum FrameFlag:
    FRAME_PINNED = 1            # may not be reclaimed, merged or moved
    FRAME_STABLE = 2            # merged by sharing: in the share index, write-protected
    FRAME_CHAIN = 4             # `where` is the head of a node chain, not a site
    FRAME_ISOLATED = 8          # on its way out: not a candidate
    FRAME_ORDERED = 16          # in the replacement order
    FRAME_ZERO = 32             # the one zero frame: no reverse map, never reclaimed

# One frame, 16 bytes so that four share a cache line and a fault touches one.
cdef struct Frame:
    uint32_t refs               # entries that name it (an entry in a shared leaf counts once); 1 for non-guest uses
    uint32_t where              # GUEST: its site, or the head of its chain; else free for the owner's use
    uint32_t backing            # GUEST: the backing record whose bytes it still equals (clean), or NONE
    vmid_t charge               # VM that pays for it, or NONE16
    uint8_t state
    uint8_t flags


cdef class Frames:
    cdef readonly Buddy buddy
    cdef readonly Content content
    cdef readonly uint32_t nr_frames
    cdef readonly uint32_t min_pages, low_pages, high_pages    # watermarks, in free frames
    cdef Frame *frame                                          # [nr_frames]
    cdef uint32_t nr_state[NR_FRAME_STATES]

    cdef uint32_t nr_free(self) noexcept nogil
    # One frame or an aligned block of 2^order for `state`, leaving at least `reserve` frames free. OK or NO_FRAME.
    # Bytes are NOT cleared. refs = 1, charge = NONE16, backing = NONE.
    cdef int take(self, int order, FrameState state, uint32_t reserve, hfn_t *frame) except -1 nogil
    cdef int give(self, hfn_t frame, int order) except -1 nogil
    cpdef object check(self)
