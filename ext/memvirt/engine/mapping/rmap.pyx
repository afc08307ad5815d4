"""Who maps a frame, who pays for it, and what is cached of it: the part of `mapping` that starts from the frame.

The reverse map of a frame is the set of its sites, leaf x 512 + index. The first stands in the frame's record, and each
names the next in the link beside its entry: 512 entries of 4 bytes fill half of a table frame, the links the other half.
One more site therefore costs no memory and needs nothing secured, and it writes only cache lines that the change of the
entry writes anyway. `refs` says where a chain ends. A frame under a huge leaf has one site and no link; a second site
splits the leaf first.

Rejected: families of leaves that remember their common ancestor. They spare a leaf copy the links, but every unmapping
would search the family, and pages merged across VMs would need a chain anyway.

Charge: a frame is paid for by the VM that mapped it first; when that VM leaves, by the lowest-numbered of those that
still map it and have room below their limit. If none has, the lowest of all pays, above its limit, until Reclaim has made
some of its pages go (`keep_limits`); that is counted (charged_over_limit), and so is what cannot go (limit_unmet).

Reservation: what a VM holds of it, reclaim leaves alone. What it does not hold yet is set aside (`aside`): others may use
those frames only as far as they can be made to give them back, which a free slot of swap says for one page each.

A pin belongs to a page of a VM, and the frame behind it: nothing evicts, merges, moves or shares that frame, so it has
one entry, under a leaf that nobody else holds. A clone gets a copy of it at once, as a forked process does on Linux.

Only Mapping calls what changes anything here.
"""

from libc.string cimport memset

from memvirt.errors import InvariantError

from .ages cimport Ages
from .backing cimport BACKING_SAME, Backings
from ..simtime cimport Clock
from ..memory.frames cimport FRAME_GUEST, FRAME_ORDERED, FRAME_PINNED, FRAME_ZERO, Frame, Frames
from .leaf cimport Leaf, Leaves, Slot
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
        if record.charge == NONE16:
            self.ages.begin(frame)
        else:
            if record.flags & FRAME_PINNED:
                self.account[record.charge].pinned -= 1
                record.flags &= ~FRAME_PINNED
            self._repay(record.charge)
        record.charge = vm
        if vm != NONE16:
            self._pay(vm, 1)

    cdef void reserve(self, vmid_t vm, uint32_t pages) noexcept nogil:
        """The VM's reservation is this from now on."""
        cdef Account *account = &self.account[vm]
        if account.charged < account.reservation:
            self.ahead -= account.reservation - account.charged
            self.ahead_vms -= 1
        account.reservation = pages
        if account.charged < pages:
            self.ahead += pages - account.charged
            self.ahead_vms += 1

    cdef bint _has_room(self, uint32_t vm) noexcept nogil:
        return self.account[vm].charged < self.account[vm].limit

    cdef void _recharge(self, hfn_t frame) noexcept nogil:
        """The VM that paid maps the frame no more: one that does takes over."""
        cdef Walk walk
        cdef Slot *slot
        cdef uint32_t slot_id, lowest = NONE, with_room = NONE
        self.walk(frame, &walk)
        while True:
            slot_id = walk.leaf.holders
            while slot_id != NONE:
                slot = self.leaves.slot(slot_id)
                lowest = min(lowest, slot.vm)
                if slot.vm < with_room and self._has_room(slot.vm):
                    with_room = slot.vm
                slot_id = slot.next
            if not self.next(&walk):
                break
        if with_room == NONE and lowest != NONE:
            self.meter.ev.charged_over_limit += 1
            self.over = True
        self._charge(frame, <vmid_t>(lowest if with_room == NONE else with_room))

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
        """A pinned frame is neither reclaimed nor merged nor moved. It is one VM's own, and that pays for it."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.state != FRAME_GUEST or record.flags & FRAME_ZERO or pinned == (record.flags & FRAME_PINNED != 0):
            return 0
        if pinned:
            assert record.refs == 1
            self._order_out(frame)
            record.flags |= FRAME_PINNED
            self.account[record.charge].pinned += 1
            return 0
        record.flags &= ~FRAME_PINNED
        self.account[record.charge].pinned -= 1
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
