"""How a guest gives memory to the host: what all ways have in common.

    way            unit     who chooses it                     what it has to do
    balloon        4 KiB    the guest: free pages, reclaimed   a message for 256 pages
    balloon-huge   2 MiB    the guest: free blocks             a message for 256 blocks
    virtio-mem     2 MiB    the guest's driver, from the end   empties it: moves its pages; a request for each
    hyperalloc     2 MiB    the host, in the guest's table     nothing in the guest
    squeezy        as set   the guest: free partitions         a request for each; nothing moves

What a guest has given is its balloon, whatever the way: its pages have the state PAGE_BALLOON and lie on a stack, and the
host sets a target for their number. With a unit of 2 MiB the stack holds whole blocks, each in ascending order, and targets
are rounded down to blocks; a partition is such a unit, too. Deciders, admission and samples therefore ask none of them
which way it is.

What is paid for. Work on a unit, messages, and pages moved are paid as they happen (Hardware.pay, move); what the host does
to free the frames behind a unit is paid per frame that was there, or for 2 MiB at once where they are mapped as one.
So pages given and frames freed are two numbers, and two costs.

Whose time it is. A driver works on a clock of its own, beside the VM. Under `driver = "vcpu"` what it does in the guest
(its work on units, messages, moves, what reclaim computes) is taken from the VM's processor as well: the VM goes on that
much later, unless it slept meanwhile (Guest.drove, settle). What the host does, and waiting for the guest's disk, takes
nothing from it. The driver itself is not slowed down by the VM, and free page reporting works beside it in any case.
"""

from ..types cimport EMPTY, HUGE_ORDER, LEAF_ENTRIES, OK, REFUSED, gfn_t, int64_t, uint32_t, uint64_t
from .guest cimport HARDWARE_ERRED, Guest
from .hardware cimport WORK_MESSAGE

from memvirt.errors import InvariantError


cdef class Elastic:
    """Base of all ways: units of 2 MiB; a way says how one is given, and what one costs that comes back."""

    cdef int step(self, Guest guest, uint32_t units, uint32_t *moved) except -1 nogil:
        cdef uint64_t *took = &guest.giving.give_ns
        cdef int64_t began = guest.hardware.now()
        cdef int outcome
        moved[0] = 0
        guest.own()
        guest.hardware.count_freed()
        guest.hardware.count_aside()
        if guest.memory.nr_balloon > guest.balloon_target:
            took = &guest.giving.return_ns
        took[0] -= began
        try:
            outcome = self._step(guest, units, moved)
        finally:
            guest.giving.given_freed += guest.hardware.count_freed()
            if self.per_message and moved[0]:
                units = (moved[0] / guest.unit + self.per_message - 1) / self.per_message
                guest.giving.messages += units
                guest.hardware.pay(WORK_MESSAGE, units)
            took[0] += guest.hardware.now()
            guest.drove(began, guest.hardware.now() - began - guest.hardware.count_aside())
        return outcome

    cdef int _step(self, Guest guest, uint32_t units, uint32_t *moved) except -1 nogil:
        cdef uint32_t room = guest.in_units(guest.memory.nr_pages - guest.balloon_floor)
        cdef int outcome
        if guest.memory.nr_balloon > guest.balloon_target:
            while units and guest.memory.nr_balloon > guest.balloon_target:
                moved[0] += guest.deflate(guest.unit)
                self.returned(guest)
                units -= 1
            return OK
        while units and guest.memory.nr_balloon < min(room, guest.balloon_target):
            guest.count.balloon_refused_machine += 1     # until it has not
            outcome = self.give(guest)
            guest.count.balloon_refused_machine -= outcome == OK or outcome == EMPTY
            if outcome != OK:
                guest.count.balloon_refused_pages += outcome == EMPTY
                return outcome
            guest.count.ballooned += guest.unit
            moved[0] += guest.unit
            units -= 1
        if units and guest.memory.nr_balloon < guest.balloon_target:
            guest.count.balloon_refused_floor += 1
            return REFUSED
        return OK

    cdef int give(self, Guest guest) except -1 nogil:
        with gil:
            raise InvariantError(f"{type(self).__name__} does not define give()")

    cdef void returned(self, Guest guest) noexcept nogil:
        pass


cdef int give_block(Guest guest, uint32_t first) except -1 nogil:
    cdef gfn_t gfn
    cdef int outcome = HARDWARE_ERRED
    try:
        outcome = guest.hardware.release_block(first)
    finally:
        if outcome != OK:
            guest.memory.buddy.give(first, HUGE_ORDER)
    if outcome == OK:
        for gfn in range(first, first + LEAF_ENTRIES):
            guest.memory.push_balloon(gfn)
    return outcome
