"""Backing records: one per content that is out of memory.

An absent entry names its backing; the record says where the bytes are. Several entries may name one record, because the
page was merged or its leaf copied before it went out: it was evicted once, and it comes back once. The first of them to
fault brings the bytes into a frame, and the record then *caches in* that frame: the others find it there. Writeback from
the zpool to swap changes the record and no entry; so does compaction of the zpool, whose objects are named by where
they lie.

    SAME ──┐                        fault                     last entry has left,
    ZPOOL ─┼─ refs > 0, not cached ───────► cached in a frame ─────────────────────► a clean copy of the frame
    SWAP ──┘          ▲                            │                                  (refs = 0, still cached)
                      └── frame evicted, clean ────┘                                         │ frame is written:
                                                                                             ▼ record destroyed

A record lives while an entry names it or a frame is cached by it. The stores' space is given back by whoever destroys
the record (mapping, through its release hook): this module knows kinds and numbers, not stores.

Invariants (check): counts per kind; a cached record's frame names the record back (checked by mapping).
"""

from cpython.exc cimport PyErr_CheckSignals

from memvirt.errors import InvariantError

from ..memory.frames cimport FRAME_BACKING, Frames, Slab
from ..types cimport backing_t, hfn_t, uint32_t, uint64_t


cdef class Backings:
    """All backing records of a host, 16 bytes each, in frames of their own."""

    def __cinit__(self, Frames frames not None):
        self.records = Slab(frames, sizeof(Backing), FRAME_BACKING, MOST_RECORDS)

    cdef backing_t make(self) noexcept nogil:
        """A new record without references; room must have been reserved in `records`."""
        cdef backing_t id = self.records.claim()
        self.nr_kind[<int>BACKING_NEW] += 1
        return id

    cdef void set_place(self, backing_t id, BackingKind kind, uint32_t where, uint32_t check) noexcept nogil:
        """The bytes are in this store now; whether a frame caches them stays as it is."""
        cdef Backing *record = self.at(id)
        cdef bint cached = record.place & BACKING_CACHED != 0
        assert where <= BACKING_WHERE
        self.nr_kind[<int>self.kind(record)] -= 1
        self.nr_cached[<int>self.kind(record)] -= cached
        self.nr_cached[<int>kind] += cached
        record.place = (record.place & BACKING_CACHED) | (<uint32_t>kind << BACKING_KIND_SHIFT) | where
        record.check = check
        self.nr_kind[<int>kind] += 1

    cdef void set_same(self, backing_t id, uint64_t value) noexcept nogil:
        """The page is this word over and over; not cached."""
        cdef Backing *record = self.at(id)
        assert not record.place & BACKING_CACHED
        self.nr_kind[<int>self.kind(record)] -= 1
        record.place = <uint32_t>BACKING_SAME << BACKING_KIND_SHIFT
        record.check = <uint32_t>value
        record.link = <uint32_t>(value >> 32)
        self.nr_kind[<int>BACKING_SAME] += 1

    cdef void cache_in(self, backing_t id, hfn_t frame) noexcept nogil:
        cdef Backing *record = self.at(id)
        self.nr_cached[<int>self.kind(record)] += not record.place & BACKING_CACHED
        record.place |= BACKING_CACHED
        record.link = frame

    cdef void uncache(self, backing_t id) noexcept nogil:
        """The frame no longer holds the bytes. A SAME record needs set_same afterwards: its value was in the frame."""
        cdef Backing *record = self.at(id)
        self.nr_cached[<int>self.kind(record)] -= record.place & BACKING_CACHED != 0
        record.place &= ~<uint32_t>BACKING_CACHED
        record.link = 0

    cdef void destroy(self, backing_t id) noexcept nogil:
        cdef Backing *record = self.at(id)
        self.nr_kind[<int>self.kind(record)] -= 1
        self.nr_cached[<int>self.kind(record)] -= record.place & BACKING_CACHED != 0
        self.records.give(id)

    cpdef object check(self):
        free_ids = self.records.check()
        counted, cached = [0, 0, 0, 0], [0, 0, 0, 0]
        cdef uint32_t id
        cdef Backing *record
        for id in range(self.records.end()):
            if id in free_ids:
                continue
            if not id & 0xFFF:                      # a recount may stop anywhere
                PyErr_CheckSignals()
            record = self.at(id)
            counted[<int>self.kind(record)] += 1
            cached[<int>self.kind(record)] += record.place & BACKING_CACHED != 0
            if record.refs == 0 and not record.place & BACKING_CACHED:
                raise InvariantError(f"backing {id}: no entry names it and no frame caches it")
        for kind in range(4):
            if counted[kind] != self.nr_kind[kind]:
                raise InvariantError(f"backings of kind {kind}: counter {self.nr_kind[kind]}, recount {counted[kind]}")
            if cached[kind] != self.nr_cached[kind]:
                raise InvariantError(f"cached backings of kind {kind}: counter {self.nr_cached[kind]}, "
                                     f"recount {cached[kind]}")
        return free_ids
