"""Merging equal pages, and the index that finds them.

The index maps the hash of a page to a frame that had it when it was looked at. It is a hint and never trusted: before
two frames are merged their bytes are compared, to the last one, with nothing running in between. Stale cells (a frame
freed, rewritten, or pinned since) simply do not compare equal; `rebuild` drops them, and keeps the *stable* frames,
those that are merged already and therefore cannot change.

Pages merge only within a domain: the domain of the VM that pays for the frame is mixed into the hash and checked again
before the merge. Zero pages are kept apart: all entries that hold one name a single zero frame, which is never
reclaimed and needs no reverse map.

A merge needs reverse-map nodes, and tables if a huge leaf has to be split. If those frames are not to be had above the
min watermark, the merge is put off and counted: a scanner must not cause reclaim.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from .counters cimport CPU_SCAN
from .frames cimport (FRAME_FIXED, FRAME_GUEST, FRAME_ISOLATED, FRAME_PINNED, FRAME_STABLE, FRAME_ZERO, Frame)
from .leaf cimport Leaf
from .mapping cimport Listener, Mapping
from .rmap cimport Walk
from .types cimport LEAF_ENTRIES, NONE, NONE16, OK, hfn_t, uint32_t, uint64_t

cdef extern from *:
    void __builtin_prefetch(const void *at) nogil


cdef class ShareIndex(Listener):
    """The index of one host. `zero_frame`: keep zero pages apart (takes one frame)."""

    def __cinit__(self, Mapping mapping not None, bint zero_frame=True):
        cdef uint32_t cells = 16
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.hash_mask = <uint64_t>-1
        while cells < self.frames.nr_frames + self.frames.nr_frames // 2:
            cells *= 2
        self.mask = cells - 1
        self.cell = <Cell *>calloc(cells, sizeof(Cell))
        if self.cell == NULL:
            raise MemoryError("share index")
        memset(self.cell, 0xFF, cells * sizeof(Cell))
        self.zero_frame = NONE
        if zero_frame and self.frames.take(0, FRAME_FIXED, 0, &self.zero_frame) == OK:
            self.content.clear(self.zero_frame)
            self.frames.frame[self.zero_frame].refs = 0
            self.frames.frame[self.zero_frame].flags = FRAME_ZERO
        mapping.listener = self
        mapping.has_listener = True

    def __dealloc__(self):
        free(self.cell)

    cdef uint64_t key_of(self, hfn_t frame) noexcept nogil:
        """Hash of the page within its domain."""
        cdef uint64_t hash = self.content.hash(frame)
        cdef uint32_t charge = self.frames.frame[frame].charge
        if charge != NONE16:
            hash ^= self.mapping.account[charge].domain * <uint64_t>0x9E3779B97F4A7C15ULL
        return hash & self.hash_mask

    cdef bint _mergeable(self, hfn_t frame) noexcept nogil:
        cdef Frame *record = &self.frames.frame[frame]
        return record.state == FRAME_GUEST and not record.flags & (FRAME_PINNED | FRAME_ISOLATED)

    cdef uint64_t ahead(self, hfn_t frame) noexcept nogil:
        """The key of a frame that find_or_add will be asked for soon."""
        cdef uint64_t hash = self.key_of(frame)
        self.clock.spend(CPU_SCAN, self.clock.costs.hash_page)
        __builtin_prefetch(&self.cell[<uint32_t>hash & self.mask])
        return hash

    cdef hfn_t find_or_add(self, hfn_t frame, uint64_t hash) except? 0xFFFFFFFE nogil:
        """A frame with the same bytes in the same domain, or NONE; then this one has been added."""
        cdef uint32_t tag = <uint32_t>(hash >> 32), i = <uint32_t>hash & self.mask
        cdef hfn_t other
        while self.cell[i].frame != NONE:
            other = self.cell[i].frame
            if other == frame and self.cell[i].tag == tag:
                return NONE
            if self.cell[i].tag == tag and other != frame and self._mergeable(other):
                self.clock.spend(CPU_SCAN, self.clock.costs.compare_page)
                if self.content.compare(frame, other) == 0 and self._same_domain(frame, other):
                    return other
                self.false_matches += 1
            i = (i + 1) & self.mask
        if self.nr_cells_used > self.mask - self.mask // 8:
            self.rebuild()
            self._insert(frame, hash)
            return NONE
        self.cell[i].frame = frame
        self.cell[i].tag = tag
        self.nr_cells_used += 1
        return NONE

    cdef bint _same_domain(self, hfn_t a, hfn_t b) noexcept nogil:
        cdef uint32_t first = self.frames.frame[a].charge, second = self.frames.frame[b].charge
        if first == NONE16 or second == NONE16:
            return first == second
        return self.mapping.account[first].domain == self.mapping.account[second].domain

    cdef void _insert(self, hfn_t frame, uint64_t hash) noexcept nogil:
        cdef uint32_t i = <uint32_t>hash & self.mask
        while self.cell[i].frame != NONE:
            i = (i + 1) & self.mask
        self.cell[i].frame = frame
        self.cell[i].tag = <uint32_t>(hash >> 32)
        self.nr_cells_used += 1

    cdef void rebuild(self) noexcept nogil:
        """Start a pass: only stable frames stay in the index."""
        cdef hfn_t frame
        memset(self.cell, 0xFF, (<size_t>self.mask + 1) * sizeof(Cell))
        self.nr_cells_used = 0
        for frame in range(self.frames.nr_frames):
            if self.frames.frame[frame].flags & FRAME_STABLE:
                self._insert(frame, self.key_of(frame))

    cdef uint32_t _splits(self, hfn_t frame) noexcept nogil:
        """Tables needed to have only small leaves over this frame. A frame under a huge leaf has one site."""
        cdef Walk walk
        self.mapping.walk(frame, &walk)
        return self.mapping.leaves.at(walk.site / LEAF_ENTRIES).entries == NULL

    cdef int _split(self, hfn_t frame) except -1 nogil:
        cdef Walk walk
        self.mapping.walk(frame, &walk)
        if self.mapping.leaves.at(walk.site / LEAF_ENTRIES).entries == NULL:
            self.mapping.split(walk.site / LEAF_ENTRIES)
        return 0

    cdef bint merge(self, hfn_t duplicate, hfn_t kept) except? True nogil:
        """Merge two frames that compared equal; False when frames for the merge itself are missing."""
        cdef uint32_t nodes = self.mapping.nodes_to_merge(duplicate, kept)
        cdef Frame *record = &self.frames.frame[kept]
        cdef uint32_t need = (self.mapping.nodes.frames_needed(nodes) + self._splits(duplicate) + self._splits(kept))
        if need and not self.frames.can_take(need, self.frames.min_pages):
            self.no_frame += 1
            return False
        self._split(duplicate)
        self._split(kept)
        self.mapping.nodes.claim(nodes)
        self.mapping.write_protect(kept)
        record.flags |= FRAME_STABLE
        self.mapping.merge(duplicate, kept)
        self.clock.spend(CPU_SCAN, self.clock.costs.merge)
        return True

    cdef bint merge_zero(self, hfn_t frame) except? True nogil:
        """Let all entries of a frame of zeros name the zero frame."""
        cdef uint32_t need = self._splits(frame)
        if need and not self.frames.can_take(need, self.frames.min_pages):
            self.no_frame += 1
            return False
        self._split(frame)
        self.mapping.merge(frame, self.zero_frame)
        self.clock.spend(CPU_SCAN, self.clock.costs.merge)
        return True

    cdef void unshared(self, hfn_t frame) noexcept nogil:
        self.breaks += 1

    cdef void moved(self, hfn_t source, hfn_t target) noexcept nogil:
        """A merged frame stays findable under its new number. Other cells go stale, as when a page is rewritten."""
        if not self.frames.frame[target].flags & FRAME_STABLE:
            return
        if self.nr_cells_used > self.mask - self.mask // 8:
            self.rebuild()
        else:
            self._insert(target, self.key_of(target))

    def narrow_hash(self, bits):
        """Keep only the lowest `bits` of every hash, so that tests can force collisions."""
        self.hash_mask = (<uint64_t>1 << bits) - 1 if bits < 64 else <uint64_t>-1
        self.rebuild()
