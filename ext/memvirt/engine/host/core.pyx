"""What a host is made of, and how it serves a batch of accesses.

The unit of work is a batch: one Python call for thousands of accesses, the GIL released. Most accesses are hits in the
translation cache and are served in C (access.h). What misses goes to the guest model, if the VM has one, and then to the
fault handlers. An access that cannot be served (no frame, a limit) ends the batch; the VM's `outcome` says why, and the
caller decides.

An access touches one 8-byte word of its page, chosen by the vpn: a read loads it, a write stores a tag that says which
of the VM's writes it was. So what every page must hold can be computed from the stream alone (see shadow.py), and a
64-bit fingerprint can stand for a page exactly.

One thread per host: a second one that enters while a batch runs, or at all, even to look, gets an InvariantError. A host
that is closed, or that a fork has copied into another process, refuses everything: the child's copy of memory would write
over the parent's pages in the swap file that both have.
"""

from cpython.pythread cimport PyThread_get_thread_ident
from posix.unistd cimport getpid
from libc.stdlib cimport calloc, free

from memvirt.errors import AdmissionError, ConfigError, InvariantError

from ..agenda cimport FIRST_BALLOON, FIRST_VM, FOREVER, NUMBERS
from ..simtime cimport Actor, Clock
from .batch cimport OP_DISCARD, OP_FILL, OP_READ, OP_WRITE, Batch
from .clone cimport Cloner
from ..upkeep.collapse cimport Collapser
from ..upkeep.compact cimport COMPACT_NEVER, Compactor
from ..content.content cimport Content
from ..counters cimport CPU_ACCESS, Histogram, Meter, histogram_dict
from ..reclaim.fault cimport Faults
from ..memory.frames cimport FRAME_FIXED, Frame, Frames
from ..guests.guest cimport Translation
from ..mapping.mapping cimport Mapping
from ..reclaim.reclaim cimport Reclaim
from ..types cimport (HUGE_ORDER, MAX_ORDER, NONE16, OK, PAGE_SHIFT, PAGE_SIZE, gfn_t, hfn_t, int64_t, uint8_t,
                      uint32_t, uint64_t, vpn_t)
from ..stores.zpool cimport Zpool
from ..replacement.registry import make_order
from ..sharing.scanner cimport Scanning
from ..sharing.registry import make_scanner

cdef enum:
    HITS_AT_ONCE = 1 << 16      # accesses between two questions whether to stop

OUTCOMES = ("done", "no_frame", "no_slot", "pool_full", "rejected", "io_failed", "corrupt", "limited", "refused", "empty")


def word_of(uint32_t vpn):
    """The 8-byte word (0..511) of its page that an access of this vpn touches."""
    return memvirt_word(vpn)


def tag_of(uint32_t base, uint64_t sequence):
    """The value that the sequence-th write (from 1) of a VM with this tag base stores: 1 .. 2^31 - 1."""
    return memvirt_tag(base, sequence)


cdef enum:
    MOST_FRAMES = 1 << 28       # that entries, translations and records can name


cdef class VmState:
    """A VM as the engine sees it; what can be asked of one is in Vm."""

    def __dealloc__(self):
        free(self.latency)

    def _make_histogram(self):
        """If the batch it is in has due times."""
        if self.stream.batch.nr_parts and self.latency == NULL:
            self.latency = <Histogram *>calloc(1, sizeof(Histogram))
            if self.latency == NULL:
                raise MemoryError("histogram of requests")

    def _require(self):
        """Whoever asks something of a VM asks this first: one that has ended has no engine any more."""
        if not self.alive:
            raise ConfigError(f"VM '{self.name}' has been destroyed")
        self.engine.look()

    def _require_running(self):
        self._require()
        if self.frozen:
            raise ConfigError(f"VM '{self.name}' is a frozen template: clone it, the clones run")


cdef class Core:
    """The parts of one host. `options` are plain numbers and names, already validated by the facade:

    order, order_options; min_pages, low_pages, high_pages; zpool (dict of Zpool's arguments, or None); sharing (scanner
    name or None), sharing_options; provisioning 0..2; readahead (page cluster), zpool_shrinker;
    harvest_interval_ns; compact_threshold (per mille; left out: never by itself); collapse_interval_ns (left out: only
    when asked); quantum_ns; costs; seed.
    """

    def __cinit__(self, *arguments, **options):
        self.who = <void **>calloc(NUMBERS, sizeof(void *))
        if self.who == NULL:
            raise MemoryError("the agenda")

    def __dealloc__(self):
        free(self.who)

    def __init__(self, Content content not None, device not None, swap, **options):
        if content.nr_frames > MOST_FRAMES:
            raise ConfigError(f"{content.nr_frames} frames; the most is {MOST_FRAMES}: entries have 28 bits for one")
        self.content = content
        self.thread = PyThread_get_thread_ident()
        self.process = getpid()
        self.options = options
        self.seed = options["seed"]
        self.batch = Batch()
        self.meter = Meter()
        self.clock = Clock(self.meter, options["costs"])
        self.frames = Frames(content, options["min_pages"], options["low_pages"], options["high_pages"])
        self.device = device
        if swap is not None:
            swap.attach(device)
        keys = (0 if swap is None else swap.nr_slots) + content.nr_frames * 4
        self.order = make_order(options["order"], content.nr_frames, content.nr_frames, keys,
                                options.get("order_options", {}), self.seed)
        self._take_fixed(self.fixed_bytes(swap), "the host's frame records and maps")
        zpool = None if options["zpool"] is None else Zpool(self.frames, aged=swap is not None, **options["zpool"])
        self.mapping = Mapping(self.frames, self.order, self.clock, zpool, swap)
        self.reclaim = Reclaim(self.mapping, device, options["readahead"], options["harvest_interval_ns"],
                               options["zpool_shrinker"])
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
            if self.index.last_chance:
                self.reclaim.eviction.last_chance = self.index
            self.scanning = Scanning(self.scanner)
        self.compactor = Compactor(self.mapping, options.get("compact_threshold", COMPACT_NEVER))
        self.collapser = Collapser(self.mapping, options.get("collapse_interval_ns", 0))
        self.actors = []
        self.quantum_ns = options["quantum_ns"]
        self.hire(self.reclaim.harvester, options["harvest_interval_ns"] or FOREVER)
        self.hire(self.reclaim, FOREVER)
        self.hire(self.reclaim.shrinker, FOREVER)
        self.hire(self.collapser, options.get("collapse_interval_ns", 0) or FOREVER)
        self.hire(self.compactor, FOREVER)
        if self.scanning is not None:
            self.hire(self.scanning, 0 if self.scanner.pages_to_scan else FOREVER)
        self.nr_fixed = self.frames.nr_state[<int>FRAME_FIXED]

    def fixed_bytes(self, swap):
        """Bytes of a host's tables of fixed size. Per frame: record, age, place in the order, free map. Per 2 MiB block:
        compaction's survey. Per swap slot: the slot maps, and readahead's record."""
        cdef uint64_t total = self.frames.nr_frames * <uint64_t>(sizeof(Frame) + 1) + self.frames.buddy.metadata_bytes
        total += (self.frames.nr_frames + (<uint64_t>1 << HUGE_ORDER) - 1 >> HUGE_ORDER) * 3
        total += self.order.metadata_bytes()
        if swap is not None:
            total += swap.metadata_bytes()
            total += swap.nr_slots * <uint64_t>sizeof(uint32_t) if self.options["readahead"] else 0
        return total

    # ---- entering

    cpdef int look(self) except -1:
        """May this caller look at the host? Reading is allowed in the middle of a call, as streams do."""
        if self.closed:
            raise ConfigError("the host is closed")
        if getpid() != self.process:
            raise ConfigError(f"this host belongs to process {self.process}: a process that was forked from it makes hosts "
                              f"of its own")
        if PyThread_get_thread_ident() != self.thread:
            raise InvariantError("a host belongs to the thread that made it")
        return 0

    cdef int _enter(self) except -1:
        self.look()
        if self.entered:
            raise InvariantError("a host runs one call at a time, and is in the middle of one")
        self.entered = True
        self.entries += 1
        return 0

    cdef int _own(self, VmState vm) except -1:
        """A VM that lives, and on this host: its number means another VM elsewhere."""
        vm._require()
        if vm.engine is not self:
            raise ConfigError(f"VM '{vm.name}' belongs to another host")
        return 0

    cdef void _leave(self) noexcept:
        self.entered = False
        self.stalls.running = NONE16
        self.stalls.alone = False

    cdef int _begin(self, VmState vm) except -1:
        """Enter for this VM alone: its clock runs, what it waits for is its stall, and nobody else has work."""
        self._enter()
        if self.stalls.works[vm.id]:            # a decider's call, between two quanta of its stream
            self._leave()
            raise ConfigError(f"VM '{vm.name}' is running a stream; it has no other accesses until that ends")
        self.clock.now = vm.now_ns
        try:
            self.stalls.start(vm.id, vm.now_ns)
        except BaseException:
            self._leave()
            raise
        self.stalls.running = vm.id
        self.stalls.alone = True
        return 0

    cdef int _end(self, VmState vm) except -1:
        if self.mapping.over:
            self.reclaim.keep_limits()
        vm.now_ns = self.clock.now
        self.stalls.stop(vm.id, vm.now_ns)
        self.stalls.drain()
        self._reach(vm)
        self._leave()
        return self.clock.interrupt.deliver()

    cdef int _reach(self, VmState vm) except -1:
        """The VM has done something of its own: simulated time has come that far, and it may have woken someone."""
        self.reached_ns = max(self.reached_ns, vm.now_ns)
        vm.worker.look(vm.now_ns)
        self.compactor.look(vm.now_ns)
        return 0

    cdef int _leave_agenda(self, VmState vm) except -1:
        """The VM ends: it has no more turns."""
        self.clock.agenda.put(FIRST_BALLOON + vm.id, FOREVER)
        self.clock.agenda.put(FIRST_VM + vm.id, FOREVER)
        self.who[FIRST_BALLOON + vm.id] = self.who[FIRST_VM + vm.id] = NULL
        if vm.runs:
            vm.runs = False
            vm.stream.reason = "killed"
            self.nr_running -= 1
        return 0

    cdef int hire(self, Actor actor, int64_t first_ns) except -1:
        """From now on this actor has turns, the first at that time; FOREVER: when it is woken."""
        if len(self.actors) == FIRST_BALLOON - 1:       # the last is a watcher's, see schedule
            raise InvariantError(f"a host has numbers for {FIRST_BALLOON - 1} actors")
        actor.number = len(self.actors)
        self.actors.append(actor)
        self.who[actor.number] = <void *>actor
        self.clock.agenda.put(actor.number, first_ns)
        return 0

    cdef uint32_t run_as(self, Actor actor, int64_t now, uint32_t want) except? 0xFFFFFFFF:
        """Enter and let an actor work now, on its own clock, not before `now`. Returns how much was done."""
        cdef uint32_t done = 0
        self._enter()
        self.clock.now = max(actor.now_ns, now)
        try:
            with nogil:
                done = actor.work(want)
        finally:
            actor.now_ns = self.clock.now
            if self.clock.agenda.at(actor.number) < actor.now_ns:
                self.clock.agenda.put(actor.number, actor.now_ns)
            self.clock.progress += done
            self._leave()
        self.clock.interrupt.deliver()
        return done

    cdef list _take_fixed(self, uint64_t bytes, object what):
        """Frames for metadata of fixed size, as large blocks as there are; AdmissionError if memory does not suffice."""
        cdef uint64_t missing = (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT
        cdef int order = MAX_ORDER
        cdef hfn_t frame
        taken = []
        cdef uint32_t keep = self.frames.min_pages
        if self.reclaim is not None and missing:
            self.reclaim.make_room(missing + keep, self.sim_ns())
            self.clock.interrupt.deliver()
            keep += self.mapping.aside(NONE16)
        if missing > self.frames.nr_frames or not self.frames.can_take(<uint32_t>missing, keep):
            raise AdmissionError(f"{what} need {missing} frames; {self.frames.buddy.nr_free} are free, "
                                 f"{keep} of them reserved")
        while missing:
            if (<uint64_t>1 << order) > missing or self.frames.claim(order, FRAME_FIXED, &frame) != OK:
                order -= 1
                continue
            taken.append((frame, order))
            missing -= <uint64_t>1 << order
        return taken

    # ---- accesses

    cdef int touch(self, VmState vm, vpn_t vpn, bint write, hfn_t *frame) except -1 nogil:
        """Make one page accessible, its translation cached; *frame holds it. The running clock is the VM's."""
        cdef Translation found
        cdef int outcome
        cdef gfn_t gfn = vpn
        cdef bint may_write = True
        if vm.guest is not None:
            outcome = vm.guest.resolve(vpn, write, &found)
            if outcome != OK:
                return outcome
            gfn = found.gfn
            may_write = found.writable
        outcome = self.faults.resolve(vm.id, gfn, vpn, write, may_write)
        if outcome == OK:
            frame[0] = self.mapping.tcache.view[vm.id].entry[vpn] & 0x0FFFFFFF
        return outcome

    cdef int _slow(self, VmState vm, vpn_t vpn, uint8_t op, const uint32_t *source) except -1 nogil:
        """An access that is not a hit."""
        cdef hfn_t frame
        cdef int outcome
        if op == OP_DISCARD:
            self.meter.ev.discards += 1
            # Without a guest model nobody tells the host what is no longer needed: the page stays as it is.
            return vm.guest.discard(vpn) if vm.guest is not None else OK
        outcome = self.touch(vm, vpn, op != OP_READ, &frame)
        if outcome != OK:
            return outcome
        if op == OP_FILL:
            self.meter.ev.fills += 1
            self.content.fill(frame, source[0])
            if self.faults.index is not None:
                self.faults.index.arrived(frame)
        elif op == OP_WRITE:
            vm.hits.sequence += 1
            self.content.store_tag(frame, memvirt_word(vpn), memvirt_tag(vm.hits.tag_base, vm.hits.sequence))
        else:
            vm.hits.loaded += self.content.load(frame, memvirt_word(vpn))
        return OK

    cdef uint32_t serve(self, VmState vm, Batch batch, uint32_t first, uint32_t end,
                        int64_t until) except? 0xFFFFFFFF nogil:
        """Serve accesses first .. end - 1 of a batch until done, out of time, interrupted, or stuck: then vm.outcome says
        why. Returns how many."""
        cdef uint32_t i = first, last, stop
        cdef uint64_t written
        cdef int64_t hit_ns = self.clock.costs.hit
        cdef int outcome = OK
        self.clock.now = vm.now_ns
        self.stalls.running = vm.id
        while i < end and self.clock.now < until and not self.clock.interrupt.asked():
            last = batch.end_within(i, min(end, i + HITS_AT_ONCE), until - self.clock.now, hit_ns)
            written = vm.hits.sequence
            stop = memvirt_serve_hits(&vm.hits, batch.pages, batch.ops, i, last, end)
            self.clock.spend(CPU_ACCESS, (stop - i) * hit_ns)
            self.clock.now += (stop - i) * batch.work_ns
            written = vm.hits.sequence - written
            self.meter.ev.writes += written
            self.meter.ev.reads += (stop - i) - written
            i = stop
            if i == last:
                continue
            if self.mapping.zpool is not None and vm.guest is None and self.mapping.zpool.nr_objects:
                self.faults.look_ahead(vm.id, batch.pages + i + 1, end - i - 1)
            vm.now_ns = self.clock.now          # kept if the access raises
            outcome = self._slow(vm, batch.pages[i], batch.ops[i], NULL if batch.sources == NULL else batch.sources + i)
            if outcome != OK:
                break
            self.clock.spend(CPU_ACCESS, hit_ns)
            self.clock.now += batch.work_ns
            self.meter.ev.writes += batch.ops[i] == OP_WRITE
            self.meter.ev.reads += batch.ops[i] == OP_READ
            i += 1
        self.stalls.running = NONE16
        vm.now_ns = self.clock.now
        vm.outcome = outcome
        return i - first

    def request_latencies(self):
        """Histogram of all requests so far; None if there were none."""
        return histogram_dict(&self.requests) if self.requests.total else None

    cdef uint64_t changes(self) noexcept nogil:
        """A number that grows with whatever may let an access succeed that found no memory: accesses of VMs, work of
        actors, calls from outside. While it stands still, trying again finds what was found before."""
        return (self.meter.ev.reads + self.meter.ev.writes + self.meter.ev.fills + self.meter.ev.discards
                + self.clock.progress + self.entries)

    cpdef int64_t sim_ns(self):
        """How far simulated time has come."""
        return self.reached_ns
