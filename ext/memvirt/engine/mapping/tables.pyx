"""Leaf tables as a whole: made, split, collapsed, shared, copied, and harvested for accessed marks.

A leaf that several VMs hold makes everything under it read-only. The first of them to write leaves it for a copy of its
own (`copy_leaf`): every content that both leaves then name has one reference more and is writable in neither.

`frames_to_*` says how many frames an operation takes, so that the caller can secure them; the operation itself then
cannot run out.
"""

from ..counters cimport Meter
from ..memory.frames cimport (FRAME_INDEXED, FRAME_LAZY, FRAME_ORDERED, FRAME_STABLE, FRAME_TABLE, FRAME_ZERO, Frame,
                              Frames)
from ..prefetch cimport prefetch_write
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, NONE, gfn_t, hfn_t, leaf_t, site_t, uint32_t, vmid_t
from .ages cimport Ages
from .backing cimport Backings
from .leaf cimport PTE_ACCESSED, PTE_PRESENT, PTE_WHERE, PTE_WRITABLE, Leaf, Leaves, Look, Slot
from .recency cimport Recency
from .rmap cimport ReverseMap, Walk
from .tcache cimport TC_NOTHING, Tcache

cdef enum:
    AHEAD = 16                  # entries between asking for a frame record, which may lie anywhere, and using it


cdef void copy_entries(Frame *frames, Backings backings, ReverseMap rmap, uint32_t *old, uint32_t *new,
                       site_t site) noexcept nogil:
    """What both leaves name, from now on twice and writable in neither; site: of the new leaf's first entry. The new
    site becomes the first of its frame's chain, as ReverseMap.add would have it."""
    cdef Frame *record
    cdef uint32_t *link = new + LEAF_ENTRIES
    cdef uint32_t i, entry
    for i in range(LEAF_ENTRIES):
        if i + AHEAD < LEAF_ENTRIES:        # of an entry that is not present, some other record: no harm
            prefetch_write(&frames[old[i + AHEAD] & PTE_WHERE])
        entry = old[i]
        if not entry & PTE_PRESENT:
            if entry:
                backings.at(entry & PTE_WHERE).refs += 1
            new[i] = entry
            continue
        old[i] = entry & ~<uint32_t>PTE_WRITABLE
        new[i] = entry & ~<uint32_t>(PTE_WRITABLE | PTE_ACCESSED)
        record = &frames[entry & PTE_WHERE]
        record.refs += 1
        if not record.flags & FRAME_ZERO:
            link[i] = record.where
            if record.flags & FRAME_INDEXED:
                rmap.precede(entry & PTE_WHERE, site + i)
            record.where = site + i


cdef class Tables:
    """Leaf tables of one host, with what hangs on their entries."""

    def __cinit__(self, Frames frames not None, Leaves leaves not None, Backings backings not None, Tcache tcache not None,
                  ReverseMap rmap not None, Recency recency not None, Ages ages not None, Meter meter not None):
        self.frames = frames
        self.leaves = leaves
        self.backings = backings
        self.tcache = tcache
        self.rmap = rmap
        self.recency = recency
        self.ages = ages
        self.meter = meter

    cdef uint32_t frames_to_reach(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """Frames that having a small leaf above gfn takes right now."""
        cdef Look at
        if self.leaves.look(vm, gfn, &at):
            return at.leaf.entries == NULL
        return (1 + self.leaves.records.frames_needed(1)
                + (self.leaves.pages.frames_needed(1) if at.slot == NONE else 0))

    cdef leaf_t reach(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFF nogil:
        """The small leaf above gfn: made, or split from a huge one."""
        cdef Look at
        cdef hfn_t frame
        cdef void *page
        if self.leaves.look(vm, gfn, &at):
            if at.leaf.entries == NULL:
                self.split(at.id)
            return at.id
        if at.slot == NONE:
            self.leaves.pages.make_room(1)
            at.slot = self.leaves.ensure_slot(vm, gfn)
        self.leaves.records.make_room(1)
        page = self.frames.claim_page(FRAME_TABLE, &frame)
        at.id = self.leaves.make_small(gfn >> LEAF_SHIFT, frame, page)
        self.leaves.hold(at.id, at.slot)
        return at.id

    cdef int split(self, leaf_t id) except -1 nogil:
        """Huge -> small in place, for all holders. Takes one frame for the table. Cached translations stay true."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef hfn_t frame
        cdef uint32_t i
        cdef uint32_t *entries
        assert leaf.entries == NULL
        entries = <uint32_t *>self.frames.claim_page(FRAME_TABLE, &frame)
        for i in range(LEAF_ENTRIES):
            entries[i] = leaf.huge + i
        leaf.entries = entries
        leaf.frame = frame
        leaf.huge = 0
        self.frames.frame[frame].where = id
        self.leaves.nr_huge -= 1
        self.leaves.nr_small += 1
        self.meter.ev.leaf_splits += 1
        return 0

    cdef bint collapsible(self, leaf_t id) noexcept nogil:
        """True if the 512 entries name one aligned block of frames that no other entry names, all private and in memory."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t i, base
        cdef Frame *record
        if leaf.entries == NULL or leaf.live != LEAF_ENTRIES or not leaf.entries[0] & PTE_PRESENT:
            return False
        base = leaf.entries[0] & PTE_WHERE
        if base % LEAF_ENTRIES:
            return False
        for i in range(LEAF_ENTRIES):
            if not leaf.entries[i] & PTE_PRESENT or (leaf.entries[i] & PTE_WHERE) != base + i:
                return False
            record = &self.frames.frame[base + i]
            if record.refs != 1 or record.flags & (FRAME_STABLE | FRAME_ZERO | FRAME_LAZY) or record.backing != NONE:
                return False
        return True

    cdef int collapse(self, leaf_t id) except -1 nogil:
        """Small -> huge in place; `collapsible` holds. The table frame is given back."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t entry = leaf.entries[0] & PTE_WHERE, i, accessed = 0
        for i in range(LEAF_ENTRIES):
            accessed |= leaf.entries[i] & PTE_ACCESSED
        self.frames.give_page(leaf.frame, leaf.entries)
        leaf.entries = NULL
        leaf.frame = NONE
        leaf.huge = entry | PTE_PRESENT | PTE_WRITABLE | accessed
        if leaf.nr_holders == 1 and not accessed:
            self.tcache.drop_leaf(leaf)
        self.leaves.nr_small -= 1
        self.leaves.nr_huge += 1
        self.meter.ev.leaf_collapses += 1
        return 0

    cdef uint32_t frames_to_copy_leaf(self, leaf_t id) noexcept nogil:
        """Frames that copying this shared leaf takes: table, record (and a split)."""
        return 1 + (self.leaves.at(id).entries == NULL) + self.leaves.records.frames_needed(1)

    cdef int copy_leaf(self, uint32_t slot_id) except -1 nogil:
        """The slot's VM leaves a shared leaf for a copy of its own, the state after which its pages can be written.

        Every content the two leaves now both name has one reference more, and neither entry may be writable.
        """
        cdef Slot *slot = self.leaves.slot(slot_id)
        cdef leaf_t old_id = slot.leaf, new_id
        cdef Leaf *old = self.leaves.at(old_id)
        cdef Leaf *new
        cdef hfn_t table
        cdef uint32_t *page
        if old.entries == NULL:
            self.split(old_id)
        self.leaves.records.make_room(1)
        page = <uint32_t *>self.frames.claim_raw_page(FRAME_TABLE, &table)
        new_id = self.leaves.make_small(old.region, table, page)
        old = self.leaves.at(old_id)
        new = self.leaves.at(new_id)
        copy_entries(self.frames.frame, self.backings, self.rmap, old.entries, page, new_id * LEAF_ENTRIES)
        new.live = old.live
        self.leaves.let_go(slot_id)
        self.leaves.hold(new_id, slot_id)
        # The accessed marks stay with the old leaf, so what this VM has cached must be found again.
        self.tcache.drop_region(<vmid_t>slot.vm, new.region)
        self.meter.ev.leaf_copies += 1
        return 0

    cdef void translate(self, vmid_t vm, uint32_t vpn, leaf_t id, uint32_t index, bint writable) noexcept nogil:
        """Cache vpn -> the frame of a present entry, and set its accessed mark."""
        cdef Leaf *leaf = self.leaves.at(id)
        if leaf.entries != NULL:
            leaf.entries[index] |= PTE_ACCESSED
        else:
            leaf.huge |= PTE_ACCESSED
        self.tcache.put(vm, vpn, self.leaves.entry(leaf, index) & PTE_WHERE, writable)

    cdef bint test_and_clear_accessed(self, hfn_t frame) except -1 nogil:
        """True if the frame was referenced since this was last asked. A huge leaf has one mark for its 512 frames: this
        tells the order of the others."""
        cdef Walk walk
        cdef uint32_t i, base
        cdef bint accessed = False
        self.rmap.walk(frame, &walk)
        while True:
            if walk.leaf.entries != NULL:
                if walk.leaf.entries[walk.index] & PTE_ACCESSED:
                    accessed = True
                    walk.leaf.entries[walk.index] &= ~<uint32_t>PTE_ACCESSED
                    self.ages.touch(frame)
                    self.tcache.limit_leaf(walk.leaf, walk.index, TC_NOTHING)
            elif walk.leaf.huge & PTE_ACCESSED:
                accessed = True
                walk.leaf.huge &= ~<uint32_t>PTE_ACCESSED
                self.tcache.drop_leaf(walk.leaf)
                base = walk.leaf.huge & PTE_WHERE
                for i in range(LEAF_ENTRIES):
                    self.ages.touch(base + i)
                    if i != walk.index and self.frames.frame[base + i].flags & FRAME_ORDERED:
                        self.recency.touch(base + i)
            if not self.rmap.next(&walk):
                return accessed

    cdef uint32_t harvest_leaf(self, leaf_t id) except? 0xFFFFFFFF nogil:
        """Tell the order of every accessed mark under this leaf, and clear them. Returns how many there were."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t i, found = 0
        cdef hfn_t frame
        if leaf.entries == NULL:
            if not leaf.huge & PTE_ACCESSED:
                return 0
            leaf.huge &= ~<uint32_t>PTE_ACCESSED
            self.tcache.drop_leaf(leaf)
            for i in range(LEAF_ENTRIES):
                frame = (leaf.huge & PTE_WHERE) + i
                self.ages.touch(frame)
                if self.frames.frame[frame].flags & FRAME_ORDERED:
                    self.recency.touch(frame)
            return LEAF_ENTRIES
        for i in range(LEAF_ENTRIES):
            if (leaf.entries[i] & (PTE_PRESENT | PTE_ACCESSED)) == (PTE_PRESENT | PTE_ACCESSED):
                leaf.entries[i] &= ~<uint32_t>PTE_ACCESSED
                self.tcache.limit_leaf(leaf, i, TC_NOTHING)
                frame = leaf.entries[i] & PTE_WHERE
                self.ages.touch(frame)
                if self.frames.frame[frame].flags & FRAME_ORDERED:
                    self.recency.touch(frame)
                found += 1
        return found
