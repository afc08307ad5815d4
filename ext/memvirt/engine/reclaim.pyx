"""Reclaim: frames come back by evicting pages, through the compressed cache first and swap second.

    free frames
    ── high ──  the background reclaimer goes to sleep
    ── low  ──  it wakes: an actor with its own clock that works while VMs run
    ── min  ──  whoever allocates reclaims first itself (direct); only reclaim and leaf copies may go below
    0

A candidate from the replacement order goes one of six ways, the cheapest that applies:

    clean (equals its backing record)   dropped: entries name the record again, nothing is written
    every word equal                    the value is kept in the record
    equals another page, and sharing    merged (the scanner's last chance)
       wants to know
    compresses                          into the zpool; a full one declines, and shrinks on its own time (writeback)
    anything else                       isolated, written to swap in batches, and only then unmapped
    none of these                       stays, counted by reason

Swap-out isolates a batch, writes, then changes entries; pages whose write failed go back to the order as they were. So a
failing disk costs no page. Reclaim never nests: nothing in here waits for a frame that is not already free.

References. The order is told of accessed marks when a page is a candidate (as Linux does on its inactive list) and, if
harvest_interval_ns is set, for all pages at fixed intervals of simulated time. An order that insists on a candidate which
was just referenced (fifo, random) gets its way.
"""

from libc.string cimport memset

from .backing cimport BACKING_SWAP, BACKING_ZPOOL
from .counters cimport CPU_COMPRESS, CPU_RECLAIM
from .device cimport Device
from .frames cimport FRAME_ISOLATED, Frame
from .leaf cimport Leaf
from .mapping cimport Mapping
from .rmap cimport Account, Walk
from .stall cimport Stalls
from .types cimport (LEAF_ENTRIES, LIMITED, MAX_VMS, NO_FRAME, NONE, NONE16, OK, POOL_FULL, REJECTED, backing_t, hfn_t, int64_t,
                     uint8_t, uint32_t, uint64_t, vmid_t)


cdef class Reclaim(Writeback):
    """Frees frames of one host. `compress_limit`: bytes; `harvest_interval_ns`: simulated, 0 = never."""

    def __cinit__(self, Mapping mapping not None, Device device not None, uint32_t compress_limit,
                  int64_t harvest_interval_ns):
        self.order = mapping.order
        self.stalls = Stalls()
        self.compress_limit = compress_limit
        self.harvest_interval_ns = harvest_interval_ns
        self.next_harvest_ns = harvest_interval_ns

    # ---- securing frames

    cdef int secure(self, vmid_t vm, uint32_t guest_frames, uint32_t table_frames) except -1 nogil:
        """Make sure that so many frames can be taken: OK, NO_FRAME or LIMITED. The only step of a fault that reclaims;
        `evictions` tells whether entries may have changed."""
        cdef uint32_t want = guest_frames + table_frames
        if want and self.frames.buddy.refuses():
            self.meter.ev.exhausted_no_frame += 1
            return NO_FRAME
        if guest_frames and self.mapping.account[vm].limit != NONE:
            if self._own_limit(vm, guest_frames) != OK:
                self.meter.ev.exhausted_limit += 1
                return LIMITED
        if self.frames.buddy.nr_free >= want + self.frames.low_pages and not self.awake and not self.shrinking:
            return OK
        self.catch_up(self.clock.now)
        if self.frames.buddy.nr_free >= want + self.frames.min_pages:
            return OK
        if self._direct(vm, want + self.frames.min_pages) != OK:
            self.meter.ev.exhausted_no_frame += 1
            return NO_FRAME
        return OK

    cdef int _direct(self, vmid_t vm, uint32_t frames) except -1 nogil:
        """Reclaim on the allocating VM's own time until `frames` are free."""
        cdef uint32_t missing, freed
        cdef int64_t began = self.clock.now
        cdef int outcome = OK
        while self.frames.buddy.nr_free < frames:
            missing = frames - self.frames.buddy.nr_free
            freed = self.shrink(max(missing, <uint32_t>CLUSTER), NONE16)
            self.meter.ev.reclaim_direct += freed
            if freed == 0:
                outcome = NO_FRAME
                break
        self.stalls.note(began, self.clock.now)
        return outcome

    cdef int make_room(self, uint32_t frames) except -1 nogil:
        """Reclaim for an admission, until `frames` are free: OK or NO_FRAME."""
        return self._direct(NONE16, frames)

    cdef int _own_limit(self, vmid_t vm, uint32_t guest_frames) except -1 nogil:
        """A VM at its limit makes room among its own pages. Progress is what it is charged less, not what comes free on the
        host: a compressed page may take a frame for the pool as it leaves its own."""
        cdef uint32_t limit = self.mapping.account[vm].limit, before
        cdef int64_t began = self.clock.now
        cdef int outcome = OK
        while self.mapping.account[vm].charged + guest_frames > limit:
            before = self.mapping.account[vm].charged
            self.shrink(min(<uint32_t>CLUSTER, before + guest_frames - limit), vm)
            if self.mapping.account[vm].charged >= before:
                outcome = LIMITED
                break
            self.meter.ev.reclaim_limit += before - self.mapping.account[vm].charged
        self.stalls.note(began, self.clock.now)
        return outcome

    cdef int catch_up(self, int64_t now) except -1 nogil:
        """Let the background reclaimer, if it is awake or should be, work up to `now` on its own clock."""
        cdef uint32_t freed
        cdef int64_t caller = self.clock.now
        if self.harvest_interval_ns and now >= self.next_harvest_ns:
            self.next_harvest_ns = now + self.harvest_interval_ns
            self.harvest()
        if not self.awake and self.frames.buddy.nr_free < self.frames.low_pages and now >= self.background_ns:
            self.awake = True
            self.background_ns = now
        while self.awake and self.background_ns <= now:
            self.clock.now = self.background_ns
            freed = self.shrink(CLUSTER, NONE16)
            self.meter.ev.reclaim_background += freed
            if freed == 0:
                self.clock.wait_until(self.clock.now + self.clock.costs.wait_quantum)
            if freed == 0 or self.frames.buddy.nr_free >= self.frames.high_pages:
                self.awake = False
            self.background_ns = self.clock.now
        self.shrink_pool(now)
        self.clock.now = caller
        return OK

    cdef int harvest(self) except -1 nogil:
        """Tell the order of every accessed mark on the host. Costs no VM time: a hypervisor thread does it."""
        cdef uint32_t id, found, slot
        cdef Account *account
        for id in range(MAX_VMS):
            self.mapping.account[id].active = 0
        for id in range(self.mapping.leaves.records.end()):
            if not self.mapping.leaves.at(id).used:
                continue
            found = self.mapping.harvest_leaf(id)
            self.meter.ev.harvested += found
            slot = self.mapping.leaves.at(id).holders
            while slot != NONE:
                account = &self.mapping.account[self.mapping.leaves.slot(slot).vm]
                account.active += found
                slot = self.mapping.leaves.slot(slot).next
        self.meter.ev.harvests += 1
        return 0

    # ---- evicting

    cdef uint32_t shrink(self, uint32_t want, vmid_t only_vm) except? 0xFFFFFFFF nogil:
        """Evict about `want` pages (of one VM, or NONE16: anyone's). Returns how many went.

        That is not how many frames came free: the zpool may have taken some of them, and gives more back later, as its
        zspages fill. Ends when done, when nobody is left to ask, or after two rounds of the order without a page to
        evict; so whoever needs frames calls again until there are enough, or 0 comes back.
        """
        cdef uint32_t patience = 2 * self.order.nr_resident + CLUSTER
        cdef uint32_t gone = 0
        cdef hfn_t frame, insisted = NONE
        self.nr_batch = 0
        while gone < want and patience > 0:
            patience -= 1
            frame = self.order.candidate()
            if frame == NONE:
                break
            self.meter.ev.reclaim_scanned += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.reclaim_visit)
            if not self._evictable(frame, only_vm, &insisted):
                continue
            if self._evict(frame) == OK:
                gone += 1
            if self.nr_batch == CLUSTER or (self.nr_batch and gone + self.nr_batch >= want):
                gone += self._flush()
        if self.nr_batch:
            gone += self._flush()
        return gone

    cdef bint _evictable(self, hfn_t frame, vmid_t only_vm, hfn_t *insisted) except? True nogil:
        """May this candidate go? If not it has been spared, and the order will name another."""
        cdef Frame *record = &self.frames.frame[frame]
        if record.flags & FRAME_ISOLATED or (only_vm != NONE16 and record.charge != only_vm):
            self.order.spare(frame)
            return False
        if only_vm == NONE16 and record.charge != NONE16:
            if self.mapping.account[record.charge].charged <= self.mapping.account[record.charge].reservation:
                self.meter.ev.reclaim_spared_reserved += 1
                self.order.spare(frame)
                return False
        if frame != insisted[0] and self.mapping.test_and_clear_accessed(frame):
            self.meter.ev.reclaim_spared_accessed += 1
            insisted[0] = frame
            self.order.touch(frame)
            return False
        return True

    cdef int _evict(self, hfn_t frame) except -1 nogil:
        """OK: the frame is free. REJECTED: it is in the batch for swap, or stays (spared, counted)."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef Leaf *leaf
        cdef uint64_t value
        cdef backing_t backing
        cdef Walk walk
        self.mapping.walk(frame, &walk)
        leaf = self.mapping.leaves.at(walk.site / LEAF_ENTRIES)
        if leaf.entries == NULL:                # its 2 MiB neighbours stay: the mapping becomes small first
            if not self.frames.can_take(1, 0):
                self.order.spare(frame)
                return REJECTED
            self.mapping.split(walk.site / LEAF_ENTRIES)
        self.evictions += 1
        if self.last_chance and record.backing == NONE and self.index.try_last_chance(frame):
            return OK
        if record.backing != NONE:
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.evicted += 1
            self.meter.ev.evicted_clean += 1
            self.mapping.evict(frame, record.backing)
            return OK
        if self.mapping.backings.records.reserve(CLUSTER, 0) != OK:
            self.meter.ev.reject_backing_frame += 1
            self.order.spare(frame)
            return REJECTED
        self.clock.spend(CPU_RECLAIM, self.clock.costs.same_filled)
        if self.content.same_filled(frame, &value):
            backing = self.mapping.backings.make()
            self.mapping.backings.set_same(backing, value)
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.evicted += 1
            self.meter.ev.evicted_same += 1
            self.mapping.evict(frame, backing)
            return OK
        if self.mapping.has_zpool and self._to_zpool(frame) == OK:
            return OK
        self.order.spare(frame)
        if self.mapping.has_swap:
            record.flags |= FRAME_ISOLATED
            self.batch[self.nr_batch] = frame
            self.nr_batch += 1
        else:
            self.meter.ev.reject_swap_full += 1
        return REJECTED

    cdef int _to_zpool(self, hfn_t frame) except -1 nogil:
        """Compress and store: OK (the frame is free), or REJECTED (the page has to go to swap)."""
        cdef const uint8_t *payload
        cdef uint32_t payload_bytes, length, handle
        cdef backing_t backing
        cdef int outcome
        self.clock.spend(CPU_COMPRESS, self.clock.costs.compress)
        length = self.content.compress(frame, self.compress_limit, &payload, &payload_bytes)
        if length == 0:
            self.meter.ev.reject_incompressible += 1
            return REJECTED
        outcome = self.zpool.store(payload, payload_bytes, length, 0, &handle)
        if outcome != OK:
            if outcome == POOL_FULL:
                self.meter.ev.reject_pool_full += 1
                self.wake_shrinker()
            else:
                self.meter.ev.reject_pool_frame += 1
            return REJECTED
        self.clock.spend(CPU_COMPRESS, self.clock.costs.zpool_store)
        backing = self.mapping.backings.make()
        self.mapping.backings.set_place(backing, BACKING_ZPOOL, handle, self.content.checksum(frame))
        self._know_handle(handle, backing)
        self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
        self.meter.ev.evicted += 1
        self.meter.ev.evicted_zpool += 1
        self.mapping.evict(frame, backing)
        return OK

    cdef uint32_t _flush(self) except? 0xFFFFFFFF nogil:
        """Write the isolated batch to swap, unmap what was written, put the rest back. Returns pages evicted."""
        cdef uint32_t slots[CLUSTER]
        cdef const uint8_t *pages[CLUSTER]
        cdef uint8_t done[CLUSTER]
        cdef uint32_t n = self.nr_batch, got, i, gone = 0
        cdef backing_t backing
        cdef Frame *frame
        self.nr_batch = 0
        got = self.swap.take(n, slots)
        self.meter.ev.reject_swap_full += n - got
        memset(done, 0, sizeof(done))
        for i in range(got):
            pages[i] = self.content.raw(self.batch[i])
        if got:
            self.swap.write(got, slots, pages, done)
            self._wait_for_writes(got, slots)
        for i in range(n):
            frame = &self.frames.frame[self.batch[i]]
            frame.flags &= ~FRAME_ISOLATED
            if not done[i]:
                if i < got:
                    self.swap.give(slots[i])
                    self.meter.ev.swap_write_failed += 1
                self.meter.ev.evict_failed += 1
                continue
            backing = self.mapping.backings.make()
            self.mapping.backings.set_place(backing, BACKING_SWAP, slots[i], self.content.checksum(self.batch[i]))
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.evicted += 1
            self.meter.ev.evicted_swap += 1
            self.meter.ev.swap_pages_out += 1
            self.mapping.evict(self.batch[i], backing)
            gone += 1
        return gone
