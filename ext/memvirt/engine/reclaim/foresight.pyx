"""What reclaim could free, foretold before anybody's page goes: an admission that cannot be met costs nothing.

Counted is what is certain, whatever the order in which pages go:

    as it is        a page whose record has its bytes still, one that was given up lazily, a page of one word (which takes a
                    record)
    into a slot     any other, as long as there are slots. A VM that keeps a part of its pages may lose those that take
                    slots first, and have them wasted on it
    less            a table for each 2 MiB mapping that has to become small, frames for new records, and pages that no
                    record may be made for

Two things are not known. What a page comes to in the pool: with one, each page counts as a frame. And that a store fails.
"""

from libc.string cimport memset

from ..mapping.mapping cimport Mapping
from ..mapping.rmap cimport Walk
from ..memory.frames cimport FRAME_CACHE, FRAME_GUEST, FRAME_LAZY, FRAME_ORDERED, Frame
from .evict cimport Eviction
from ..types cimport HUGE_ORDER, MAX_VMS, NONE, hfn_t, int64_t, uint32_t, uint64_t, vmid_t


# A VM's pages that may go.
cdef struct Loose:
    uint32_t clean              # out already, as they are; or given up lazily
    uint32_t same               # of one word
    uint32_t hard               # of anything else
    uint32_t huge               # 2 MiB mappings that have such pages


cdef bint foretell(Mapping mapping, Eviction eviction, uint64_t frames, vmid_t but,
                   vmid_t providing) noexcept nogil:
    """True if `frames` frames are free, or would be, beside what is set aside for all VMs but one, once all pages have gone
    that may go: as they are, into a slot, or into the pool. None of the VM `providing`."""
    cdef Loose of[MAX_VMS]
    cdef Loose *own
    cdef uint64_t found = mapping.frames.buddy.nr_free, value
    cdef hfn_t frame, block = NONE
    cdef Frame *record
    cdef Walk walk
    memset(of, 0, sizeof(of))
    for frame in range(mapping.frames.nr_frames):
        if frame % 65536 == 0 and mapping.clock.interrupt.asked():
            return False
        record = &mapping.frames.frame[frame]
        found += record.state == FRAME_CACHE
        if (record.state != FRAME_GUEST or not record.flags & (FRAME_ORDERED | FRAME_LAZY)
                or record.charge == providing):
            continue
        own = &of[record.charge]
        if record.backing != NONE or record.flags & FRAME_LAZY:
            own.clean += 1
        elif eviction.is_value(frame, &value):
            own.same += 1
        else:
            own.hard += 1
        if mapping.leaves.nr_huge and frame >> HUGE_ORDER != block:
            mapping.rmap.walk(frame, &walk)
            if walk.leaf.entries == NULL:
                own.huge += 1
                block = frame >> HUGE_ORDER
    return <int64_t>found + _going(mapping, of) >= <int64_t>(frames + mapping.charges.aside(but, True))


cdef int64_t _going(Mapping mapping, Loose *of) noexcept nogil:
    """Frames that come free when all of these go, less what that takes."""
    cdef uint64_t easy = 0, dirty = 0, wasted = 0, records = 0, splits = 0, slots, room
    cdef uint32_t vm, loose, few, hard
    cdef int64_t lost = 0
    for vm in range(MAX_VMS):
        loose = mapping.charges.of[vm].charged
        loose -= min(loose, mapping.charges.of[vm].reservation)
        few = min(of[vm].clean + of[vm].same, loose)
        hard = min(of[vm].hard, loose - few)
        easy += few
        dirty += hard
        wasted += min(of[vm].hard, loose) - hard
        records += min(of[vm].same, loose)
        splits += min(of[vm].huge, few + hard)
    if mapping.zpool is None:
        slots = 0 if mapping.swap is None else mapping.swap.nr_slots - mapping.swap.nr_used
        dirty = min(dirty, slots - min(slots, wasted))
    records += dirty
    room = mapping.backings.records.most - mapping.backings.records.nr_used
    if records > room:
        lost = <int64_t>(records - room)
        records = room
    return <int64_t>(easy + dirty) - lost - <int64_t>(splits + mapping.backings.records.frames_needed(<uint32_t>records))
