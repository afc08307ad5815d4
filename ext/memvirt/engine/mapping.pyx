"""The sole writer of entries, references, reverse map, cached translations and recency.

Everything that changes who maps what goes through here, because five things must change together:

  the entry                in a leaf table        what the guest's page is: nothing, a frame, or a backing
  references               frame.refs / backing.refs: entries that name it (an entry in a shared leaf counts once)
  the reverse map          frame -> its sites; one site stands in the frame record, more of them in a chain of nodes
  cached translations      may allow no more than entry, leaf and frame allow together
  recency                  a guest frame that may be reclaimed is in the replacement order, exactly once

Write permission. An entry is writable only if its frame has one reference, is not merged (stable), and equals no backing
record (it is dirty: `own` detached it). A leaf with several holders makes everything under it read-only. So a clone is
made by adding holders, and no entry is touched.

Whoever calls has *secured* beforehand: for every operation that needs frames (a table, reverse-map nodes, records) there
is a `frames_to_*` that says how many; the operation itself then cannot run out. What can fail (reading bytes back) is
done before this module is asked to commit.

Charge: a frame is paid for by the VM that mapped it first; when that VM leaves, by the lowest-numbered VM that still
maps it.

Invariants: see check() in audit.pyx, which recounts all of this from the entries.
"""

from libc.string cimport memcpy, memset

from memvirt.errors import InvariantError

from .backing cimport (BACKING_CACHED, BACKING_NEW, BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL, Backing, BackingKind,
                       Backings)
from .clock cimport Clock
from .content cimport Content
from .frames cimport (FRAME_CHAIN, FRAME_GUEST, FRAME_ORDERED, FRAME_PINNED, FRAME_RMAP, FRAME_STABLE, FRAME_TABLE,
                      FRAME_ZERO, Frame, Frames, Slab)
from .leaf cimport (DIRECTORY_SHIFT, PTE_ACCESSED, PTE_BACKED, PTE_PRESENT, PTE_WHERE, PTE_WRITABLE, SLOTS_PER_PAGE,
                    Leaf, Leaves, Slot)
from .replacement.order cimport Order
from .swapspace cimport SwapSpace
from .tcache cimport Tcache
from .types cimport (LEAF_ENTRIES, LEAF_SHIFT, MAX_VMS, NONE, NONE16, OK, PAGE_SIZE, backing_t, gfn_t, hfn_t, leaf_t,
                     site_t, uint32_t, uint64_t, vmid_t)
from .zpool cimport Zpool


cdef class Listener:
    """Told when a merged frame stops being one."""

    cdef void unshared(self, hfn_t frame) noexcept nogil:
        pass


cdef class Mapping:
    """Who maps what, on one host."""

    def __cinit__(self, Frames frames not None, Order order not None, Clock clock not None, Zpool zpool=None,
                  SwapSpace swap=None):
        self.frames = frames
        self.content = frames.content
        self.order = order
        self.clock = clock
        self.meter = clock.meter
        self.leaves = Leaves(frames)
        self.backings = Backings(frames)
        self.tcache = Tcache()
        self.nodes = Slab(frames, sizeof(Node), FRAME_RMAP)
        self.zpool = zpool
        self.swap = swap
        self.has_zpool = zpool is not None
        self.has_swap = swap is not None
        memset(self.account, 0, sizeof(self.account))

    # ---- reverse map

    cdef void walk(self, hfn_t frame, Walk *walk) noexcept nogil:
        """Start at the first site of a mapped frame."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & FRAME_CHAIN:
            walk.node = record.where
            walk.site = self.node(walk.node).site
        else:
            walk.node = NONE
            walk.site = record.where

    cdef bint next(self, Walk *walk) noexcept nogil:
        if walk.node == NONE:
            return False
        walk.node = self.node(walk.node).next
        if walk.node == NONE:
            return False
        walk.site = self.node(walk.node).site
        return True

    cdef uint32_t nodes_to_add(self, hfn_t frame) noexcept nogil:
        """Nodes that one more site of this frame takes."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & FRAME_ZERO or record.refs == 0:
            return 0
        return 1 if record.flags & FRAME_CHAIN else 2

    cdef void _add_site(self, hfn_t frame, site_t site) noexcept nogil:
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint32_t id
        if not record.flags & FRAME_ZERO:
            if record.refs == 0:
                record.where = site
            else:
                if not record.flags & FRAME_CHAIN:
                    id = self.nodes.take()
                    self.node(id).site = record.where
                    self.node(id).next = NONE
                    record.where = id
                    record.flags |= FRAME_CHAIN
                id = self.nodes.take()
                self.node(id).site = site
                self.node(id).next = record.where
                record.where = id
        record.refs += 1

    cdef void _remove_site(self, hfn_t frame, site_t site) noexcept nogil:
        """The frame loses this site; refs may become 0, then the caller frees it."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint32_t id, before = NONE
        record.refs -= 1
        if record.flags & FRAME_ZERO or not record.flags & FRAME_CHAIN:
            return
        id = record.where
        while self.node(id).site != site:
            before = id
            id = self.node(id).next
        if before == NONE:
            record.where = self.node(id).next
        else:
            self.node(before).next = self.node(id).next
        self.nodes.give(id)
        if record.refs == 1:
            id = record.where
            record.where = self.node(id).site
            record.flags &= ~FRAME_CHAIN
            self.nodes.give(id)

    # ---- who pays

    cdef void _charge(self, hfn_t frame, vmid_t vm) noexcept nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if record.charge != NONE16:
            self.account[record.charge].charged -= 1
        record.charge = vm
        if vm != NONE16:
            self.account[vm].charged += 1

    cdef void _recharge(self, hfn_t frame) noexcept nogil:
        """The VM that paid maps the frame no more: the lowest one that does takes over."""
        cdef Walk walk
        cdef Slot *slot
        cdef uint32_t slot_id, lowest = NONE
        self.walk(frame, &walk)
        while True:
            slot_id = self.leaves.at(walk.site / LEAF_ENTRIES).holders
            while slot_id != NONE:
                slot = self.leaves.slot(slot_id)
                if slot.vm < lowest:
                    lowest = slot.vm
                slot_id = slot.next
            if not self.next(&walk):
                break
        self._charge(frame, NONE16 if lowest == NONE else <vmid_t>lowest)

    cdef bint _maps(self, hfn_t frame, vmid_t vm) noexcept nogil:
        """Does this VM still map the frame?"""
        cdef Walk walk
        cdef uint32_t slot_id
        self.walk(frame, &walk)
        while True:
            slot_id = self.leaves.at(walk.site / LEAF_ENTRIES).holders
            while slot_id != NONE:
                if self.leaves.slot(slot_id).vm == vm:
                    return True
                slot_id = self.leaves.slot(slot_id).next
            if not self.next(&walk):
                return False

    # ---- cached translations of all holders

    cdef void _drop_cached(self, Leaf *leaf, gfn_t gfn) noexcept nogil:
        cdef uint32_t slot_id = leaf.holders
        while slot_id != NONE:
            self.tcache.drop(<vmid_t>self.leaves.slot(slot_id).vm, gfn)
            slot_id = self.leaves.slot(slot_id).next

    cdef void _protect_cached(self, Leaf *leaf, gfn_t gfn) noexcept nogil:
        cdef uint32_t slot_id = leaf.holders
        while slot_id != NONE:
            self.tcache.protect(<vmid_t>self.leaves.slot(slot_id).vm, gfn)
            slot_id = self.leaves.slot(slot_id).next

    cdef void _drop_leaf_cached(self, Leaf *leaf) noexcept nogil:
        cdef uint32_t slot_id = leaf.holders
        while slot_id != NONE:
            self.tcache.drop_region(<vmid_t>self.leaves.slot(slot_id).vm, leaf.region)
            slot_id = self.leaves.slot(slot_id).next

    # ---- recency

    cdef int _order_in(self, hfn_t frame, uint32_t key) except -1 nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & (FRAME_ORDERED | FRAME_PINNED | FRAME_ZERO):
            return 0
        record.flags |= FRAME_ORDERED
        return self.order.insert(frame, key)

    cdef int _order_out(self, hfn_t frame) except -1 nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if not record.flags & FRAME_ORDERED:
            return 0
        record.flags &= ~FRAME_ORDERED
        return self.order.forget(frame)

    # ---- backing records and the stores behind them

    cdef int release_backing(self, backing_t id) except -1 nogil:
        """Destroy a record that no entry names and no frame caches; its store's space is free again."""
        cdef Backing *record = self.backings.at(id)
        cdef BackingKind kind = self.backings.kind(record)
        assert record.refs == 0
        if kind == BACKING_ZPOOL:
            self.zpool.free(self.backings.where(record))
        elif kind == BACKING_SWAP:
            self.swap.give(self.backings.where(record))
        self.order.forget_key(id)
        self.backings.destroy(id)
        return 0

    cdef int _detach(self, hfn_t frame) except -1 nogil:
        """The frame is about to differ from its backing record, or to vanish: the record stands alone or dies."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef backing_t id = record.backing
        cdef Backing *backing
        cdef uint64_t value
        if id == NONE:
            return 0
        record.backing = NONE
        backing = self.backings.at(id)
        if backing.refs == 0:
            self.backings.uncache(id)
            return self.release_backing(id)
        if self.backings.kind(backing) == BACKING_SAME:
            value = self.content.load(frame, 0)
            self.backings.uncache(id)
            self.backings.set_same(id, value)
        else:
            self.backings.uncache(id)
        return 0

    cdef int _free_frame(self, hfn_t frame) except -1 nogil:
        """No entry names this guest frame any more."""
        cdef Frame *record = &self.frames.frame[frame]
        assert record.refs == 0
        if record.flags & FRAME_ZERO:
            return 0
        self._order_out(frame)
        self._detach(frame)
        if record.flags & FRAME_STABLE:
            record.flags &= ~FRAME_STABLE
            if self.has_listener:
                self.listener.unshared(frame)
        self._charge(frame, NONE16)
        return self.frames.give(frame, 0)

    # ---- leaves

    cdef uint32_t frames_to_reach(self, vmid_t vm, gfn_t gfn) noexcept nogil:
        """Frames that having a small leaf above gfn takes right now."""
        cdef uint32_t slot_id = self.leaves.slot_of(vm, gfn)
        cdef uint32_t frames = 0
        cdef leaf_t leaf
        if slot_id == NONE:
            return self.leaves.pages.frames_needed(1) + 1 + self.leaves.records.frames_needed(1)
        leaf = self.leaves.slot(slot_id).leaf
        if leaf == NONE:
            return 1 + self.leaves.records.frames_needed(1)
        return 0 if self.leaves.at(leaf).entries != NULL else 1

    cdef uint32_t reach(self, vmid_t vm, gfn_t gfn) except? 0xFFFFFFFF nogil:
        """The slot above gfn, with a small leaf in it (made, or split from a huge one)."""
        cdef uint32_t slot_id = self.leaves.slot_of(vm, gfn)
        cdef hfn_t frame
        cdef void *page
        cdef leaf_t leaf
        if slot_id == NONE:
            self.leaves.pages.reserve(1, 0)
            slot_id = self.leaves.ensure_slot(vm, gfn)
        leaf = self.leaves.slot(slot_id).leaf
        if leaf == NONE:
            self.leaves.records.reserve(1, 0)
            page = self.frames.take_page(FRAME_TABLE, 0, &frame)
            assert page != NULL
            leaf = self.leaves.make_small(gfn >> LEAF_SHIFT, frame, page)
            self.leaves.hold(leaf, slot_id)
        elif self.leaves.at(leaf).entries == NULL:
            self.split(leaf)
        return slot_id

    cdef int split(self, leaf_t id) except -1 nogil:
        """Huge -> small in place, for all holders. Takes one frame for the table. Cached translations stay true."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef hfn_t frame
        cdef uint32_t i
        cdef uint32_t *entries
        assert leaf.entries == NULL
        entries = <uint32_t *>self.frames.take_page(FRAME_TABLE, 0, &frame)
        assert entries != NULL
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
        """Do the 512 entries name one aligned block of frames that nobody else names, all private and in memory?"""
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
            if record.refs != 1 or record.flags & (FRAME_STABLE | FRAME_ZERO) or record.backing != NONE:
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
            self._drop_leaf_cached(leaf)
        self.leaves.nr_small -= 1
        self.leaves.nr_huge += 1
        self.meter.ev.leaf_collapses += 1
        return 0

    cdef uint32_t frames_to_copy_leaf(self, leaf_t id) noexcept nogil:
        """Upper bound of the frames that copying this shared leaf takes: table, record, nodes (and a split)."""
        cdef Leaf *leaf = self.leaves.at(id)
        return (1 + (leaf.entries == NULL) + self.leaves.records.frames_needed(1)
                + self.nodes.frames_needed(2 * leaf.live))

    cdef int copy_leaf(self, uint32_t slot_id) except -1 nogil:
        """The slot's VM leaves a shared leaf for a copy of its own, the state after which its pages can be written.

        Every content the two leaves now both name has one reference more, and neither entry may be writable.
        """
        cdef Slot *slot = self.leaves.slot(slot_id)
        cdef leaf_t old_id = slot.leaf, new_id
        cdef Leaf *old = self.leaves.at(old_id)
        cdef Leaf *new
        cdef hfn_t table, frame
        cdef uint32_t *page
        cdef uint32_t i, entry
        if old.entries == NULL:
            self.split(old_id)
        self.leaves.records.reserve(1, 0)
        self.nodes.reserve(2 * <uint32_t>old.live, 0)
        page = <uint32_t *>self.frames.take_page(FRAME_TABLE, 0, &table)
        assert page != NULL
        new_id = self.leaves.make_small(old.region, table, page)
        old = self.leaves.at(old_id)
        new = self.leaves.at(new_id)
        for i in range(LEAF_ENTRIES):
            entry = old.entries[i]
            if entry == 0:
                continue
            if entry & PTE_PRESENT:
                entry &= ~<uint32_t>PTE_WRITABLE
                old.entries[i] = entry
                frame = entry & PTE_WHERE
                self._add_site(frame, new_id * LEAF_ENTRIES + i)
            else:
                self.backings.at(entry & PTE_WHERE).refs += 1
            page[i] = entry & ~<uint32_t>PTE_ACCESSED if entry & PTE_PRESENT else entry
        new.live = old.live
        self.leaves.let_go(slot_id)
        self.leaves.hold(new_id, slot_id)
        # The accessed marks stay with the old leaf, so what this VM has cached must be found again.
        self.tcache.drop_region(<vmid_t>slot.vm, new.region)
        self.meter.ev.leaf_copies += 1
        return 0

    # ---- entries

    cdef int map_new(self, vmid_t vm, uint32_t slot_id, gfn_t gfn, hfn_t frame, uint32_t key) except -1 nogil:
        """Map a freshly taken guest frame where nothing was; the entry is writable (nobody else names the frame)."""
        cdef leaf_t id = self.leaves.slot(slot_id).leaf
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t index = gfn % LEAF_ENTRIES
        assert leaf.entries[index] == 0
        self.frames.frame[frame].refs = 0
        self._add_site(frame, id * LEAF_ENTRIES + index)
        self._charge(frame, vm)
        leaf.entries[index] = PTE_PRESENT | PTE_WRITABLE | frame
        leaf.live += 1
        return self._order_in(frame, key)

    cdef int map_huge(self, vmid_t vm, uint32_t slot_id, uint32_t region, hfn_t base) except -1 nogil:
        """Map an aligned block of 512 freshly taken guest frames where no leaf was."""
        cdef leaf_t id
        cdef uint32_t i
        cdef Frame *record
        id = self.leaves.make_huge(region, PTE_PRESENT | PTE_WRITABLE | base)
        self.leaves.hold(id, slot_id)
        for i in range(LEAF_ENTRIES):
            record = &self.frames.frame[base + i]
            record.refs = 1
            record.where = id * LEAF_ENTRIES + i
            record.charge = vm
            self._order_in(base + i, NONE)
        self.account[vm].charged += LEAF_ENTRIES
        return 0

    cdef int map_cached(self, leaf_t id, uint32_t index, backing_t backing_id) except -1 nogil:
        """The entry names a backing that a frame caches: let it name the frame. Read-only, as others may follow."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef Backing *backing = self.backings.at(backing_id)
        cdef hfn_t frame = backing.link
        assert backing.place & BACKING_CACHED
        assert leaf.entries[index] == (PTE_BACKED | backing_id)
        self._add_site(frame, id * LEAF_ENTRIES + index)
        backing.refs -= 1
        leaf.entries[index] = PTE_PRESENT | frame
        return 0

    cdef int map_back(self, vmid_t vm, leaf_t id, uint32_t index, hfn_t frame, backing_t backing_id) except -1 nogil:
        """The entry names a backing whose bytes have just been put into a freshly taken guest frame: map that.

        The record stays as a clean copy, cached by the frame, if other entries name it or its bytes are on swap.
        Otherwise its space is worth more than the copy: it is released, and the page counts as dirty.
        """
        cdef Leaf *leaf = self.leaves.at(id)
        cdef Backing *backing = self.backings.at(backing_id)
        assert leaf.entries[index] == (PTE_BACKED | backing_id)
        self.frames.frame[frame].refs = 0
        self._add_site(frame, id * LEAF_ENTRIES + index)
        self._charge(frame, vm)
        leaf.entries[index] = PTE_PRESENT | frame
        backing.refs -= 1
        self._order_in(frame, backing_id)
        if backing.refs or self.backings.kind(backing) == BACKING_SWAP:
            self.backings.cache_in(backing_id, frame)
            self.frames.frame[frame].backing = backing_id
            return 0
        leaf.entries[index] |= PTE_WRITABLE
        return self.release_backing(backing_id)

    cdef bint sole(self, hfn_t frame) noexcept nogil:
        """May the one entry that names this frame write to it in place?"""
        cdef Frame *record = &self.frames.frame[frame]
        return record.refs == 1 and not record.flags & FRAME_ZERO

    cdef int own(self, leaf_t id, uint32_t index) except -1 nogil:
        """Make the entry of a sole frame writable: it is dirty from now on, and merged no more."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef hfn_t frame = leaf.entries[index] & PTE_WHERE
        cdef Frame *record = &self.frames.frame[frame]
        assert self.sole(frame)
        self._detach(frame)
        if record.flags & FRAME_STABLE:
            record.flags &= ~FRAME_STABLE
            if self.has_listener:
                self.listener.unshared(frame)
        leaf.entries[index] |= PTE_WRITABLE
        return 0

    cdef int break_cow(self, vmid_t vm, leaf_t id, uint32_t index, hfn_t copy) except -1 nogil:
        """The entry names `copy`, a freshly taken guest frame with the same bytes, instead of the shared frame."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef hfn_t shared = leaf.entries[index] & PTE_WHERE
        cdef Frame *record = &self.frames.frame[shared]
        cdef site_t site = id * LEAF_ENTRIES + index
        self._remove_site(shared, site)
        self.frames.frame[copy].refs = 0
        self._add_site(copy, site)
        self._charge(copy, vm)
        leaf.entries[index] = PTE_PRESENT | PTE_WRITABLE | copy
        self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + index)
        if record.flags & FRAME_STABLE or record.flags & FRAME_ZERO:
            self.meter.ev.cow_breaks_shared += 1
        if record.refs == 0:
            self._free_frame(shared)
        elif record.charge == vm and not record.flags & FRAME_ZERO and not self._maps(shared, vm):
            self._recharge(shared)
        return self._order_in(copy, NONE)

    cdef int unmap(self, leaf_t id, uint32_t index) except -1 nogil:
        """The entry names nothing any more; what it named lives on only if others name it."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t entry = leaf.entries[index]
        cdef hfn_t frame
        cdef backing_t backing
        cdef Frame *record
        if entry == 0:
            return 0
        leaf.entries[index] = 0
        leaf.live -= 1
        if entry & PTE_PRESENT:
            self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + index)
            frame = entry & PTE_WHERE
            record = &self.frames.frame[frame]
            self._remove_site(frame, id * LEAF_ENTRIES + index)
            if record.refs == 0:
                return self._free_frame(frame)
            if not record.flags & FRAME_ZERO and not self._maps(frame, record.charge):
                self._recharge(frame)
            return 0
        backing = entry & PTE_WHERE
        self.backings.at(backing).refs -= 1
        if self.backings.at(backing).refs == 0 and not self.backings.at(backing).place & BACKING_CACHED:
            return self.release_backing(backing)
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
        """Was the frame referenced since this was last asked? A huge leaf has one mark for its 512 frames: the others
        are told to the order here."""
        cdef Walk walk
        cdef Leaf *leaf
        cdef uint32_t index, i
        cdef bint accessed = False
        self.walk(frame, &walk)
        while True:
            leaf = self.leaves.at(walk.site / LEAF_ENTRIES)
            index = walk.site % LEAF_ENTRIES
            if leaf.entries != NULL:
                if leaf.entries[index] & PTE_ACCESSED:
                    accessed = True
                    leaf.entries[index] &= ~<uint32_t>PTE_ACCESSED
                    self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + index)
            elif leaf.huge & PTE_ACCESSED:
                accessed = True
                leaf.huge &= ~<uint32_t>PTE_ACCESSED
                self._drop_leaf_cached(leaf)
                for i in range(LEAF_ENTRIES):
                    if i != index and self.frames.frame[(leaf.huge & PTE_WHERE) + i].flags & FRAME_ORDERED:
                        self.order.touch((leaf.huge & PTE_WHERE) + i)
            if not self.next(&walk):
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
            self._drop_leaf_cached(leaf)
            for i in range(LEAF_ENTRIES):
                frame = (leaf.huge & PTE_WHERE) + i
                if self.frames.frame[frame].flags & FRAME_ORDERED:
                    self.order.touch(frame)
            return LEAF_ENTRIES
        for i in range(LEAF_ENTRIES):
            if (leaf.entries[i] & (PTE_PRESENT | PTE_ACCESSED)) == (PTE_PRESENT | PTE_ACCESSED):
                leaf.entries[i] &= ~<uint32_t>PTE_ACCESSED
                self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + i)
                frame = leaf.entries[i] & PTE_WHERE
                if self.frames.frame[frame].flags & FRAME_ORDERED:
                    self.order.touch(frame)
                found += 1
        return found

    cdef int evict(self, hfn_t frame, backing_t id) except -1 nogil:
        """All entries of the frame name the backing instead (its bytes are safe there); the frame is free.

        The frame's leaves are small. If the frame was a cached copy of `id`, that ends here.
        """
        cdef Frame *record = &self.frames.frame[frame]
        cdef Backing *backing = self.backings.at(id)
        cdef Leaf *leaf
        cdef uint32_t index, node
        cdef Walk walk
        cdef uint64_t value
        if record.backing == id:
            record.backing = NONE
            value = self.content.load(frame, 0)
            self.backings.uncache(id)
            if self.backings.kind(backing) == BACKING_SAME:
                self.backings.set_same(id, value)
        self.walk(frame, &walk)
        while True:
            leaf = self.leaves.at(walk.site / LEAF_ENTRIES)
            index = walk.site % LEAF_ENTRIES
            leaf.entries[index] = PTE_BACKED | id
            self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + index)
            backing.refs += 1
            node = walk.node
            if not self.next(&walk):
                if node != NONE:
                    self.nodes.give(node)
                break
            self.nodes.give(node)
        record.refs = 0
        record.flags &= ~FRAME_CHAIN
        if record.flags & FRAME_ORDERED:
            record.flags &= ~FRAME_ORDERED
            self.order.take(frame, id)
        return self._free_frame(frame)

    cdef void write_protect(self, hfn_t frame) noexcept nogil:
        """No entry of the frame is writable any more, no cached translation either. Its leaves are small."""
        cdef Walk walk
        cdef Leaf *leaf
        cdef uint32_t index
        self.walk(frame, &walk)
        while True:
            leaf = self.leaves.at(walk.site / LEAF_ENTRIES)
            index = walk.site % LEAF_ENTRIES
            if leaf.entries[index] & PTE_WRITABLE:
                leaf.entries[index] &= ~<uint32_t>PTE_WRITABLE
                self._protect_cached(leaf, leaf.region * LEAF_ENTRIES + index)
            if not self.next(&walk):
                break

    cdef uint32_t nodes_to_merge(self, hfn_t duplicate, hfn_t kept) noexcept nogil:
        if self.frames.frame[kept].flags & FRAME_ZERO:
            return 0
        return self.frames.frame[duplicate].refs + 1

    cdef int merge(self, hfn_t duplicate, hfn_t kept) except -1 nogil:
        """All entries of `duplicate` name `kept` instead, read-only; `duplicate` is free.

        The bytes are equal, both frames are write-protected, all leaves concerned are small.
        """
        cdef Frame *record = &self.frames.frame[duplicate]
        cdef Leaf *leaf
        cdef Walk walk
        cdef uint32_t node, index
        self.walk(duplicate, &walk)
        while True:
            leaf = self.leaves.at(walk.site / LEAF_ENTRIES)
            index = walk.site % LEAF_ENTRIES
            leaf.entries[index] = PTE_PRESENT | (leaf.entries[index] & PTE_ACCESSED) | kept
            self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + index)
            leaf.entries[index] &= ~<uint32_t>PTE_ACCESSED
            self._add_site(kept, walk.site)
            node = walk.node
            if not self.next(&walk):
                if node != NONE:
                    self.nodes.give(node)
                break
            self.nodes.give(node)
        record.refs = 0
        record.flags &= ~FRAME_CHAIN
        self.meter.ev.merges += 1
        if self.frames.frame[kept].flags & FRAME_ZERO:
            self.meter.ev.merges_zero += 1
        return self._free_frame(duplicate)

    cdef int move(self, hfn_t source, hfn_t target) except -1 nogil:
        """Host compaction copied a guest frame's bytes to `target` (taken, FRAME_GUEST): everything names it now."""
        cdef Frame *old = &self.frames.frame[source]
        cdef Frame *new = &self.frames.frame[target]
        cdef Walk walk
        cdef Leaf *leaf
        cdef uint32_t index
        cdef bint ordered = (old.flags & FRAME_ORDERED) != 0
        self.walk(source, &walk)
        while True:
            leaf = self.leaves.at(walk.site / LEAF_ENTRIES)
            index = walk.site % LEAF_ENTRIES
            leaf.entries[index] = (leaf.entries[index] & ~<uint32_t>PTE_WHERE) | target
            self._drop_cached(leaf, leaf.region * LEAF_ENTRIES + index)
            leaf.entries[index] &= ~<uint32_t>PTE_ACCESSED
            if not self.next(&walk):
                break
        self._order_out(source)
        new.refs = old.refs
        new.where = old.where
        new.backing = old.backing
        new.charge = old.charge
        new.flags = old.flags
        if new.backing != NONE:
            self.backings.at(new.backing).link = target
        old.refs = 0
        old.backing = NONE
        old.charge = NONE16
        old.flags = 0
        self.frames.give(source, 0)
        if ordered:
            return self._order_in(target, NONE)
        return 0

    cdef int set_pinned(self, hfn_t frame, bint pinned) except -1 nogil:
        """A pinned frame is neither reclaimed nor merged nor moved."""
        cdef Frame *record = &self.frames.frame[frame]
        if pinned:
            self._order_out(frame)
            record.flags |= FRAME_PINNED
            return 0
        record.flags &= ~FRAME_PINNED
        return self._order_in(frame, NONE)

    # ---- VMs

    cdef int open(self, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1:
        """A VM that maps nothing yet."""
        self.leaves.open(vm, nr_gfns)
        self.tcache.open(vm, nr_vpns, nr_gfns)
        memset(&self.account[vm], 0, sizeof(Account))
        self.account[vm].limit = NONE
        self.account[vm].open = 1
        return 0

    cdef int close(self, vmid_t vm) except -1 nogil:
        """The VM gives up everything it maps."""
        cdef uint32_t i, j, page, slot_id, index
        cdef leaf_t id
        cdef Leaf *leaf
        for i in range(self.leaves.directory[vm].nr_roots):
            page = self.leaves.directory[vm].root[i]
            if page == NONE:
                continue
            for j in range(SLOTS_PER_PAGE):
                slot_id = page * SLOTS_PER_PAGE + j
                id = self.leaves.slot(slot_id).leaf
                if id == NONE:
                    continue
                if self.leaves.let_go(slot_id) == 0:
                    self._empty(id)
                    self.leaves.destroy(id)
                    continue
                leaf = self.leaves.at(id)
                for index in range(LEAF_ENTRIES):
                    if self.leaves.entry(leaf, index) & PTE_PRESENT:
                        self._leave(self.leaves.entry(leaf, index) & PTE_WHERE, vm)
        self.leaves.close(vm)
        self.tcache.close(vm)
        self.account[vm].open = 0
        return 0

    cdef int _empty(self, leaf_t id) except -1 nogil:
        """Unmap everything under a leaf that nobody holds."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t i
        cdef hfn_t frame
        if leaf.entries != NULL:
            for i in range(LEAF_ENTRIES):
                self.unmap(id, i)
            return 0
        for i in range(LEAF_ENTRIES):
            frame = (leaf.huge & PTE_WHERE) + i
            self._remove_site(frame, id * LEAF_ENTRIES + i)
            if self.frames.frame[frame].refs == 0:
                self._free_frame(frame)
            elif not self._maps(frame, self.frames.frame[frame].charge):
                self._recharge(frame)
        leaf.live = 0
        return 0

    cdef void _leave(self, hfn_t frame, vmid_t vm) noexcept nogil:
        """The VM no longer maps this frame through a leaf that others keep."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.charge == vm and not record.flags & FRAME_ZERO and not self._maps(frame, vm):
            self._recharge(frame)

    cdef int share_leaf(self, vmid_t parent, vmid_t child, gfn_t gfn) except -1 nogil:
        """The child holds the parent's leaf above gfn too. Directory pages of the child have been reserved."""
        cdef uint32_t source = self.leaves.slot_of(parent, gfn)
        cdef leaf_t id
        if source == NONE:
            return 0
        id = self.leaves.slot(source).leaf
        if id == NONE:
            return 0
        self.leaves.hold(id, self.leaves.ensure_slot(child, gfn))
        self.meter.ev.clone_leaves += 1
        return 1
