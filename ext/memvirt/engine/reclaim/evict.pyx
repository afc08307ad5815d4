"""Eviction: how one page goes, the cheapest way that applies.

    read ahead, nobody asked for it     dropped: it is on swap as it was
    clean (equals its backing record)   dropped: entries name the record again, nothing is written
    every word equal (or every word 0)  the value is kept in the record
    equals another page, and sharing    merged (the scanner's last chance)
       wants to know
    compresses                          into the zpool; a full one declines, and shrinks on its own time (writeback)
    does not, and the pool wants all    into the zpool as it is, so that the oldest page goes to swap and not this one
    anything else                       isolated, as many as there are slots, written to swap in batches, and only then
                                        unmapped
    none of these                       stays, counted by reason

Swap-out isolates a batch, writes, then changes entries; pages whose write failed go back to the order as they were. So a
failing disk costs no page. The checksums, half of the processor's work on a batch, are computed while the disk writes it;
nothing else is, as which pages go next may depend on what became of these. Writing itself is `swapout`'s business, which
page goes is Reclaim's. Nothing in here waits for a frame that is not free.
"""

import cython

from ..counters cimport CPU_COMPRESS, CPU_RECLAIM
from ..mapping.backing cimport BACKING_ZPOOL
from ..mapping.mapping cimport Mapping
from ..mapping.rmap cimport Walk
from ..memory.frames cimport FRAME_CACHE, Frame
from .swapout cimport SWAP_BATCH, SwapOut
from ..types cimport (NO_FRAME, NONE, NONE16, OK, PAGE_SIZE, POOL_FULL, REJECTED, backing_t, hfn_t, uint8_t, uint32_t,
                      uint64_t)
from .writeback cimport Writeback


@cython.final
cdef class Eviction:
    """How pages of one host go."""

    def __cinit__(self, Mapping mapping not None, SwapOut swapout, Writeback shrinker not None, bint zeros_only):
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.recency = mapping.recency
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.zpool = mapping.zpool
        self.swapout = swapout
        self.shrinker = shrinker
        self.zeros_only = zeros_only

    cdef uint32_t evict(self, hfn_t frame, uint32_t wanted) except? 0xFFFFFFFF nogil:
        cdef uint32_t gone = self._let_go(frame) == OK
        if self.nr_batch >= min(wanted - gone, <uint32_t>SWAP_BATCH):
            gone += self.flush()
        return gone

    cdef int _let_go(self, hfn_t frame) except -1 nogil:
        """OK: the frame is free. REJECTED: it is in the batch for swap, or stays (spared, counted)."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint64_t value
        cdef backing_t backing
        cdef Walk walk
        if record.state == FRAME_CACHE:
            self.changes += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.readahead_dropped += 1
            self.mapping.drop_ahead(frame)
            return OK
        self.mapping.rmap.walk(frame, &walk)
        if walk.leaf.entries == NULL:           # its 2 MiB neighbours stay: the mapping becomes small first
            if not self.frames.can_take(1, 0):
                self.recency.spare(frame)
                return REJECTED
            self.mapping.tables.split(walk.id)
        self.changes += 1
        if record.backing != NONE:
            return self._gone(frame, record.backing, &self.meter.ev.evicted_clean)
        if self.last_chance is not None and self.last_chance.try_last_chance(frame):
            return OK
        if self.mapping.backings.records.reserve(self.nr_batch + 1, 0) != OK:
            self.meter.ev.reject_backing_frame += 1
            self.recency.spare(frame)
            return REJECTED
        self.clock.spend(CPU_RECLAIM, self.clock.costs.same_filled)
        if self.is_value(frame, &value):
            backing = self.mapping.backings.make()
            self.mapping.backings.set_same(backing, value)
            return self._gone(frame, backing, &self.meter.ev.evicted_same)
        if self.zpool is not None and self._to_zpool(frame) == OK:
            return OK
        self.recency.spare(frame)
        if self.swapout is None:                # there is nothing that could be full
            return REJECTED
        if self.swapout.swap.nr_used + self.nr_batch >= self.swapout.swap.nr_slots:
            self.meter.ev.reject_swap_full += 1
            self.meter.ev.evict_failed += 1
            return REJECTED
        self.mapping.charges.isolate(frame)
        self.batch[self.nr_batch] = frame
        self.nr_batch += 1
        return REJECTED

    cdef bint is_value(self, hfn_t frame, uint64_t *value) noexcept nogil:
        return self.content.same_filled(frame, value) and (value[0] == 0 or not self.zeros_only)

    cdef int _to_zpool(self, hfn_t frame) except -1 nogil:
        """Compress and store: OK (the frame is free), or REJECTED (the page has to go to swap)."""
        cdef const uint8_t *payload
        cdef uint32_t payload_bytes, length, handle
        cdef backing_t backing
        cdef int outcome = REJECTED
        cdef uint32_t aside = self.mapping.charges.aside(NONE16)    # what the pool has, it does not give back when asked
        self.clock.spend(CPU_COMPRESS, self.clock.costs.compress)
        length = self.content.compress(frame, &payload, &payload_bytes)
        if self.zpool.keep_raw and (length == 0 or length > self.zpool.reject_above):
            length, payload, payload_bytes = PAGE_SIZE, self.content.raw(frame), self.content.raw_bytes
        if length:
            aside += self.frames.min_pages if aside else 0
            outcome = self.zpool.store(payload, payload_bytes, length, aside, &handle)
        if outcome != OK:
            self.meter.ev.reject_incompressible += outcome == REJECTED
            self.meter.ev.reject_pool_full += outcome == POOL_FULL
            self.meter.ev.reject_pool_frame += outcome == NO_FRAME
            if outcome == POOL_FULL:
                self.shrinker.wake(self.clock.now)
            return REJECTED
        self.clock.spend(CPU_COMPRESS, self.clock.costs.zpool_store)
        backing = self.mapping.backings.make()
        self.mapping.backings.set_place(backing, BACKING_ZPOOL, handle, self.content.checksum(frame))
        self.zpool.set_owner(handle, backing)
        return self._gone(frame, backing, &self.meter.ev.evicted_zpool)

    cdef int _gone(self, hfn_t frame, backing_t backing, uint64_t *how) except -1 nogil:
        """The page is safe in this record: OK, the frame is free, and `how` counts it."""
        self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
        self.meter.ev.evicted += 1
        how[0] += 1
        self.mapping.evict(frame, backing)
        return OK

    cdef uint32_t flush(self) except? 0xFFFFFFFF nogil:
        cdef uint32_t checks[SWAP_BATCH]
        cdef uint32_t n = self.nr_batch, begun, i, gone = 0
        cdef backing_t backing
        if n == 0:
            return 0
        self.nr_batch = 0
        begun = self.swapout.begin(self.batch, n)
        for i in range(begun):
            checks[i] = self.content.checksum(self.batch[i])
        self.swapout.finish()
        for i in range(n):
            self.mapping.charges.stay(self.batch[i])
            if not self.swapout.done[i]:
                self.meter.ev.evict_failed += 1
                continue
            backing = self.mapping.backings.make()
            self.swapout.keep(i, backing, checks[i])
            self._gone(self.batch[i], backing, &self.meter.ev.evicted_swap)
            gone += 1
        return gone

    cdef void put_back(self) noexcept nogil:
        while self.nr_batch:
            self.nr_batch -= 1
            self.mapping.charges.stay(self.batch[self.nr_batch])
