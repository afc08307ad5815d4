"""The host: makes VMs, clones, snapshots and reverts them, ends them, and does to memory what it is told.

A VM costs metadata of fixed size at creation (its translations, its directory root, its guest model's tables), taken
from host memory; a host that has no room for that refuses the VM with AdmissionError and is as it was before: where it
is known beforehand that memory will not do, no page goes. A snapshot is a clone that never runs: it has no translations and
stands in a list of its own.

What may fail comes first, and what fails, by an outcome or by an exception, leaves host and VMs as they were. `vms` and
`snapshots` are the only lists of what there is: whoever shows them to users asks here.
"""

from posix.unistd cimport getpid

from memvirt.errors import AdmissionError, ConfigError, InvariantError

from ..agenda cimport FIRST_BALLOON, FIRST_VM
from ..mapping.ages cimport AGES
from .core cimport Core
from ..guests.balloon cimport Balloon
from ..guests.guest cimport Guest
from ..mapping.leaf cimport PTE_PRESENT, PTE_WHERE
from ..guests.host_hardware cimport HostHardware
from ..splitmix cimport mix
from ..types cimport (LEAF_ENTRIES, MAX_VMS, NONE, NONE16, OK, PAGE_SHIFT, PAGE_SIZE, int64_t, uint32_t, uint64_t, vmid_t)
from .vm cimport Vm

cdef enum:
    VM_BYTES = 64 + 12 * AGES       # of each VM: its account, and two histograms of ages
    GUEST_VPN_BYTES = 8             # of a guest's tables, beside its order, allocator and disk: see GuestMemory
    GUEST_PAGE_BYTES = 9


cdef uint64_t frames_of(uint64_t bytes) noexcept:
    return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT


cdef uint64_t draws_of(Vm vm) noexcept:
    """The seed of what a VM's guest draws: of the host's seed and the VM's number, as its tags are."""
    return mix(vm.hits.tag_base)


cdef class Engine(Core):
    """One host; see Core for its options."""

    cdef Vm _new_vm(self, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs, uint64_t further):
        """A VM without memory; one that never runs (a snapshot) has no translations and no place among the VMs. `further`:
        frames that it will need at once, at least; where those cannot be had, nobody's pages go for the rest."""
        cdef Vm vm = Vm.__new__(Vm)
        cdef int id = 0
        self._enter()                           # not in the middle of a call
        self._leave()
        if runs and name in self.vms:
            raise ConfigError(f"there is a VM '{name}' already; names are unique on a host")
        while self.mapping.account[id].open:
            id += 1
            if id == MAX_VMS - 1:
                raise AdmissionError(f"a host has room for {MAX_VMS - 1} VMs")
        if nr_pages == 0 or nr_vpns < nr_pages or nr_vpns > 1 << 31:
            raise ConfigError(f"VM '{name}': {nr_pages} pages, {nr_vpns} virtual pages")
        bytes = (<uint64_t>nr_vpns * 4 + 2 * (nr_vpns >> 9)) * runs + (nr_pages >> 15) + VM_BYTES
        if self.scanner is not None:
            bytes += self.scanner.metadata_bytes_of(nr_pages)
        further += frames_of(bytes)
        if further > self.frames.nr_frames or not self.reclaim.could_take(<uint32_t>further):
            self.clock.interrupt.deliver()
            raise AdmissionError(f"VM '{name}' needs {further} frames to begin with; {self.frames.buddy.nr_free} are free, "
                                 f"and others cannot give back enough")
        vm.fixed = self._take_fixed(bytes, f"the tables of VM '{name}'")
        vm.engine = self
        vm.id = <vmid_t>id
        vm.name = name
        vm.nr_pages = nr_pages
        vm.nr_vpns = nr_vpns
        vm.worker = Balloon(self.clock, id)
        try:
            self.mapping.open(vm.id, nr_vpns if runs else 0, nr_pages)
        except BaseException:
            self._give_fixed(vm)
            raise
        self.who[FIRST_BALLOON + id] = <void *>vm.worker
        self.who[FIRST_VM + id] = <void *>vm
        vm.hits.entry = self.mapping.tcache.view[id].entry
        vm.hits.writes = self.mapping.tcache.view[id].writes
        vm.hits.arena = self.content.arena
        vm.hits.ids = self.content.ids
        vm.hits.tag_base = <uint32_t>mix(self.seed * 1000003 + mix(self.nr_created)) & 0x7FFFFFFF
        self.nr_created += 1
        vm.alive = True
        vm.now_ns = self.sim_ns()
        self.stalls.open(vm.id, vm.now_ns)
        self.reclaim.hand[id] = 0
        self.faults.names[id] = name
        vm.frozen = not runs
        if runs:
            self.vms[name] = vm
        else:
            self.snapshots.append(vm)
        return vm

    def create_vm(self, str name not None, uint32_t nr_pages, *, limit=None, reservation=0, shares=1000, domain=0,
                  guest=None, nr_vpns=None, disk=None):
        """A VM of nr_pages pages. guest: None, or the options of Guest; nr_vpns: its virtual pages; disk: guest swap."""
        cdef uint64_t further = nr_pages if self.options["provisioning"] == 1 else 0
        cdef Vm vm
        if limit is not None and further > limit:
            raise AdmissionError(f"VM '{name}' is provisioned thick and needs {nr_pages} frames; its limit is {limit}")
        if guest is not None:
            further += frames_of((nr_vpns or nr_pages) * <uint64_t>GUEST_VPN_BYTES + nr_pages * <uint64_t>GUEST_PAGE_BYTES)
        vm = self._new_vm(name, nr_pages, nr_pages if guest is None else (nr_vpns or nr_pages), True, further)
        try:
            vm.set_account(limit=limit, reservation=reservation, shares=shares, domain=domain)
            self._set_aside(vm)
            if guest is not None:
                vm.hardware = HostHardware(self.faults, vm.id, vm.nr_vpns, disk)
                self._give_guest(vm, Guest(vm.hardware, vm.nr_vpns, nr_pages, seed=draws_of(vm), **guest))
            if self.options["provisioning"] == 1:
                self._enter()
                self.clock.now = vm.now_ns
                try:
                    if self.faults.populate(vm.id) != OK:
                        self.clock.interrupt.deliver()
                        raise AdmissionError(f"VM '{name}' is provisioned thick and needs {nr_pages} frames; "
                                             f"only {vm.charged} could be had")
                finally:
                    vm.now_ns = self.clock.now
                    self._reach(vm)
                    self._leave()
        except BaseException:
            self._undo_vm(vm)
            raise
        self.clock.interrupt.deliver()          # all is done: a signal came too late to stop it
        return vm

    def _set_aside(self, Vm vm):
        """AdmissionError unless its reservation can be kept: by free frames, or frames that others can give back."""
        cdef uint32_t reserved = self.mapping.account[vm.id].reservation
        if reserved and self.reclaim.make_room(self.frames.min_pages, self.sim_ns()) != OK:
            self.clock.interrupt.deliver()
            raise AdmissionError(f"VM '{vm.name}': {reserved} reserved pages cannot be set aside: "
                                 f"{self.frames.buddy.nr_free} frames are free, {self.frames.min_pages} of them reserved, "
                                 f"and others cannot give back enough")

    def _undo_vm(self, Vm vm):
        """The VM is refused: the next one has its tags and draws."""
        try:
            self.destroy_vm(vm)
        finally:
            self.nr_created -= 1

    def _give_fixed(self, Vm vm):
        for frame, order in vm.fixed:
            self.frames.give(frame, order)
        vm.fixed = []

    def _give_guest(self, Vm vm, Guest guest):
        """Its tables are paid for even while a clone borrows them: they may be needed at any moment."""
        vm.fixed += self._take_fixed(guest.metadata_bytes() + vm.hardware.metadata_bytes(),
                                     f"the guest model of VM '{vm.name}'")
        vm.guest = vm.worker.guest = guest
        vm.hardware.rehome(guest._vpn)

    def clone_vm(self, Vm parent not None, str name not None, disk=None, bint runs=True):
        """A COW clone (runs=False: a snapshot); AdmissionError when there is no memory for its fixed parts or tables."""
        cdef Vm vm
        self._own(parent)
        vm = self._new_vm(name, parent.nr_pages, parent.nr_vpns, runs, self._to_copy(parent))
        self.mapping.account[vm.id].shares = self.mapping.account[parent.id].shares
        self.mapping.account[vm.id].domain = self.mapping.account[parent.id].domain
        if runs:                                # a snapshot is promised nothing
            self.mapping.account[vm.id].limit = self.mapping.account[parent.id].limit
            self.mapping.reserve(vm.id, self.mapping.account[parent.id].reservation)
        self._enter()
        self.clock.now = parent.now_ns
        try:
            self._set_aside(vm)
            if parent.guest is not None:
                vm.hardware = HostHardware(self.faults, vm.id, vm.nr_vpns, disk)
                self._give_guest(vm, parent.guest.copy_for(vm.hardware, draws_of(vm)))
                vm.hardware.copy_disk(parent.hardware, parent.guest)
            if self.cloner.share(parent.id, vm.id) != OK:
                self.clock.interrupt.deliver()
                raise AdmissionError(f"no memory for the tables of clone '{name}'")
        except BaseException:
            self._leave()
            self._undo_vm(vm)
            raise
        vm.hits.sequence = parent.hits.sequence
        parent.now_ns = self.clock.now
        vm.now_ns = max(vm.now_ns, self.clock.now)      # it comes into being now, even if its parent lags behind
        self.stalls.open(vm.id, vm.now_ns)
        self._reach(parent)
        if runs:
            self._reach(vm)
        self._leave()
        self.clock.interrupt.deliver()
        return vm

    cdef uint64_t _to_copy(self, Vm parent):
        """Frames that a clone needs at once, beside its tables of fixed size: its guest's, its directory, pinned pages."""
        cdef uint32_t i, pages = 0
        cdef uint64_t frames = self.mapping.account[parent.id].pinned
        for i in range(self.mapping.leaves.directory[parent.id].nr_roots):
            pages += self.mapping.leaves.directory[parent.id].root[i] != NONE
        if parent.guest is not None:
            frames += frames_of(parent.guest.metadata_bytes() + parent.hardware.metadata_bytes())
        return frames + self.mapping.leaves.pages.frames_needed(pages)

    def promised(self):
        """(pages reserved, pages promised) to all VMs together. A snapshot reserves nothing, but what is written while
        it is kept needs a second place."""
        cdef uint64_t reserved = 0, pages = 0
        cdef Vm vm
        for vm in [*self.vms.values(), *self.snapshots]:
            reserved += self.mapping.account[vm.id].reservation
            pages += vm.nr_pages
        return reserved, pages

    def destroy_vm(self, Vm vm not None):
        """The VM ends; what only it held is free again."""
        self._own(vm)
        self._enter()
        try:
            self.clock.now = min(vm.now_ns, self.reached_ns)    # it may sleep, or have run ahead
            self._leave_agenda(vm)
            self.stalls.stop(vm.id, vm.now_ns)
            vm.last_stall, vm.last_busy_ns = vm.stall(), self.stalls.busy(vm.id, vm.now_ns)
            if self.scanner is not None:
                self.scanner.forget_vm(vm.id)
            self.mapping.close(vm.id)
            self._give_fixed(vm)
            self._keep_counts(vm)
            self._end_vm(vm)
            if self.mapping.over:
                self.reclaim.keep_limits()
            if self.vms.get(vm.name) is vm:
                del self.vms[vm.name]
            else:
                self.snapshots.remove(vm)
        finally:
            self._leave()
        self.clock.interrupt.deliver()

    def _end_vm(self, Vm vm):
        """Whoever still has the VM keeps nothing of the host by that."""
        if vm.guest is not None:
            vm.guest.end()
            vm.hardware.end()
        vm.alive = False
        vm.guest = vm.worker.guest = None
        vm.hardware = None
        vm.engine = None

    def close(self):
        """Give memory, files and descriptors back to this machine now, whatever objects of the host are kept."""
        cdef Vm vm
        if self.closed:
            return
        if getpid() == self.process:            # a forked child gives back its copies, whatever went on at the fork
            self._enter()
            self._leave()
        for vm in [*self.vms.values(), *self.snapshots]:
            vm.last_stall = vm.stall()
            self.mapping.tcache.close(vm.id)
            self._end_vm(vm)
        self.closed = True
        self.vms.clear()
        self.snapshots.clear()
        self.mapping.listener = None            # the index knows the mapping, which would know it
        if self.index is not None:
            self.index.follower = None
        self.frames.release()
        self.content.release()
        if self.mapping.swap is not None:
            self.mapping.swap.release()

    def revert_vm(self, Vm vm not None, Vm snapshot not None, disk=None):
        """The VM's memory becomes the snapshot's again; clocks and counters go on. disk: a new one for its guest."""
        cdef uint32_t pages, need
        self._own(vm)
        self._own(snapshot)
        self._check_same_kind(vm, snapshot)
        self._enter()
        self.clock.now = vm.now_ns
        try:
            # What may fail comes first: once the VM is empty there is no way back.
            pages = self.cloner.directory_pages(snapshot.id, vm.id)
            need = self.mapping.leaves.pages.frames_needed(pages)
            if need and not self.cloner.may_take(vm.id, need):
                self.clock.interrupt.deliver()
                raise AdmissionError(f"VM '{vm.name}': no memory for the tables of a revert; the VM is as it was")
            self.mapping.leaves.pages.make_room(pages)
            if vm.guest is not None:
                self._revert_guest(vm, snapshot, disk)
            self.mapping.clear(vm.id)
            if self.cloner.share(snapshot.id, vm.id) != OK:
                raise InvariantError(f"VM '{vm.name}': directory pages of its own did not suffice for a revert")
            vm.hits.sequence = snapshot.hits.sequence
        finally:
            vm.now_ns = self.clock.now
            self._reach(vm)
            self._leave()
        self.clock.interrupt.deliver()

    def _check_same_kind(self, Vm vm, Vm snapshot):
        """ConfigError unless the snapshot is of a VM like this one: as many pages, and a guest of the same make or none."""
        problem = None
        if snapshot.nr_pages != vm.nr_pages or snapshot.nr_vpns != vm.nr_vpns:
            problem = f"it is of a VM of {snapshot.nr_pages} pages, this one has {vm.nr_pages}"
        elif (snapshot.guest is None) != (vm.guest is None):
            problem = f"it is of a VM {'without' if snapshot.guest is None else 'with'} a guest, and this one has " + (
                "none" if vm.guest is None else "one")
        elif vm.guest is not None:
            differs = vm.guest.differs_from(snapshot.guest)
            problem = None if differs is None else f"their guests differ in {differs}"
        if problem is None and self.mapping.account[vm.id].pinned:
            problem = f"{self.mapping.account[vm.id].pinned} of its pages are pinned; unpin them first"
        if problem is not None:
            raise ConfigError(f"VM '{vm.name}' cannot be reverted to the snapshot of '{snapshot.name}': {problem}")

    def _keep_counts(self, Vm vm):
        """The VM's guest goes; what it counted stays."""
        if vm.guest is not None:
            counts = self._ended or {}
            self._ended = {name: counts.get(name, 0) + count for name, count in vm.guest.counters().items()}

    def guest_events(self):
        """What all guests there have been count of themselves, summed: {name: count}; empty without any."""
        cdef Vm vm
        total = dict(self._ended or {})
        for vm in self.vms.values():
            if vm.guest is not None:
                for name, count in vm.guest.counters().items():
                    total[name] = total.get(name, 0) + count
        return total

    def _revert_guest(self, Vm vm, Vm snapshot, disk):
        """Guest and hardware of the snapshot take the place of the VM's own, once they are whole. Nothing is evicted
        meanwhile: the VM's translations are its own guest's until the end."""
        cdef HostHardware hardware = HostHardware(self.faults, vm.id, vm.nr_vpns, disk)
        cdef Guest guest = None
        try:
            guest = snapshot.guest.copy_for(hardware, draws_of(vm))
            hardware.copy_disk(snapshot.hardware, snapshot.guest)
        except BaseException:
            if guest is not None:
                guest.end()
            vm.hardware.rehome(vm.guest._vpn)
            hardware.end()
            raise
        guest.go_on_counting(vm.guest)
        vm.guest.end()
        vm.hardware.end()
        vm.guest = vm.worker.guest = guest
        vm.hardware = hardware
        hardware.rehome(guest._vpn)

    # ---- sharing

    def scan(self, pages=None):
        """Let the scanner look at `pages` pages, or (None) one full pass from its start, whatever slice ran
        before. Returns pages merged."""
        if self.scanner is None:
            raise ConfigError("this host has no page sharing: create it with sharing='hash'")
        return self.run_as(self.scanning, self.sim_ns(), NONE if pages is None else pages)

    def idle(self):
        """VMs have been idle until now, however far the scanner has come: what it did lies in their past. Else a scanner
        that has gone over memory would look at nothing until they have caught up."""
        if self.scanning is not None:
            self.reached_ns = max(self.reached_ns, self.scanning.now_ns)
        for vm in self.vms.values():
            (<Vm>vm).now_ns = max((<Vm>vm).now_ns, self.reached_ns)

    def set_pace(self, uint32_t pages, int64_t sleep_ns):
        """Let the scanner look at that many pages at a time (0: none), and sleep that long between."""
        self.scanning.set_pace(pages, sleep_ns, self.reached_ns)

    def reclaim_from(self, Vm vm not None, uint32_t pages):
        """Evict up to `pages` of a VM's pages ahead of need, coldest first, on the background reclaimer's time. Returns
        how many went."""
        self._own(vm)
        self.reclaim.whose = vm.id
        try:
            return self.run_as(self.reclaim, vm.now_ns, pages)
        finally:
            self.reclaim.whose = NONE16

    def compact(self, blocks=None):
        """Make `blocks` free 2 MiB blocks, or (None) as many as can be, by moving pages. Returns how many were made."""
        return self.run_as(self.compactor, self.sim_ns(), NONE if blocks is None else blocks)

    def collapse(self):
        """Make every leaf table huge that can be, copying its pages where a 2 MiB block is free. Returns how many."""
        return self.run_as(self.collapser, self.sim_ns(), NONE)

    def harvest(self):
        """Tell the order of every accessed mark, now."""
        self._enter()
        try:
            self.reclaim.harvester.work(NONE)
        finally:
            self._leave()
        self.clock.interrupt.deliver()

    # ---- what there is to see

    def shared_leaf_pages(self):
        """Pages that VMs have through leaves they share with others: sum over leaves of live entries x (holders - 1)."""
        cdef uint32_t id
        cdef uint64_t pages = 0
        for id in range(self.mapping.leaves.records.end()):
            if self.mapping.leaves.at(id).used and self.mapping.leaves.at(id).nr_holders > 1:
                pages += <uint64_t>self.mapping.leaves.at(id).live * (self.mapping.leaves.at(id).nr_holders - 1)
        return pages

    def heap_bytes(self):
        """Of the frames in use as 'backing': bytes of tables that grow on the heap, and take frames for it."""
        return self.frames.heap_bytes

    def fragmentation(self):
        """Of free memory (see Buddy.fragmentation), and how well guests' memory lies: huge_pages mapped huge,
        collapsible_leaves that could be, runs: number of gfn -> hfn runs, present_pages in them."""
        cdef uint32_t id, i, entry, before
        cdef uint64_t runs = 0, present = 0, could = 0
        for id in range(self.mapping.leaves.records.end()):
            if not self.mapping.leaves.at(id).used:
                continue
            could += self.mapping.collapsible(id)
            before = 0
            for i in range(LEAF_ENTRIES):
                entry = self.mapping.leaves.entry(self.mapping.leaves.at(id), i)
                if entry & PTE_PRESENT:
                    present += 1
                    runs += not before or (entry & PTE_WHERE) != (before & PTE_WHERE) + 1
                    before = entry
                else:
                    before = 0
        return self.frames.buddy.fragmentation() | {
            "huge_pages": self.mapping.leaves.nr_huge * LEAF_ENTRIES, "collapsible_leaves": could, "present_pages": present,
            "runs": runs}
