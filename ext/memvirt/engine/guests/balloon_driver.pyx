"""The guest's balloon driver: what a guest gives up for the host, as virtio-balloon does.

The balloon takes free pages, then what reclaim yields, and releases each to the hardware, never leaving the guest less
than its floor. Its pages form a stack: the last page given up is the first to come back. Free page reporting names
whole free blocks instead and leaves them free: the guest may use them at any time, and reports a block once until
then. A freed page is otherwise never mentioned to the hardware, and that is the semantic gap of virtualized memory.
"""

from ..types cimport EMPTY, MAX_ORDER, NONE, OK, REFUSED, gfn_t, uint64_t
from .guest cimport HARDWARE_ERRED
from .guest_memory cimport GuestMemory


cdef int balloon_step(Guest guest, uint32_t pages, uint32_t *moved) except -1 nogil:
    cdef uint32_t room = guest.memory.nr_pages - guest.balloon_floor, wanted
    cdef int outcome
    moved[0] = 0
    guest.own()
    if guest.memory.nr_balloon >= guest.balloon_target:
        moved[0] = guest.deflate(min(pages, guest.memory.nr_balloon - guest.balloon_target))
        return OK
    wanted = min(pages, guest.balloon_target - guest.memory.nr_balloon)
    while moved[0] < wanted and guest.memory.nr_balloon < room:
        guest.count.balloon_refused_machine += 1     # until it has not
        outcome = _inflate_one(guest)
        guest.count.balloon_refused_machine -= outcome == OK or outcome == EMPTY
        if outcome != OK:
            guest.count.balloon_refused_pages += outcome == EMPTY
            return outcome
        moved[0] += 1
    if moved[0] < wanted:
        guest.count.balloon_refused_floor += 1
        return REFUSED
    return OK


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
    guest.count.ballooned += 1
    return OK


cdef uint32_t unreported(Guest guest) noexcept nogil:
    cdef uint32_t blocks = 0
    cdef int order
    if guest.memory.nr_blocks == 0:
        return 0
    for order in range(guest.memory.report_order, MAX_ORDER + 1):
        blocks += guest.memory.buddy.free_blocks(order) << (order - guest.memory.report_order)
    return blocks - guest.memory.nr_reported


cdef bint may_report(Guest guest) noexcept nogil:
    cdef uint64_t least = guest.low_pages + (<uint64_t>MESSAGE_BLOCKS << max(guest.memory.report_order, 0))
    return guest.memory.nr_blocks != 0 and guest.memory.buddy.nr_free > least


cdef int report(Guest guest, uint32_t blocks, uint32_t *reported) except -1 nogil:
    cdef int outcome
    reported[0] = 0
    if not may_report(guest) or unreported(guest) == 0:
        return OK
    guest.own()
    guest.hardware.begin_report()
    try:
        outcome = _report(guest, guest.memory, blocks, reported)
    finally:
        guest.count.report_freed += guest.hardware.end_report()
        guest.count.report_messages += 1
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
        for gfn in range(first, first + (<uint32_t>1 << memory.report_order)):
            outcome = guest.hardware.release(gfn)
            if outcome != OK:
                break
    finally:
        memory.buddy.give(first, memory.report_order)
    if outcome == OK:
        memory.reported[block] = 1
        memory.nr_reported += 1
        guest.count.reported += <uint64_t>1 << memory.report_order
    return outcome
