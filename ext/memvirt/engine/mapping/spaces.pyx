"""The guest-physical address space of a VM as a whole: opened, emptied, closed, unpinned.

A VM that goes lets go of its leaves in two rounds, because a page merged often has many sites, and each of them would be
searched for. In the first round leaves that others hold are left, and the VM's own have no holder from now on. In the last
one those are emptied, and each frame loses all its sites under such leaves in one walk.
"""

from ..memory.frames cimport FRAME_INDEXED, FRAME_PINNED, FRAME_ZERO, Frame
from ..types cimport LEAF_ENTRIES, LEAF_SHIFT, NONE, hfn_t, leaf_t
from .leaf cimport PTE_PRESENT, PTE_WHERE, SLOTS_PER_PAGE, Leaf, Look


cdef int open_space(Mapping mapping, vmid_t vm, uint32_t nr_vpns, uint32_t nr_gfns) except -1:
    mapping.leaves.open(vm, nr_gfns)
    try:
        mapping.tcache.open(vm, nr_vpns, nr_gfns if nr_vpns else 0)
    except BaseException:
        mapping.leaves.close(vm)
        raise
    mapping.charges.open(vm)
    mapping.ages.open(vm)
    return 0


cdef int close_space(Mapping mapping, vmid_t vm) except -1:
    mapping.charges.reserve(vm, 0)
    _empty_all(mapping, vm)
    mapping.leaves.close(vm)
    mapping.tcache.close(vm)
    mapping.charges.of[vm].open = 0
    return mapping.recency.end(vm)


cdef int map_zeros(Mapping mapping, leaf_t id, uint32_t index, hfn_t zeros) except -1 nogil:
    cdef Leaf *leaf = mapping.leaves.at(id)
    assert leaf.entries[index] == 0 and mapping.frames.frame[zeros].flags & FRAME_ZERO
    mapping.rmap.add(zeros, id * LEAF_ENTRIES + index)
    leaf.entries[index] = PTE_PRESENT | zeros
    leaf.live += 1
    return 0


cdef int set_limit(Mapping mapping, vmid_t vm, uint32_t pages) except -1:
    """Who can reach its limit is served by an order of its own; see Recency."""
    cdef uint32_t nr_pages = mapping.leaves.directory[vm].nr_pages
    if pages <= nr_pages:           # at one of all its pages, too: what a family shares is charged to one of it
        mapping.recency.begin(vm, nr_pages, pages)
    else:
        mapping.recency.end(vm)
    mapping.charges.of[vm].limit = pages
    return 0


cdef int clear_space(Mapping mapping, vmid_t vm) except -1 nogil:
    _empty_all(mapping, vm)
    mapping.tcache.forget_all(vm)
    return mapping.recency.forget_history(vm)


cdef int _empty_all(Mapping mapping, vmid_t vm) except -1 nogil:
    """The VM lets go of all its leaves; translations cached of them are the caller's business."""
    cdef uint32_t i, j, page
    cdef bint last
    for last in range(2):                   # what nobody else holds is known before any of it goes
        for i in range(mapping.leaves.directory[vm].nr_roots):
            page = mapping.leaves.directory[vm].root[i]
            if page == NONE:
                continue
            for j in range(SLOTS_PER_PAGE):
                if mapping.leaves.slot(page * SLOTS_PER_PAGE + j).leaf != NONE:
                    _let_go(mapping, vm, page * SLOTS_PER_PAGE + j, last)
    return 0


cdef int _let_go(Mapping mapping, vmid_t vm, uint32_t slot_id, bint last) except -1 nogil:
    """The VM holds this leaf no more. First round: leaves that others keep are left, the VM's own have no holder
    from now on. Last round: those go."""
    cdef leaf_t id = mapping.leaves.slot(slot_id).leaf
    cdef Leaf *leaf = mapping.leaves.at(id)
    if last:
        leaf.nr_holders = 1
        mapping.leaves.let_go(slot_id)
        _empty(mapping, vm, id)
        return mapping.leaves.destroy(id)
    if leaf.nr_holders == 1:
        leaf.nr_holders = 0
        return 0
    mapping.leaves.let_go(slot_id)
    if mapping.charges.of[vm].charged == 0:       # as a clone that has written nothing: no frame is its to pass on
        return 0
    mapping.charges.leave(leaf, vm)
    return 0


cdef int _empty(Mapping mapping, vmid_t vm, leaf_t id) except -1 nogil:
    """Unmap everything under a leaf that nobody holds, as all leaves that were this VM's."""
    cdef Leaf *leaf = mapping.leaves.at(id)
    cdef uint32_t i, entry
    cdef Frame *record
    for i in range(LEAF_ENTRIES):
        entry = mapping.leaves.entry(leaf, i)
        record = &mapping.frames.frame[entry & PTE_WHERE]
        if leaf.entries == NULL:            # nobody else names these frames
            record.refs = 0
            mapping.free_frame(entry & PTE_WHERE)
        elif entry & PTE_PRESENT and record.flags & FRAME_INDEXED:
            leaf.entries[i] = 0
            leaf.live -= 1
            mapping.rmap.remove(entry & PTE_WHERE, id * LEAF_ENTRIES + i)
            if record.charge == vm:
                mapping.charges.pass_on(entry & PTE_WHERE)
        elif entry & PTE_PRESENT and record.refs > 1 and not record.flags & FRAME_ZERO:
            mapping.rmap.remove_unheld(entry & PTE_WHERE)
            mapping.lost_sites(entry & PTE_WHERE)
        else:
            mapping.unmap(id, i)
    if leaf.entries == NULL:
        leaf.live = 0
    return 0


cdef bint drop_region(Mapping mapping, vmid_t vm, uint32_t region) except? -1 nogil:
    """No table is needed for that: the leaf goes with its frames."""
    cdef uint32_t i
    cdef Look at
    if not mapping.leaves.look(vm, region << LEAF_SHIFT, &at) or at.leaf.entries != NULL or at.leaf.nr_holders != 1:
        return False
    for i in range(LEAF_ENTRIES if mapping.charges.of[vm].pinned else 0):
        if mapping.frames.frame[(at.entry & PTE_WHERE) + i].flags & FRAME_PINNED:
            return False
    mapping.tcache.drop_region(vm, region)
    _let_go(mapping, vm, at.slot, True)
    return True


cdef int unpin_space(Mapping mapping, vmid_t vm) except -1 nogil:
    cdef uint32_t gfn = 0, index, entry
    cdef Look at
    while gfn < mapping.leaves.directory[vm].nr_pages and mapping.charges.of[vm].pinned:
        for index in range(LEAF_ENTRIES if mapping.leaves.look(vm, gfn, &at) and at.leaf.nr_holders == 1 else 0):
            entry = mapping.leaves.entry(at.leaf, index)
            if entry & PTE_PRESENT:
                mapping.set_pinned(entry & PTE_WHERE, False)
        gfn += LEAF_ENTRIES
    return 0
