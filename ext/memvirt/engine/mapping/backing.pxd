from ..memory.frames cimport Frames, Slab
from ..types cimport backing_t, hfn_t, uint16_t, uint32_t, uint64_t

# Where the bytes are.
cdef enum BackingKind:
    BACKING_NEW = 0             # being made; nothing names it yet
    BACKING_SAME = 1            # every word equal: the value stands in the record
    BACKING_ZPOOL = 2           # compressed: `where` is a zpool handle, and changes when the object moves
    BACKING_SWAP = 3            # `where` is a swap slot

cdef enum:
    RECORDS_PER_PAGE = 256
    MOST_RECORDS = 1 << 28          # an entry, and a cell of the zpool, have 28 bits for one
    BACKING_CACHED = 0x80000000     # in `place`: `link` names the frame that holds the same bytes
    BACKING_KIND_SHIFT = 29
    BACKING_WHERE = 0x1FFFFFFF

# One content that is out of memory, whoever maps it. 16 bytes.
cdef struct Backing:
    uint32_t refs               # entries that name it
    uint32_t place              # cached:1 | kind:2 | where:29 (SAME and not cached: the harvest as below)
    uint32_t check              # checksum of the page (of what a slot or handle must give back); SAME: low half of value
    uint32_t link               # cached: the frame; not cached: SAME: high half of value, else the harvest (see ages)


cdef class Backings:
    cdef readonly Slab records
    cdef readonly uint32_t nr_kind[4]       # records, by kind
    cdef readonly uint32_t nr_cached[4]     # of these, the ones whose content is in a frame as well

    cdef inline Backing *at(self, backing_t id) noexcept nogil:
        return <Backing *>self.records.page[id / RECORDS_PER_PAGE] + id % RECORDS_PER_PAGE

    cdef inline BackingKind kind(self, Backing *record) noexcept nogil:
        return <BackingKind>((record.place >> BACKING_KIND_SHIFT) & 3)

    cdef inline uint32_t where(self, Backing *record) noexcept nogil:
        return record.place & BACKING_WHERE

    cdef inline uint64_t value(self, Backing *record) noexcept nogil:
        """SAME, not cached: the word that fills the page."""
        return (<uint64_t>record.link << 32) | record.check

    cdef inline void note(self, backing_t id, uint16_t seen) noexcept nogil:
        """Not cached: after which harvest the page was last accessed."""
        cdef Backing *record = self.at(id)
        assert not record.place & BACKING_CACHED
        if self.kind(record) == BACKING_SAME:
            record.place = (record.place & ~<uint32_t>BACKING_WHERE) | seen
        else:
            record.link = seen

    cdef inline uint16_t noted(self, backing_t id) noexcept nogil:
        cdef Backing *record = self.at(id)
        assert not record.place & BACKING_CACHED
        return <uint16_t>(record.place if self.kind(record) == BACKING_SAME else record.link)

    cdef backing_t make(self) noexcept nogil
    cdef void set_place(self, backing_t id, BackingKind kind, uint32_t where, uint32_t check) noexcept nogil
    cdef void set_same(self, backing_t id, uint64_t value) noexcept nogil
    cdef void cache_in(self, backing_t id, hfn_t frame) noexcept nogil
    cdef void uncache(self, backing_t id) noexcept nogil
    cdef void destroy(self, backing_t id) noexcept nogil
    cpdef object check(self)
