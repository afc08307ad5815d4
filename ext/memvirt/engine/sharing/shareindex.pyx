"""Merging equal pages, and the hash index that finds them.

The index maps the hash of a page to a frame that had it when it was looked at. It is a hint and never trusted: before
two frames are merged their bytes are compared, to the last one, with nothing running in between. Stale cells (a frame
freed, rewritten, or pinned since) simply do not compare equal; `rebuild` drops them, and keeps the *stable* frames,
those that are merged already and therefore cannot change. A scanner that finds equal pages by other means (ksm has
trees) leaves the table out and calls `merge` alone.

Who may share with whom is the salting: everyone, the VMs of a domain, or each VM with itself. The salt is mixed into
the hash and checked again before the merge; it is that of the VM that pays for the frame. Zero pages are kept apart:
all entries that hold one name a single zero frame, which is never reclaimed and needs no reverse map. It is the host's,
whatever the salting: it is there before anybody has a page of zeros, so that a slow write tells nobody anything about
somebody else. (What is merged stays merged when a VM changes its domain.)

`max_page_sharing`, as ksm has it, bounds the entries of a frame that is found by look-up: whatever follows a reverse map,
one site of which a broken page leaves, takes as long as that has sites. A full frame is passed over, and an equal page
beyond the bound becomes the first of another frame; so n equal pages take n / bound frames, rounded up, and not one.
There is no bound unless one is asked for: sharing is exact.

A merge needs tables if a huge leaf has to be split. If those frames are not free above the
min watermark, the merge is put off and counted: a scanner must not cause reclaim. Reclaim itself, when it tries to
share a page instead of writing it out, may use the reserve.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from memvirt.errors import ConfigError, InvariantError
from memvirt.names import SALTING

from ..counters cimport CPU_SCAN, Histogram, hist_add, histogram_dict
from ..memory.frames cimport (FRAME_FIXED, FRAME_GUEST, FRAME_ISOLATED, FRAME_PINNED, FRAME_STABLE, FRAME_ZERO,
                              Frame)
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Leaf, Leaves
from ..mapping.listener cimport Listener
from ..mapping.mapping cimport Mapping
from ..mapping.rmap cimport Walk
from ..prefetch cimport prefetch_read
from ..types cimport LEAF_ENTRIES, NONE, NONE16, OK, hfn_t, int64_t, uint32_t, uint64_t

cdef enum:
    RECENT = 4096               # arrivals remembered; older ones wait for the ordinary scan


cdef class ShareIndex(Listener):
    """The sharing of one host. `zero_frame`: keep zero pages apart (takes one frame); salting: one of SALTING;
    max_page_sharing: of frames that are looked up, 0: any number."""

    def __cinit__(self, Mapping mapping not None, bint zero_frame, str salting not None, uint32_t max_page_sharing):
        if salting not in SALTING:
            raise ConfigError(f"salting '{salting}'; there are: {', '.join(SALTING)}")
        self.max_page_sharing = max_page_sharing if max_page_sharing else NONE
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.salting = <Salting><int>SALTING.index(salting)
        self.hash_mask = <uint64_t>-1
        self.keep_free = self.frames.min_pages
        self.since_ns = <int64_t *>calloc(self.frames.nr_frames, sizeof(int64_t))
        self.time_to_merge = <Histogram *>calloc(1, sizeof(Histogram))
        self.lifetime = <Histogram *>calloc(1, sizeof(Histogram))
        if self.since_ns == NULL or self.time_to_merge == NULL or self.lifetime == NULL:
            raise MemoryError("share index")
        self.zero_frame = NONE
        if zero_frame and self.frames.take(0, FRAME_FIXED, 0, &self.zero_frame) == OK:
            self.content.clear(self.zero_frame)
            self.frames.frame[self.zero_frame].refs = 0
            self.frames.frame[self.zero_frame].flags = FRAME_ZERO
        mapping.listener = self

    def __dealloc__(self):
        free(self.cell)
        free(self.recent)
        free(self.since_ns)
        free(self.time_to_merge)
        free(self.lifetime)

    cdef int use_table(self) except -1:
        """Keep the hash table: for scanners that look pages up."""
        cdef uint32_t cells = 16
        while cells < self.frames.nr_frames + self.frames.nr_frames // 2:
            cells *= 2
        self.mask = cells - 1
        self.cell = <Cell *>calloc(cells, sizeof(Cell))
        if self.cell == NULL:
            raise MemoryError("share index")
        memset(self.cell, 0xFF, cells * sizeof(Cell))
        return 0

    cdef int use_recent(self) except -1:
        """Remember which frames' content has just arrived: for scanners that look at those first."""
        self.recent = <hfn_t *>calloc(RECENT, sizeof(hfn_t))
        if self.recent == NULL:
            raise MemoryError("share index")
        return 0

    def metadata_bytes(self):
        """What the table, the queue and the times take; charged to the host."""
        return ((<uint64_t>self.mask + 1) * sizeof(Cell) * (self.cell != NULL)
                + RECENT * sizeof(hfn_t) * (self.recent != NULL) + self.frames.nr_frames * sizeof(int64_t))

    # ---- finding

    cdef uint32_t salt_of(self, hfn_t frame) noexcept nogil:
        cdef uint32_t charge = self.frames.frame[frame].charge
        return NONE if charge == NONE16 else self.salt_of_vm(<vmid_t>charge)

    cdef uint64_t key_of(self, hfn_t frame) noexcept nogil:
        """Hash of the page and its salt."""
        return (self.content.hash(frame) ^ self.salt_of(frame) * <uint64_t>0x9E3779B97F4A7C15ULL) & self.hash_mask

    cdef bint mergeable(self, hfn_t frame) noexcept nogil:
        cdef Frame *record = &self.frames.frame[frame]
        return record.state == FRAME_GUEST and not record.flags & (FRAME_PINNED | FRAME_ISOLATED)

    cdef bint is_zero(self, hfn_t frame) noexcept nogil:
        cdef uint64_t value
        self.clock.spend(CPU_SCAN, self.clock.costs.same_filled)
        return self.content.same_filled(frame, &value) and value == 0

    cdef uint64_t ahead(self, hfn_t frame) noexcept nogil:
        """The key of a frame that find_or_add will be asked for soon."""
        cdef uint64_t hash = self.key_of(frame)
        self.clock.spend(CPU_SCAN, self.clock.costs.hash_page)
        prefetch_read(&self.cell[<uint32_t>hash & self.mask])
        return hash

    cdef void foresee(self, hfn_t frame) noexcept nogil:
        prefetch_read(&self.cell[<uint32_t>self.key_of(frame) & self.mask])

    cdef hfn_t find_or_add(self, hfn_t frame, uint64_t hash) except? 0xFFFFFFFE nogil:
        """A frame with the same bytes and salt, or NONE; then this one has been added."""
        cdef uint32_t tag = <uint32_t>(hash >> 32), i = <uint32_t>hash & self.mask, reuse = NONE
        cdef hfn_t other
        while self.cell[i].frame != NONE:
            other = self.cell[i].frame
            if other == frame and self.cell[i].tag == tag:
                return NONE
            if self.cell[i].tag == tag and other != frame and self.mergeable(other) and self._room(frame, other):
                if self.rehash_hints and not self.frames.frame[other].flags & FRAME_STABLE:
                    self.clock.spend(CPU_SCAN, self.clock.costs.hash_page)
                    if self.key_of(other) != hash:
                        self.stale_hints += 1
                        reuse = i
                        i = (i + 1) & self.mask
                        continue
                self.clock.spend(CPU_SCAN, self.clock.costs.compare_page)
                if self.content.compare(frame, other) == 0 and self.salt_of(frame) == self.salt_of(other):
                    return other
                self.false_matches += 1
            i = (i + 1) & self.mask
        if reuse != NONE:
            self.cell[reuse].frame = frame
        else:
            if self.nr_cells_used > self.mask - self.mask // 8:
                self.rebuild()
            self._insert(frame, hash)
        return NONE

    cdef bint _room(self, hfn_t frame, hfn_t other) noexcept nogil:
        """True if one frame may have the entries of both. (A frame that clones share by a leaf has one for all of them.)"""
        return self.frames.frame[frame].refs + self.frames.frame[other].refs <= self.max_page_sharing

    cdef void _insert(self, hfn_t frame, uint64_t hash) noexcept nogil:
        cdef uint32_t i = <uint32_t>hash & self.mask
        while self.cell[i].frame != NONE:
            i = (i + 1) & self.mask
        self.cell[i].frame = frame
        self.cell[i].tag = <uint32_t>(hash >> 32)
        self.nr_cells_used += 1

    cdef void rebuild(self) noexcept nogil:
        """Only stable frames stay in the table."""
        cdef hfn_t frame
        memset(self.cell, 0xFF, (<size_t>self.mask + 1) * sizeof(Cell))
        self.nr_cells_used = 0
        for frame in range(self.frames.nr_frames):
            if self.frames.frame[frame].flags & FRAME_STABLE:
                self._insert(frame, self.key_of(frame))

    # ---- merging

    cdef bint try_share(self, hfn_t frame) except? True nogil:
        """Merge this frame away if there is another with its content; else remember it. Needs the table."""
        cdef hfn_t other
        if not self.mergeable(frame) or self.frames.frame[frame].flags & FRAME_STABLE:
            return False
        if self.zero_frame != NONE and self.is_zero(frame):
            return self.merge_zero(frame)
        other = self.find_or_add(frame, self.ahead(frame))
        return other != NONE and self.merge(frame, other)

    cdef bint try_last_chance(self, hfn_t frame) except? True nogil:
        """Reclaim is about to write this page out: share it instead. May use the reserve, as it saves a frame."""
        cdef bint merged
        self.keep_free = 0
        merged = self.try_share(frame)
        self.keep_free = self.frames.min_pages
        self.last_chance_merges += merged
        return merged

    cdef int arrived(self, hfn_t frame) except -1 nogil:
        """The frame has been given a whole page: from a device, a corpus, a store."""
        self.since_ns[frame] = self.clock.now
        if self.share_on_arrival:
            self.arrival_merges += self.try_share(frame)
        elif self.recent != NULL:
            if self.nr_recent == RECENT:            # the oldest gives way: it would be the stalest hint
                self.recent_first = (self.recent_first + 1) % RECENT
                self.nr_recent -= 1
            self.recent[(self.recent_first + self.nr_recent) % RECENT] = frame
            self.nr_recent += 1
        return 0

    cdef hfn_t next_recent(self) noexcept nogil:
        """The frame that has waited longest since its content arrived, or NONE. It may hold another page by now."""
        cdef hfn_t frame
        if self.nr_recent == 0:
            return NONE
        frame = self.recent[self.recent_first]
        self.recent_first = (self.recent_first + 1) % RECENT
        self.nr_recent -= 1
        return frame

    cdef uint32_t _splits(self, hfn_t frame) noexcept nogil:
        """Tables needed to have only small leaves over this frame. A frame under a huge leaf has one site."""
        cdef Walk walk
        self.mapping.rmap.walk(frame, &walk)
        return walk.leaf.entries == NULL

    cdef int _split(self, hfn_t frame) except -1 nogil:
        cdef Walk walk
        self.mapping.rmap.walk(frame, &walk)
        if walk.leaf.entries == NULL:
            self.mapping.tables.split(walk.id)
        return 0

    cdef bint room_for(self, uint32_t frames) noexcept nogil:
        """True if a merge may take `frames` frames; else it is put off, and counted."""
        if frames == 0 or self.frames.can_take(frames, self.keep_free):
            return True
        self.no_frame += 1
        return False

    cdef bint merge(self, hfn_t duplicate, hfn_t kept) except? True nogil:
        """Merge two frames that compared equal; False when frames for the merge itself are missing."""
        cdef Frame *record = &self.frames.frame[kept]
        if not self.room_for(self._splits(duplicate) + self._splits(kept)):
            return False
        self._split(duplicate)
        self._split(kept)
        if not record.flags & FRAME_STABLE:         # else it has been protected, however many pages it is by now
            self.mapping.recency.keep(kept)         # others are about to rely on it
            self.mapping.write_protect(kept)
            record.flags |= FRAME_STABLE
            self.since_ns[kept] = self.clock.now
        self._saved(duplicate)
        self.mapping.merge(duplicate, kept)
        self.clock.spend(CPU_SCAN, self.clock.costs.merge)
        return True

    cdef bint merge_zero(self, hfn_t frame) except? True nogil:
        """Let all entries of a frame of zeros name the zero frame."""
        if not self.room_for(self._splits(frame)):
            return False
        self._split(frame)
        self._saved(frame)
        self.mapping.merge(frame, self.zero_frame)
        self.clock.spend(CPU_SCAN, self.clock.costs.merge)
        return True

    cdef void _saved(self, hfn_t frame) noexcept nogil:
        """This frame is merged away: note the time it took to find out. (Actors' clocks may be a quantum apart.)"""
        hist_add(self.time_to_merge, max(<int64_t>0, self.clock.now - self.since_ns[frame]))

    cdef void unshared(self, hfn_t frame) noexcept nogil:
        self.breaks += 1
        hist_add(self.lifetime, max(<int64_t>0, self.clock.now - self.since_ns[frame]))
        if self.follower is not None:
            self.follower.unshared(frame)

    cdef void moved(self, hfn_t source, hfn_t target) noexcept nogil:
        """A merged frame stays findable under its new number. Other cells go stale, as when a page is rewritten."""
        self.since_ns[target] = self.since_ns[source]
        if self.cell != NULL and self.frames.frame[target].flags & FRAME_STABLE:
            if self.nr_cells_used > self.mask - self.mask // 8:
                self.rebuild()
            else:
                self._insert(target, self.key_of(target))
        if self.follower is not None:
            self.follower.moved(source, target)

    # ---- what there is to see

    def zero_pages(self):
        """Pages that the zero frame serves. Of those under a leaf that clones share, each VM's counts: Linux counts them
        by process, and a fork has its parent's."""
        cdef Leaves leaves = self.mapping.leaves
        cdef Leaf *leaf
        cdef uint32_t id, i
        cdef uint64_t found
        if self.zero_frame == NONE:
            return 0
        found = self.frames.frame[self.zero_frame].refs
        for id in range(leaves.records.end()):
            leaf = leaves.at(id)
            if not leaf.used or leaf.nr_holders < 2 or leaf.entries == NULL:
                continue
            for i in range(LEAF_ENTRIES):
                if leaf.entries[i] & PTE_PRESENT and leaf.entries[i] & PTE_WHERE == self.zero_frame:
                    found += leaf.nr_holders - 1
        return found

    def histograms(self):
        """Complete histograms, simulated ns: how long duplicates lived, how long frames stayed merged."""
        return {"time_to_merge_ns": histogram_dict(self.time_to_merge), "share_lifetime_ns": histogram_dict(self.lifetime)}

    def check(self):
        """Recount the table; InvariantError on a difference."""
        cdef uint32_t i, used = 0
        if self.cell != NULL:
            for i in range(self.mask + 1):
                used += self.cell[i].frame != NONE
            if used != self.nr_cells_used:
                raise InvariantError(f"share index: {self.nr_cells_used} cells used, recount {used}")
        if self.zero_frame != NONE and not self.is_zero_frame_clean():
            raise InvariantError(f"zero frame {self.zero_frame} does not hold zeros")

    def is_zero_frame_clean(self):
        cdef uint64_t value = 1
        return bool(self.content.same_filled(self.zero_frame, &value)) and value == 0
