"""The virtual machine under a guest model: its memory accesses become accesses of a VM on the host.

What the guest kernel does to a page (clear it, read it from its disk, write it out) is done through the same fault
handlers as the guest's own loads and stores. So a guest that clears a page which the host has swapped out makes the host
read it first (the host cannot know), and a guest that swaps out such a page makes the host bring it in only to be
written again: double paging, as on real hosts.

The guest's disk is a file of its own. Device time is taken from the host's one queue.
"""

from memvirt.errors import InvariantError, StoreError

from libc.stdlib cimport calloc, free

from ..counters cimport CPU_BALLOON, CPU_GUEST, CPU_SWAP
from ..reclaim.fault cimport Faults
from .guest cimport Guest
from .hardware cimport Hardware
from ..stores.swapspace cimport SwapSpace
from ..types cimport CORRUPT, IO_FAILED, NO_FRAME, OK, gfn_t, hfn_t, int64_t, uint8_t, uint32_t, uint64_t, vmid_t, vpn_t


cdef class HostHardware(Hardware):
    """The hardware of VM `vm`. `disk`: where the guest swaps to, or None."""

    def __cinit__(self, Faults faults not None, vmid_t vm, SwapSpace disk=None):
        self.faults = faults
        self.content = faults.content
        self.vm = vm
        self.disk = disk
        self.nr_disk_slots = 0 if disk is None else disk.nr_slots
        self.check_sum = <uint32_t *>calloc(self.nr_disk_slots + 1, sizeof(uint32_t))
        if self.check_sum == NULL:
            raise MemoryError("guest disk checksums")
        if disk is not None and disk.take(disk.nr_slots, self.check_sum) != disk.nr_slots:
            raise InvariantError("a guest disk must be new: the guest itself decides which slots it uses")

    def __dealloc__(self):
        free(self.check_sum)

    def metadata_bytes(self):
        """What the host keeps of the guest's disk: checksums and the maps of its slots. (What its files hold is known
        instead of being read from it: zeros.)"""
        if self.disk is None:
            return 0
        return (self.nr_disk_slots + <uint64_t>1) * sizeof(uint32_t) + self.disk.metadata_bytes()

    cdef void end(self) noexcept:
        """Its VM is no more, or goes on with other hardware: the disk is gone, whoever keeps this."""
        if self.disk is not None:
            self.disk.release()

    cdef int copy_disk(self, HostHardware parent, Guest guest) except -1:
        """Give a clone a disk with what its parent's guest has out on its own."""
        cdef uint32_t vpn, slot
        cdef uint8_t page[4096]
        cdef const uint8_t *source = page
        cdef uint8_t done
        if self.nr_disk_slots == 0:
            return 0
        for vpn in range(guest.memory.nr_vpns):
            slot = guest.memory.copy[vpn]
            if slot >= self.nr_disk_slots:
                continue
            done = 0
            if parent.disk.read(slot, page) == OK:
                self.disk.write(1, &slot, &source, &done)
            if not done:
                raise StoreError(f"the guest disk of the new clone: slot {slot} could not be copied")
            self.check_sum[slot] = parent.check_sum[slot]
        return 0

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
        cdef const uint8_t *page
        cdef uint8_t done = 0
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
        page = self.content.raw(frame)
        self.disk.write(1, &slot, &page, &done)
        self.check_sum[slot] = self.content.checksum(frame)
        return OK if done else IO_FAILED

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
        if self.content.checksum(frame) != self.check_sum[slot]:
            return CORRUPT
        if self.faults.index is not None:
            self.faults.index.arrived(frame)
        return OK

    cdef int forget_slot(self, uint32_t slot) except -1 nogil:
        return OK

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
