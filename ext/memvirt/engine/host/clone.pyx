"""COW clones: the child becomes a holder of every leaf of the parent, and no entry is touched.

So a clone costs what the number of leaf tables costs (512 of them per GiB), whatever they hold: pages in memory,
merged, compressed, or on swap. Only pinned pages are copied at once, and their leaves with them: they stay the parent's,
where they are. Write permission disappears for both sides because the leaf has two holders; what the
parent has cached of it is revoked wholesale, one byte per 2 MiB, and settled region by region as it writes.
"""

from ..counters cimport CPU_CLONE, CPU_COPY
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE
from ..memory.frames cimport FRAME_GUEST, FRAME_PINNED
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, NO_FRAME, NONE, OK, hfn_t, uint32_t, vmid_t


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
        if pages and not self.may_take(child, self.mapping.leaves.pages.frames_needed(pages)):
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
        return self._copy_pinned(parent, child) if self.mapping.account[parent].pinned else OK

    cdef bint may_take(self, vmid_t vm, uint32_t frames) except? False nogil:
        """Secure frames for the tables of a clone or revert; if they cannot be had, nobody's pages go in vain."""
        if not self.reclaim.could_take(frames):
            return False
        return self.reclaim.secure(vm, 0, frames) == OK

    cdef int _copy_pinned(self, vmid_t parent, vmid_t child) except -1 nogil:
        """The child gets leaves and pages of its own where the parent has pinned ones. OK, or what ran out."""
        cdef uint32_t region, slot, index, entry
        cdef int outcome
        for region in range((self.mapping.leaves.directory[parent].nr_pages + LEAF_ENTRIES - 1) >> LEAF_SHIFT):
            slot = self.mapping.leaves.slot_of(parent, region << LEAF_SHIFT)
            if slot == NONE or self.mapping.leaves.slot(slot).leaf == NONE:
                continue
            for index in range(LEAF_ENTRIES):
                entry = self.mapping.leaves.entry(
                    self.mapping.leaves.at(self.mapping.leaves.slot(slot).leaf), index)
                if entry & PTE_PRESENT and self.mapping.frames.frame[entry & PTE_WHERE].flags & FRAME_PINNED:
                    outcome = self._copy_page(child, region, index, entry & PTE_WHERE)
                    if outcome != OK:
                        return outcome
        return OK

    cdef int _copy_page(self, vmid_t child, uint32_t region, uint32_t index, hfn_t frame) except -1 nogil:
        """A page that both have, of which the parent keeps this frame."""
        cdef uint32_t slot = self.mapping.leaves.slot_of(child, region << LEAF_SHIFT)
        cdef hfn_t copy
        cdef int outcome
        if self.mapping.leaves.at(self.mapping.leaves.slot(slot).leaf).nr_holders > 1:
            outcome = self.reclaim.secure(child, 0,
                                          self.mapping.frames_to_copy_leaf(self.mapping.leaves.slot(slot).leaf))
            if outcome != OK:
                return outcome
            self.mapping.clock.spend(CPU_COPY, self.mapping.clock.costs.leaf_copy)
            self.mapping.copy_leaf(slot)
        outcome = self.reclaim.secure(child, 1, 0)
        if outcome != OK:
            return outcome
        self.mapping.frames.claim(0, FRAME_GUEST, &copy)
        self.mapping.content.copy(copy, frame)
        self.mapping.clock.spend(CPU_COPY, self.mapping.clock.costs.copy_page)
        self.mapping.break_cow(child, self.mapping.leaves.slot(slot).leaf, index, copy)
        self.mapping.meter.ev.clone_pinned_copied += 1
        return OK
