"""The host: owns every part, creates VMs, and serves batches of accesses.

The unit of work is a batch: one Python call for thousands of accesses, the GIL released. Most accesses are hits in the
translation cache and are served in C (access.h). What misses goes to the guest model, if the VM has one, and then to the
fault handlers. An access that cannot be served (no frame, a limit) ends the batch; the VM's `outcome` says why, and the
caller decides.

An access touches one 8-byte word of its page, chosen by the vpn: a read loads it, a write stores a tag that says which
of the VM's writes it was. So what every page must hold can be computed from the stream alone (see shadow.py), and a
64-bit fingerprint can stand for a page exactly.

One thread per host: a second one that enters while a batch runs, or at all, gets an InvariantError.
"""

from cpython.pythread cimport PyThread_get_thread_ident
from libc.string cimport memcpy

from memvirt.errors import AdmissionError, ConfigError, InvariantError, StoreError

from .clock cimport Clock
from .clone cimport Cloner
from .collapse cimport Collapser
from .compact cimport COMPACT_NEVER, Compactor
from .content cimport Content
from .counters cimport CPU_ACCESS, CPU_BALLOON, CPU_GUEST, Meter
from .fault cimport Faults
from .frames cimport FRAME_FIXED, Frame, Frames
from .guest cimport Guest, Translation
from .leaf cimport PTE_PRESENT, PTE_WHERE, Leaf
from .machine cimport VirtualMachine
from .mapping cimport Mapping
from .reclaim cimport Reclaim
from .replacement.order cimport Order
from .shareindex cimport ShareIndex
from .stall cimport Stalls
from .tcache cimport TC_VALID, View
from .types cimport (EMPTY, LEAF_ENTRIES, LIMITED, MAX_ORDER, MAX_VMS, NO_FRAME, NONE, NONE16, OK, PAGE_SHIFT, PAGE_SIZE,
                     REFUSED, gfn_t, hfn_t, int64_t, uint8_t, uint32_t, uint64_t, vmid_t, vpn_t)
from .zpool cimport Zpool
from .replacement.registry import make_order
from .scan.registry import make_scanner

OUTCOMES = ("done", "no_frame", "no_slot", "pool_full", "rejected", "io_failed", "corrupt", "limited", "refused", "empty")


def word_of(uint32_t vpn):
    """The 8-byte word (0..511) of its page that an access of this vpn touches."""
    return memvirt_word(vpn)


def tag_of(uint32_t base, uint64_t sequence):
    """The value that the sequence-th write (from 1) of a VM with this tag base stores: 1 .. 2^31 - 1."""
    return memvirt_tag(base, sequence)


cdef uint64_t mix(uint64_t x) noexcept nogil:
    """splitmix64's finaliser: a good 64-bit mix of a counter."""
    x += 0x9E3779B97F4A7C15ULL
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL
    return x ^ (x >> 31)


cdef class Vm:
    """One VM of an Engine; made by Engine.create_vm and clone_vm."""

    def _require(self):
        if not self.alive:
            raise ConfigError(f"VM '{self.name}' has been destroyed")

    def _require_running(self):
        self._require()
        if self.frozen:
            raise ConfigError(f"VM '{self.name}' is a frozen template: clone it, the clones run")

    @property
    def tag_base(self):
        return self.hits.tag_base

    @property
    def sequence(self):
        """Writes done so far."""
        return self.hits.sequence

    @property
    def disk_slots(self):
        """Slots of its guest's own disk."""
        return self.machine.nr_disk_slots if self.has_guest else 0

    @property
    def cache_pages(self):
        """Page cache pages that its guest holds."""
        return self.guest._cache.nr_resident if self.has_guest and self.guest._cache is not None else 0

    @property
    def charged(self):
        """Frames this VM pays for."""
        return self.engine.mapping.account[self.id].charged if self.alive else 0

    @property
    def outcome_name(self):
        return OUTCOMES[self.outcome]

    def stall(self):
        """How long this VM has waited for memory; see Stalls.of_vm."""
        return self.engine.stalls.of_vm(self.id, self.now_ns) if self.alive else self.last_stall

    def account(self):
        """{"charged", "limit", "reservation", "shares", "domain", "active"}, pages; limit None: no limit."""
        record = dict(self.engine.mapping.account[self.id])
        record["limit"] = None if record["limit"] == NONE else record["limit"]
        del record["open"]
        return record

    def set_account(self, *, limit=-1, reservation=None, shares=None, domain=None):
        """Change what admission and reclaim know of this VM; pages. limit None: no limit."""
        self._require()
        if limit != -1:
            self.engine.mapping.account[self.id].limit = NONE if limit is None else limit
        if reservation is not None:
            self.engine.mapping.account[self.id].reservation = reservation
        if shares is not None:
            self.engine.mapping.account[self.id].shares = shares
        if domain is not None:
            self.engine.mapping.account[self.id].domain = domain

    def access(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None,
               const uint32_t[::1] sources=None, int64_t until_ns=0x7FFFFFFFFFFFFFFF):
        """Serve the accesses in order; returns how many were done. `outcome_name` says why it stopped."""
        cdef uint32_t n = <uint32_t>pages.shape[0], done = 0
        self.engine.check_batch(self, pages, ops, sources)
        if n == 0:
            self.outcome = OK
            return 0
        self.engine._begin(self)
        try:
            with nogil:
                done = self.engine.serve(self, &pages[0], &ops[0], NULL if sources is None else &sources[0], n, until_ns)
        finally:
            self.engine._end(self)
        return done

    def write(self, uint64_t address, const uint8_t[::1] data not None):
        """Write bytes; returns how many were written (fewer: `outcome_name` says why). Needs content with bytes."""
        return self._copy(address, data.shape[0], &data[0] if data.shape[0] else NULL, NULL)

    def read(self, uint64_t address, uint64_t length):
        """The bytes at an address (guest-virtual for a VM with a guest). Raises ConfigError if memory runs out."""
        out = bytearray(length)
        cdef uint8_t[::1] view = out
        if length == 0:
            return b""
        done = self._copy(address, length, NULL, &view[0])
        if done != length:
            raise ConfigError(f"VM '{self.name}': reading {length} bytes at {address:#x} stopped after {done}: "
                              f"{self.outcome_name}")
        return bytes(out)

    cdef uint64_t _copy(self, uint64_t address, uint64_t length, const uint8_t *source, uint8_t *target) except? 0:
        cdef uint64_t done = 0, chunk
        cdef hfn_t frame
        self._require_running()
        self.outcome = OK
        if self.engine.content.arena == NULL:
            raise ConfigError("fingerprint content has no bytes to read or write: use content='bytes'")
        if address + length > <uint64_t>self.nr_vpns << PAGE_SHIFT or address + length < address:
            raise ConfigError(f"VM '{self.name}': {length} bytes at {address:#x} reach beyond its "
                              f"{<uint64_t>self.nr_vpns << PAGE_SHIFT:#x} bytes")
        self.engine._begin(self)
        try:
            while done < length:
                chunk = min(length - done, <uint64_t>PAGE_SIZE - (address + done) % PAGE_SIZE)
                self.outcome = self.engine.touch(self, <vpn_t>((address + done) >> PAGE_SHIFT), source != NULL, &frame)
                if self.outcome != OK:
                    break
                if source != NULL:
                    memcpy(self.engine.content.arena + <size_t>frame * PAGE_SIZE + (address + done) % PAGE_SIZE,
                           source + done, chunk)
                else:
                    memcpy(target + done,
                           self.engine.content.arena + <size_t>frame * PAGE_SIZE + (address + done) % PAGE_SIZE, chunk)
                done += chunk
        finally:
            self.engine._end(self)
        return done

    def read_pages(self, const uint32_t[::1] pages not None, uint8_t[:, ::1] out not None):
        """Copy whole pages (vpns) into out[n, 4096]: their bytes; for fingerprints the 8-byte id, rest zero."""
        cdef Py_ssize_t i
        cdef hfn_t frame
        cdef Content content = self.engine.content
        if out.shape[0] != pages.shape[0] or out.shape[1] != PAGE_SIZE:
            raise ValueError(f"out must be [{pages.shape[0]}, {PAGE_SIZE}]")
        self._require()
        self.engine._begin(self)
        try:
            for i in range(pages.shape[0]):
                if pages[i] >= self.nr_vpns:
                    raise ConfigError(f"VM '{self.name}': page {pages[i]} is beyond its {self.nr_vpns} pages")
                self.outcome = self.engine.touch(self, pages[i], False, &frame)
                if self.outcome != OK:
                    raise ConfigError(f"VM '{self.name}': reading page {pages[i]} stopped: {self.outcome_name}")
                memcpy(&out[i, 0], content.raw(frame), content.raw_bytes)
        finally:
            self.engine._end(self)

    def balloon(self, uint32_t target_pages, uint32_t step=256):
        """Move the balloon to `target_pages`; returns what it holds when it can go no further."""
        self._require()
        if not self.has_guest:
            raise ConfigError(f"VM '{self.name}' has no guest: only a guest can give pages to a balloon. "
                              f"Create it with guest=True")
        cdef uint32_t moved = 1
        self.engine._enter()
        self.engine.clock.now = self.now_ns
        try:
            self.guest.set_target(target_pages)
            while moved and self.guest.nr_balloon != target_pages:
                self.outcome = self.balloon_step(step, &moved)
        finally:
            self.now_ns = self.engine.clock.now
            self.engine._leave()
        return self.guest.nr_balloon

    cdef int balloon_step(self, uint32_t pages, uint32_t *moved) except -1 nogil:
        """One message's worth of balloon work on the running clock."""
        cdef uint32_t before = self.guest.nr_balloon
        cdef int outcome = self.guest.balloon_step(pages, moved)
        if self.guest.nr_balloon < before:      # deflating asks nothing of the host; inflating is charged per release
            self.engine.clock.spend(CPU_BALLOON, (before - self.guest.nr_balloon) * self.engine.clock.costs.balloon_page)
        return outcome

    def pin(self, uint32_t first, uint32_t pages):
        """Keep pages in memory: neither reclaimed nor merged nor moved (passthrough, mlock). Returns pages pinned."""
        return self._pin(first, pages, True)

    def unpin(self, uint32_t first, uint32_t pages):
        return self._pin(first, pages, False)

    def _pin(self, uint32_t first, uint32_t pages, bint pinned):
        cdef uint32_t vpn, done = 0
        cdef hfn_t frame
        self._require_running()
        if <uint64_t>first + pages > self.nr_vpns:
            raise ConfigError(f"VM '{self.name}': pages {first}..{first + pages - 1} reach beyond {self.nr_vpns}")
        self.engine._begin(self)
        try:
            for vpn in range(first, first + pages):
                self.outcome = self.engine.touch(self, vpn, pinned, &frame)
                if self.outcome != OK:
                    break
                self.engine.mapping.set_pinned(frame, pinned)
                done += 1
        finally:
            self.engine._end(self)
        return done


cdef class Engine:
    """One host. `options` are plain numbers and names, already validated by the facade:

    order, order_options; min_pages, low_pages, high_pages; zpool (dict of Zpool's arguments, or None); sharing (scanner
    name or None), sharing_options; provisioning 0..2; compress_limit; readahead (page cluster), zpool_shrinker;
    harvest_interval_ns; compact_threshold (per mille; left out: never by itself); collapse_interval_ns (left out: only
    when asked); costs; seed.
    """

    def __init__(self, Content content not None, device not None, swap, **options):
        self.content = content
        self.thread = PyThread_get_thread_ident()
        self.options = options
        self.seed = options["seed"]
        self.meter = Meter()
        self.clock = Clock(self.meter, options["costs"])
        self.frames = Frames(content, options["min_pages"], options["low_pages"], options["high_pages"])
        self.device = device
        keys = (0 if swap is None else swap.nr_slots) + content.nr_frames * 4
        self.order = make_order(options["order"], content.nr_frames, content.nr_frames, keys, **options["order_options"])
        self._take_fixed(content.nr_frames * <uint64_t>(sizeof(Frame) + 2), "the host's frame records")
        zpool = None if options["zpool"] is None else Zpool(self.frames, **options["zpool"])
        self.mapping = Mapping(self.frames, self.order, self.clock, zpool, swap)
        self.reclaim = Reclaim(self.mapping, device, options["compress_limit"], options["readahead"],
                               options["harvest_interval_ns"], options["zpool_shrinker"])
        self.stalls = self.reclaim.stalls
        self.vms = {}
        self.snapshots = []
        self.faults = Faults(self.reclaim, options["provisioning"], {})
        self.cloner = Cloner(self.reclaim)
        if options["sharing"] is not None:
            self.scanner = make_scanner(options["sharing"], self.mapping, options["sharing_options"], self.seed)
            self.index = self.scanner.index
            self._take_fixed(self.index.metadata_bytes() + self.scanner.metadata_bytes(), "page sharing's tables")
            self.faults.index = self.index
            self.faults.has_index = True
            self.reclaim.index = self.index
            self.reclaim.last_chance = self.index.last_chance
        self.compactor = Compactor(self.mapping, options.get("compact_threshold", COMPACT_NEVER))
        self.collapser = Collapser(self.mapping, options.get("collapse_interval_ns", 0))
        self.nr_fixed = self.frames.nr_state[<int>FRAME_FIXED]

    # ---- entering

    cdef int _enter(self) except -1:
        if self.entered or PyThread_get_thread_ident() != self.thread:
            raise InvariantError("a host belongs to the thread that made it, and runs one call at a time")
        self.entered = True
        return 0

    cdef void _leave(self) noexcept:
        self.entered = False
        self.stalls.running = NONE16

    cdef int _begin(self, Vm vm) except -1:
        """Enter for this VM alone: its clock runs, what it waits for is its stall, and nobody else has work."""
        self._enter()
        self.clock.now = vm.now_ns
        self.stalls.start(vm.id, vm.now_ns)
        self.stalls.running = vm.id
        return 0

    cdef int _end(self, Vm vm) except -1:
        vm.now_ns = self.clock.now
        self.stalls.stop(vm.id, vm.now_ns)
        self.stalls.drain()
        self._leave()
        return 0

    # ---- VMs

    cdef list _take_fixed(self, uint64_t bytes, object what):
        """Frames for metadata of fixed size, as large blocks as there are; AdmissionError if memory does not suffice."""
        cdef uint64_t missing = (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT
        cdef int order = MAX_ORDER
        cdef hfn_t frame
        taken = []
        if missing + self.frames.min_pages > self.frames.buddy.nr_free and self.reclaim is not None:
            self.reclaim.make_room(<uint32_t>missing + self.frames.min_pages)
        if not self.frames.can_take(<uint32_t>missing, self.frames.min_pages):
            raise AdmissionError(f"{what} need {missing} frames; {self.frames.buddy.nr_free} are free, "
                                 f"{self.frames.min_pages} of them reserved")
        while missing:
            if (<uint64_t>1 << order) > missing or self.frames.claim(order, FRAME_FIXED, &frame) != OK:
                order -= 1
                continue
            taken.append((frame, order))
            missing -= <uint64_t>1 << order
        return taken

    cdef Vm _new_vm(self, str name, uint32_t nr_pages, uint32_t nr_vpns, bint runs):
        """A VM without memory; one that never runs (a snapshot) has no translations and no place among the VMs."""
        cdef Vm vm = Vm.__new__(Vm)
        cdef int id = 0
        self._enter()                           # the host's own thread, and not in the middle of a call
        self._leave()
        if runs and name in self.vms:
            raise ConfigError(f"there is a VM '{name}' already; names are unique on a host")
        while self.mapping.account[id].open:
            id += 1
            if id == MAX_VMS - 1:
                raise AdmissionError(f"a host has room for {MAX_VMS - 1} VMs")
        if nr_pages == 0 or nr_vpns < nr_pages or nr_vpns > 1 << 31:
            raise ConfigError(f"VM '{name}': {nr_pages} pages, {nr_vpns} virtual pages")
        vm.fixed = self._take_fixed((<uint64_t>nr_vpns * 4 + (nr_vpns >> 9)) * runs + (nr_pages >> 15) + 64,
                                    f"the tables of VM '{name}'")
        vm.engine = self
        vm.id = <vmid_t>id
        vm.name = name
        vm.nr_pages = nr_pages
        vm.nr_vpns = nr_vpns
        self.mapping.open(vm.id, nr_vpns if runs else 0, nr_pages)
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
        cdef Vm vm = self._new_vm(name, nr_pages, nr_pages if guest is None else (nr_vpns or nr_pages), True)
        vm.set_account(limit=limit, reservation=reservation, shares=shares, domain=domain)
        try:
            if guest is not None:
                vm.machine = VirtualMachine(self.faults, vm.id, vm.nr_vpns, disk)
                self._give_guest(vm, Guest(vm.machine, vm.nr_vpns, nr_pages, **guest))
            if self.options["provisioning"] == 1:
                self._enter()
                try:
                    if self.faults.populate(vm.id) != OK:
                        raise AdmissionError(f"VM '{name}' is provisioned thick and needs {nr_pages} frames; "
                                             f"only {vm.charged} could be had")
                finally:
                    self._leave()
        except BaseException:
            self.destroy_vm(vm)
            raise
        return vm

    def _give_guest(self, Vm vm, Guest guest):
        vm.fixed += self._take_fixed(guest.metadata_bytes(), f"the guest model of VM '{vm.name}'")
        vm.guest = guest
        vm.has_guest = True
        self.mapping.tcache.view[vm.id].vpn_of = guest._vpn

    def clone_vm(self, Vm parent not None, str name not None, disk=None, bint runs=True):
        """A COW clone (runs=False: a snapshot); AdmissionError when there is no memory for its fixed parts or tables."""
        cdef Vm vm
        parent._require()
        vm = self._new_vm(name, parent.nr_pages, parent.nr_vpns, runs)
        account = parent.account()
        account = {key: account[key] for key in ("limit", "reservation", "shares", "domain")}
        vm.set_account(**account)
        self._enter()
        self.clock.now = parent.now_ns
        try:
            if parent.has_guest:
                vm.machine = VirtualMachine(self.faults, vm.id, vm.nr_vpns, disk)
                self._give_guest(vm, parent.guest.copy_for(vm.machine))
                vm.machine.copy_disk(parent.machine, parent.guest)
            if self.cloner.share(parent.id, vm.id) != OK:
                raise AdmissionError(f"no memory for the tables of clone '{name}'")
        except BaseException:
            self._leave()
            self.destroy_vm(vm)
            raise
        vm.hits.sequence = parent.hits.sequence
        parent.now_ns = self.clock.now
        vm.now_ns = self.clock.now
        self.stalls.open(vm.id, vm.now_ns)      # its clock is the parent's, which may be behind the host's
        self._leave()
        return vm

    def destroy_vm(self, Vm vm not None):
        """The VM ends; what only it held is free again."""
        vm._require()
        self._enter()
        try:
            self.clock.now = vm.now_ns
            self.stalls.stop(vm.id, vm.now_ns)
            vm.last_stall = vm.stall()
            if self.scanner is not None:
                self.scanner.forget_vm(vm.id)
            self.mapping.close(vm.id)
            for frame, order in vm.fixed:
                self.frames.give(frame, order)
            vm.fixed = []
            vm.alive = False
            vm.has_guest = False
            vm.guest = None
            vm.machine = None
            if self.vms.get(vm.name) is vm:
                del self.vms[vm.name]
            else:
                self.snapshots.remove(vm)
        finally:
            self._leave()

    def revert_vm(self, Vm vm not None, Vm snapshot not None):
        """The VM's memory becomes the snapshot's again; clocks and counters go on."""
        vm._require()
        snapshot._require()
        if snapshot.engine is not self or snapshot.nr_pages != vm.nr_pages or snapshot.nr_vpns != vm.nr_vpns:
            raise ConfigError(f"VM '{vm.name}' cannot be reverted to '{snapshot.name}': it is a snapshot of another host "
                              f"or of a VM of another size")
        self._enter()
        self.clock.now = vm.now_ns
        try:
            self.mapping.clear(vm.id)
            if vm.has_guest:
                self._revert_guest(vm, snapshot)
            if self.cloner.share(snapshot.id, vm.id) != OK:
                raise InvariantError(f"VM '{vm.name}': directory pages of its own did not suffice for a revert")
            vm.hits.sequence = snapshot.hits.sequence
        finally:
            vm.now_ns = self.clock.now
            self._leave()

    def _revert_guest(self, Vm vm, Vm snapshot):
        vm.guest = snapshot.guest.copy_for(vm.machine)
        self.mapping.tcache.view[vm.id].vpn_of = vm.guest._vpn
        vm.machine.copy_disk(snapshot.machine, snapshot.guest)

    # ---- accesses

    cdef int touch(self, Vm vm, vpn_t vpn, bint write, hfn_t *frame) except -1 nogil:
        """Make one page accessible, its translation cached; *frame holds it. The running clock is the VM's."""
        cdef Translation found
        cdef int outcome
        cdef gfn_t gfn = vpn
        cdef bint may_write = True
        if vm.has_guest:
            outcome = vm.guest.resolve(vpn, write, &found)
            if outcome != OK:
                return outcome
            gfn = found.gfn
            may_write = found.writable
        outcome = self.faults.resolve(vm.id, gfn, vpn, write, may_write)
        if outcome == OK:
            frame[0] = self.mapping.tcache.view[vm.id].entry[vpn] & 0x0FFFFFFF
        return outcome

    cdef int _slow(self, Vm vm, vpn_t vpn, uint8_t op, const uint32_t *source) except -1 nogil:
        """An access that is not a hit."""
        cdef hfn_t frame
        cdef int outcome
        if op == OP_DISCARD:
            self.meter.ev.discards += 1
            # Without a guest model nobody tells the host what is no longer needed: the page stays as it is.
            return vm.guest.discard(vpn) if vm.has_guest else OK
        outcome = self.touch(vm, vpn, op != OP_READ, &frame)
        if outcome != OK:
            return outcome
        if op == OP_FILL:
            self.meter.ev.fills += 1
            self.content.fill(frame, source[0])
            if self.faults.has_index:
                self.faults.index.arrived(frame)
        elif op == OP_WRITE:
            vm.hits.sequence += 1
            self.content.store_tag(frame, memvirt_word(vpn), memvirt_tag(vm.hits.tag_base, vm.hits.sequence))
        else:
            vm.hits.loaded += self.content.load(frame, memvirt_word(vpn))
        return OK

    cdef uint32_t serve(self, Vm vm, const uint32_t *pages, const uint8_t *ops, const uint32_t *sources, uint32_t n,
                        int64_t until) except? 0xFFFFFFFF nogil:
        """Serve accesses until done, out of time, or stuck; returns how many. vm.outcome says which."""
        cdef uint32_t i = 0, last, stop
        cdef uint64_t written
        cdef int64_t hit_ns = self.clock.costs.hit
        cdef int outcome = OK
        self.clock.now = vm.now_ns
        self.stalls.running = vm.id
        while i < n and self.clock.now < until:
            last = n
            if hit_ns and (until - self.clock.now - 1) / hit_ns < n - i:    # accesses that begin before `until`
                last = min(i + 1 + <uint32_t>((until - self.clock.now - 1) / hit_ns), n)
            written = vm.hits.sequence
            stop = memvirt_serve_hits(&vm.hits, pages, ops, i, last, n)
            self.clock.spend(CPU_ACCESS, (stop - i) * hit_ns)
            written = vm.hits.sequence - written
            self.meter.ev.writes += written
            self.meter.ev.reads += (stop - i) - written
            i = stop
            if i == last:
                continue
            vm.now_ns = self.clock.now          # kept if the access raises
            outcome = self._slow(vm, pages[i], ops[i], NULL if sources == NULL else sources + i)
            if outcome != OK:
                break
            self.clock.spend(CPU_ACCESS, hit_ns)
            self.meter.ev.writes += ops[i] == OP_WRITE
            self.meter.ev.reads += ops[i] == OP_READ
            i += 1
        self.stalls.running = NONE16
        vm.now_ns = self.clock.now
        vm.outcome = outcome
        return i

    def check_batch(self, Vm vm, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None,
                    const uint32_t[::1] sources=None):
        """Raise ConfigError unless every access of the batch can be one of this VM."""
        cdef uint64_t n = pages.shape[0], i
        vm._require_running()
        if <uint64_t>ops.shape[0] != n or (sources is not None and <uint64_t>sources.shape[0] != n):
            raise ConfigError(f"VM '{vm.name}': {n} pages but {ops.shape[0]} ops"
                              + ("" if sources is None else f" and {sources.shape[0]} sources"))
        if n == 0:
            return
        if n >= 1 << 31:
            raise ConfigError(f"VM '{vm.name}': a batch of {n} accesses; at most 2^31 - 1 go at once")
        i = memvirt_first_beyond(&pages[0], n, vm.nr_vpns)
        if i < n:
            raise ConfigError(f"VM '{vm.name}': access {i} names page {pages[i]}, beyond its {vm.nr_vpns} pages")
        for i in range(n):
            if ops[i] > OP_DISCARD:
                raise ConfigError(f"VM '{vm.name}': access {i} has op {ops[i]}; 0 read, 1 write, 2 fill, 3 discard")
            if ops[i] == OP_FILL and (sources is None or sources[i] >= self.content.nr_sources):
                raise ConfigError(f"VM '{vm.name}': access {i} fills from corpus source "
                                  f"{None if sources is None else sources[i]}; there are {self.content.nr_sources}")

    # ---- sharing

    def scan(self, pages=None):
        """Let the scanner look at so many pages, or (None) from the start of a pass to its end. Returns pages merged."""
        cdef uint32_t merged, limit = NONE if pages is None else pages
        if self.scanner is None:
            raise ConfigError("this host has no page sharing: create it with sharing='hash'")
        self._enter()
        self.clock.now = max(self.scanner.now_ns, self.sim_ns())
        try:
            with nogil:
                merged = self.scanner.scan(limit)
        finally:
            self.scanner.now_ns = self.clock.now
            self._leave()
        return merged

    def reclaim_from(self, Vm vm not None, uint32_t pages):
        """Evict up to so many of a VM's pages ahead of need, coldest first, on the background reclaimer's time. Returns
        how many went."""
        cdef uint32_t freed
        vm._require()
        self._enter()
        self.clock.now = max(self.reclaim.background_ns, vm.now_ns)
        try:
            freed = self.reclaim.shrink_vm(vm.id, pages, self.mapping.ages.age_for(vm.id, pages)) if pages else 0
            self.meter.ev.reclaim_proactive += freed
        finally:
            self.reclaim.background_ns = self.clock.now
            self._leave()
        return freed

    def compact(self, blocks=None):
        """Make so many free 2 MiB blocks, or (None) as many as can be, by moving pages. Returns how many were made."""
        cdef uint32_t made, want = NONE if blocks is None else blocks
        self._enter()
        self.clock.now = max(self.compactor.now_ns, self.sim_ns())
        try:
            with nogil:
                made = self.compactor.make_blocks(want)
        finally:
            self.compactor.now_ns = self.clock.now
            self._leave()
        return made

    def collapse(self):
        """Make every leaf table huge that can be, copying its pages where a 2 MiB block is free. Returns how many."""
        cdef uint32_t done
        self._enter()
        self.clock.now = max(self.collapser.now_ns, self.sim_ns())
        try:
            with nogil:
                done = self.collapser.scan(NONE)
        finally:
            self.collapser.now_ns = self.clock.now
            self._leave()
        return done

    def harvest(self):
        """Tell the order of every accessed mark, now."""
        self._enter()
        try:
            self.reclaim.harvest()
        finally:
            self._leave()

    # ---- what there is to see

    def vm_usage(self, Vm vm not None):
        """Of one VM: charged_pages it pays for; present_pages it maps; backed_pages that are out of memory;
        proportional_millipages: present pages, each divided by the mappings of its frame (x 1000, rounded down)."""
        cdef uint32_t gfn = 0, slot, index, entry
        cdef uint64_t present = 0, backed = 0, share = 0
        cdef Leaf *leaf
        vm._require()
        while gfn < vm.nr_pages:
            slot = self.mapping.leaves.slot_of(vm.id, gfn)
            if slot != NONE and self.mapping.leaves.slot(slot).leaf != NONE:
                leaf = self.mapping.leaves.at(self.mapping.leaves.slot(slot).leaf)
                for index in range(LEAF_ENTRIES):
                    entry = self.mapping.leaves.entry(leaf, index)
                    if entry & PTE_PRESENT:
                        present += 1
                        share += 1000 // self.mapping.mappings(entry & PTE_WHERE)
                    else:
                        backed += entry != 0
            gfn += LEAF_ENTRIES
        return {"charged_pages": vm.charged, "present_pages": present, "backed_pages": backed,
                "proportional_millipages": share}

    def shared_leaf_pages(self):
        """Pages that VMs have through leaves they share with others: sum over leaves of live entries x (holders - 1)."""
        cdef uint32_t id
        cdef uint64_t pages = 0
        for id in range(self.mapping.leaves.records.end()):
            if self.mapping.leaves.at(id).used and self.mapping.leaves.at(id).nr_holders > 1:
                pages += <uint64_t>self.mapping.leaves.at(id).live * (self.mapping.leaves.at(id).nr_holders - 1)
        return pages

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

    cpdef int64_t sim_ns(self):
        """How far simulated time has come: the clock of the VM that is ahead."""
        cdef int64_t latest = self.reclaim.background_ns if self.vms == {} else 0
        for vm in self.vms.values():
            latest = max(latest, (<Vm>vm).now_ns)
        return latest
