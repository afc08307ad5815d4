"""What a host is made of, who has a turn, and what it does to memory when it is told to.

The parts below the host each do one thing: frames, stores, the mapping, reclaim, faults. Here they are made and joined.
The rest of this folder works on an Engine and its VMs: accesses serves them, admission makes VMs, cloning makes clones and
snapshots and reverts to them, ending ends VMs, schedule runs them side by side. audit, sample, savings and contiguity only
look.

Every call of a host enters and leaves it. In between one actor runs: `clock.now` is its clock. A call for one VM alone
(`begin`, `end`) books what that VM waits for as its stall, and simulated time has come as far as it has.
"""

from libc.stdlib cimport calloc, free

from memvirt.errors import ConfigError, InvariantError

from ..agenda cimport FIRST_BALLOON, FIRST_VM, FOREVER, NUMBERS
from ..content.content cimport Content
from ..counters cimport Meter, histogram_dict
from ..device cimport Device
from ..guests.reporting cimport Reporting
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport FRAME_FIXED, Frames
from ..reclaim.fault cimport ON_WRITE, Faults
from ..reclaim.reclaim cimport Reclaim
from ..replacement.registry import make_order
from ..sharing.registry import make_scanner
from ..sharing.scanner cimport Scanner, Scanning
from ..simtime cimport Actor, Clock
from ..stores.swapspace cimport SwapSpace
from ..stores.zpool cimport Zpool
from ..types cimport NONE, NONE16, int64_t, uint32_t, uint64_t
from ..upkeep.collapse cimport Collapser
from ..upkeep.compact cimport COMPACT_NEVER, Compactor
from .batch cimport Batch
from .fixed cimport bytes_of_host, take_fixed
from .gate cimport Gate
from .vm cimport Vm

cdef enum:
    MOST_FRAMES = 1 << 28       # that entries, translations and records can name


cdef class Engine:
    """One host. Its options are plain numbers and names, already validated by the facade.

    order, order_options: of the replacement order; watermarks in frames; zpool: Zpool's arguments, None: no compressed
    cache; sharing: a scanner's name, None: no page sharing; provisioning: see Provisioning; readahead: page cluster;
    compact_threshold: per mille, None: only when asked; collapse_interval_ns: 0: only when asked; costs: ns, by
    name; giving: the same of guests that give memory (HostHardware).
    """

    def __cinit__(self, *arguments, **options):
        self.who = <void **>calloc(NUMBERS, sizeof(void *))
        if self.who == NULL:
            raise MemoryError("the agenda")

    def __dealloc__(self):
        free(self.who)

    def __init__(self, Content content not None, Device device not None, SwapSpace swap=None, *, str order not None,
                 order_options, uint32_t min_pages, uint32_t low_pages, uint32_t high_pages, dict zpool, str sharing,
                 dict sharing_options, int provisioning, uint32_t readahead, bint readahead_by_address, bint psi_linux,
                 bint zpool_shrinker, bint zeros_only, bint victims_by_shares,
                 int64_t harvest_interval_ns, compact_threshold, int64_t collapse_interval_ns, int64_t quantum_ns,
                 dict costs not None, dict giving not None, uint64_t seed):
        if content.nr_frames > MOST_FRAMES:
            raise ConfigError(f"{content.nr_frames} frames; the most is {MOST_FRAMES}: entries have 28 bits for one")
        self.gate = Gate()
        self.content = content
        self.device = device
        self.seed = seed
        self.giving = giving
        self.batch = Batch()
        self.vms = {}
        self.snapshots = []
        self.actors = []
        self.quantum_ns = quantum_ns
        self.meter = Meter()
        self.clock = Clock(self.meter, costs)
        self.frames = Frames(content, min_pages, low_pages, high_pages)
        if swap is not None:
            swap.attach(device)
        keys = (0 if swap is None else swap.nr_slots) + content.nr_frames * 4
        self.order = make_order(order, content.nr_frames, content.nr_frames, keys, order_options, seed)
        slots_known = readahead != 0 and not readahead_by_address
        take_fixed(self.frames, None, 0, bytes_of_host(self.frames, self.order, swap, slots_known),
                   "the host's frame records and maps")
        pool = None if zpool is None else Zpool(self.frames, aged=swap is not None, **zpool)
        self.mapping = Mapping(self.frames, self.order, self.clock, pool, swap)
        self.mapping.recency.set_recipe(order, order_options, seed)
        self.reclaim = Reclaim(self.mapping, device, readahead, readahead_by_address, psi_linux, harvest_interval_ns,
                               zpool_shrinker, zeros_only, victims_by_shares)
        self.stalls = self.reclaim.stalls
        self.faults = Faults(self.reclaim, provisioning, {})
        if self.faults.provisioning == ON_WRITE:
            self.faults.keep_zeros()
        if sharing is not None:
            self._share(make_scanner(sharing, self.mapping, sharing_options, seed))
        self.compactor = Compactor(self.mapping, COMPACT_NEVER if compact_threshold is None else compact_threshold)
        self.collapser = Collapser(self.mapping, collapse_interval_ns)
        self.reporting = Reporting(self.clock, self.mapping.recency.lazies)
        self._hire_all(harvest_interval_ns, collapse_interval_ns)
        self.nr_fixed = self.frames.nr_state[<int>FRAME_FIXED]

    cdef int _share(self, Scanner scanner) except -1:
        """From now on pages are shared: whoever brings one, or is about to lose one, asks the scanner's index."""
        self.scanner = scanner
        self.index = scanner.index
        take_fixed(self.frames, self.reclaim, 0, self.index.metadata_bytes() + scanner.metadata_bytes(),
                   "page sharing's tables")
        self.faults.index = self.index
        if self.index.last_chance:
            self.reclaim.eviction.last_chance = self.index
        self.scanning = Scanning(scanner)
        return 0

    # ---- entering

    cpdef int look(self) except -1:
        """Raises unless this caller may look at the host; see Gate."""
        return self.gate.look()

    cdef int enter(self) except -1:
        return self.gate.enter()

    cdef void leave(self) noexcept:
        self.gate.leave()
        self.stalls.running = NONE16
        self.stalls.alone = False

    cdef int own(self, Vm vm) except -1:
        vm.require()
        if vm.gate is not self.gate:
            raise ConfigError(f"VM '{vm.name}' belongs to another host")
        return 0

    cdef int begin(self, Vm vm) except -1:
        if vm.gate is not self.gate:
            raise ConfigError(f"VM '{vm.name}' belongs to another host")
        self.enter()
        if self.stalls.works[vm.id]:            # a decider's call, between two quanta of its stream
            self.leave()
            raise ConfigError(f"VM '{vm.name}' is running a stream; it has no other accesses until that ends")
        self.clock.now = vm.now_ns
        try:
            self.stalls.start(vm.id, vm.now_ns)
        except BaseException:
            self.leave()
            raise
        self.stalls.running = vm.id
        self.stalls.alone = True
        return 0

    cdef int end(self, Vm vm) except -1:
        self.keep_limits()
        vm.now_ns = self.clock.now
        self.stalls.stop(vm.id, vm.now_ns)
        self.stalls.drain()
        self.reach(vm)
        self.leave()
        return self.clock.interrupt.deliver()

    cdef int keep_limits(self) except -1:
        """At the end of whatever may have left pages to others that share them, and now pay for more than their limits."""
        return self.reclaim.keep_limits() if self.mapping.charges.over else 0

    cdef int reach(self, Vm vm) except -1:
        self.reached_ns = max(self.reached_ns, vm.now_ns)
        vm.worker.look(vm.now_ns)
        self.reporting.look(vm.id, self.reached_ns)
        self.compactor.look(vm.now_ns)
        return 0

    @property
    def maps_zeros(self):
        """Reads of pages that were never written map one frame of zeros."""
        return self.faults.zero_frame != NONE

    cpdef int64_t sim_ns(self):
        """How far simulated time has come."""
        return self.reached_ns

    cdef uint64_t changes(self) noexcept nogil:
        """Grows with accesses of VMs, work of actors, calls from outside. While it stands still, trying again finds what
        was found before."""
        return (self.meter.ev.reads + self.meter.ev.writes + self.meter.ev.fills + self.meter.ev.discards
                + self.clock.progress + self.gate.entries)

    # ---- who has turns

    cdef int _hire_all(self, int64_t harvest_interval_ns, int64_t collapse_interval_ns) except -1:
        self.hire(self.reclaim.harvester, harvest_interval_ns or FOREVER)
        self.hire(self.reclaim, FOREVER)
        self.hire(self.reclaim.shrinker, FOREVER)
        self.hire(self.collapser, collapse_interval_ns or FOREVER)
        self.hire(self.compactor, FOREVER)
        if self.scanning is not None:
            self.hire(self.scanning, 0 if self.scanner.pages_to_scan else FOREVER)
        self.hire(self.reporting, FOREVER)
        return 0

    cdef int hire(self, Actor actor, int64_t first_ns) except -1:
        if len(self.actors) == FIRST_BALLOON - 1:       # the last takes samples, see schedule
            raise InvariantError(f"a host has numbers for {FIRST_BALLOON - 1} actors")
        actor.number = len(self.actors)
        self.actors.append(actor)
        self.who[actor.number] = <void *>actor
        self.clock.agenda.put(actor.number, first_ns)
        return 0

    cdef int dismiss(self, Vm vm) except -1:
        self.reporting.leave(vm.id)
        self.clock.agenda.put(FIRST_BALLOON + vm.id, FOREVER)
        self.clock.agenda.put(FIRST_VM + vm.id, FOREVER)
        self.who[FIRST_BALLOON + vm.id] = self.who[FIRST_VM + vm.id] = NULL
        if vm.runs:
            vm.runs = False
            vm.stream.reason = "killed"
            self.nr_running -= 1
        return 0

    cdef uint32_t run_as(self, Actor actor, int64_t now, uint32_t want) except? 0xFFFFFFFF:
        cdef uint32_t done = 0
        self.enter()
        self.clock.now = max(actor.now_ns, now)
        try:
            with nogil:
                done = actor.work(want)
        finally:
            actor.now_ns = self.clock.now
            if self.clock.agenda.at(actor.number) < actor.now_ns:
                self.clock.agenda.put(actor.number, actor.now_ns)
            self.clock.progress += done
            self.leave()
        self.clock.interrupt.deliver()
        return done

    # ---- work that it is told to do

    def scan(self, pages=None):
        """Let the scanner look at `pages` pages, or (None) one full pass from its start, whatever slice ran
        before. Returns pages merged."""
        if self.scanner is None:
            raise ConfigError("this host has no page sharing: create it with sharing='hash'")
        return self.run_as(self.scanning, self.sim_ns(), NONE if pages is None else pages)

    def settle(self, uint32_t passes):
        """`passes` full passes of the scanner, if there is one. VMs have been idle until then, however far the scanner has
        come: what it did lies in their past. Else a scanner that has gone over memory would look at nothing until they have
        caught up."""
        self.gate.require_idle("settle")
        for _ in range(passes if self.scanner is not None else 0):
            self.scan()
        if self.scanning is not None:
            self.reached_ns = max(self.reached_ns, self.scanning.now_ns)
        for vm in self.vms.values():
            (<Vm>vm).now_ns = max((<Vm>vm).now_ns, self.reached_ns)

    def set_pace(self, uint32_t pages, int64_t sleep_ns):
        """Let the scanner look at that many pages at a time (0: none), and sleep that long between."""
        self.scanning.set_pace(pages, sleep_ns, self.reached_ns)

    def reclaim_from(self, Vm vm not None, uint32_t pages, bint for_limit=False):
        """Evict up to `pages` of a VM's pages ahead of need, coldest first, on the background reclaimer's time. Returns
        how many went. for_limit: it is above its limit, and its own order says which."""
        self.own(vm)
        self.reclaim.whose = vm.id
        self.reclaim.for_limit = for_limit
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
        self.enter()
        try:
            self.reclaim.harvester.work(NONE)
        finally:
            self.leave()
        self.clock.interrupt.deliver()

    # ---- what there is to see

    def order_of(self, Vm vm not None):
        """The order of the pages that a VM pays for, or None: it has no limit, or none that it can reach."""
        self.own(vm)
        return self.mapping.recency.order_of(vm.id)

    def request_latencies(self):
        """Histogram of all requests so far; None if there were none."""
        return histogram_dict(&self.requests) if self.requests.total else None

    def guest_events(self):
        """What all guests there have been count of themselves, summed: {name: count}; empty without any."""
        cdef Vm vm
        total = dict(self.ended or {})
        for vm in self.vms.values():
            if vm.guest is not None:
                for name, count in vm.guest.counters().items():
                    total[name] = total.get(name, 0) + count
        return total
