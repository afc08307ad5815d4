"""Reclaim: frames come back by evicting pages, through the compressed cache first and swap second.

    free frames
    ── high ──  the background reclaimer goes to sleep
    ── low  ──  it wakes: an actor with its own clock that works while VMs run
    ── min  ──  whoever allocates reclaims first itself (direct); only reclaim and leaf copies may go below
    0

All may be 0: then nothing reclaims in the background, and an allocation may take the last frame that reclaim itself does
not need. What was given up lazily goes first (see lazyfree), whoever asks.

All of them rise by what is set aside for reservations (see charges). How a page goes is in `evict`; here is which, when,
and on whose time. Reclaim never nests: nothing in here waits for a frame that is not already free.

References. The order is told of accessed marks when a page is a candidate (as Linux does on its inactive list) and, if
harvest_interval_ns is set, for all pages at fixed intervals of simulated time. An order that insists on a candidate which
was just referenced (fifo, random) gets its way.

Reservations. A VM whose charged frames, less those that wait in the batch for swap, are no more than its reservation
loses none, whoever asks: an allocation, an admission, a decider. Only its own limit makes it replace them.

One VM's pages. A VM at its limit loses those that the order of its own names (see Recency), which is of the host's kind. A
decider that asks for a VM's coldest pages goes by their ages (see Sweep).

The shrinker (optional, as zswap's) writes old compressed pages back before the pool is full: for each batch of pages
that the background reclaimer evicts, as many as the pool's share of reclaimable memory, less the pages that had to be
read back from swap since; objects loaded since they were stored get another round.
"""

from ..agenda cimport FOREVER
from ..counters cimport CPU_RECLAIM
from ..device cimport Device
from .evict cimport Eviction
from .foresight cimport foretell
from .harvest cimport Harvester
from .lazyfree cimport LazyFree
from ..memory.frames cimport FRAME_CACHE, FRAME_GUEST, FRAME_ISOLATED, Frame
from ..mapping.backing cimport BACKING_SWAP
from ..mapping.mapping cimport Mapping
from ..mapping.charges cimport Account
from .marks cimport TableMarks
from ..mapping.recency cimport Own
from .readahead cimport Readahead
from ..replacement.order cimport Order
from ..simtime cimport Actor
from ..stall cimport Stalls
from .sweep cimport Sweep
from .swapout cimport SwapOut
from ..types cimport (AGAIN, LIMITED, MAX_VMS, NO_FRAME, NONE, NONE16, OK, backing_t, gfn_t, hfn_t, int64_t,
                      uint32_t, uint64_t, vmid_t)
from .writeback cimport CLUSTER, Writeback

cdef enum:
    MOST_FLOOR = 2              # what the floor comes to at most where the min watermark is 0


cdef class Reclaim(Actor):
    """Frees frames of one host; as an actor, in the background. `readahead`: page cluster, `by_address`: its kind;
    `psi_linux`: which waits are pressure; `harvest_interval_ns`: simulated, 0 = never; `ease_pool`: write old compressed
    pages back before the pool is full; `zeros_only`: pages of another word are like any other; `by_shares`: whose pages go
    is not the order's to say (see Sweep)."""

    def __cinit__(self, Mapping mapping not None, Device device not None, readahead, bint by_address, bint psi_linux,
                  int64_t harvest_interval_ns, bint ease_pool, bint zeros_only, bint by_shares):
        cdef SwapOut swapout = None
        self.mapping = mapping
        self.charges = mapping.charges
        self.tables = mapping.tables
        self.leaves = mapping.leaves
        self.device = device
        self.frames = mapping.frames
        self.recency = mapping.recency
        self.zpool = mapping.zpool
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.stalls = Stalls(psi_linux)
        self.readahead = Readahead(mapping, readahead, by_address)
        if mapping.swap is not None:
            swapout = SwapOut(mapping, self.readahead)
        self.shrinker = Writeback(mapping, swapout)
        self.eviction = Eviction(mapping, swapout, self.shrinker, zeros_only)
        self.lazyfree = LazyFree(mapping, self.eviction)
        self.sweep = Sweep(mapping, self.eviction, self.lazyfree)
        self.marks = TableMarks(mapping)
        self.harvester = Harvester(mapping, harvest_interval_ns)
        self.share = CLUSTER
        self.whose = NONE16
        self.by_shares = by_shares
        self.ease_pool = ease_pool and mapping.zpool is not None and mapping.swap is not None

    # ---- securing frames

    cdef int secure(self, vmid_t vm, uint32_t guest_frames, uint32_t table_frames) except -1 nogil:
        cdef uint64_t changes = self.eviction.changes
        cdef int outcome = self._secure(vm, guest_frames, guest_frames + table_frames)
        return AGAIN if outcome == OK and self.eviction.changes != changes else outcome

    cdef int _secure(self, vmid_t vm, uint32_t guest_frames, uint32_t want) except -1 nogil:
        if self.charges.over:
            self.keep_limits()
        if not self.stalls.make_room() or want > self.frames.nr_frames or (want and self.frames.buddy.refuses()):
            self.meter.ev.exhausted_no_frame += 1
            return NO_FRAME
        if guest_frames and self.charges.of[vm].limit != NONE:
            if self._own_limit(vm, guest_frames) != OK:
                self.meter.ev.exhausted_limit += 1
                return LIMITED
        if self._free_up(vm, want) != OK:
            self.meter.ev.exhausted_no_frame += 1
            if guest_frames and self.charges.of[vm].charged < self.charges.of[vm].reservation:
                self.meter.ev.reservation_unmet += 1
            return NO_FRAME
        return OK

    cdef uint32_t _floor(self) noexcept nogil:
        """Frames that no allocation gets: the min watermark's; where that is 0, those that reclaim itself needs to go on:
        one for the next record of what is out, where there can be one; one to split a huge leaf."""
        return max(self.frames.min_pages,
                   <uint32_t>(self.mapping.backings.records.frames_needed(1) == 1) + (self.leaves.nr_huge > 0))

    cdef uint32_t highest_floor(self, bint huge) noexcept nogil:
        """The same, whatever goes meanwhile: each page that goes may take the last record of a frame. `huge`: there will be
        huge leaves, too."""
        cdef bint grows = self.mapping.backings.records.nr_used < self.mapping.backings.records.most
        return max(self.frames.min_pages, <uint32_t>grows + (huge or self.leaves.nr_huge > 0))

    cdef int _free_up(self, vmid_t vm, uint32_t want) except -1 nogil:
        """So many frames are free beside the floor, and what reclaims in the background has been looked after."""
        cdef uint32_t beside = want + self.charges.aside(vm)
        if not self.awake and not self.shrinker.awake and (
                self.frames.buddy.nr_free >= beside + max(self.frames.low_pages, MOST_FLOOR)    # nearly always
                or self.frames.buddy.nr_free >= beside + max(self.frames.low_pages, self._floor())):
            return OK
        self.pass_time(self.clock.now)
        while self.frames.buddy.nr_free < want + self._floor() + self.charges.aside(vm):
            if self._direct(vm, want + self._floor()) != OK:
                return NO_FRAME
        return OK

    cdef int make_room_ahead(self, vmid_t vm, gfn_t gfn, backing_t backing, bint *done) except -1 nogil:
        cdef uint64_t changes = self.eviction.changes
        cdef uint32_t most = self.readahead.most()
        cdef uint32_t beside = self.frames.low_pages + self.charges.aside(NONE16)
        if done[0] or self.mapping.backings.kind(self.mapping.backings.at(backing)) != BACKING_SWAP:
            return OK
        done[0] = True
        if self.frames.buddy.nr_free < 1 + most + beside and self.stalls.make_room():
            most = self.readahead.wanted(vm, gfn, backing)
            if most:
                self._free_up(NONE16, 1 + most)
        return AGAIN if self.eviction.changes != changes else OK

    cdef int _direct(self, vmid_t vm, uint32_t frames) except -1 nogil:
        """Reclaim on the allocating VM's own time until `frames` are free beside what is set aside for others."""
        cdef uint32_t aside = self.charges.aside(vm), missing, freed
        cdef int64_t began = self.clock.now
        cdef int outcome = OK
        while self.frames.buddy.nr_free < frames + aside:
            missing = frames + aside - self.frames.buddy.nr_free
            freed = self.shrink(max(missing, <uint32_t>CLUSTER))
            self.meter.ev.reclaim_direct += freed
            # A slot that a page goes to is one less to lend frames against: that leads nowhere, unless it is known that
            # pages follow which need none.
            if freed == 0 or (not self.foretold and self.charges.aside(vm) > aside
                              and frames + self.charges.aside(vm) >= self.frames.buddy.nr_free + missing):
                outcome = NO_FRAME
                break
            aside = self.charges.aside(vm)
        self.stalls.note(began, self.clock.now, True)
        return outcome

    cdef int make_room(self, uint64_t frames, int64_t now) except -1:
        """Reclaim for an admission, from `now` on the background reclaimer's time, until `frames` are free beside what is
        set aside: OK, or NO_FRAME. Nobody's pages go where it is known beforehand that they would not suffice. That a
        store takes less than it seemed (it compresses badly, it fails) is known only afterwards."""
        cdef int64_t caller = self.clock.now
        cdef int outcome
        if self.frames.buddy.nr_free >= frames + self.charges.aside(NONE16):
            return OK
        if not self.could_free(frames, NONE16):
            return NO_FRAME
        self.clock.now = max(self.now_ns, now)
        self.foretold = True
        try:
            outcome = self._direct(NONE16, <uint32_t>frames)
        finally:
            self.foretold = False
        self.now_ns = self.clock.now
        self.clock.now = caller
        return outcome

    cdef bint could_take(self, uint32_t frames, bint secured) noexcept nogil:
        """True if `frames` frames could be had for tables: all of them of fixed size, down to the min watermark; or some by
        `secure`, which leaves the floor's, and that may rise while pages go. It wakes the background reclaimer, too, whose
        pages take records, while frames that were lent against them fall due: so if it works, or will, all is foretold."""
        cdef uint32_t level = self._sleep_level() if secured else self.frames.min_pages
        cdef uint64_t then = <uint64_t>frames + (self.highest_floor(False) if secured else self.frames.min_pages)
        return (self.frames.buddy.nr_free >= <uint64_t>frames + level + self.charges.aside(NONE16)
                or self.could_free(then, NONE16))

    cdef uint32_t _sleep_level(self) noexcept nogil:
        """Free frames, beside what is set aside, from which on the background reclaimer sleeps."""
        return max(self.frames.high_pages if self.awake or self.shrinker.awake else self.frames.low_pages, self._floor())

    cdef bint could_free(self, uint64_t frames, vmid_t but) noexcept nogil:
        return foretell(self.mapping, self.eviction, frames, but, self.charges.providing)

    cdef int keep_aside(self) except -1 nogil:
        """OK: what is set aside is there, or can be had, after pages have become such that cannot go. Else NO_FRAME, and
        nobody's page has gone where that was known beforehand."""
        cdef uint32_t aside = self.charges.aside(NONE16)
        if aside == 0 or self.frames.buddy.nr_free >= self.frames.min_pages + aside:
            return OK
        if not self.could_free(self.frames.min_pages, NONE16):
            return NO_FRAME
        return self._direct(NONE16, self.frames.min_pages)

    cdef int keep_limits(self) except -1 nogil:
        """Make pages go of each VM that has come to pay for more than its limit, because others have left it pages that
        they shared; on the background reclaimer's time."""
        cdef int64_t caller = self.clock.now
        cdef Account *account
        cdef uint32_t vm
        self.charges.over = False
        self.clock.now = max(self.now_ns, caller)
        for vm in range(MAX_VMS):
            account = &self.charges.of[vm]
            while account.open and account.charged > account.limit:
                if self.shrink_own(<vmid_t>vm, account.charged - account.limit) == 0:
                    if self.clock.interrupt.asked():    # another time
                        self.charges.over = True
                        break
                    self.meter.ev.limit_unmet += account.charged - account.limit
                    break
        self.now_ns = self.clock.now
        if self.clock.agenda.at(self.number) < self.now_ns:
            self.clock.agenda.put(self.number, self.now_ns)
        self.clock.now = caller
        return OK

    cdef int _own_limit(self, vmid_t vm, uint32_t guest_frames) except -1 nogil:
        """A VM at its limit makes room among its own pages, a batch at a time (an eighth of a small limit)."""
        cdef uint32_t limit = self.charges.of[vm].limit, freed, batch = min(<uint32_t>CLUSTER, limit / 8)
        cdef int64_t began = self.clock.now
        cdef int outcome = OK
        while self.charges.of[vm].charged + guest_frames > limit:
            freed = self.shrink_own(vm, max(batch, self.charges.of[vm].charged + guest_frames - limit))
            self.meter.ev.reclaim_limit += freed
            if freed == 0:
                outcome = LIMITED
                break
        self.stalls.note(began, self.clock.now, True)
        return outcome

    # ---- in the background

    cdef int pass_time(self, int64_t now) except -1 nogil:
        """What reclaims beside the VMs works up to `now`; the background reclaimer wakes below the low watermark."""
        self.harvester.catch_up(now)
        if (not self.awake and self.frames.buddy.nr_free < self.frames.low_pages + self.charges.aside(NONE16)
                and now >= self.now_ns):
            self.awake = True
            self.wake(now)
        self.catch_up(now)
        self.shrinker.catch_up(now)
        return OK

    cdef int64_t rest(self) noexcept nogil:
        return self.now_ns if self.awake else FOREVER

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """One batch; sleeps at the high watermark, or when nothing goes. With `whose`: that VM's coldest, ahead of
        need, or those that its limit does not leave it. Returns pages that went."""
        cdef uint32_t freed
        if self.whose != NONE16 and self.for_limit:
            freed = self.shrink_own(self.whose, want)
            self.meter.ev.reclaim_limit += freed
            return freed
        if self.whose != NONE16:
            freed = self.sweep.work(self.whose, want, self.mapping.ages.age_for(self.whose, want),
                                    self.charges.of[self.whose].reservation, False) if want else 0
            self.meter.ev.reclaim_proactive += freed
            return freed
        if self.ease_pool:
            self._ease_pool()
        freed = self.shrink(want)
        self.meter.ev.reclaim_background += freed
        if freed == 0:
            self.clock.wait_until(self.clock.now + self.clock.costs.wait_quantum)
        if freed == 0 or self.frames.buddy.nr_free >= self.frames.high_pages + self.charges.aside(NONE16):
            self.awake = False
        return freed

    cdef int _ease_pool(self) except -1 nogil:
        """Let the pool bear its share of a batch."""
        cdef uint64_t pool = self.zpool.nr_pool_frames, guests = self.frames.nr_state[<int>FRAME_GUEST]
        cdef uint64_t share = CLUSTER * pool / (pool + guests + 1)
        cdef uint64_t read_back = self.meter.ev.swap_pages_in - self.swap_ins_seen
        self.swap_ins_seen = self.meter.ev.swap_pages_in
        if share > read_back:
            self.shrinker.write_back(<uint32_t>(share - read_back), True)
        return OK

    # ---- choosing

    cdef uint32_t shrink(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """Evict about `want` pages, anyone's, in the replacement order, or by_shares. Returns how many went.

        More may go than are wanted: an order that looks at pages in batches has a batch finished (goes_on). What went
        is not how many frames came free: the zpool may have taken some of them, and gives more back later, as its
        zspages fill. Ends when done, when nobody is left to ask, or after two rounds of the order without a page to
        evict; so a caller repeats until there are enough frames, or 0 is returned.
        """
        cdef uint32_t patience = 0 if self.by_shares else 2 * self.recency.order.nr_resident + CLUSTER
        cdef uint32_t gone
        cdef uint64_t spared = self.meter.ev.reclaim_spared_reserved
        cdef hfn_t frame, insisted = NONE
        self.eviction.put_back()
        gone = self.lazyfree.of_all(want)
        if self.by_shares and gone < want:
            gone += self.sweep.by_shares(want - gone)
        self.recency.order.pass_time(self.clock.now)
        self.marks.whose = NONE16
        while ((gone < want or self.recency.order.goes_on(self.marks)) and patience > 0
               and not self.clock.interrupt.asked()):
            patience -= 1
            frame = self.recency.order.choose(self.marks)
            if frame == NONE:
                break
            self.meter.ev.reclaim_scanned += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.reclaim_visit)
            if not self._evictable(frame, &insisted):
                continue
            gone += self.eviction.evict(frame, want - gone if gone < want else <uint32_t>CLUSTER)
        gone += self.eviction.flush()
        if gone or self.clock.interrupt.asked():
            return gone
        return self.sweep.unnamed(want, self.meter.ev.reclaim_spared_reserved == spared)

    cdef uint32_t shrink_own(self, vmid_t vm, uint32_t want) except? 0xFFFFFFFF nogil:
        """Evict about `want` of the pages that this VM pays for, in the order of its own, for it is at its limit. Returns
        how many went; ends after two rounds."""
        cdef Own *own = &self.recency.own[vm]
        cdef uint32_t patience = 2 * (own.ids - own.nr_spare) + CLUSTER, gone, id
        cdef hfn_t frame, insisted = NONE
        assert own.order != NULL
        self.eviction.put_back()
        gone = self.lazyfree.of_vm(vm, want, 0)
        (<Order>own.order).pass_time(self.clock.now)
        self.marks.whose = vm
        while ((gone < want or (<Order>own.order).goes_on(self.marks)) and patience > 0
               and self.charges.may_lose(vm, 0) and not self.clock.interrupt.asked()):
            patience -= 1
            id = (<Order>own.order).choose(self.marks)
            if id == NONE:
                break
            frame = own.frame_of[id]
            self.meter.ev.reclaim_scanned += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.reclaim_visit)
            if self._asked_of(frame, &insisted):
                gone += self.eviction.evict(frame, want - gone if gone < want else <uint32_t>CLUSTER)
        gone += self.eviction.flush()
        if gone or self.clock.interrupt.asked():
            return gone
        return self.sweep.work(vm, want, 0, 0, True)

    cdef bint _evictable(self, hfn_t frame, hfn_t *insisted) except? True nogil:
        """True if this candidate may go. Else it has been spared, and the order will name another."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.state == FRAME_CACHE:
            return True
        if not record.flags & FRAME_ISOLATED and not self.charges.may_lose(record.charge,
                                                                           self.charges.of[record.charge].reservation):
            self.meter.ev.reclaim_spared_reserved += 1
            self.recency.order.spare(frame)
            return False
        return self._asked_of(frame, insisted)

    cdef bint _asked_of(self, hfn_t frame, hfn_t *insisted) except? True nogil:
        """The same, of a page that its VM may lose."""
        if self.frames.frame[frame].flags & FRAME_ISOLATED:
            self.recency.spare(frame)
            return False
        if frame != insisted[0] and self.tables.test_and_clear_accessed(frame):
            self.meter.ev.reclaim_spared_accessed += 1
            insisted[0] = frame
            self.recency.touch(frame)
            return False
        return True
