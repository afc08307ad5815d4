"""COW clones: the child becomes a holder of every leaf of the parent, and no entry is touched.

So a clone costs what the number of leaf tables costs (512 of them per GiB), whatever they hold: pages in memory,
merged, compressed, or on swap. Only pinned pages are copied at once, and their leaves with them: they stay the parent's,
where they are. Write permission disappears for both sides because the leaf has two holders; what the
parent has cached of it is revoked wholesale, one byte per 2 MiB, and settled region by region as it writes.
"""

from ..counters cimport CPU_CLONE, CPU_COPY
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..memory.frames cimport FRAME_GUEST, FRAME_PINNED
from ..types cimport AGAIN, LEAF_ENTRIES, NO_FRAME, NONE, OK, gfn_t, hfn_t, uint32_t, vmid_t


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
        return self.reclaim.secure(vm, 0, frames) in (OK, AGAIN)

    cdef int _copy_pinned(self, vmid_t parent, vmid_t child) except -1 nogil:
        """The child gets leaves and pages of its own where the parent has pinned ones. OK, or what ran out."""
        cdef uint32_t gfn = 0, index, entry
        cdef Look at
        cdef int outcome
        while gfn < self.mapping.leaves.directory[parent].nr_pages:
            for index in range(LEAF_ENTRIES if self.mapping.leaves.look(parent, gfn, &at) else 0):
                entry = self.mapping.leaves.entry(at.leaf, index)
                if entry & PTE_PRESENT and self.mapping.frames.frame[entry & PTE_WHERE].flags & FRAME_PINNED:
                    outcome = self._copy_page(child, gfn + index, entry & PTE_WHERE)
                    if outcome != OK:
                        return outcome
                    self.mapping.leaves.look(parent, gfn, &at)      # its leaf may have become small
            gfn += LEAF_ENTRIES
        return OK

    cdef int _copy_page(self, vmid_t child, gfn_t gfn, hfn_t frame) except -1 nogil:
        """A page that both have, of which the parent keeps this frame. It is pinned, so AGAIN changes nothing here."""
        cdef Look at
        cdef hfn_t copy
        cdef int outcome
        self.mapping.leaves.look(child, gfn, &at)
        if at.leaf.nr_holders > 1:
            outcome = self.reclaim.secure(child, 0, self.mapping.frames_to_copy_leaf(at.id))
            if outcome != OK and outcome != AGAIN:
                return outcome
            self.mapping.clock.spend(CPU_COPY, self.mapping.clock.costs.leaf_copy)
            self.mapping.copy_leaf(at.slot)
            self.mapping.leaves.look(child, gfn, &at)
        outcome = self.reclaim.secure(child, 1, 0)
        if outcome != OK and outcome != AGAIN:
            return outcome
        self.mapping.frames.claim(0, FRAME_GUEST, &copy)
        self.mapping.content.copy(copy, frame)
        self.mapping.clock.spend(CPU_COPY, self.mapping.clock.costs.copy_page)
        self.mapping.break_cow(child, at.id, at.index, copy)
        self.mapping.meter.ev.clone_pinned_copied += 1
        return OK
