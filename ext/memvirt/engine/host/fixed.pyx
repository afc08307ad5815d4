"""Memory for tables whose size is known when a host or a VM is made: it is taken then, in blocks as large as there are.

The tables themselves lie on this machine's heap. Their frames stay in use as "fixed" as long as the host or the VM lives,
so that a host's memory holds what a hypervisor's would.
"""

from memvirt.errors import AdmissionError

from ..mapping.ages cimport AGES
from ..memory.frames cimport FRAME_FIXED, Frame
from ..types cimport HUGE_ORDER, MAX_ORDER, NONE16, OK, PAGE_SHIFT, PAGE_SIZE, hfn_t

cdef enum:
    VM_BYTES = 64 + 12 * AGES       # of each VM: its account, and two histograms of ages
    GUEST_VPN_BYTES = 8             # of a guest's tables, beside its order, allocator and disk: see GuestMemory
    GUEST_PAGE_BYTES = 9


cdef uint64_t frames_of(uint64_t bytes) noexcept:
    return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT


cdef uint64_t bytes_of_host(Frames frames, Order order, SwapSpace swap, bint readahead) except? 0:
    """Per frame: record, age, place in the order, free map. Per 2 MiB block: compaction's survey. Per swap slot: the slot
    maps, and readahead's record."""
    cdef uint64_t total = frames.nr_frames * <uint64_t>(sizeof(Frame) + 1) + frames.buddy.metadata_bytes
    total += (frames.nr_frames + (<uint64_t>1 << HUGE_ORDER) - 1 >> HUGE_ORDER) * 3
    total += order.metadata_bytes()
    if swap is not None:
        total += swap.metadata_bytes()
        total += swap.nr_slots * <uint64_t>sizeof(uint32_t) if readahead else 0
    return total


cdef uint64_t bytes_of_vm(uint32_t nr_pages, uint32_t nr_vpns, bint runs, Scanner scanner) except? 0:
    cdef uint64_t total = (<uint64_t>nr_vpns * 4 + 2 * (nr_vpns >> 9)) * runs + (nr_pages >> 15) + VM_BYTES
    return total if scanner is None else total + scanner.metadata_bytes_of(nr_pages)


cdef uint64_t frames_of_guest(uint32_t nr_pages, uint32_t nr_vpns) noexcept:
    return frames_of(nr_vpns * <uint64_t>GUEST_VPN_BYTES + nr_pages * <uint64_t>GUEST_PAGE_BYTES)


cdef list take_fixed(Frames frames, Reclaim reclaim, int64_t now, uint64_t bytes, object what):
    cdef uint64_t missing = frames_of(bytes)
    cdef uint32_t keep = frames.min_pages
    cdef int order = MAX_ORDER
    cdef hfn_t frame
    taken = []
    if reclaim is not None and missing:
        reclaim.make_room(missing + keep, now)
        reclaim.mapping.clock.interrupt.deliver()
        keep += reclaim.mapping.charges.aside(NONE16)
    if missing > frames.nr_frames or not frames.can_take(<uint32_t>missing, keep):
        raise AdmissionError(f"{what} need {missing} frames; {frames.buddy.nr_free} are free, {keep} of them reserved")
    while missing:
        if (<uint64_t>1 << order) > missing or frames.claim(order, FRAME_FIXED, &frame) != OK:
            order -= 1
            continue
        taken.append((frame, order))
        missing -= <uint64_t>1 << order
    return taken


cdef int give_fixed(Frames frames, list taken) except -1:
    for frame, order in taken:
        frames.give(frame, order)
    return 0
