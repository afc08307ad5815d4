cimport cython

from .guest_memory cimport PAGE_BALLOON, PAGE_CLEAN, PAGE_DIRTY, PAGE_LOCKED, GuestMemory
from .hardware cimport WORK_MESSAGE, WORK_PLUG_BLOCK, Hardware
from .partitions cimport Partitions
from .ring cimport Sharer
from ..replacement.order cimport Marks, Order
from ..types cimport LEAF_SHIFT, gfn_t, int64_t, uint8_t, uint32_t, uint64_t, vpn_t

cdef enum:
    HARDWARE_ERRED = 255        # beside the outcomes: what a request has come to until it has answered
    RECLAIM_BATCH = 32          # pages one fault reclaims at most, as Linux (SWAP_CLUSTER_MAX)

cdef enum GuestEvent:           # what a resolve had to do
    GUEST_MAPPED = 0            # nothing: vpn was mapped (it may have become writable)
    GUEST_NEW_ZERO = 1          # a first touch of anonymous memory: a cleared page
    GUEST_NEW_CACHE = 2         # page cache read from its file
    GUEST_SWAPPED_IN = 3        # brought back by the guest from its own swap

cdef struct Translation:
    gfn_t gfn
    uint8_t event               # GuestEvent
    bint writable               # False: a clean page; resolve it with write=True before the first store

# One uint64_t per name, so that the struct converts to the dict of counters() as it stands.
cdef struct GuestCounters:
    uint64_t guest_faults               # faults served: guest_zeroed + cache_read + cache_reread + guest_swap_in
    uint64_t guest_faults_failed        # resolves that returned something else than OK
    uint64_t guest_zeroed               # new anonymous pages
    uint64_t cache_read                 # page cache pages read from their file for the first time
    uint64_t cache_reread               # ... and again after they were dropped
    uint64_t cache_dropped              # page cache evicted without I/O
    uint64_t cache_written              # dirty page cache written to its file, then evicted
    uint64_t guest_swap_in
    uint64_t guest_swap_out             # anonymous pages written to guest swap
    uint64_t guest_swap_dropped         # anonymous pages evicted without I/O: their slot still held the same bytes
    uint64_t evict_failed_machine       # evictions the hardware could not carry out
    uint64_t evict_failed_slot          # ... for want of a guest swap slot
    uint64_t oom                        # faults for which the guest found no page by any means
    uint64_t discarded                  # pages the guest freed
    uint64_t ballooned                  # pages moved into the balloon
    uint64_t deflated                   # pages moved out of it (oom_deflated included)
    uint64_t oom_deflated               # pages the balloon gave back to an out-of-memory guest
    uint64_t balloon_refused_floor      # balloon steps cut short: the guest would fall below its floor
    uint64_t balloon_refused_pages      # ... nothing free, nothing to reclaim
    uint64_t balloon_refused_machine    # ... the hardware failed
    uint64_t reported                   # pages named by free page reporting
    uint64_t report_messages            # in so many messages
    uint64_t report_freed               # of the pages, those of which the host held anything
    uint64_t report_failed              # reports the hardware failed

# The same of what it gives and how; counters() has them of a guest that was told how to (`elastic`).
cdef struct GivingCounters:
    uint64_t messages                   # that left the guest: of a balloon, or a request to unplug or plug
    uint64_t given_freed                # pages given up behind which the host held a frame or a copy
    uint64_t unplug_moved               # pages moved to others, to empty 2 MiB
    uint64_t unplug_failed_pinned       # blocks that could not be emptied: a page of the kernel's, or locked
    uint64_t unplug_failed_room         # ... no room for what is in them
    uint64_t give_ns                    # simulated time of giving, what it waited for included
    uint64_t return_ns                  # ... of having it back
    uint64_t installed                  # 2 MiB that the host gave frames to before the guest used them again


@cython.final
cdef class Guest(Marks):
    cdef readonly GuestMemory memory                # its tables; others may use them, too: own() comes before a change
    cdef Sharer _ring                               # who else does
    cdef uint64_t _seed                             # of the draws of a random replacement
    cdef Hardware hardware
    cdef readonly uint32_t low_pages, high_pages    # a fault that finds <= low free pages reclaims until > high
    # 0 .. 200: weight of anonymous pages in reclaim, of 200. It shares reclaim as Linux's get_scan_count (mm/vmscan.c): by
    # pages x weight, `swappiness` for anonymous pages and 200 - `swappiness` for page cache; without guest swap only cache
    # goes. The kernel's correction by what each list has cost lately is left out: the rule is open loop.
    cdef readonly uint32_t swappiness
    cdef uint32_t _anon_share                   # anonymous pages due, in 65536ths of a page; below one
    cdef readonly uint32_t balloon_floor        # pages the balloon always leaves to the guest
    cdef readonly uint32_t oom_deflate_pages    # given back when the guest is out of memory; 0: never
    cdef readonly int64_t report_delay_ns       # from a free block to the pass that reports it
    cdef readonly uint32_t balloon_target       # pages, in units; a step says what of it cannot be
    cdef readonly str elastic                   # how it gives memory, see elastic; None: by its balloon, not counted apart
    cdef readonly uint32_t unit                 # pages it gives at a time: 1, 512, or those of a partition
    cdef readonly Partitions parts              # of its memory, each for one instance; None: there are none
    cdef readonly uint32_t partition, partitions    # pages of each, and how many there are
    cdef uint64_t plugged_on_demand             # partitions that were plugged as an instance began
    cdef readonly str driver                    # "beside": works on a processor of its own; "vcpu": on the VM's
    cdef bint on_vcpu                           # the same
    cdef uint64_t driver_ns                     # on_vcpu: what it has taken of the VM's processor
    cdef int64_t owed_ns                        # ... and the VM's clock has not been moved on for yet
    cdef int64_t owed_since_ns                  # when it began with that
    cdef int64_t driver_free_ns                 # when it would be done with all it did, alone on the processor
    cdef readonly bint reports                  # its free blocks are named to the host
    cdef readonly bint installs                 # the host reads its allocator, and backs a block before its use
    cdef uint32_t hand                          # the block that is to be unplugged next; NONE: the last one
    cdef GuestCounters count
    cdef GivingCounters giving

    # The page of vpn, allocated and filled if need be. OK and *out; EMPTY: the guest is out of memory (its own, so
    # waiting for the host does not help); else what the hardware said, and the same call may be made again.
    cdef int resolve(self, vpn_t vpn, bint write, Translation *out) except -1 nogil
    # The guest frees the page: the next touch finds it as never touched. The host is not told.
    cdef int discard(self, vpn_t vpn) except -1 nogil

    cdef inline gfn_t lookup(self, vpn_t vpn) noexcept nogil:          # NONE: unmapped
        return self.memory.gfn[vpn]

    cdef inline vpn_t vpn_of(self, gfn_t gfn) noexcept nogil:          # NONE: not mapped
        return self.memory.vpn[gfn]

    cdef inline bint may_write(self, gfn_t gfn) noexcept nogil:        # False: ask resolve(write=True) first
        return (self.memory.state[gfn] & ~PAGE_LOCKED) == PAGE_DIRTY

    cdef inline bint is_clean(self, gfn_t gfn) noexcept nogil:
        return (self.memory.state[gfn] & ~PAGE_LOCKED) == PAGE_CLEAN

    cdef inline bint shares(self) noexcept nogil:                      # True if a change would change tables of others
        return self._ring.next != &self._ring or self.memory.owner != self._ring.number

    # Before a change: the tables become this guest's alone. MemoryError, and nothing has changed, if that cannot be.
    cdef inline int own(self) except -1 nogil:
        if self.shares():
            with gil:
                self._part()
        return 0

    cdef int _part(self) except -1
    cdef void _join(self, Guest parent) noexcept
    cdef void _use(self, GuestMemory tables) noexcept
    cpdef Guest copy_for(self, Hardware hardware, uint64_t seed)
    cdef void end(self) noexcept                # its VM ended, or goes on with another guest: it is not asked again
    cdef int _fault(self, vpn_t vpn, bint write, Translation *out) except -1 nogil
    cdef int _bring(self, vpn_t vpn, gfn_t gfn, bint write, uint32_t *copy) except -1 nogil
    cdef int _make_dirty(self, vpn_t vpn, gfn_t gfn) except -1 nogil
    cdef int _take_page(self, vpn_t vpn, gfn_t *gfn) except -1 nogil
    cdef int _take_free(self, gfn_t *gfn) except -1 nogil
    # Free one mapped page, of the kind whose turn it is. OK, EMPTY or what the hardware said.
    cdef int evict_one(self) except -1 nogil
    cdef bint _anon_is_due(self) noexcept nogil
    cdef int _evict_anon(self) except -1 nogil
    cdef int _evict(self, Order order, gfn_t gfn) except -1 nogil
    cdef gfn_t _victim(self, Order order) except? 0xFFFFFFFE nogil

    cdef inline void go_on_counting(self, Guest before) noexcept:
        """It takes the place of `before` in its VM, which has counted so much."""
        self.count = before.count
        self.giving = before.giving
        self.plugged_on_demand = before.plugged_on_demand
        self.driver_ns, self.owed_ns = before.driver_ns, before.owed_ns
        self.owed_since_ns, self.driver_free_ns = before.owed_since_ns, before.driver_free_ns

    cdef inline uint32_t nr_free(self) noexcept nogil:                 # that a fault may have, of an instance's apart
        return self.memory.buddy.nr_free if self.parts is None else self.parts.shared_free(self.memory)

    cdef inline uint32_t in_units(self, uint32_t pages) noexcept nogil:     # of all that there are of them
        pages -= pages % self.unit
        return pages if self.parts is None else min(pages, self.parts.number * self.unit)

    # Up to so many pages, and what their units have beside, are free again, last in first out; how many.
    cdef inline uint32_t deflate(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        cdef uint32_t given = self.memory.pop_balloon(self.in_units(pages + self.unit - 1))
        self.count.deflated += given
        return given

    cdef inline uint32_t deflate_for_oom(self) except? 0xFFFFFFFF nogil:
        """The guest overrules the host: the target of a balloon that had reached it is its new size. (Another goes on.)"""
        cdef bint there = self.memory.nr_balloon == self.balloon_target
        cdef uint32_t given = self.deflate(self.oom_deflate_pages)
        self.count.oom_deflated += given
        if there:
            self.balloon_target = self.memory.nr_balloon
        return given

    # An instance begins: the partition that begins there is plugged, if it is not, and the instance waits for it.
    cdef inline int begin_in(self, gfn_t first) except -1 nogil:
        if self.memory.state[first] != PAGE_BALLOON:
            return 0
        self.giving.return_ns -= self.hardware.now()
        self.memory.lift(first, self.unit)
        self.deflate(self.unit)
        self.hardware.pay(WORK_MESSAGE, 1)
        self.hardware.pay(WORK_PLUG_BLOCK, self.unit >> LEAF_SHIFT)
        self.giving.messages += 1
        self.giving.return_ns += self.hardware.now()
        self.plugged_on_demand += 1
        return 0

    # The driver began then, and took the processor for so long.
    cdef inline void drove(self, int64_t began_ns, int64_t ns) noexcept nogil:
        if not self.on_vcpu or ns <= 0:
            return
        if self.owed_ns == 0:
            self.owed_since_ns = began_ns
        self.driver_free_ns = max(self.driver_free_ns, began_ns) + ns
        self.owed_ns += ns
        self.driver_ns += ns

    # How much later a VM goes on that has work since then: by all of it. What was done while it slept costs it nothing.
    cdef inline int64_t settle(self, int64_t awake_ns) noexcept nogil:
        cdef int64_t owed = self.owed_ns
        self.owed_ns = 0
        return owed if awake_ns <= self.owed_since_ns else min(owed, max(<int64_t>0, self.driver_free_ns - awake_ns))
