"""Partitions that are unplugged and plugged as a whole, as Squeezy does (arXiv 2411.12893): an extension of Linux's memory
manager for VMs in which instances of functions come and end.

    an instance begins ── its partition is unplugged ─▶ plug: a request ─▶ its pages come from there alone (partitions.pyx)
    it ends ── it frees all that it had ─▶ the partition is free as a whole ─▶ toward the target: unplug, a request

Nothing moves and nothing is reclaimed: the driver takes partitions that are free, in order, and leaves the others. One of
which a single page is in use stays, that of an instance that runs or of one that has not freed all it had.

An instance that begins in a partition that is unplugged does not fail: its first page waits for the plug, in its own time.
That leaves the target as it is. So a target says what the host would have of partitions that nobody uses: what an instance
was given for its life is taken again when that is over. The driver looks for such partitions like a balloon's, 200 ms after
it found none; the runtime that the paper describes says so at once.

A request names one partition, a range of blocks (virtio-mem's requests name ranges). Each block of 2 MiB costs what
unplugging and plugging it does, and what freeing its frames does.
"""

from ..types cimport EMPTY, LEAF_SHIFT, OK, gfn_t, uint32_t
from .elastic cimport Elastic
from .guest cimport HARDWARE_ERRED, Guest
from .hardware cimport WORK_PLUG_BLOCK, WORK_UNPLUG_BLOCK


cdef class Squeezy(Elastic):
    """A request for each partition."""

    def __cinit__(self):
        self.per_message = 1
        self.back_off_ns = self.most_back_off_ns = 200_000_000

    cdef int give(self, Guest guest) except -1 nogil:
        cdef uint32_t number
        for number in range(guest.parts.number):
            if guest.parts.is_free(guest.memory, guest.parts.at(number)):
                return _unplug(guest, guest.parts.at(number))
        return EMPTY

    cdef void returned(self, Guest guest) noexcept nogil:
        guest.hardware.pay(WORK_PLUG_BLOCK, guest.parts.pages >> LEAF_SHIFT)


cdef int _unplug(Guest guest, gfn_t first) except -1 nogil:
    """What the hardware said; if not OK the partition is free as before. What it has released of it held nothing."""
    cdef uint32_t block
    cdef gfn_t gfn
    cdef int outcome = guest.parts.take_all(guest.memory, first)
    if outcome != OK:
        return outcome
    guest.hardware.pay(WORK_UNPLUG_BLOCK, guest.parts.pages >> LEAF_SHIFT)
    try:
        for block in range(guest.parts.pages >> LEAF_SHIFT):
            outcome = HARDWARE_ERRED
            outcome = guest.hardware.release_block(first + (block << LEAF_SHIFT))
            if outcome != OK:
                break
    finally:
        if outcome != OK:
            guest.parts.give_all(guest.memory, first)
    if outcome == OK:
        for gfn in range(first, first + guest.parts.pages):
            guest.memory.push_balloon(gfn)
    return outcome
