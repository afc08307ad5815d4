"""The virtual machine under a guest model: its memory accesses become accesses of a VM on the host.

What the guest kernel does to a page (clear it, read it from its disk, write it out) is done through the same fault
handlers as the guest's own loads and stores. So a guest that clears a page which the host has swapped out makes the host
read it first (the host cannot know), and a guest that swaps out such a page makes the host bring it in only to be
written again: double paging, as on real hosts.

What a message of free page reporting names is given up at once, or lazily (`hints`): then it stays mapped, and the guest
has it back by a write.

The guest's disk is in a file that only the disks of its copies share. Device time is taken from the host's one queue.
"""

from ..counters cimport CPU_BALLOON, CPU_FAULT, CPU_GUEST, CPU_SWAP
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE, Look
from ..mapping.spaces cimport drop_region
from ..reclaim.fault cimport Faults
from ..reclaim.giveup cimport give_up_lazily
from .guest cimport Guest
from .guest_disk cimport GuestDisk
from .hardware cimport WORK_CLAIM_BLOCK, WORK_RESTORE_BLOCK, GuestWork, Hardware
from ..types cimport (CORRUPT, IO_FAILED, LEAF_ENTRIES, LEAF_SHIFT, NO_FRAME, OK, gfn_t, hfn_t, int64_t, uint32_t, vmid_t,
                      vpn_t)

cdef enum:
    MOVE_TRIES = 8              # to have two pages in memory at once


cdef class HostHardware(Hardware):
    """The hardware of VM `vm`. `giving`: {operation: ns}, one for each field of Giving. `disk`: where the guest swaps to;
    None: nowhere, or `share_disk` will say. `hints`: blocks that the guest reports are given up lazily."""

    def __cinit__(self, Faults faults not None, vmid_t vm, dict giving not None, GuestDisk disk=None, bint hints=False):
        self.faults = faults
        self.content = faults.content
        self.vm = vm
        self.costs = giving
        self.disk = disk
        self.hints = hints

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
        self.aside_ns += self.faults.clock.now - began - self.faults.clock.costs.swap_submit
        self.faults.reclaim.stalls.note(began, self.faults.clock.now, not self.faults.reclaim.stalls.as_linux)

    cdef void _host_spends(self, int64_t ns) noexcept nogil:
        """On what a guest has given: a processor of the host's own does it."""
        self.faults.clock.spend(CPU_BALLOON, ns)
        self.aside_ns += ns

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

    cdef int begin_report(self, bint message) except -1 nogil:
        """A message leaves the guest: an exit."""
        self.reporting = True
        self.nr_freed = 0
        if message:
            self.faults.clock.spend(CPU_BALLOON, self.faults.clock.costs.fault)
        return 0

    cdef uint32_t end_report(self) noexcept nogil:
        self.reporting = False
        return self.count_freed()

    cdef uint32_t count_freed(self) noexcept nogil:
        cdef uint32_t freed = self.nr_freed
        self.nr_freed = 0
        return freed

    cdef int _release_held(self, gfn_t gfn, int64_t cost) except -1 nogil:
        """What costs is a frame that comes free, or a slot, or a compressed object."""
        cdef bint held = self.faults.holds(self.vm, gfn)
        cdef int outcome = self.faults.release(self.vm, gfn)
        if outcome == OK and held and not self.faults.holds(self.vm, gfn):
            self._host_spends(cost)
            self.nr_freed += 1
        return outcome

    cdef int release(self, gfn_t gfn) except -1 nogil:
        cdef bint stays, freed
        cdef int outcome
        if self.reporting and self.hints:
            outcome = give_up_lazily(self.faults, self.vm, gfn, &freed)
            self.nr_freed += freed
            return outcome
        if self.reporting:
            return self._release_held(gfn, self.faults.clock.costs.evict)
        stays = self.faults.pinned(self.vm, gfn)     # a device may write to it: its frame is not given up
        outcome = self._release_held(gfn, self.costs.release_page)
        self.faults.clock.spend(CPU_BALLOON, self.costs.give_page)
        if outcome == OK and not stays:
            self.faults.meter.ev.balloon_pages_released += 1
        return outcome

    cdef int release_block(self, gfn_t first) except -1 nogil:
        """At once if it is mapped as one and nothing of it is pinned, else page by page: then each costs what evicting one
        does, for one call names all."""
        cdef uint32_t before = self.nr_freed
        cdef gfn_t gfn
        cdef int outcome = OK
        if drop_region(self.faults.mapping, self.vm, first >> LEAF_SHIFT):
            self.nr_freed += LEAF_ENTRIES
            self._host_spends(self.costs.release_block)
        else:
            for gfn in range(first, first + LEAF_ENTRIES):
                outcome = self._release_held(gfn, self.faults.clock.costs.evict)
                if outcome != OK:
                    break
        if not self.reporting:
            self.faults.meter.ev.balloon_pages_released += self.nr_freed - before
        return outcome

    cdef int move(self, gfn_t source, gfn_t target) except -1 nogil:
        """Both pages are brought in; to bring one may cost the other its frame."""
        cdef Look at
        cdef hfn_t old, new
        cdef uint32_t _try
        cdef int outcome = NO_FRAME
        for _try in range(MOVE_TRIES):
            outcome = self.faults.reach(self.vm, source, False, &old)
            if outcome == OK:
                outcome = self.faults.reach(self.vm, target, True, &new)
            if outcome != OK:
                return outcome
            self.faults.leaves.look(self.vm, source, &at)
            if at.entry & PTE_PRESENT and (at.entry & PTE_WHERE) == old:
                self.faults.clock.spend(CPU_BALLOON, self.faults.clock.costs.move_page)
                self.content.copy(new, old)
                if self.faults.index is not None:
                    self.faults.index.arrived(new)
                return OK
        return NO_FRAME

    cdef int install(self, gfn_t first) except -1 nogil:
        """An exit, and frames for all pages that have none: 2 MiB at once where the host maps them so."""
        cdef hfn_t frame
        cdef gfn_t gfn
        cdef int outcome = OK
        self.faults.clock.spend(CPU_FAULT, self.faults.clock.costs.fault)
        for gfn in range(first, first + LEAF_ENTRIES):
            if not self.faults.holds(self.vm, gfn):
                outcome = self.faults.reach(self.vm, gfn, True, &frame)
                if outcome != OK:
                    break
        return outcome

    cdef int64_t now(self) noexcept nogil:
        return self.faults.clock.now

    cdef void pay(self, GuestWork work, uint32_t times) noexcept nogil:
        cdef Giving *costs = &self.costs
        cdef int64_t[10] price = [costs.message, costs.return_page, costs.give_block, costs.return_block,
                                  costs.offline_block, costs.online_block, costs.claim_block, costs.restore_block,
                                  costs.unplug_block, costs.plug_block]
        if work == WORK_CLAIM_BLOCK or work == WORK_RESTORE_BLOCK:
            self._host_spends(price[<int>work] * times)
        else:
            self.faults.clock.spend(CPU_BALLOON, price[<int>work] * times)

    cdef int64_t count_aside(self) noexcept nogil:
        cdef int64_t ns = self.aside_ns
        self.aside_ns = 0
        return ns

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
