from ..counters cimport Meter
from ..memory.frames cimport FRAME_ISOLATED, Frame, Frames
from ..stores.swapspace cimport SwapSpace
from ..types cimport MAX_VMS, NONE16, hfn_t, uint8_t, uint32_t, uint64_t, vmid_t
from .ages cimport Ages
from .leaf cimport Leaf, Leaves
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
    cdef SwapSpace swap                     # may be None
    cdef Meter meter
    cdef Account of[MAX_VMS]
    cdef readonly uint64_t ahead            # frames reserved that their VMs do not hold yet, all VMs together
    cdef readonly uint32_t ahead_vms        # VMs whose frames those are
    cdef bint over                          # a VM may have been charged beyond its limit since this was last cleared

    cdef inline uint32_t aside(self, vmid_t but, uint64_t used=0) noexcept nogil:
        """Frames to leave free for the reservations of all VMs, or of all but one: those they do not hold yet, and tables
        for them; as many as there are free slots of swap may be lent to others, who can be made to give them back. `used`:
        as it would be with that many more slots in use."""
        cdef uint64_t missing = self.ahead, spare
        cdef uint32_t vms = self.ahead_vms
        if missing == 0:
            return 0
        if but != NONE16 and self.of[but].charged < self.of[but].reservation:
            missing -= self.of[but].reservation - self.of[but].charged
            vms -= 1
        missing += missing / 64 + 4 * vms
        spare = self.swap.nr_slots - self.swap.nr_used if self.swap is not None else 0
        spare -= min(used, spare)
        return <uint32_t>(missing - spare) if missing > spare else 0

    cdef inline void pay(self, vmid_t vm, uint32_t frames) noexcept nogil:
        """The VM is charged for `frames` more frames."""
        cdef Account *account = &self.of[vm]
        if account.charged < account.reservation:
            self.ahead -= min(frames, account.reservation - account.charged)
            self.ahead_vms -= account.charged + frames >= account.reservation
        account.charged += frames

    cdef inline void _repay(self, vmid_t vm) noexcept nogil:
        """The VM is charged for one frame less."""
        cdef Account *account = &self.of[vm]
        account.charged -= 1
        if account.charged < account.reservation:
            self.ahead += 1
            self.ahead_vms += account.charged + 1 == account.reservation

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

    cdef void open(self, vmid_t vm) noexcept nogil
    cdef void reserve(self, vmid_t vm, uint32_t pages) noexcept nogil
    cdef void charge(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void pass_on(self, hfn_t frame) noexcept nogil
    cdef void leave(self, Leaf *leaf, vmid_t vm) noexcept nogil
    cdef void _find_heirs(self, Leaf *leaf, Heirs *heirs) noexcept nogil
    cdef void _inherit(self, hfn_t frame, Heirs *heirs) noexcept nogil
    cdef bint _has_room(self, uint32_t vm) noexcept nogil
