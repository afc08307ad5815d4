"""Reclaim from the guest's own allocator, as HyperAlloc does: the host reads which blocks of 2 MiB are free there, and
takes them. No message leaves the guest and no code of it runs.

    free, has frames ──── soft: a pass of the host ────▶ free, taken ──── the guest allocates ────▶ installed, in use
         │                                                 ▲
         └─────────── hard: toward the target ──▶ given ───┘ the target is raised

Soft: the block stays free, and the guest may have it at any time; before it uses a page of it the host gives frames to all
of it (an exit, and the time of a huge page; `installed`). The passes are those of `reporting`, made by the host where the
guest has a `report_order`. Hard: the guest may not allocate it until the host lets go of it again, and then it is as a
block that was taken softly. The host asks nothing of a guest that has no free block: what is in use stays.

HyperAlloc's guest has an allocator of its own (LLFree) that keeps blocks of 2 MiB together; the guest here has a buddy
allocator. What is free in whole blocks is therefore the buddy's merit or fault, not LLFree's.
"""

from ..types cimport EMPTY, LEAF_ENTRIES, OK, gfn_t
from .elastic cimport Elastic, give_block
from .guest cimport Guest
from .hardware cimport WORK_CLAIM_BLOCK, WORK_RESTORE_BLOCK


cdef class HyperAlloc(Elastic):
    """Hard reclaim; for soft see balloon_driver."""

    def __cinit__(self):
        self.back_off_ns = self.most_back_off_ns = 200_000_000

    cdef int give(self, Guest guest) except -1 nogil:
        cdef gfn_t first = 0
        if guest.memory.buddy.nr_free < guest.low_pages + LEAF_ENTRIES or guest.memory.take_block(&first) != OK:
            return EMPTY
        guest.hardware.pay(WORK_CLAIM_BLOCK, 1)
        return give_block(guest, first)

    cdef void returned(self, Guest guest) noexcept nogil:
        """It was given as a whole, lowest page first, so that page is the one that has just left the stack."""
        guest.hardware.pay(WORK_RESTORE_BLOCK, 1)
        guest.memory.mark_reported(guest.memory.balloon[guest.memory.nr_balloon])
