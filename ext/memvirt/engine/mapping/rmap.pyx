"""Who maps a frame, who pays for it, and what is cached of it: the part of `mapping` that starts from the frame.

The reverse map of a frame is the set of its sites, leaf x 512 + index. The first stands in the frame's record, and each
names the next in the link beside its entry: 512 entries of 4 bytes fill half of a table frame, the links the other half.
One more site therefore costs no memory and needs nothing secured, and it writes only cache lines that the change of the
entry writes anyway. `refs` says where a chain ends. A frame under a huge leaf has one site and no link; a second site
splits the leaf first.

Rejected: families of leaves that remember their common ancestor. They spare a leaf copy the links, but every unmapping
would search the family, and pages merged across VMs would need a chain anyway.

Charge: a frame is paid for by the VM that mapped it first; when that VM leaves, by the lowest-numbered VM that still
maps it.

Only Mapping calls what changes anything here.
"""

from libc.string cimport memset

from memvirt.errors import InvariantError

from .ages cimport Ages
from .backing cimport BACKING_SAME, Backings
from ..simtime cimport Clock
from ..memory.frames cimport FRAME_ORDERED, FRAME_PINNED, FRAME_ZERO, Frame, Frames
from .leaf cimport Leaf, Leaves
from ..replacement.order cimport Order
from ..stores.swapspace cimport SwapSpace
from .tcache cimport Tcache
from ..types cimport LEAF_ENTRIES, NONE, NONE16, backing_t, hfn_t, site_t, uint32_t, uint64_t, vmid_t
from ..stores.zpool cimport Zpool


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
        self.zpool = zpool
        self.swap = swap
        self.has_zpool = zpool is not None
        self.has_swap = swap is not None
        memset(self.account, 0, sizeof(self.account))
        self.ages = Ages(frames.nr_frames)

    cdef void _add_site(self, hfn_t frame, site_t site) noexcept nogil:
        """One more entry names the frame. If it is not the first, its leaf is small."""
        cdef Frame *record = &self.frames.frame[frame]
        if not record.flags & FRAME_ZERO:
            if record.refs:
                self.leaves.link(site)[0] = record.where
            record.where = site
        record.refs += 1

    cdef void _remove_site(self, hfn_t frame, site_t site) noexcept nogil:
        """The frame loses this site; refs may become 0, then the caller frees it."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint32_t *link = &record.where
        record.refs -= 1
        if record.refs == 0 or record.flags & FRAME_ZERO:
            return
        while link[0] != site:
            link = self.leaves.link(link[0])
        link[0] = self.leaves.link(site)[0]

    cdef void _remove_unheld(self, hfn_t frame) noexcept nogil:
        """The frame loses every site under a leaf that nobody holds, and those entries name nothing: one walk, where a
        walk for each site would take the square of their number for a page that was merged often. Its leaves are small;
        refs may become 0."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint32_t *link = &record.where
        cdef uint32_t left = record.refs
        cdef site_t site
        cdef Leaf *leaf
        while left > 0:
            left -= 1
            site = link[0]
            leaf = self.leaves.at(site / LEAF_ENTRIES)
            if leaf.nr_holders:
                link = self.leaves.link(site)
                continue
            link[0] = self.leaves.link(site)[0]
            leaf.entries[site % LEAF_ENTRIES] = 0
            leaf.live -= 1
            record.refs -= 1

    cdef void _charge(self, hfn_t frame, vmid_t vm) noexcept nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if record.charge != NONE16:
            self.account[record.charge].charged -= 1
        else:
            self.ages.begin(frame)
        record.charge = vm
        if vm != NONE16:
            self.account[vm].charged += 1

    cdef void _recharge(self, hfn_t frame) noexcept nogil:
        """The VM that paid maps the frame no more: the lowest one that does takes over."""
        cdef Walk walk
        cdef uint32_t lowest = NONE
        self.walk(frame, &walk)
        while True:
            lowest = min(lowest, self.leaves.lowest_holder(walk.leaf))
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
            pages += walk.leaf.nr_holders
            if not self.next(&walk):
                return pages

    cdef bint _maps(self, hfn_t frame, vmid_t vm) noexcept nogil:
        """Does this VM still map the frame?"""
        cdef Walk walk
        self.walk(frame, &walk)
        while not self.leaves.held_by(walk.leaf, vm):
            if not self.next(&walk):
                return False
        return True

    cdef void _leave(self, hfn_t frame, vmid_t vm) noexcept nogil:
        """The VM no longer maps this frame through a leaf that others keep."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.charge == vm and not record.flags & FRAME_ZERO and not self._maps(frame, vm):
            self._recharge(frame)

    cdef void _limit_cached(self, Leaf *leaf, uint32_t index, uint32_t keep) noexcept nogil:
        """What any holder has cached of this page keeps only these bits."""
        cdef uint32_t slot_id = leaf.holders
        while slot_id != NONE:
            self.tcache.limit(<vmid_t>self.leaves.slot(slot_id).vm, leaf.region * LEAF_ENTRIES + index, keep)
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

    cdef int set_pinned(self, hfn_t frame, bint pinned) except -1 nogil:
        """A pinned frame is neither reclaimed nor merged nor moved."""
        cdef Frame *record = &self.frames.frame[frame]
        if pinned:
            self._order_out(frame)
            record.flags |= FRAME_PINNED
            return 0
        record.flags &= ~FRAME_PINNED
        return self._order_in(frame, NONE)

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
