from ..mapping.backing cimport Backing
from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Fault, Meter
from ..device cimport Device
from ..memory.frames cimport Frames
from ..mapping.leaf cimport Leaves
from ..mapping.mapping cimport Mapping
from .reclaim cimport Reclaim
from ..sharing.shareindex cimport ShareIndex
from ..types cimport backing_t, gfn_t, hfn_t, int64_t, leaf_t, uint32_t, uint64_t, vmid_t, vpn_t

cdef enum Provisioning:
    THIN = 0                    # a frame at first touch
    THICK = 1                   # everything at creation, in 2 MiB blocks where there are any
    THIN_HUGE = 2               # a 2 MiB block at first touch while one is free


cdef class Faults:
    cdef readonly Mapping mapping
    cdef readonly Reclaim reclaim
    cdef readonly Frames frames
    cdef Leaves leaves
    cdef Content content
    cdef Device device
    cdef Clock clock
    cdef Meter meter
    cdef Provisioning provisioning
    cdef vpn_t vpn                              # of the access that is being served
    cdef dict names
    cdef ShareIndex index                       # page sharing is told of pages that come; None without it
    cdef bint has_index
    cdef uint64_t *ticks                        # the meter's: faults seen per kind

    # Make (vm, gfn) accessible and cache vpn -> frame. OK, NO_FRAME, LIMITED; StoreError if bytes do not come back.
    # may_write: False keeps write permission out of the cached translation (the guest wants to see the first store).
    cdef int resolve(self, vmid_t vm, gfn_t gfn, vpn_t vpn, bint write, bint may_write) except -1 nogil
    # The same without caching a translation, for accesses that no vpn makes; *frame holds the page.
    cdef int reach(self, vmid_t vm, gfn_t gfn, bint write, hfn_t *frame) except -1 nogil
    # Give up the page: nothing is mapped there any more (balloon, discard). OK, NO_FRAME (a shared leaf must be copied).
    cdef int release(self, vmid_t vm, gfn_t gfn) except -1 nogil
    cdef int populate(self, vmid_t vm) except -1 nogil
    cdef int _populate(self, vmid_t vm) except -1 nogil
    cdef bint is_pinned(self, uint32_t entry) noexcept nogil
    cdef bint pinned(self, vmid_t vm, gfn_t gfn) noexcept nogil

    # Hint: these pages are accessed next. For VMs without a guest.
    cdef void look_ahead(self, vmid_t vm, const uint32_t *pages, uint32_t n) noexcept nogil
    cdef Backing *_out(self, vmid_t vm, gfn_t gfn) noexcept nogil

    cdef int _serve(self, vmid_t vm, gfn_t gfn, bint write, uint32_t *slot, uint32_t *entry,
                    bint *shared) except -1 nogil
    cdef Fault classify(self, vmid_t vm, gfn_t gfn, bint write, uint32_t *slot, uint32_t *entry,
                        bint *shared) noexcept nogil
    # Steps. SERVED: the entry serves the access now, and *slot, *entry and *shared say what it is.
    cdef int _step(self, vmid_t vm, gfn_t gfn, bint write, Fault kind, uint32_t *slot, uint32_t *entry,
                   bint *shared) except -1 nogil
    cdef int _zero(self, vmid_t vm, gfn_t gfn, uint32_t *slot, uint32_t *entry) except -1 nogil
    cdef int _zero_huge(self, vmid_t vm, gfn_t gfn) except -1 nogil
    cdef int _cow(self, vmid_t vm, gfn_t gfn, leaf_t leaf, uint32_t *entry) except -1 nogil
    cdef int _bring_back(self, vmid_t vm, gfn_t gfn, leaf_t leaf, backing_t backing) except -1 nogil
    cdef void _born(self, hfn_t frame) noexcept nogil
    cdef int _fill_from(self, backing_t backing, hfn_t frame, vmid_t vm, gfn_t gfn) except -1 nogil
    cdef int _lost(self, backing_t backing, vmid_t vm, gfn_t gfn, object why) except -1
