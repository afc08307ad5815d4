"""Thick provisioning: all pages of a VM at once, in 2 MiB blocks where there are any."""

from .fault cimport Access, Faults
from ..counters cimport FAULT_ZERO
from ..types cimport AGAIN, LEAF_ENTRIES, LEAF_SHIFT, NO_FRAME, NONE16, OK, gfn_t, uint64_t, vmid_t


cdef int populate(Faults faults, vmid_t vm) except -1 nogil:
    """Thick provisioning: map everything now, in 2 MiB blocks where there are any. OK or what ran out.

    Reclaim may have to make room among other VMs. None of this VM's own pages go meanwhile, and none at all
    if it is known beforehand that there would not be room.
    """
    cdef int outcome = NO_FRAME
    cdef uint64_t pages = faults.leaves.directory[vm].nr_pages
    cdef uint64_t tables = (pages >> LEAF_SHIFT) * 33 / 32 + 3
    cdef bint fits = faults.frames.buddy.nr_free >= pages + tables + faults.frames.high_pages + faults.charges.aside(vm)
    faults.charges.providing = vm
    faults.reclaim.foretold = True
    try:
        if fits or faults.reclaim.could_free(pages + faults.frames.min_pages, vm):
            outcome = _populate(faults, vm)
    finally:
        faults.charges.providing = NONE16
        faults.reclaim.foretold = False
    return outcome


cdef int _populate(Faults faults, vmid_t vm) except -1 nogil:
    cdef gfn_t gfn = 0
    cdef Access access
    cdef int outcome
    access.vm = vm
    access.write = access.has_window = False
    while gfn < faults.leaves.directory[vm].nr_pages and not faults.clock.interrupt.asked():
        if gfn % LEAF_ENTRIES == 0:
            if faults._zero_huge(vm, gfn) == OK:
                gfn += LEAF_ENTRIES
                continue
            faults.meter.ev.huge_missed += 1
        access.gfn = access.vpn = gfn
        while faults.classify(&access) == FAULT_ZERO:
            outcome = faults._zero(&access)
            if outcome != OK and outcome != AGAIN:
                return outcome
        gfn += 1
    return OK if faults.charges.of[vm].charged >= faults.leaves.directory[vm].nr_pages else NO_FRAME
