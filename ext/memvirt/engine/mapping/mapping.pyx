"""The sole writer of entries, references, reverse map, cached translations and recency.

Everything that changes who maps what goes through here, or through `tables`, which deals in whole leaves. Five things must
change together:

  the entry                in a leaf table        what the guest's page is: nothing, a frame, or a backing
  references               frame.refs / backing.refs: entries that name it (an entry in a shared leaf counts once)
  the reverse map          frame -> its sites; the first stands in the frame record, each names the next
  cached translations      may allow no more than entry, leaf and frame allow together
  recency                  a guest frame that may be reclaimed is in the replacement order, exactly once

Write permission. An entry is writable only if its frame has one reference and is not merged (stable). A leaf with several
holders makes everything under it read-only. So a clone is made by adding holders, and no entry is touched. A writable page
may still equal its backing record: it is clean, and no translation that may write is cached of it. So its first write comes
by here (`dirty`), as hardware sets the dirty bit: a walk of the tables, no fault (do_swap_page maps such a page writable).

A pin belongs to a page of a VM, and the frame behind it: nothing evicts, merges, moves or shares that frame, so it has
one entry, under a leaf that nobody else holds. A clone gets a copy of it at once, as a forked process does on Linux.

Whoever calls has *secured* beforehand: for every operation that needs frames (a table, records) there
is a `frames_to_*` that says how many; the operation itself then cannot run out. What can fail (reading bytes back) is
done before this module is asked to commit.

Invariants: see check() in audit.pyx, which recounts all of this from the entries.
"""

from memvirt.errors import InvariantError

from ..memory.frames cimport (FRAME_CACHE, FRAME_GUEST, FRAME_ORDERED, FRAME_PINNED, FRAME_STABLE, FRAME_ZERO, Frame,
                              Frames)
from ..replacement.order cimport Order
from ..simtime cimport Clock
from ..stores.swapspace cimport SwapSpace
from ..stores.zpool cimport Zpool
from ..types cimport LEAF_ENTRIES, NONE, NONE16, uint16_t, uint64_t
from .ages cimport Ages
from .backing cimport BACKING_CACHED, BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL, Backing, BackingKind, Backings
from .charges cimport Charges
from .leaf cimport PTE_BACKED, PTE_PRESENT, PTE_WHERE, PTE_WRITABLE, Leaf, Leaves
from .recency cimport Recency
from .rmap cimport ReverseMap, Walk
from .tables cimport Tables
from .tcache cimport TC_NOTHING, TC_READS, Tcache


cdef inline void settle(Mapping mapping, hfn_t frame, site_t site, vmid_t vm) noexcept nogil:
    """A freshly taken guest frame gets its only site, and who pays for it."""
    cdef Frame *record = &mapping.frames.frame[frame]
    record.refs = 1
    record.where = site
    record.charge = vm
    mapping.ages.begin(frame)
    mapping.charges.pay(vm, 1)


cdef class Mapping:
    """Who maps what, on one host."""

    def __cinit__(self, Frames frames not None, Order order not None, Clock clock not None, Zpool zpool=None,
                  SwapSpace swap=None):
        self.frames = frames
        self.content = frames.content
        self.clock = clock
        self.meter = clock.meter
        self.zpool = zpool
        self.swap = swap
        self.leaves = Leaves(frames)
        self.backings = Backings(frames)
        self.tcache = Tcache(self.leaves)
        self.ages = Ages(frames.nr_frames)
        self.rmap = ReverseMap(frames, self.leaves)
        self.recency = Recency(order, frames, self.leaves, self.rmap, self.ages)
        self.charges = Charges(frames, self.leaves, self.rmap, self.ages, self.recency, swap, self.meter)
        self.tables = Tables(frames, self.leaves, self.backings, self.tcache, self.rmap, self.recency, self.ages,
                             self.meter)

    # ---- records

    cdef int release_backing(self, backing_t id) except -1 nogil:
        """Destroy a record that no entry names and no frame caches; its store's space is free again."""
        cdef Backing *record = self.backings.at(id)
        cdef BackingKind kind = self.backings.kind(record)
        assert record.refs == 0
        if kind == BACKING_ZPOOL:
            self.zpool.free(self.backings.where(record))
        elif kind == BACKING_SWAP:
            self.swap.give(self.backings.where(record))
        self.recency.order.forget_key(id)
        self.backings.destroy(id)
        return 0

    cdef int _detach(self, hfn_t frame) except -1 nogil:
        """The frame is about to differ from its backing record, or to vanish: the record stands alone or dies."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef backing_t id = record.backing
        cdef uint16_t seen
        if id == NONE:
            return 0
        if self.backings.at(id).refs == 0:
            record.backing = NONE
            self.backings.uncache(id)
            return self.release_backing(id)
        seen = <uint16_t>record.where if record.state == FRAME_CACHE else self.ages.leave(frame)
        record.backing = NONE
        self._uncache(id, frame)
        self.backings.note(id, seen)
        return 0

    cdef int _uncache(self, backing_t id, hfn_t frame) except -1 nogil:
        """The frame caches this record no more. The value of a page of one word goes back into the record."""
        cdef uint64_t value = 0
        cdef bint same = self.backings.kind(self.backings.at(id)) == BACKING_SAME
        if same and not self.content.same_filled(frame, &value):
            with gil:
                raise InvariantError(f"backing {id}: its page is one word, and frame {frame} that caches it is not")
        self.backings.uncache(id)
        if same:
            self.backings.set_same(id, value)
        return 0

    cdef void _unmerge(self, hfn_t frame) noexcept nogil:
        """The frame is no merged one any more."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & FRAME_STABLE:
            record.flags &= ~FRAME_STABLE
            if self.listener is not None:
                self.listener.unshared(frame)

    cdef int free_frame(self, hfn_t frame) except -1 nogil:
        """No entry names this guest frame any more."""
        cdef Frame *record = &self.frames.frame[frame]
        assert record.refs == 0
        if record.flags & FRAME_ZERO:
            return 0
        self.recency.leave(frame)
        self._detach(frame)
        self._unmerge(frame)
        self.charges.charge(frame, NONE16)
        return self.frames.give(frame, 0)

    # ---- recency and pins

    cdef int set_pinned(self, hfn_t frame, bint pinned) except -1 nogil:
        """A pinned frame is neither reclaimed nor merged nor moved. It is one VM's own, and that pays for it."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.state != FRAME_GUEST or record.flags & FRAME_ZERO or pinned == (record.flags & FRAME_PINNED != 0):
            return 0
        assert not pinned or record.refs == 1
        self.recency.keep(frame)
        self.charges.pin(frame, pinned)
        return self.recency.leave(frame) if pinned else self.recency.enter(frame, NONE, NONE)

    # ---- entries

    cdef int map_new(self, vmid_t vm, leaf_t id, uint32_t index, hfn_t frame) except -1 nogil:
        """Map a freshly taken guest frame where nothing was; the entry is writable (nobody else names the frame)."""
        cdef Leaf *leaf = self.leaves.at(id)
        assert leaf.entries[index] == 0
        settle(self, frame, id * LEAF_ENTRIES + index, vm)
        leaf.entries[index] = PTE_PRESENT | PTE_WRITABLE | frame
        leaf.live += 1
        return self.recency.enter(frame, NONE, NONE)

    cdef int map_huge(self, vmid_t vm, uint32_t slot_id, uint32_t region, hfn_t base) except -1 nogil:
        """Map an aligned block of 512 freshly taken guest frames where no leaf was."""
        cdef leaf_t id
        cdef uint32_t i
        id = self.leaves.make_huge(region, PTE_PRESENT | PTE_WRITABLE | base)
        self.leaves.hold(id, slot_id)
        for i in range(LEAF_ENTRIES):
            settle(self, base + i, id * LEAF_ENTRIES + i, vm)
            self.recency.enter(base + i, NONE, NONE)
        return 0

    cdef int map_cached(self, vmid_t vm, leaf_t id, uint32_t index, backing_t backing_id) except -1 nogil:
        """The entry names a backing that a frame caches: let it name the frame. Read-only, as others may follow. A frame
        that was read ahead gets its first owner, which has come back from swap and is treated as map_back does."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef Backing *backing = self.backings.at(backing_id)
        cdef hfn_t frame = backing.link
        cdef bint ahead = self.frames.frame[frame].state == FRAME_CACHE
        assert backing.place & BACKING_CACHED and leaf.entries[index] == (PTE_BACKED | backing_id)
        if ahead:
            self.frames.turn(frame, FRAME_GUEST)
            self.ages.come_back(<uint16_t>self.frames.frame[frame].where, vm)
            self.charges.charge(frame, vm)
            self.recency.leave(frame)              # comes in again as what it is, known from before it was evicted
            self.recency.enter(frame, backing_id, leaf.region * LEAF_ENTRIES + index)
        self.rmap.add(frame, id * LEAF_ENTRIES + index)
        backing.refs -= 1
        leaf.entries[index] = PTE_PRESENT | frame
        if not ahead or backing.refs:
            return 0
        leaf.entries[index] |= PTE_WRITABLE
        return 0 if self._keeps_copy(backing) else self._detach(frame)

    cdef bint _keeps_copy(self, Backing *backing) noexcept nogil:
        cdef bint swapped = self.backings.kind(backing) == BACKING_SWAP
        return backing.refs > 0 or swapped and self.swap.nr_used <= self.swap.nr_slots / 2

    cdef int cache_ahead(self, hfn_t frame, backing_t id) except -1 nogil:
        """A freshly taken FRAME_CACHE frame holds the bytes of a record on swap, before anyone has asked for them."""
        self.frames.frame[frame].refs = 0
        self.frames.frame[frame].where = self.backings.noted(id)    # when the page was last accessed
        self.frames.frame[frame].backing = id
        self.backings.cache_in(id, frame)
        return self.recency.enter(frame, NONE, NONE)

    cdef int drop_ahead(self, hfn_t frame) except -1 nogil:
        """Nobody has asked for them: the record stands alone again."""
        assert self.frames.frame[frame].state == FRAME_CACHE
        return self.free_frame(frame)

    cdef int map_back(self, vmid_t vm, leaf_t id, uint32_t index, hfn_t frame, backing_t backing_id) except -1 nogil:
        """The entry names a backing whose bytes have just been put into a freshly taken guest frame: map that.

        The record stays, cached by the frame, for other entries, or as a clean copy on swap of which at most half is in
        use (Linux's vm_swap_full). Else its space is worth more than the copy: it goes, and the page counts as dirty. Where
        no other entry names the record the page is this one's own, to be written too.
        """
        cdef Leaf *leaf = self.leaves.at(id)
        cdef Backing *backing = self.backings.at(backing_id)
        assert leaf.entries[index] == (PTE_BACKED | backing_id)
        settle(self, frame, id * LEAF_ENTRIES + index, vm)
        self.ages.come_back(self.backings.noted(backing_id), vm)
        leaf.entries[index] = PTE_PRESENT | frame
        backing.refs -= 1
        self.recency.enter(frame, backing_id, leaf.region * LEAF_ENTRIES + index)
        if backing.refs == 0:
            leaf.entries[index] |= PTE_WRITABLE
        if self._keeps_copy(backing):
            self.backings.cache_in(backing_id, frame)
            self.frames.frame[frame].backing = backing_id
            return 0
        return self.release_backing(backing_id)

    cdef bint sole(self, hfn_t frame) noexcept nogil:
        """True if one entry names this frame, and may write to it in place."""
        cdef Frame *record = &self.frames.frame[frame]
        if self.copy_merged and record.flags & FRAME_STABLE:
            return False
        return record.refs == 1 and not record.flags & FRAME_ZERO

    cdef int own(self, leaf_t id, uint32_t index) except -1 nogil:
        """Make the entry of a sole frame writable: it is merged no more."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef hfn_t frame = leaf.entries[index] & PTE_WHERE
        assert self.sole(frame)
        self._unmerge(frame)
        leaf.entries[index] |= PTE_WRITABLE
        return 0

    cdef int break_cow(self, vmid_t vm, leaf_t id, uint32_t index, hfn_t copy) except -1 nogil:
        """The entry names `copy`, a freshly taken guest frame with the same bytes, instead of the shared frame."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef hfn_t shared = leaf.entries[index] & PTE_WHERE
        cdef Frame *record = &self.frames.frame[shared]
        cdef site_t site = id * LEAF_ENTRIES + index
        cdef site_t near = self.rmap.remove(shared, site)
        settle(self, copy, site, vm)
        leaf.entries[index] = PTE_PRESENT | PTE_WRITABLE | copy
        self.tcache.limit_leaf(leaf, index, TC_NOTHING)
        if record.flags & FRAME_STABLE or record.flags & FRAME_ZERO:
            self.meter.ev.cow_breaks_shared += 1
        if record.refs == 0:
            self.free_frame(shared)
        elif record.charge == vm and not record.flags & FRAME_ZERO and not self.rmap.maps(shared, vm, near):
            self.charges.pass_on(shared)
        return self.recency.enter(copy, NONE, NONE)

    cdef int lost_sites(self, hfn_t frame, site_t near=0xFFFFFFFF) except -1 nogil:
        """Entries name this frame no more: it is free if none is left, and paid for by one that is. `near`: as maps has
        it."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.refs == 0:
            return self.free_frame(frame)
        if not record.flags & FRAME_ZERO and not self.rmap.maps(frame, record.charge, near):
            self.charges.pass_on(frame)
        return 0

    cdef int unmap(self, leaf_t id, uint32_t index) except -1 nogil:
        """The entry names nothing any more; what it named lives on only if others name it."""
        cdef Leaf *leaf = self.leaves.at(id)
        cdef uint32_t entry = leaf.entries[index]
        cdef backing_t backing
        cdef site_t near
        if entry == 0:
            return 0
        leaf.entries[index] = 0
        leaf.live -= 1
        if entry & PTE_PRESENT:
            self.tcache.limit_leaf(leaf, index, TC_NOTHING)
            near = self.rmap.remove(entry & PTE_WHERE, id * LEAF_ENTRIES + index)
            return self.lost_sites(entry & PTE_WHERE, near)
        backing = entry & PTE_WHERE
        self.backings.at(backing).refs -= 1
        if self.backings.at(backing).refs == 0:
            if not self.backings.at(backing).place & BACKING_CACHED:
                return self.release_backing(backing)
            if self.frames.frame[self.backings.at(backing).link].state == FRAME_CACHE:
                return self.drop_ahead(self.backings.at(backing).link)
        return 0

    cdef int evict(self, hfn_t frame, backing_t id) except -1 nogil:
        """All entries of the frame name the backing instead (its bytes are safe there); the frame is free.

        The frame's leaves are small. If the frame was a cached copy of `id`, that ends here.
        """
        cdef Frame *record = &self.frames.frame[frame]
        cdef Backing *backing = self.backings.at(id)
        cdef gfn_t gfn = self.recency.page_of(frame)
        cdef Walk walk
        if record.backing == id:
            record.backing = NONE
            self._uncache(id, frame)
        self.backings.note(id, self.ages.leave(frame))
        self.rmap.walk(frame, &walk)
        while True:
            walk.leaf.entries[walk.index] = PTE_BACKED | id
            self.tcache.limit_leaf(walk.leaf, walk.index, TC_NOTHING)
            backing.refs += 1
            if not self.rmap.next(&walk):
                break
        record.refs = 0
        if record.flags & FRAME_ORDERED:
            record.flags &= ~FRAME_ORDERED
            self.recency.take(frame, id, gfn)
        return self.free_frame(frame)

    cdef void write_protect(self, hfn_t frame) noexcept nogil:
        """No entry of the frame is writable any more, no cached translation either. Its leaves are small."""
        cdef Walk walk
        self.rmap.walk(frame, &walk)
        while True:
            if walk.leaf.entries[walk.index] & PTE_WRITABLE:
                walk.leaf.entries[walk.index] &= ~<uint32_t>PTE_WRITABLE
                self.tcache.limit_leaf(walk.leaf, walk.index, TC_READS)
            if not self.rmap.next(&walk):
                break

    cdef int merge(self, hfn_t duplicate, hfn_t kept) except -1 nogil:
        """All entries of `duplicate` name `kept` instead, read-only; `duplicate` is free.

        The bytes are equal, both frames are write-protected, all leaves concerned are small.
        """
        cdef Frame *record = &self.frames.frame[duplicate]
        cdef Walk walk
        cdef site_t site
        cdef bint more = True
        self.rmap.walk(duplicate, &walk)
        while more:
            walk.leaf.entries[walk.index] = PTE_PRESENT | kept
            self.tcache.limit_leaf(walk.leaf, walk.index, TC_NOTHING)
            site = walk.site
            more = self.rmap.next(&walk)         # before the site's link leads on from the kept frame
            self.rmap.add(kept, site)
        record.refs = 0
        self.meter.ev.merges += 1
        if self.frames.frame[kept].flags & FRAME_ZERO:
            self.meter.ev.merges_zero += 1
        return self.free_frame(duplicate)

    cdef int move(self, hfn_t source, hfn_t target) except -1 nogil:
        """The bytes of a guest frame have been copied to `target` (taken, FRAME_GUEST): everything names that now.

        Its leaves are small. Entries keep their marks and the page its turn in the order; cached translations go.
        """
        cdef Frame *old = &self.frames.frame[source]
        cdef Frame *new = &self.frames.frame[target]
        cdef Walk walk
        self.rmap.walk(source, &walk)
        while True:
            walk.leaf.entries[walk.index] = (walk.leaf.entries[walk.index] & ~<uint32_t>PTE_WHERE) | target
            self.tcache.limit_leaf(walk.leaf, walk.index, TC_NOTHING)
            if not self.rmap.next(&walk):
                break
        self.ages.move(source, target)
        new[0] = old[0]
        self.recency.rename(source, target)
        old.flags = 0
        old.refs = 0
        if new.backing != NONE:
            self.backings.at(new.backing).link = target
        if self.listener is not None:
            self.listener.moved(source, target)
        return self.frames.give(source, 0)
