from .ages cimport Ages
from .backing cimport Backings
from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Meter
from ..memory.frames cimport FRAME_ISOLATED, FRAME_ZERO, Frame, Frames
from .leaf cimport Leaf, Leaves
from ..replacement.order cimport Order
from ..stores.swapspace cimport SwapSpace
from .tcache cimport Tcache
from ..types cimport (LEAF_ENTRIES, MAX_VMS, NONE, NONE16, backing_t, gfn_t, hfn_t, leaf_t, site_t, uint8_t, uint32_t,
                      uint64_t, vmid_t)
from ..stores.zpool cimport Zpool

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

# Goes through the sites of a frame. It stands at one of them.
cdef struct Walk:
    site_t site
    leaf_t id                   # the site's leaf
    Leaf *leaf                  # the same
    uint32_t index              # the entry in it
    gfn_t gfn                   # the page, the same in every VM that holds the leaf
    uint32_t left               # sites still to come


cdef class ReverseMap:
    cdef readonly Frames frames
    cdef readonly Content content
    cdef readonly Leaves leaves
    cdef readonly Backings backings
    cdef readonly Tcache tcache
    cdef readonly Order order
    cdef readonly Zpool zpool               # may be None
    cdef readonly SwapSpace swap            # may be None
    cdef readonly Meter meter
    cdef Clock clock
    cdef Account account[MAX_VMS]
    cdef readonly uint64_t ahead            # frames reserved that their VMs do not hold yet, all VMs together
    cdef readonly uint32_t ahead_vms        # how many VMs that are
    cdef bint over                          # a VM may have been charged beyond its limit since this was last cleared
    cdef readonly Ages ages

    cdef inline void walk(self, hfn_t frame, Walk *walk) noexcept nogil:
        """The one way from a frame to what maps it: start at the first site. The frame is mapped."""
        walk.left = self.frames.frame[frame].refs - 1
        self._stand_at(walk, self.frames.frame[frame].where)

    cdef inline bint next(self, Walk *walk) noexcept nogil:
        """Go on to the next site; False: there is none."""
        if walk.left == 0:
            return False
        walk.left -= 1
        self._stand_at(walk, self.leaves.link(walk.site)[0])
        return True

    cdef inline void _stand_at(self, Walk *walk, site_t site) noexcept nogil:
        walk.site = site
        walk.id = site / LEAF_ENTRIES
        walk.leaf = self.leaves.at(walk.id)
        walk.index = site % LEAF_ENTRIES
        walk.gfn = walk.leaf.region * LEAF_ENTRIES + walk.index

    cdef inline uint32_t aside(self, vmid_t but, uint64_t used=0) noexcept nogil:
        """Frames to leave free for the reservations of all VMs, or of all but one: those they do not hold yet, and tables
        for them; as many as there are free slots of swap may be lent to others, who can be made to give them back. `used`:
        when so many slots more are in use."""
        cdef uint64_t missing = self.ahead, spare
        cdef uint32_t vms = self.ahead_vms
        if missing == 0:
            return 0
        if but != NONE16 and self.account[but].charged < self.account[but].reservation:
            missing -= self.account[but].reservation - self.account[but].charged
            vms -= 1
        missing += missing / 64 + 4 * vms
        spare = self.swap.nr_slots - self.swap.nr_used if self.swap is not None else 0
        spare -= min(used, spare)
        return <uint32_t>(missing - spare) if missing > spare else 0

    cdef inline void _pay(self, vmid_t vm, uint32_t frames) noexcept nogil:
        """The VM is charged for so many frames more."""
        cdef Account *account = &self.account[vm]
        if account.charged < account.reservation:
            self.ahead -= min(frames, account.reservation - account.charged)
            self.ahead_vms -= account.charged + frames >= account.reservation
        account.charged += frames

    cdef inline void _repay(self, vmid_t vm) noexcept nogil:
        """For one frame less."""
        cdef Account *account = &self.account[vm]
        account.charged -= 1
        if account.charged < account.reservation:
            self.ahead += 1
            self.ahead_vms += account.charged + 1 == account.reservation

    cdef inline void isolate(self, hfn_t frame) noexcept nogil:
        """The frame is on its way out, if it can be written."""
        cdef Frame *record = &self.frames.frame[frame]
        record.flags |= FRAME_ISOLATED
        self.account[record.charge].leaving += 1

    cdef inline void stay(self, hfn_t frame) noexcept nogil:
        """It is like any other again."""
        cdef Frame *record = &self.frames.frame[frame]
        record.flags &= ~FRAME_ISOLATED
        self.account[record.charge].leaving -= 1

    cdef void reserve(self, vmid_t vm, uint32_t pages) noexcept nogil
    cdef bint _has_room(self, uint32_t vm) noexcept nogil
    cdef void _add_site(self, hfn_t frame, site_t site) noexcept nogil
    cdef void _remove_site(self, hfn_t frame, site_t site) noexcept nogil
    cdef void _remove_unheld(self, hfn_t frame) noexcept nogil
    cdef void _charge(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void _recharge(self, hfn_t frame) noexcept nogil
    cdef uint64_t mappings(self, hfn_t frame) noexcept nogil
    cdef bint _maps(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void _leave(self, hfn_t frame, vmid_t vm) noexcept nogil
    cdef void _limit_cached(self, Leaf *leaf, uint32_t index, uint32_t keep) noexcept nogil
    cdef void _drop_leaf_cached(self, Leaf *leaf) noexcept nogil
    cdef int _order_in(self, hfn_t frame, uint32_t key) except -1 nogil
    cdef int _order_out(self, hfn_t frame) except -1 nogil
    cdef int set_pinned(self, hfn_t frame, bint pinned) except -1 nogil
    cdef int _uncache(self, backing_t backing, hfn_t frame) except -1 nogil
