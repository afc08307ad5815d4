"""A balloon of 2 MiB blocks: what the guest gives is a whole free block of its own allocator, named by one entry of a
message. So there are 512 times fewer entries, and the host frees 2 MiB at once where they are mapped as one.

It takes blocks that are free as they are. It neither reclaims nor moves pages to make one (a page that reclaim yields is
rarely the last of its block): what lies scattered stays, and is the price of the unit.
"""

from ..types cimport EMPTY, LEAF_ENTRIES, OK, gfn_t
from .elastic cimport Elastic, give_block
from .guest cimport Guest
from .hardware cimport WORK_GIVE_BLOCK, WORK_RETURN_BLOCK


cdef class HugeBalloon(Elastic):
    """As the page balloon, with entries of 2 MiB."""

    def __cinit__(self):
        self.per_message = 256
        self.back_off_ns = self.most_back_off_ns = 200_000_000

    cdef int give(self, Guest guest) except -1 nogil:
        cdef gfn_t first = 0
        if guest.memory.buddy.nr_free < guest.low_pages + LEAF_ENTRIES or guest.memory.take_block(&first) != OK:
            return EMPTY
        guest.hardware.pay(WORK_GIVE_BLOCK, 1)
        return give_block(guest, first)

    cdef void returned(self, Guest guest) noexcept nogil:
        guest.hardware.pay(WORK_RETURN_BLOCK, 1)
