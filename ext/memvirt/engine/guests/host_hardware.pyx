"""The virtual machine under a guest model: its memory accesses become accesses of a VM on the host.

What the guest kernel does to a page (clear it, read it from its disk, write it out) is done through the same fault
handlers as the guest's own loads and stores. So a guest that clears a page which the host has swapped out makes the host
read it first (the host cannot know), and a guest that swaps out such a page makes the host bring it in only to be
written again: double paging, as on real hosts.

The guest's disk is in a file that only the disks of its copies share. Device time is taken from the host's one queue.
"""

from ..counters cimport CPU_BALLOON, CPU_GUEST, CPU_SWAP
from ..reclaim.fault cimport Faults
from .guest cimport Guest
from .guest_disk cimport GuestDisk
from .hardware cimport Hardware
from ..types cimport CORRUPT, IO_FAILED, NO_FRAME, OK, gfn_t, hfn_t, int64_t, uint32_t, vmid_t, vpn_t


cdef class HostHardware(Hardware):
    """The hardware of VM `vm`. `disk`: where the guest swaps to; None: nowhere, or `share_disk` will say."""

    def __cinit__(self, Faults faults not None, vmid_t vm, GuestDisk disk=None):
        self.faults = faults
        self.content = faults.content
        self.vm = vm
        self.disk = disk

    def metadata_bytes(self):
        """What the host keeps of the guest's disk: checksums and the maps of its slots. (What its files hold is known
        instead of being read from it: zeros.)"""
        return 0 if self.disk is None else self.disk.file.disk_bytes

    cdef int end(self) except -1:
        """Its VM is no more, or goes on with other hardware: the disk is gone, whoever keeps this."""
        return 0 if self.disk is None else self.disk.end()

    cdef int share_disk(self, HostHardware other, HostHardware instead) except -1:
        if other.disk is not None:
            self.disk = other.disk.copied(None if instead is None else instead.disk)
        return 0

    cdef int check_disk(self, Guest guest) except -1:
        return 0 if self.disk is None else self.disk.check_named(guest.memory)

    cdef int clear(self, gfn_t gfn) except -1 nogil:
        cdef hfn_t frame
        cdef int outcome = self.faults.reach(self.vm, gfn, True, &frame)
        self.faults.clock.spend(CPU_GUEST, self.faults.clock.costs.guest_fault)
        if outcome == OK:
            self.content.clear(frame)
        return outcome

    cdef int read_file(self, gfn_t gfn, vpn_t vpn) except -1 nogil:
        cdef hfn_t frame
        cdef int outcome = self.faults.reach(self.vm, gfn, True, &frame)
        self.faults.clock.spend(CPU_GUEST, self.faults.clock.costs.guest_fault)
        if outcome == OK:
            self.faults.clock.wait_until(self.faults.device.read(self.faults.clock.now, 1))
            self.content.fill(frame, 0)              # files hold zeros
            if self.faults.index is not None:
                self.faults.index.arrived(frame)
        return outcome

    cdef void _waited_since(self, int64_t began) noexcept nogil:
        """For its own swap: the guest's pressure, not the host's, where that is the kernel's."""
        self.faults.reclaim.stalls.note(began, self.faults.clock.now, not self.faults.reclaim.stalls.as_linux)

    cdef int read_out(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        cdef hfn_t frame
        cdef int64_t began
        cdef int outcome = self.faults.reach(self.vm, gfn, False, &frame)
        if outcome == OK and not self.faults.reclaim.stalls.make_room():
            outcome = NO_FRAME
        if outcome != OK:
            return outcome
        began = self.faults.clock.now
        self.faults.clock.spend(CPU_SWAP, self.faults.clock.costs.swap_submit)
        self.faults.clock.wait_until(self.faults.device.write(self.faults.clock.now, 1))
        self._waited_since(began)
        return self.disk.write(slot, self.content.raw(frame), self.content.checksum(frame))

    cdef int write_in(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        cdef hfn_t frame
        cdef int64_t began
        cdef int outcome = self.faults.reach(self.vm, gfn, True, &frame)
        if outcome == OK and not self.faults.reclaim.stalls.make_room():
            outcome = NO_FRAME
        if outcome != OK:
            return outcome
        began = self.faults.clock.now
        self.faults.clock.spend(CPU_SWAP, self.faults.clock.costs.swap_submit)
        self.faults.clock.wait_until(self.faults.device.read(self.faults.clock.now, 1))
        self._waited_since(began)
        if self.disk.read(slot, self.content.raw_target(frame)) != OK:
            return IO_FAILED
        if self.content.checksum(frame) != self.disk.check_sum(slot):
            return CORRUPT
        if self.faults.index is not None:
            self.faults.index.arrived(frame)
        return OK

    cdef int forget_slot(self, uint32_t slot) except -1 nogil:
        return self.disk.forget(slot)

    cdef int begin_report(self) except -1 nogil:
        """The message leaves the guest: an exit."""
        self.reporting = True
        self.nr_freed = 0
        self.faults.clock.spend(CPU_BALLOON, self.faults.clock.costs.fault)
        return 0

    cdef uint32_t end_report(self) noexcept nogil:
        self.reporting = False
        return self.nr_freed

    cdef int _release_reported(self, gfn_t gfn) except -1 nogil:
        """Of a block at a time: what costs is each frame that comes free, or slot, or compressed object."""
        cdef bint held = self.faults.holds(self.vm, gfn)
        cdef int outcome = self.faults.release(self.vm, gfn)
        if outcome == OK and held and not self.faults.holds(self.vm, gfn):
            self.faults.clock.spend(CPU_BALLOON, self.faults.clock.costs.evict)
            self.nr_freed += 1
        return outcome

    cdef int release(self, gfn_t gfn) except -1 nogil:
        cdef bint stays
        cdef int outcome
        if self.reporting:
            return self._release_reported(gfn)
        stays = self.faults.pinned(self.vm, gfn)     # a device may write to it: its frame is not given up
        outcome = self.faults.release(self.vm, gfn)
        self.faults.clock.spend(CPU_BALLOON, self.faults.clock.costs.balloon_page)
        if outcome == OK and not stays:
            self.faults.meter.ev.balloon_pages_released += 1
        return outcome

    cdef int flush(self, vpn_t vpn) except -1 nogil:
        self.faults.mapping.tcache.drop_vpn(self.vm, vpn)
        return OK

    cdef void rehome(self, const vpn_t *vpn_of) noexcept nogil:
        self.faults.mapping.tcache.view[self.vm].vpn_of = vpn_of

    cdef bint test_and_clear_accessed(self, vpn_t vpn, gfn_t gfn) noexcept nogil:
        """The guest's own accessed mark: a translation cached since the mark was last cleared says the page was used.
        Only this VM's translation goes; the host's marks are the host's."""
        cdef uint32_t *entry = &self.faults.mapping.tcache.view[self.vm].entry[vpn]
        cdef bint used = entry[0] != 0
        entry[0] = 0
        return used
