"""A page is given up lazily, as by madvise(MADV_FREE): madvise_free_pte_range of Linux (mm/madvise.c), case by case.

    nothing there                       nothing
    out of memory                       forgotten: slot or object are free again, a touch finds zeros
    in memory, this VM's alone          lazy from now on (see mapping/lazylist): the copy that it may have in a slot goes,
                                        and so do accessed mark and cached translations, for the next write has to be seen
    lazy already                        its accessed mark goes
    others have a part in it            stays as it is: merged, or of a frame, a leaf or a record that others name, too
    pinned                              stays as it is (the kernel refuses a range that is locked)

Under a huge leaf the leaf is split first, where Linux would mark a huge page as a whole if all of it is given up.
"""

from ..counters cimport CPU_BALLOON
from ..mapping.leaf cimport PTE_ACCESSED, PTE_PRESENT, PTE_WHERE, Look
from ..mapping.tcache cimport TC_NOTHING
from ..memory.frames cimport FRAME_ISOLATED, FRAME_LAZY, FRAME_STABLE, FRAME_ZERO, Frame
from ..types cimport AGAIN, NONE, OK, gfn_t, hfn_t, vmid_t
from .fault cimport Faults


cdef int give_up_lazily(Faults faults, vmid_t vm, gfn_t gfn, bint *freed) except -1 nogil:
    cdef bint held = faults.holds(vm, gfn), marked = False
    cdef int outcome = _give_up(faults, vm, gfn, &marked)
    freed[0] = held and outcome == OK and not faults.holds(vm, gfn)
    if marked or freed[0]:
        faults.clock.spend(CPU_BALLOON, faults.clock.costs.evict)
    return outcome


cdef int _give_up(Faults faults, vmid_t vm, gfn_t gfn, bint *marked) except -1 nogil:
    cdef Look at
    cdef int outcome
    while faults.leaves.look(vm, gfn, &at):
        if at.entry == 0 or faults.is_pinned(at.entry):
            return OK
        if not at.entry & PTE_PRESENT:
            return faults.release(vm, gfn)
        if at.leaf.nr_holders > 1 or not _own(faults, at.entry & PTE_WHERE):
            faults.mapping.recency.lazies.skipped += 1
            return OK
        if at.leaf.entries != NULL:
            marked[0] = True
            return _mark(faults, &at)
        outcome = faults.reclaim.secure(vm, 0, 1)
        if outcome == OK:
            faults.tables.split(at.id)
        elif outcome != AGAIN:
            return outcome
    return OK


cdef bint _own(Faults faults, hfn_t frame) noexcept nogil:
    """True if nobody else has a part in the page, or in the copy that it may have."""
    cdef Frame *record = &faults.frames.frame[frame]
    if record.refs != 1 or record.flags & (FRAME_STABLE | FRAME_ZERO | FRAME_ISOLATED):
        return False
    return record.backing == NONE or faults.mapping.backings.at(record.backing).refs == 0


cdef int _mark(Faults faults, Look *at) except -1 nogil:
    cdef hfn_t frame = at.entry & PTE_WHERE
    at.leaf.entries[at.index] &= ~<unsigned int>PTE_ACCESSED
    faults.mapping.tcache.limit_leaf(at.leaf, at.index, TC_NOTHING)
    if faults.frames.frame[frame].flags & FRAME_LAZY:
        return OK
    faults.mapping.recency.give_up(frame)
    return faults.mapping._detach(frame)
