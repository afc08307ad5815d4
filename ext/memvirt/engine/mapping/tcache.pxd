from ..types cimport LEAF_ENTRIES, MAX_VMS, gfn_t, hfn_t, uint8_t, uint32_t, vmid_t, vpn_t
from .leaf cimport Leaf, Leaves

# A cached translation, 32 bits: valid | writable | 28 bits of frame. Zero: nothing cached.
cdef enum:
    TC_VALID = 0x80000000
    TC_WRITABLE = 0x40000000
    TC_FRAME = 0x0FFFFFFF
    TC_NOTHING = 0              # what `limit` lets stand: no translation
    TC_READS = 0xBFFFFFFF       # one that does not permit writes

# One VM's translations.
cdef struct View:
    uint32_t *entry             # [nr_vpns]
    uint8_t *writes             # [nr_vpns >> 9, and one] 1: cached write permission in these 2 MiB counts; 0: revoked
    uint8_t *cached             # [the same] 0: nothing has been cached there since it was last forgotten
    const uint32_t *vpn_of      # [nr_gfns] the guest's reverse map, owned by its guest model; NULL: vpn = gfn
    uint32_t nr_vpns
    uint32_t nr_gfns


cdef class Tcache:
    cdef Leaves leaves
    cdef View view[MAX_VMS]

    cdef int open(self, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1
    cdef void close(self, vmid_t vm) noexcept nogil
    cdef void forget_all(self, vmid_t vm) noexcept nogil
    cdef void _forget(self, View *view, uint32_t region) noexcept nogil
    cdef void revoke_writes(self, vmid_t vm) noexcept nogil
    cdef void settle_writes(self, vmid_t vm, uint32_t region) noexcept nogil

    cdef inline void put(self, vmid_t vm, vpn_t vpn, hfn_t frame, bint writable) noexcept nogil:
        """Cache a translation. A writable one needs its region's permission to be settled first."""
        self.view[vm].entry[vpn] = TC_VALID | (TC_WRITABLE if writable else 0) | frame
        self.view[vm].cached[vpn / LEAF_ENTRIES] = 1

    cdef inline vpn_t vpn(self, View *view, gfn_t gfn) noexcept nogil:
        """The one vpn that maps gfn; NONE if none does."""
        if view.vpn_of == NULL:
            return gfn
        return view.vpn_of[gfn]

    cdef inline void limit(self, vmid_t vm, gfn_t gfn, uint32_t keep) noexcept nogil:
        """What is cached of gfn keeps only these bits: TC_NOTHING or TC_READS."""
        cdef View *view = &self.view[vm]
        cdef vpn_t vpn = self.vpn(view, gfn)
        if vpn < view.nr_vpns:
            view.entry[vpn] &= keep

    cdef void drop_region(self, vmid_t vm, uint32_t region) noexcept nogil
    cdef void drop_vpn(self, vmid_t vm, vpn_t vpn) noexcept nogil
    # The same for every VM that holds a leaf: of one page, and of all.
    cdef void limit_leaf(self, Leaf *leaf, uint32_t index, uint32_t keep) noexcept nogil
    cdef void drop_leaf(self, Leaf *leaf) noexcept nogil
