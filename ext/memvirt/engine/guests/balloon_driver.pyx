"""The guest's balloon driver: what a guest gives up for the host, as virtio-balloon does.

The balloon takes free pages, then what reclaim yields, and releases each to the hardware, never leaving the guest less
than its floor. Its pages form a stack: the last page given up is the first to come back. Free page reporting names
whole free blocks instead and leaves them free: the guest may use them at any time, and reports a block once until
then. A freed page is otherwise never mentioned to the hardware, and that is the semantic gap of virtualized memory.

Where the host reads the guest's allocator (hyperalloc) the same pass is the host's own: it takes free blocks of 2 MiB there
without a message (HyperAlloc's soft reclaim). They stay free, and get frames again before the guest uses one.
"""

from ..types cimport MAX_ORDER, NONE, OK, gfn_t, uint64_t
from .elastic cimport Elastic
from .guest cimport HARDWARE_ERRED
from .guest_memory cimport GuestMemory
from .hardware cimport WORK_CLAIM_BLOCK, WORK_RETURN_PAGE


cdef class PageBalloon(Elastic):
    """A page at a time, as virtio-balloon."""

    def __cinit__(self):
        self.per_message = 256
        self.back_off_ns = self.most_back_off_ns = 200_000_000

    cdef int give(self, Guest guest) except -1 nogil:
        return _inflate_one(guest)

    cdef void returned(self, Guest guest) noexcept nogil:
        guest.hardware.pay(WORK_RETURN_PAGE, 1)


cdef int _inflate_one(Guest guest) except -1 nogil:
    """Give up one page above the low watermark, reclaiming one if need be."""
    cdef gfn_t gfn = NONE
    cdef int outcome = OK
    if guest.memory.buddy.nr_free <= guest.low_pages:
        outcome = guest.evict_one()
    if outcome == OK:
        outcome = guest.memory.take(&gfn)
    if outcome != OK:
        return outcome
    outcome = HARDWARE_ERRED
    try:
        outcome = guest.hardware.release(gfn)
    finally:
        if outcome != OK:
            guest.memory.buddy.give(gfn, 0)
    if outcome != OK:
        return outcome
    guest.memory.push_balloon(gfn)
    return OK


cdef uint32_t unreported(Guest guest) noexcept nogil:
    cdef uint32_t blocks = 0
    cdef int order
    if guest.memory.nr_blocks == 0 or not guest.reports:
        return 0
    for order in range(guest.memory.report_order, MAX_ORDER + 1):
        blocks += guest.memory.buddy.free_blocks(order) << (order - guest.memory.report_order)
    return blocks - guest.memory.nr_reported


cdef bint may_report(Guest guest) noexcept nogil:
    cdef uint64_t least = guest.low_pages + (<uint64_t>MESSAGE_BLOCKS << max(guest.memory.report_order, 0))
    return guest.reports and guest.memory.nr_blocks != 0 and (guest.installs or guest.memory.buddy.nr_free > least)


cdef int report(Guest guest, uint32_t blocks, uint32_t *reported) except -1 nogil:
    cdef int outcome
    reported[0] = 0
    if not may_report(guest) or unreported(guest) == 0:
        return OK
    guest.own()
    guest.hardware.begin_report(not guest.installs)
    try:
        outcome = _report(guest, guest.memory, blocks, reported)
    finally:
        guest.count.report_freed += guest.hardware.end_report()
        guest.count.report_messages += not guest.installs
    return outcome


cdef int _report(Guest guest, GuestMemory memory, uint32_t blocks, uint32_t *reported) except -1 nogil:
    cdef uint32_t _block
    cdef int outcome
    for _block in range(memory.nr_blocks):
        if reported[0] == blocks:
            break
        if (not memory.reported[memory.report_hand]
                and memory.buddy.take_at(memory.report_hand << memory.report_order, memory.report_order) == OK):
            outcome = _release_block(guest, memory, memory.report_hand)
            if outcome != OK:
                guest.count.report_failed += 1
                return outcome
            reported[0] += 1
        memory.report_hand = memory.report_hand + 1 if memory.report_hand + 1 < memory.nr_blocks else 0
    return OK


cdef int _release_block(Guest guest, GuestMemory memory, uint32_t block) except -1 nogil:
    """Release a block that was taken for it, and free it again. Half a block released is no loss: it was free."""
    cdef gfn_t first = block << memory.report_order, gfn
    cdef int outcome = OK
    try:
        if guest.installs:
            guest.hardware.pay(WORK_CLAIM_BLOCK, 1)
            outcome = guest.hardware.release_block(first)
        else:
            for gfn in range(first, first + (<uint32_t>1 << memory.report_order)):
                outcome = guest.hardware.release(gfn)
                if outcome != OK:
                    break
    finally:
        memory.buddy.give(first, memory.report_order)
    if outcome == OK:
        memory.mark_reported(first)
        guest.count.reported += <uint64_t>1 << memory.report_order
    return outcome
