"""Who pays for a frame, and what is promised to whom.

Charge: a frame is paid for by the VM that mapped it first; when that VM leaves, by the lowest-numbered of those that
still map it and have room below their limit. If none has, the lowest of all pays, above its limit, until Reclaim has made
some of its pages go (`keep_limits`); that is counted (charged_over_limit), and so is what cannot go (limit_unmet).

Reservation: what a VM holds of it, reclaim leaves alone. What it does not hold yet is set aside (`aside`), with tables for
it. Others may use those frames only as far as they can be made to give them back: for pages that are neither reserved
themselves nor pinned, and have a free slot of swap each; never for tables, which do not come back.

What a VM pays for it holds, whoever maps it beside. So a page that it shares with a clone or a snapshot is held, and to
write to it takes one frame more: that is asked for like any beyond the reservation. A VM that goes back to a snapshot
pays for its pages again (`regain`). A VM that lets go of a page which others keep, merged with it, has lent them the frame
for good where there is no swap: what it then asks for in vain, of its reservation, is counted (reservation_unmet).
"""

from libc.string cimport memset

from ..counters cimport Meter
from ..memory.frames cimport FRAME_ORDERED, FRAME_PINNED, FRAME_ZERO, Frame, Frames
from ..stores.swapspace cimport SwapSpace
from ..types cimport LEAF_ENTRIES, NONE, NONE16, gfn_t
from .ages cimport Ages
from .leaf cimport PTE_PRESENT, PTE_WHERE, Leaf, Leaves, Look, Slot
from .recency cimport Recency
from .rmap cimport ReverseMap, Walk


cdef class Charges:
    """frame -> its payer; and the account of every VM."""

    def __cinit__(self, Frames frames not None, Leaves leaves not None, ReverseMap rmap not None, Ages ages not None,
                  Recency recency not None, SwapSpace swap, Meter meter not None):
        self.frames = frames
        self.leaves = leaves
        self.rmap = rmap
        self.ages = ages
        self.recency = recency
        self.swap = swap
        self.meter = meter
        self.providing = NONE16
        memset(self.of, 0, sizeof(self.of))

    cdef void open(self, vmid_t vm) noexcept nogil:
        """An account without a limit that pays for nothing yet."""
        memset(&self.of[vm], 0, sizeof(Account))
        self.of[vm].limit = NONE
        self.of[vm].open = 1

    cdef void reserve(self, vmid_t vm, uint32_t pages) noexcept nogil:
        """The VM's reservation is this from now on."""
        cdef Account *account = &self.of[vm]
        if account.charged < account.reservation:
            self.ahead -= account.reservation - account.charged
            self.ahead_tables -= self._tables(vm, account.reservation - account.charged)
            self.ahead_vms -= 1
        self.loose -= self._loose_of(account)
        account.reservation = pages
        self.loose += self._loose_of(account)
        if account.charged < pages:
            self.ahead += pages - account.charged
            self.ahead_tables += self._tables(vm, pages - account.charged)
            self.ahead_vms += 1

    cdef uint32_t pays_least(self, const uint8_t *passed) noexcept nogil:
        cdef uint32_t vm, least = NONE
        cdef Account *account
        for vm in range(MAX_VMS):
            account = &self.of[vm]
            if not account.open or passed[vm] or account.charged <= max(account.reservation, account.pinned):
                continue
            if least == NONE or (<uint64_t>account.charged * self.of[least].shares
                                 > <uint64_t>self.of[least].charged * account.shares):
                least = vm
        return least

    cdef int charge(self, hfn_t frame, vmid_t vm) except -1 nogil:
        """This VM pays for the frame from now on; NONE16: nobody does."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef bint ordered = self.recency.nr_own != 0 and record.flags & FRAME_ORDERED
        if ordered:
            self.recency.part(frame)
        if record.charge == NONE16:
            self.ages.begin(frame)
        else:
            if record.flags & FRAME_PINNED:
                self.pin(frame, False)
            self._repay(record.charge)
        record.charge = vm
        if vm != NONE16:
            self.pay(vm, 1)
        return self.recency.join(frame, NONE) if ordered else 0

    cdef int pass_on(self, hfn_t frame) except -1 nogil:
        """The VM that paid maps the frame no more: one that does takes over."""
        cdef Walk walk
        cdef Heirs heirs = Heirs(NONE, NONE)
        self.rmap.walk(frame, &walk)
        while True:
            self._find_heirs(walk.leaf, &heirs)
            if not self.rmap.next(&walk):
                break
        return self._inherit(frame, &heirs)

    cdef void _find_heirs(self, Leaf *leaf, Heirs *heirs) noexcept nogil:
        """The holders of the leaf may pay, too."""
        cdef uint32_t slot_id = leaf.holders
        cdef Slot *slot
        while slot_id != NONE:
            slot = self.leaves.slot(slot_id)
            heirs.lowest = min(heirs.lowest, slot.vm)
            if slot.vm < heirs.with_room and self._has_room(slot.vm):
                heirs.with_room = slot.vm
            slot_id = slot.next

    cdef int _inherit(self, hfn_t frame, Heirs *heirs) except -1 nogil:
        if heirs.with_room == NONE and heirs.lowest != NONE:
            self.meter.ev.charged_over_limit += 1
            self.over = True
        return self.charge(frame, <vmid_t>(heirs.lowest if heirs.with_room == NONE else heirs.with_room))

    cdef int leave(self, Leaf *leaf, vmid_t vm) except -1 nogil:
        """The VM holds this leaf no more, and others do. Who of these pays for the frames that only the leaf names is
        looked for again only when one has no room any more, not for each frame: a clone may leave a thousand others."""
        cdef Heirs heirs = Heirs(NONE, NONE)
        cdef uint32_t index
        cdef hfn_t frame
        cdef Frame *record
        for index in range(LEAF_ENTRIES):
            frame = self.leaves.entry(leaf, index) & PTE_WHERE
            record = &self.frames.frame[frame]
            if not self.leaves.entry(leaf, index) & PTE_PRESENT or record.charge != vm or record.flags & FRAME_ZERO:
                continue
            if record.refs > 1:
                if not self.rmap.maps(frame, vm):
                    self.pass_on(frame)
                continue
            if heirs.lowest == NONE or heirs.with_room != NONE and not self._has_room(heirs.with_room):
                heirs.with_room = NONE
                self._find_heirs(leaf, &heirs)
            self._inherit(frame, &heirs)
        return 0

    cdef int regain(self, vmid_t vm) except -1 nogil:
        """The VM maps pages that it had left to others: it pays for them again, until its reservation is held, where who
        pays has more than it was promised."""
        cdef gfn_t gfn = 0
        cdef uint32_t index, entry
        cdef Look at
        while gfn < self.leaves.directory[vm].nr_pages and self.of[vm].charged < self.of[vm].reservation:
            for index in range(LEAF_ENTRIES if self.leaves.look(vm, gfn, &at) else 0):
                entry = self.leaves.entry(at.leaf, index)
                if entry & PTE_PRESENT and self._may_regain(&self.frames.frame[entry & PTE_WHERE], vm):
                    self.charge(entry & PTE_WHERE, vm)
            gfn += LEAF_ENTRIES
        return 0

    cdef bint _may_regain(self, Frame *record, vmid_t vm) noexcept nogil:
        if record.charge == vm or record.charge == NONE16 or record.flags & (FRAME_ZERO | FRAME_PINNED):
            return False
        return (self.of[record.charge].charged > self.of[record.charge].reservation and self._has_room(vm)
                and self.of[vm].charged < self.of[vm].reservation)

    cdef bint _has_room(self, uint32_t vm) noexcept nogil:
        return self.of[vm].charged < self.of[vm].limit
