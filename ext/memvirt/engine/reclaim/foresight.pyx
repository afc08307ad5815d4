"""What reclaim could free, foretold before anybody's page goes: an admission that cannot be met costs nothing.

It is an estimate of what may go, not of what will: what a page comes to in the pool is not known, and it counts as room.
"""

from libc.string cimport memset

from ..mapping.mapping cimport Mapping
from ..memory.frames cimport FRAME_CACHE, FRAME_GUEST, FRAME_ORDERED, Frame
from .evict cimport Eviction
from ..types cimport MAX_VMS, NONE, hfn_t, uint32_t, uint64_t, vmid_t


cdef bint foretell(Mapping mapping, Eviction eviction, uint64_t frames, vmid_t but,
                   vmid_t providing) noexcept nogil:
    """True if `frames` frames are free, or would be, beside what is set aside for all VMs but one, once all pages have gone
    that may go: as they are, into a slot, or into the pool. None of the VM `providing`."""
    cdef uint32_t easy[MAX_VMS]
    cdef uint32_t hard[MAX_VMS]
    cdef uint64_t found = mapping.frames.buddy.nr_free, gone = 0, dirty = 0, slots, value
    cdef uint32_t vm, loose
    cdef hfn_t frame
    cdef Frame *record
    memset(easy, 0, sizeof(easy))
    memset(hard, 0, sizeof(hard))
    for frame in range(mapping.frames.nr_frames):
        if frame % 65536 == 0 and mapping.clock.interrupt.asked():
            return False
        record = &mapping.frames.frame[frame]
        found += record.state == FRAME_CACHE
        if record.state != FRAME_GUEST or not record.flags & FRAME_ORDERED or record.charge == providing:
            continue
        if record.backing != NONE or eviction.is_value(frame, &value):
            easy[record.charge] += 1
        else:
            hard[record.charge] += 1
    for vm in range(MAX_VMS):
        loose = mapping.charges.of[vm].charged
        loose -= min(loose, mapping.charges.of[vm].reservation)
        gone += min(easy[vm], loose)
        dirty += min(hard[vm], loose - min(easy[vm], loose))
    if mapping.zpool is None:
        slots = 0 if mapping.swap is None else mapping.swap.nr_slots - mapping.swap.nr_used
        dirty = min(dirty, slots)
    found += gone + dirty
    frames += mapping.charges.aside(but, True)
    return found >= frames + mapping.backings.records.frames_needed(<uint32_t>(gone + dirty))
