from ..counters cimport Meter
from ..memory.frames cimport FRAME_ISOLATED, FRAME_PINNED, Frame, Frames
from ..stores.swapspace cimport SwapSpace
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, MAX_VMS, NONE16, hfn_t, uint8_t, uint32_t, uint64_t, vmid_t
from .ages cimport Ages
from .leaf cimport SLOTS_PER_PAGE, Leaf, Leaves
from .recency cimport Recency
from .rmap cimport ReverseMap

# What the host knows of a VM beside its tables.
cdef struct Account:
    uint32_t charged            # frames this VM pays for
    uint32_t limit              # hard maximum of charged frames; NONE: none
    uint32_t reservation        # reclaim leaves this many of them alone, and others leave room for the rest
    uint32_t leaving            # of the charged ones: isolated, on their way to swap
    uint32_t pinned             # of the charged ones: these stay where they are
    uint32_t shares
    uint32_t domain             # pages merge only within a domain
    uint32_t active             # pages found accessed by the last harvest
    uint8_t open


# Of the VMs that may pay for a frame next: the lowest-numbered, and that of those with room below their limit. NONE: none
cdef struct Heirs:
    uint32_t lowest
    uint32_t with_room


cdef class Charges:
    cdef Frames frames
    cdef Leaves leaves
    cdef ReverseMap rmap
    cdef Ages ages
    cdef Recency recency
    cdef SwapSpace swap                     # may be None
    cdef Meter meter
    cdef Account of[MAX_VMS]
    cdef readonly uint64_t ahead            # frames reserved that their VMs do not hold yet, all VMs together
    cdef readonly uint64_t ahead_tables     # and of tables that these may take
    cdef readonly uint32_t ahead_vms        # VMs whose frames those are
    cdef readonly uint64_t loose            # frames that VMs hold and may lose: neither reserved nor pinned
    cdef bint over                          # a VM may have been charged beyond its limit since this was last cleared

    cdef vmid_t providing                   # all its pages are being brought in, and stay; NONE16: no VM's

    cdef inline bint may_lose(self, vmid_t vm, uint32_t keep) noexcept nogil:
        """True if this VM has more than it is to keep. False for the VM whose pages are just being brought in."""
        return self.of[vm].charged - self.of[vm].leaving > keep and vm != self.providing

    cdef inline uint32_t aside(self, vmid_t but, bint gone=False) noexcept nogil:
        """Frames to leave free for the reservations of all VMs, or of all but one: those they do not hold yet, tables for
        them, and records of what goes for them. Others may have as many as they can be made to give back: a page that
        may go, and a slot of swap for it (a huge leaf first takes a frame for its table). `gone`: as it would be if
        all had gone that may."""
        cdef uint64_t missing = self.ahead, tables = self.ahead_tables, spare
        cdef uint32_t vms = self.ahead_vms, own
        if missing == 0:
            return 0
        if but != NONE16 and self.of[but].charged < self.of[but].reservation:
            own = self.of[but].reservation - self.of[but].charged
            missing -= own
            tables -= self._tables(but, own)
            vms -= 1
        missing += tables + missing / 128 + 4 * vms
        if gone or self.swap is None:
            return <uint32_t>missing
        spare = self.loose - min(self.loose, <uint64_t>self.leaves.nr_huge)
        spare = min(spare, <uint64_t>(self.swap.nr_slots - self.swap.nr_used))
        return <uint32_t>(missing - spare) if missing > spare else 0

    cdef inline uint64_t _tables(self, vmid_t vm, uint32_t pages) noexcept nogil:
        """Frames for tables that so many of its pages may take, wherever they lie: leaf tables, directory pages."""
        cdef uint32_t leaves = (self.leaves.directory[vm].nr_pages + LEAF_ENTRIES - 1) >> LEAF_SHIFT
        return min(pages, leaves) + min(pages, (leaves + SLOTS_PER_PAGE - 1) / SLOTS_PER_PAGE)

    cdef inline uint32_t _loose_of(self, Account *account) noexcept nogil:
        """What this VM may lose."""
        cdef uint32_t kept = max(account.reservation, account.pinned)
        return account.charged - min(kept, account.charged)

    cdef inline void pay(self, vmid_t vm, uint32_t frames) noexcept nogil:
        """The VM is charged for `frames` more frames."""
        cdef Account *account = &self.of[vm]
        cdef uint32_t missing, left
        if account.charged < account.reservation:
            missing = account.reservation - account.charged
            left = missing - min(frames, missing)
            self.ahead -= missing - left
            self.ahead_tables -= self._tables(vm, missing) - self._tables(vm, left)
            self.ahead_vms -= left == 0
        self.loose -= self._loose_of(account)
        account.charged += frames
        self.loose += self._loose_of(account)

    cdef inline void _repay(self, vmid_t vm) noexcept nogil:
        """The VM is charged for one frame less."""
        cdef Account *account = &self.of[vm]
        cdef uint32_t missing
        self.loose -= self._loose_of(account)
        account.charged -= 1
        self.loose += self._loose_of(account)
        if account.charged < account.reservation:
            missing = account.reservation - account.charged
            self.ahead += 1
            self.ahead_tables += self._tables(vm, missing) - self._tables(vm, missing - 1)
            self.ahead_vms += missing == 1

    cdef inline void pin(self, hfn_t frame, bint pinned) noexcept nogil:
        """The frame may not go from now on, or may again."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef Account *account = &self.of[record.charge]
        self.loose -= self._loose_of(account)
        if pinned:
            record.flags |= FRAME_PINNED
            account.pinned += 1
        else:
            record.flags &= ~FRAME_PINNED
            account.pinned -= 1
        self.loose += self._loose_of(account)

    cdef inline void isolate(self, hfn_t frame) noexcept nogil:
        """The frame is on its way out, if it can be written."""
        cdef Frame *record = &self.frames.frame[frame]
        record.flags |= FRAME_ISOLATED
        self.of[record.charge].leaving += 1

    cdef inline void stay(self, hfn_t frame) noexcept nogil:
        """It is like any other again."""
        cdef Frame *record = &self.frames.frame[frame]
        record.flags &= ~FRAME_ISOLATED
        self.of[record.charge].leaving -= 1

    # Of the VMs and snapshots that have more than their reservation, but for those marked in `passed` [MAX_VMS]: who pays
    # least for a frame, the lowest of equals. NONE: nobody is left.
    cdef uint32_t pays_least(self, const uint8_t *passed) noexcept nogil
    cdef void open(self, vmid_t vm) noexcept nogil
    cdef void reserve(self, vmid_t vm, uint32_t pages) noexcept nogil
    cdef int charge(self, hfn_t frame, vmid_t vm) except -1 nogil
    cdef int pass_on(self, hfn_t frame) except -1 nogil
    cdef int leave(self, Leaf *leaf, vmid_t vm) except -1 nogil
    cdef int regain(self, vmid_t vm) except -1 nogil
    cdef bint _may_regain(self, Frame *record, vmid_t vm) noexcept nogil
    cdef void _find_heirs(self, Leaf *leaf, Heirs *heirs) noexcept nogil
    cdef int _inherit(self, hfn_t frame, Heirs *heirs) except -1 nogil
    cdef bint _has_room(self, uint32_t vm) noexcept nogil
