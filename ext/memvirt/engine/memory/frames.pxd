from .buddy cimport Buddy
from ..content.content cimport Content
from ..types cimport hfn_t, site_t, uint8_t, uint16_t, uint32_t, uint64_t, vmid_t

# In the order of FRAME_USES in memvirt.names.
cdef enum FrameState:
    FRAME_FREE = 0              # in the buddy allocator; bytes are garbage (poisoned in debug builds)
    FRAME_GUEST = 1             # holds guest content; where/backing/charge valid
    FRAME_TABLE = 2             # holds a leaf or directory table
    FRAME_ZSPAGE = 3            # part of a zspage
    FRAME_FIXED = 4             # metadata of fixed size, taken at creation of the host or of a VM
    FRAME_BACKING = 5           # backing records; or, `where` being NONE, bytes of tables that grow on the heap
    FRAME_CACHE = 6             # read ahead from swap: no entry names it, `backing` does and is not NONE
    NR_FRAME_STATES = 7

cdef enum FrameFlag:
    FRAME_PINNED = 1            # may not be reclaimed, merged or moved
    FRAME_STABLE = 2            # merged by sharing: in the share index, write-protected
    FRAME_ISOLATED = 4          # on its way out: not a candidate
    FRAME_ORDERED = 8           # in the replacement order
    FRAME_ZERO = 16             # the one zero frame: no reverse map, never reclaimed
    FRAME_INDEXED = 32          # mapped so often that each site knows the one before it: see mapping/rmap.pyx
    FRAME_LAZY = 64             # given up lazily and not written since: reclaim takes it, and keeps nothing

# One frame, 16 bytes so that four share a cache line and a fault touches one.
cdef struct Frame:
    uint32_t refs               # entries that name it (an entry in a shared leaf counts once); 1 for non-guest uses
    uint32_t where              # GUEST: the first of its sites (see rmap); else free for the owner's use
    uint32_t backing            # GUEST: the backing record whose bytes it still equals (clean), or NONE
    vmid_t charge               # VM that pays for it, or NONE16
    uint8_t state
    uint8_t flags


cdef enum:
    NEVER = 1 << 30                 # frames needed for what cannot be: more than any host has


cdef inline uint32_t pages_of(uint64_t bytes) noexcept nogil:
    return <uint32_t>((bytes + 4095) >> 12)


cdef class Frames:
    cdef readonly Buddy buddy
    cdef readonly Content content
    cdef readonly uint32_t nr_frames
    cdef readonly uint32_t min_pages, low_pages, high_pages    # watermarks, in free frames
    cdef Frame *frame                                          # [nr_frames]
    cdef uint32_t nr_state[NR_FRAME_STATES]
    cdef readonly uint64_t heap_bytes                          # of tables that grow on the heap; frames are taken for them
    cdef void *_beside                                         # content without bytes: free pages of metadata, chained
    cdef void **_chunk                                         # [_nr_chunks] and what they are cut from
    cdef uint32_t _nr_chunks

    # True if `frames` frames are free beyond `reserve`. The only call in which fail_after() can refuse.
    cdef bint can_take(self, uint32_t frames, uint32_t reserve) noexcept nogil
    # One frame or an aligned block of 2^order for `state`, leaving at least `reserve` frames free. OK or NO_FRAME.
    # Bytes are NOT cleared. refs = 1, charge = NONE16, backing = NONE.
    cdef int take(self, int order, FrameState state, uint32_t reserve, hfn_t *frame) except -1 nogil
    # The same from frames that were secured before: a single frame is there, or InvariantError; a block may not be.
    cdef int claim(self, int order, FrameState state, hfn_t *frame) except -1 nogil
    cdef int take_at(self, hfn_t frame, FrameState state) except -1 nogil
    cdef int give(self, hfn_t frame, int order) except -1 nogil
    cdef void turn(self, hfn_t frame, FrameState state) noexcept nogil
    # Room for at least `least` more records, `most` in all, in a table on the heap of room[0] records of `size` bytes, and
    # frames for what it then takes, `reserve` staying free. OK, or NO_FRAME and nothing has changed.
    cdef int grow(self, void **table, uint32_t *room, uint32_t size, uint32_t least, uint32_t most,
                  uint32_t reserve) except -1 nogil
    cdef int _grow_by(self, void **table, uint32_t *room, uint32_t size, uint32_t more, uint32_t reserve) except -1 nogil
    cdef int _cut_pages(self) except -1
    cdef void *claim_raw_page(self, FrameState state, hfn_t *frame) except NULL nogil
    cdef void *claim_page(self, FrameState state, hfn_t *frame) except NULL nogil
    cdef int give_page(self, hfn_t frame, void *page) except -1 nogil
    # Host compaction gives a page of metadata the frame `target`. Returns where the page lies from now on.
    cdef void *move_page(self, void *page, hfn_t target) noexcept nogil
    cdef void _mark_taken(self, hfn_t frame, uint32_t count, FrameState state) noexcept nogil
    cdef void release(self) noexcept
    cpdef object check(self)


cdef class Slab:
    # Small records of one size in frames of one state. A free record's first 4 bytes chain the free list.
    cdef readonly Frames frames
    cdef readonly uint32_t size, nr_pages, nr_used
    cdef FrameState state
    cdef int shift                  # log2 of records per page
    cdef char **page                # [nr_pages]
    cdef hfn_t *page_frame          # [nr_pages]; Frame.where of such a frame is the index here
    cdef uint32_t room              # what the two arrays can hold
    cdef uint32_t free_head
    cdef public uint32_t most       # records that an id has bits for

    cdef inline void *at(self, uint32_t id) noexcept nogil:
        return self.page[id >> self.shift] + (id & ((<uint32_t>1 << self.shift) - 1)) * self.size

    cdef uint32_t frames_needed(self, uint32_t records) noexcept nogil
    cdef int reserve(self, uint32_t records, uint32_t keep_free) except -1 nogil
    cdef int make_room(self, uint32_t records) except -1 nogil
    cdef int _grow(self) except -1 nogil
    cdef int _resize(self, uint32_t room) except -1
    cdef inline uint32_t claim(self) noexcept nogil:
        """A zeroed record. Cannot fail: room was made, or reserved, before."""
        cdef uint32_t id = self.free_head
        cdef uint32_t *record = <uint32_t *>self.at(id)
        self.free_head = record[0]
        record[0] = 0
        self.nr_used += 1
        return id

    cdef void give(self, uint32_t id) noexcept nogil
    cdef bint owns_page(self, hfn_t frame) noexcept nogil
    cdef void move_page(self, hfn_t source, hfn_t target) noexcept nogil
    cdef uint32_t end(self) noexcept nogil
    cpdef object check(self)
