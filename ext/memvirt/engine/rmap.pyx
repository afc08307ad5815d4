"""Who maps a frame, who pays for it, and what is cached of it: the part of `mapping` that starts from the frame.

The reverse map of a frame is a set of sites, leaf x 512 + index. A frame that one entry names keeps its site in its own
record; one that several entries name has a chain of nodes, 8 bytes each, in a slab. (Families of leaves that remember
their common ancestor would spare a clone the nodes. They would make every unmapping look through the family, and pages
merged across VMs would need the chain all the same.)

Charge: a frame is paid for by the VM that mapped it first; when that VM leaves, by the lowest-numbered VM that still
maps it.

Only Mapping calls what changes anything here.
"""

from libc.string cimport memset

from .backing cimport Backings
from .clock cimport Clock
from .frames cimport (FRAME_CHAIN, FRAME_ORDERED, FRAME_PINNED, FRAME_RMAP, FRAME_ZERO, Frame, Frames, Slab)
from .leaf cimport Leaf, Leaves, Slot
from .replacement.order cimport Order
from .swapspace cimport SwapSpace
from .tcache cimport Tcache
from .types cimport LEAF_ENTRIES, NONE, NONE16, gfn_t, hfn_t, site_t, uint32_t, uint64_t, vmid_t
from .zpool cimport Zpool


cdef class ReverseMap:
    """frame -> its sites, its payer, and the translations cached of it."""

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

    cdef uint64_t mappings(self, hfn_t frame) noexcept nogil:
        """How many pages of VMs the frame holds: entries, each times the holders of its leaf."""
        cdef Walk walk
        cdef uint64_t pages = 0
        if self.frames.frame[frame].flags & FRAME_ZERO:
            return self.frames.frame[frame].refs
        self.walk(frame, &walk)
        while True:
            pages += self.leaves.at(walk.site / LEAF_ENTRIES).nr_holders
            if not self.next(&walk):
                return pages

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

    cdef void _leave(self, hfn_t frame, vmid_t vm) noexcept nogil:
        """The VM no longer maps this frame through a leaf that others keep."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.charge == vm and not record.flags & FRAME_ZERO and not self._maps(frame, vm):
            self._recharge(frame)

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
