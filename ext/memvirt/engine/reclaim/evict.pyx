"""Eviction: how one page goes, the cheapest way that applies.

    read ahead, nobody asked for it     dropped: it is on swap as it was
    clean (equals its backing record)   dropped: entries name the record again, nothing is written
    every word equal                    the value is kept in the record
    equals another page, and sharing    merged (the scanner's last chance)
       wants to know
    compresses                          into the zpool; a full one declines, and shrinks on its own time (writeback)
    anything else                       isolated, written to swap in batches, and only then unmapped
    none of these                       stays, counted by reason

Swap-out isolates a batch, writes, then changes entries; pages whose write failed go back to the order as they were. So a
failing disk costs no page. The checksums, half of the processor's work on a batch, are computed while the disk writes it;
nothing else is, as which pages go next may depend on what became of these. Which page goes is Reclaim's business. Nothing
in here waits for a frame that is not free.
"""

from libc.string cimport memset

from ..mapping.backing cimport BACKING_SWAP, BACKING_ZPOOL
from ..counters cimport CPU_COMPRESS, CPU_RECLAIM
from ..device cimport Device
from ..memory.frames cimport FRAME_CACHE, Frame
from ..mapping.mapping cimport Mapping
from ..mapping.rmap cimport Walk
from .readahead cimport Readahead
from ..simtime cimport Actor
from ..stall cimport Stalls
from ..types cimport (NONE, OK, POOL_FULL, REJECTED, backing_t, hfn_t, uint8_t, uint32_t, uint64_t)
from .writeback cimport Writeback


cdef class Eviction(Actor):
    """How pages of one host go. `compress_limit`: bytes; `readahead`: page cluster of swap readahead."""

    def __cinit__(self, Mapping mapping not None, Device device not None, uint32_t compress_limit, readahead, *rest):
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.zpool = mapping.zpool
        self.swap = mapping.swap
        self.device = device
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.readahead = Readahead(mapping, readahead)
        self.shrinker = Writeback(mapping, self.readahead)
        self.order = mapping.order
        self.stalls = Stalls()
        self.compress_limit = compress_limit

    cdef int _evict(self, hfn_t frame) except -1 nogil:
        """OK: the frame is free. REJECTED: it is in the batch for swap, or stays (spared, counted)."""
        cdef Frame *record = &self.frames.frame[frame]
        cdef uint64_t value
        cdef backing_t backing
        cdef Walk walk
        if record.state == FRAME_CACHE:
            self.evictions += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.readahead_dropped += 1
            self.mapping.drop_ahead(frame)
            return OK
        self.mapping.walk(frame, &walk)
        if walk.leaf.entries == NULL:                # its 2 MiB neighbours stay: the mapping becomes small first
            if not self.frames.can_take(1, 0):
                self.order.spare(frame)
                return REJECTED
            self.mapping.split(walk.id)
        self.evictions += 1
        if self.last_chance and record.backing == NONE and self.index.try_last_chance(frame):
            return OK
        if record.backing != NONE:
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.evicted += 1
            self.meter.ev.evicted_clean += 1
            self.mapping.evict(frame, record.backing)
            return OK
        if self.mapping.backings.records.reserve(self.nr_batch + 1, 0) != OK:
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
            self.mapping.isolate(frame)
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
                self.shrinker.wake(self.clock.now)
            else:
                self.meter.ev.reject_pool_frame += 1
            return REJECTED
        self.clock.spend(CPU_COMPRESS, self.clock.costs.zpool_store)
        backing = self.mapping.backings.make()
        self.mapping.backings.set_place(backing, BACKING_ZPOOL, handle, self.content.checksum(frame))
        self.zpool.set_owner(handle, backing)
        self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
        self.meter.ev.evicted += 1
        self.meter.ev.evicted_zpool += 1
        self.mapping.evict(frame, backing)
        return OK

    cdef uint32_t _flush(self) except? 0xFFFFFFFF nogil:
        """Write the isolated batch to swap, unmap what was written, put the rest back. Returns pages evicted."""
        cdef uint32_t slots[SWAP_BATCH]
        cdef const uint8_t *pages[SWAP_BATCH]
        cdef uint8_t done[SWAP_BATCH]
        cdef uint32_t checks[SWAP_BATCH]
        cdef uint32_t n = self.nr_batch, got, i, gone = 0
        cdef backing_t backing
        self.nr_batch = 0
        got = self.swap.take(n, slots)
        self.meter.ev.reject_swap_full += n - got
        memset(done, 0, sizeof(done))
        for i in range(got):
            pages[i] = self.content.raw(self.batch[i])
        if got:
            self.swap.begin_write(got, slots, pages)
            for i in range(got):
                checks[i] = self.content.checksum(self.batch[i])
            self.swap.write(got, slots, pages, done)
            self.swap.wait(self.clock, True, got, slots)
        for i in range(n):
            self.mapping.stay(self.batch[i])
            if not done[i]:
                if i < got:
                    self.swap.give(slots[i])
                    self.meter.ev.swap_write_failed += 1
                self.meter.ev.evict_failed += 1
                continue
            backing = self.mapping.backings.make()
            self.mapping.backings.set_place(backing, BACKING_SWAP, slots[i], checks[i])
            self.readahead.know(slots[i], backing)
            self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
            self.meter.ev.evicted += 1
            self.meter.ev.evicted_swap += 1
            self.meter.ev.swap_pages_out += 1
            self.mapping.evict(self.batch[i], backing)
            gone += 1
        return gone
