"""What the zspages of a pool hold: accounts, their layout, and the recount of all that is kept of them."""

from cpython.exc cimport PyErr_CheckSignals

from ..memory.frames cimport FRAME_ZSPAGE
from ..types cimport PAGE_SIZE, uint32_t, uint64_t
from .sizeclass cimport SizeClass
from .zspage cimport (FIRST_WORD, FREE_MASK, GIVEN_BACK, CLASS_SHIFT, GROUP_FULL, HEAD, NO_ZSPAGE, NR_GROUPS, OWNER,
                      SPARE_FREE, Zspage, Zspages, free_slot_of, group_of, handle_of, spare_of, used_of)

from memvirt.errors import InvariantError


def accounts(Zspages pool not None):
    """Totals over all classes. Sparse waste: slots without an object; tail waste: ends of zspages too short for a
    slot; freeable: frames that compaction would give back."""
    cdef uint64_t slots = 0, used_bytes = 0, sparse = 0, tail = 0, freeable = 0, zspages, free_slots
    for i in range(pool.nr_classes):
        shape = pool.classes[i]
        zspages = pool.nr_zspages[i]
        free_slots = zspages * shape.objects - pool.nr_used[i]
        slots += zspages * shape.objects
        used_bytes += <uint64_t>pool.nr_used[i] * shape.size
        sparse += free_slots * shape.size
        tail += zspages * (shape.frames * PAGE_SIZE - shape.objects * shape.size)
        freeable += free_slots // shape.objects * shape.frames
    return {"slots": slots, "used_slot_bytes": used_bytes, "sparse_waste_bytes": sparse, "tail_waste_bytes": tail,
            "freeable_frames": freeable}


def classes_report(Zspages pool not None):
    """A dict per size class, smallest first: its shape, what is in it, and its zspages by fullness group."""
    return [{**pool.classes[i], "zspages": pool.nr_zspages[i], "used": pool.nr_used[i],
             "groups": [len(members(pool, i, group)) for group in range(NR_GROUPS)]}
            for i in range(pool.nr_classes)]


def layout(Zspages pool not None):
    """Every zspage, by class, from the fullest group down, as (size, frames, owner or None of each slot)."""
    return [(pool.classes[i].size,
             [pool.word[zspage - 1 - j] for j in range(pool.classes[i].frames)],
             [None if spare_of(pool.at(zspage).cells[j]) == SPARE_FREE else pool.at(zspage).cells[j] & OWNER
              for j in range(pool.classes[i].objects)])
            for i in range(pool.nr_classes) for group in range(GROUP_FULL, -1, -1)
            for zspage in members(pool, i, group)]


def members(Zspages pool not None, int size_class, int group):
    """Zspages of a class in a fullness group, the one that entered it last first."""
    cdef uint32_t zspage = pool.head[size_class][group]
    members = []
    while zspage != NO_ZSPAGE:
        members.append(zspage)
        zspage = pool.at(zspage).next
    return members


def check(Zspages pool not None):
    """Recounts everything from the records; O(slots). Raises InvariantError."""
    cdef uint32_t zspage, prev, nr_zspages, nr_used, nr_frames = 0, words = FIRST_WORD
    cdef int size_class, group
    seen = set()
    for size_class in range(pool.nr_classes):
        nr_zspages = nr_used = 0
        for group in range(NR_GROUPS):
            prev = NO_ZSPAGE
            zspage = pool.head[size_class][group]
            while zspage != NO_ZSPAGE:
                PyErr_CheckSignals()                # a recount may stop anywhere
                _check_listed(pool, zspage, size_class, seen)
                _check_one(pool, zspage, HEAD | prev, group)
                nr_zspages += 1
                nr_used += used_of(pool.at(zspage))
                prev, zspage = zspage, pool.at(zspage).next
        if nr_zspages != pool.nr_zspages[size_class] or nr_used != pool.nr_used[size_class]:
            raise InvariantError(f"class {size_class}: {pool.nr_zspages[size_class]} zspages and "
                                 f"{pool.nr_used[size_class]} objects, recount {nr_zspages} and {nr_used}")
        nr_frames += nr_zspages * pool.classes[size_class].frames
        zspage = pool.free_record[size_class]
        while zspage != NO_ZSPAGE:
            _check_listed(pool, zspage, size_class, seen)
            if used_of(pool.at(zspage)) != GIVEN_BACK or any([
                    pool.find(handle_of(zspage, j)) != NO_ZSPAGE for j in range(pool.shape(zspage).objects)]):
                raise InvariantError(f"zspage {zspage}: its record is free, yet not marked so, or not all its cells")
            zspage = pool.at(zspage).next
    for zspage in seen:
        words += pool._words(pool.at(zspage).state >> CLASS_SHIFT)
    if nr_frames != pool.nr_frames or words != pool._end:
        raise InvariantError(f"{pool.nr_frames} frames, {pool._end} words of records; recount {nr_frames}, {words}")


cdef object _check_listed(Zspages pool, uint32_t zspage, int size_class, set seen):
    if zspage in seen or zspage >= pool._end or pool.at(zspage).state >> CLASS_SHIFT != <uint32_t>size_class:
        raise InvariantError(f"zspage {zspage}: not of class {size_class}, in two lists, or past the end {pool._end}")
    seen.add(zspage)


cdef object _check_one(Zspages pool, uint32_t zspage, uint32_t prev, int group):
    cdef Zspage *record = pool.at(zspage)
    cdef const SizeClass *shape = pool.shape(zspage)
    cdef uint32_t i, used = 0
    if record.prev != prev:
        raise InvariantError(f"zspage {zspage} names {record.prev:#x} as the one before it, not {prev:#x}")
    if group == 0 or group != group_of(used_of(record), shape.objects):
        raise InvariantError(f"zspage {zspage} with {used_of(record)} of {shape.objects} objects is in the list of "
                             f"group {group}")
    for i in range(shape.frames):
        frame = pool.word[zspage - 1 - i]
        if pool.frames.frame[frame].state != FRAME_ZSPAGE or pool.frames.frame[frame].where != zspage:
            raise InvariantError(f"zspage {zspage} has frame {frame}, which is in state "
                                 f"{pool.frames.frame[frame].state} and names {pool.frames.frame[frame].where}")
    for i in range(shape.objects):
        used += spare_of(record.cells[i]) != SPARE_FREE
        if record.cells[i] & HEAD or pool.zspage_of(handle_of(zspage, i)) != zspage:
            raise InvariantError(f"zspage {zspage} is not found from the cell of its slot {i}, "
                                 f"{record.cells[i]:#x}")
    i = free_slot_of(record)
    free_slots = set()
    while len(free_slots) + used < shape.objects:
        if i >= shape.objects or i in free_slots or spare_of(record.cells[i]) != SPARE_FREE:
            raise InvariantError(f"zspage {zspage}: slot {i} is in the free chain but not free, or there twice")
        free_slots.add(i)
        i = record.cells[i] & FREE_MASK
    if used != used_of(record):
        raise InvariantError(f"zspage {zspage}: {used_of(record)} objects, recount {used}")
