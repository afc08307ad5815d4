"""The translation cache: vpn -> frame, one flat array per VM, as a TLB of unlimited size.

A hit is one look-up and one permission test. What is cached implies what the tables say, never the other way round:

  valid     the entry is present, names this frame and has its accessed mark set
            (clearing the mark drops the translation of every holder, as a TLB flush does)
  writable  and the page may be written in place: no other entry names the frame, no other VM holds its leaf, and it is
            dirty already: the frame equals no backing record

Cloning a busy parent must take its cached write permission away without walking a cache of millions of entries:
`revoke_writes` clears one byte per 2 MiB. A write finds the byte clear, and `settle_writes` then clears the stale
permission in those 512 entries once.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ..types cimport LEAF_ENTRIES, MAX_VMS, NONE, uint8_t, uint32_t, vmid_t, vpn_t
from .leaf cimport Leaf, Leaves

cdef extern from "content/arena.h" nogil:
    void *mv_zeroed_map(size_t bytes)
    void mv_unmap(void *memory, size_t bytes)


cdef class Tcache:
    """The translations of all VMs of a host."""

    def __cinit__(self, Leaves leaves not None):
        self.leaves = leaves
        memset(self.view, 0, sizeof(self.view))

    def __dealloc__(self):
        cdef int vm
        for vm in range(MAX_VMS):
            self.close(<vmid_t>vm)

    cdef int open(self, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1:
        """An empty cache; a VM that never runs has one of no pages (0, 0)."""
        cdef View *view = &self.view[vm]
        view.nr_vpns = nr_vpns
        view.nr_gfns = nr_gfns
        view.entry = <uint32_t *>mv_zeroed_map((<size_t>nr_vpns + 1) * sizeof(uint32_t))
        view.writes = <uint8_t *>calloc((nr_vpns >> 9) + 1, 1)
        view.cached = <uint8_t *>calloc((nr_vpns >> 9) + 1, 1)
        if view.entry == NULL or view.writes == NULL or view.cached == NULL:
            self.close(vm)
            raise MemoryError(f"translation cache of {nr_vpns} pages")
        memset(view.writes, 1, (nr_vpns >> 9) + 1)
        view.vpn_of = NULL
        return 0

    cdef void close(self, vmid_t vm) noexcept nogil:
        if self.view[vm].entry != NULL:
            mv_unmap(self.view[vm].entry, (<size_t>self.view[vm].nr_vpns + 1) * sizeof(uint32_t))
        free(self.view[vm].writes)
        free(self.view[vm].cached)
        memset(&self.view[vm], 0, sizeof(View))

    cdef void forget_all(self, vmid_t vm) noexcept nogil:
        cdef uint32_t region
        for region in range((self.view[vm].nr_vpns >> 9) + 1):
            self._forget(&self.view[vm], region)

    cdef void _forget(self, View *view, uint32_t region) noexcept nogil:
        """Forget what is cached of 2 MiB of vpns. Memory that nothing was cached in stays untouched, as a clone's is."""
        cdef uint32_t first = region * LEAF_ENTRIES
        cdef uint32_t last = min(first + LEAF_ENTRIES, view.nr_vpns)
        if view.cached[region]:
            memset(view.entry + first, 0, (last - first) * sizeof(uint32_t))
            view.cached[region] = 0

    cdef void revoke_writes(self, vmid_t vm) noexcept nogil:
        memset(self.view[vm].writes, 0, (self.view[vm].nr_vpns >> 9) + 1)

    cdef void settle_writes(self, vmid_t vm, uint32_t region) noexcept nogil:
        """Make the revocation of one 2 MiB region (of vpns) good in its entries."""
        cdef View *view = &self.view[vm]
        cdef uint32_t first = region * LEAF_ENTRIES
        cdef uint32_t last = min(first + LEAF_ENTRIES, view.nr_vpns)
        cdef uint32_t i
        for i in range(first, last):
            view.entry[i] &= ~<uint32_t>TC_WRITABLE
        view.writes[region] = 1

    cdef void drop_region(self, vmid_t vm, uint32_t region) noexcept nogil:
        """Drop what is cached of 2 MiB of guest-physical memory."""
        cdef View *view = &self.view[vm]
        cdef uint32_t first = region * LEAF_ENTRIES
        cdef uint32_t last = min(first + LEAF_ENTRIES, view.nr_gfns)
        cdef uint32_t i
        if view.vpn_of == NULL:
            if last > first:
                self._forget(view, region)
            return
        for i in range(first, last):
            self.limit(vm, i, TC_NOTHING)

    cdef void drop_vpn(self, vmid_t vm, vpn_t vpn) noexcept nogil:
        self.view[vm].entry[vpn] = 0

    cdef void limit_leaf(self, Leaf *leaf, uint32_t index, uint32_t keep) noexcept nogil:
        """What any holder has cached of this page keeps only these bits."""
        cdef uint32_t slot_id = leaf.holders
        while slot_id != NONE:
            self.limit(<vmid_t>self.leaves.slot(slot_id).vm, leaf.region * LEAF_ENTRIES + index, keep)
            slot_id = self.leaves.slot(slot_id).next

    cdef void drop_leaf(self, Leaf *leaf) noexcept nogil:
        """No holder has anything cached below this leaf any more."""
        cdef uint32_t slot_id = leaf.holders
        while slot_id != NONE:
            self.drop_region(<vmid_t>self.leaves.slot(slot_id).vm, leaf.region)
            slot_id = self.leaves.slot(slot_id).next
