from ..mapping.backing cimport Backing
from ..simtime cimport Clock
from ..content.content cimport Content
from ..counters cimport Fault, Meter
from ..device cimport Device
from ..memory.frames cimport Frames
from ..mapping.leaf cimport Leaves, Look
from ..mapping.charges cimport Charges
from ..mapping.mapping cimport Mapping
from ..mapping.tables cimport Tables
from .reclaim cimport Reclaim
from ..sharing.shareindex cimport ShareIndex
from ..types cimport backing_t, gfn_t, hfn_t, uint32_t, uint64_t, vmid_t, vpn_t

cdef enum Provisioning:
    THIN = 0                    # a frame at first touch
    THICK = 1                   # everything at creation, in 2 MiB blocks where there are any
    THIN_HUGE = 2               # a 2 MiB block at first touch while one is free
    ON_WRITE = 3                # a frame at the first write; until then one frame of zeros stands for all

# One access that the translation cache cannot serve, on its way through the handlers.
cdef struct Access:
    vmid_t vm
    gfn_t gfn
    vpn_t vpn                   # says which word of the page is touched; an access that no vpn makes: gfn
    bint write
    Look at                     # what the tables say, as of the last look; `entry` also as a handler has left it
    bint has_window             # room was made for what is read ahead: once a fault, whatever came of it
    bint shared                 # other VMs hold the leaf, too: nothing under it is writable


cdef class Faults:
    cdef readonly Mapping mapping
    cdef Charges charges
    cdef Tables tables
    cdef readonly Reclaim reclaim
    cdef readonly Frames frames
    cdef Leaves leaves
    cdef Content content
    cdef Device device
    cdef Clock clock
    cdef Meter meter
    cdef Provisioning provisioning
    cdef dict names
    cdef ShareIndex index                       # page sharing is told of pages that come; None without it
    cdef uint64_t *ticks                        # the meter's: faults seen per kind
    cdef hfn_t zero_frame                       # of ON_WRITE; else NONE
    cdef readonly uint64_t nr_zero_reads        # faults that it served

    # Make (vm, gfn) accessible and cache vpn -> frame. OK, NO_FRAME, LIMITED; StoreError if bytes do not come back.
    # may_write: False keeps write permission out of the cached translation (the guest wants to see the first store).
    cdef int resolve(self, vmid_t vm, gfn_t gfn, vpn_t vpn, bint write, bint may_write) except -1 nogil
    # The same without caching a translation, for accesses that no vpn makes; *frame holds the page.
    cdef int reach(self, vmid_t vm, gfn_t gfn, bint write, hfn_t *frame) except -1 nogil
    # Give up the page: nothing is mapped there any more (balloon, discard). OK, NO_FRAME (a shared leaf must be copied).
    cdef int release(self, vmid_t vm, gfn_t gfn) except -1 nogil
    cdef bint is_pinned(self, uint32_t entry) noexcept nogil
    cdef bint pinned(self, vmid_t vm, gfn_t gfn) noexcept nogil
    cdef bint holds(self, vmid_t vm, gfn_t gfn) noexcept nogil

    # OK: the access is served and access.at says by what. Else why it cannot be.
    cdef int _serve(self, Access *access) except -1 nogil
    cdef int _noted(self, Access *access) except -1 nogil
    # Looks at the tables and names the fault.
    cdef Fault classify(self, Access *access) noexcept nogil
    # Steps. OK: the entry serves the access now; AGAIN: classify again, for more may be needed.
    cdef int _step(self, Access *access, Fault kind) except -1 nogil
    cdef int _own_leaf(self, Access *access) except -1 nogil
    cdef int keep_zeros(self) except -1
    cdef int _zero(self, Access *access) except -1 nogil
    cdef int _map_zeros(self, Access *access) except -1 nogil
    cdef int _zero_huge(self, vmid_t vm, gfn_t gfn) except -1 nogil
    cdef int _cow(self, Access *access) except -1 nogil
    cdef int _map_cached(self, Access *access, backing_t backing) except -1 nogil
    cdef int _bring_back(self, Access *access) except -1 nogil
    cdef void _born(self, hfn_t frame) noexcept nogil
    cdef int _fill_from(self, backing_t backing, hfn_t frame, Access *access) except -1 nogil
    cdef int _lost(self, backing_t backing, Access *access, object why) except -1
