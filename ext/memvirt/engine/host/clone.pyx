"""COW clones: the child becomes a holder of every leaf of the parent, and no entry is touched.

So a clone costs what the number of leaf tables costs (512 of them per GiB), whatever they hold: pages in memory,
merged, compressed, or on swap. Write permission disappears for both sides because the leaf has two holders; what the
parent has cached of it is revoked wholesale, one byte per 2 MiB, and settled region by region as it writes.
"""

from ..counters cimport CPU_CLONE
from ..types cimport NO_FRAME, NONE, OK, uint32_t, vmid_t


cdef class Cloner:

    def __cinit__(self, Reclaim reclaim not None):
        self.reclaim = reclaim
        self.mapping = reclaim.mapping

    cdef uint32_t directory_pages(self, vmid_t parent, vmid_t child) noexcept nogil:
        """Directory pages that the parent has and the child still lacks."""
        cdef uint32_t pages = 0, i
        for i in range(self.mapping.leaves.directory[parent].nr_roots):
            pages += (self.mapping.leaves.directory[parent].root[i] != NONE
                      and self.mapping.leaves.directory[child].root[i] == NONE)
        return pages

    cdef int share(self, vmid_t parent, vmid_t child) except -1 nogil:
        cdef uint32_t pages = self.directory_pages(parent, child), i, leaves = 0
        cdef uint32_t *root = self.mapping.leaves.directory[parent].root
        if pages and self.reclaim.secure(child, 0, self.mapping.leaves.pages.frames_needed(pages)) == NO_FRAME:
            return NO_FRAME
        self.mapping.leaves.pages.claim(pages)
        for i in range(self.mapping.leaves.directory[parent].nr_roots):
            if root[i] != NONE:
                leaves += self.mapping.leaves.hold_all(parent, child, i)
        self.mapping.tcache.revoke_writes(parent)
        self.mapping.clock.spend(CPU_CLONE, self.mapping.clock.costs.clone_fixed
                                 + leaves * self.mapping.clock.costs.clone_leaf)
        self.mapping.meter.ev.clones += 1
        self.mapping.meter.ev.clone_leaves += leaves
        return OK
