"""Memory that is unplugged and plugged in blocks of 2 MiB, as virtio-mem does: the guest's driver empties a block before it
gives it up.

    pick the next block from the end ─▶ take its free pages aside ─▶ move its used pages elsewhere ─▶ unplug: a request
                                              │                          │ no room
                                              ▼                          ▼
                        a page that cannot move: left, counted     left, counted: its free pages are free again

A page moves within the guest: a free page is taken, after reclaim if few are free, its bytes are copied there, and the
guest's page table names that one. The workload notices that its translation is gone. Pages of the kernel and locked pages
do not move; the host keeps the frames of such a block. A driver that has come to the beginning begins at the end again
after its retry timer, 50 s and twice as long each time up to 5 min (drivers/virtio/virtio_mem.c,
VIRTIO_MEM_RETRY_TIMER_MIN_MS and MAX_MS). Blocks are plugged in the opposite order, the one that was unplugged last first.

Linux's driver works on sub-blocks of 4 MiB where its buddy allocator does, QEMU's device on blocks of 2 MiB; here the
device's block is what is unplugged.
"""

from ..types cimport EMPTY, LEAF_ENTRIES, LEAF_SHIFT, NONE, OK, gfn_t, uint8_t, vpn_t
from .elastic cimport Elastic
from .guest cimport HARDWARE_ERRED, Guest
from .guest_memory cimport PAGE_BALLOON, PAGE_CLEAN, PAGE_DIRTY, PAGE_FREE, GuestMemory
from .hardware cimport WORK_OFFLINE_BLOCK, WORK_ONLINE_BLOCK


cdef class VirtioMem(Elastic):
    """A request for each block."""

    def __cinit__(self):
        self.per_message = 1
        self.back_off_ns = 50_000_000_000
        self.most_back_off_ns = 300_000_000_000

    cdef int give(self, Guest guest) except -1 nogil:
        cdef gfn_t first
        cdef int outcome
        if guest.hand == NONE:
            guest.hand = guest.memory.nr_pages >> LEAF_SHIFT
        while guest.hand:
            guest.hand -= 1
            first = guest.hand << LEAF_SHIFT
            if guest.memory.state[first] == PAGE_BALLOON:
                continue
            outcome = _unplug(guest, first)
            if outcome != EMPTY:
                return outcome
        guest.hand = NONE
        return EMPTY

    cdef void returned(self, Guest guest) noexcept nogil:
        guest.hand = NONE
        guest.hardware.pay(WORK_ONLINE_BLOCK, 1)


cdef inline bint is_mapped(uint8_t state) noexcept nogil:
    return state == PAGE_CLEAN or state == PAGE_DIRTY           # a locked one stays where it is


cdef int _unplug(Guest guest, gfn_t first) except -1 nogil:
    """Empty the block and give it up. OK; EMPTY: that cannot be; else what the hardware said. Pages that have moved stay
    where they are now, and nothing else has changed."""
    cdef gfn_t gfn
    cdef int outcome = HARDWARE_ERRED
    for gfn in range(first, first + LEAF_ENTRIES):
        if guest.memory.state[gfn] != PAGE_FREE and not is_mapped(guest.memory.state[gfn]):
            guest.giving.unplug_failed_pinned += 1
            return EMPTY
    guest.hardware.pay(WORK_OFFLINE_BLOCK, 1)
    try:
        outcome = _empty(guest, first)
        if outcome == OK:
            outcome = HARDWARE_ERRED
            outcome = guest.hardware.release_block(first)
        guest.giving.unplug_failed_room += outcome == EMPTY
    finally:
        if outcome != OK:
            guest.memory.put_back(first)
    if outcome == OK:
        for gfn in range(first, first + LEAF_ENTRIES):
            guest.memory.push_balloon(gfn)
    return outcome


cdef int _empty(Guest guest, gfn_t first) except -1 nogil:
    """Every page of the block is isolated afterwards. What reclaim evicts of it on the way is so, too."""
    cdef gfn_t gfn, target = NONE
    cdef int outcome = guest.memory.isolate(first)
    for gfn in range(first, first + LEAF_ENTRIES):
        while outcome == OK and is_mapped(guest.memory.state[gfn]) and guest.memory.buddy.nr_free <= guest.low_pages:
            outcome = guest.evict_one()
            if outcome == OK:
                outcome = guest.memory.isolate(first)
        if outcome != OK:
            return outcome
        if is_mapped(guest.memory.state[gfn]):
            outcome = EMPTY if guest.memory.take(&target) != OK else _move(guest, guest.memory, gfn, target)
    return outcome


cdef int _move(Guest guest, GuestMemory memory, gfn_t gfn, gfn_t target) except -1 nogil:
    cdef vpn_t vpn = memory.vpn[gfn]
    cdef int outcome = HARDWARE_ERRED
    if guest.hardware.test_and_clear_accessed(vpn, gfn):        # the mark would go with the translation
        memory.cache.touch(gfn) if memory.is_cache(vpn) else memory.anon.touch(gfn)
    try:
        outcome = guest.hardware.flush(vpn)
        if outcome == OK:
            outcome = HARDWARE_ERRED
            outcome = guest.hardware.move(gfn, target)
    finally:
        if outcome != OK:
            memory.buddy.give(target, 0)
    if outcome == OK:
        memory.move(vpn, gfn, target)
        guest.giving.unplug_moved += 1
    return outcome
