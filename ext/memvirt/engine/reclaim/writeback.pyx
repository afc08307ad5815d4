"""Zpool writeback: a full compressed cache makes room on its own time.

A pool that declines a page wakes its shrinker, an actor with a clock of its own, and the page goes to swap at once; so
does Linux (zswap_store queues shrink_worker and rejects). The shrinker first compacts: zspages that writeback and loads
have thinned out become whole frames again, as zsmalloc does when memory is short. Then it moves the oldest objects to
swap, a batch at a time, until the pool accepts again. Nobody waits for it but through the swap device they share.

An object that is written back or moved changes its record and no entry: whoever faults on it meanwhile finds the record
at its new place.
"""

from libc.string cimport memset

from ..agenda cimport FOREVER
from ..mapping.backing cimport BACKING_SWAP, BACKING_ZPOOL, Backing
from ..counters cimport CPU_COMPACT, CPU_DECOMPRESS
from ..simtime cimport Actor
from ..memory.frames cimport FRAME_FIXED
from ..mapping.mapping cimport Mapping
from .readahead cimport Readahead
from ..types cimport OK, PAGE_SIZE, backing_t, int64_t, uint8_t, uint32_t, uint64_t
from ..stores.zpool cimport COMPACT_MOVED_BYTES


cdef class Writeback:
    """Shrinks the zpool of one host: knows which record an object belongs to."""

    def __cinit__(self, Mapping mapping not None, Readahead readahead not None):
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.zpool = mapping.zpool
        self.swap = mapping.swap
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.readahead = readahead
        if mapping.has_zpool and mapping.has_swap:
            while self.nr_bounce < min(<uint32_t>CLUSTER, self.frames.nr_frames // 512 + 1):
                if self.frames.take(0, FRAME_FIXED, 0, &self.bounce[self.nr_bounce]) != OK:
                    break
                self.nr_bounce += 1
        self.share = self.nr_bounce

    cdef void wake(self, int64_t now) noexcept nogil:
        """The pool has just declined a page for being full."""
        self.awake = True
        Actor.wake(self, now)

    cdef int64_t rest(self) noexcept nogil:
        return self.now_ns if self.awake else FOREVER

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """Compact, or where that gains nothing move up to `want` objects to swap; how many. Sleeps once the pool accepts
        again."""
        cdef uint32_t moved = 0
        if self._compact() == 0:
            moved = self.write_back(want, False)
            if moved == 0:                              # nothing helps: try again after a while, if asked again
                self.clock.wait_until(self.clock.now + self.clock.costs.wait_quantum)
                self.awake = False
        if self.zpool.nr_pool_frames <= self.zpool.accept_frames:
            self.awake = False
        return moved

    cdef uint32_t _compact(self) except? 0xFFFFFFFF nogil:
        """Bring the pool's sparse zspages together; frames gained."""
        cdef uint64_t moved = self.zpool.count[<int>COMPACT_MOVED_BYTES]
        cdef uint32_t frames = self.zpool.nr_pool_frames, owner, handle
        cdef int size_class = self.zpool.zspages.nr_classes - 1
        while not self.clock.interrupt.asked() and self.zpool.compact_one(&size_class, &owner, &handle):
            self.mapping.backings.set_place(owner, BACKING_ZPOOL, handle, self.mapping.backings.at(owner).check)
        moved = self.zpool.count[<int>COMPACT_MOVED_BYTES] - moved
        self.clock.spend(CPU_COMPACT, self.clock.costs.move_page * <int64_t>((moved + PAGE_SIZE - 1) // PAGE_SIZE))
        return frames - self.zpool.nr_pool_frames

    cdef uint32_t write_back(self, uint32_t want, bint spare_loaded) except? 0xFFFFFFFF nogil:
        """Move up to `want` of the pool's oldest objects to swap: decompress, write, change the record. No entry
        changes. spare_loaded: those loaded since they came in, or were last spared, get another round. Returns how many
        moved."""
        cdef uint32_t handles[CLUSTER]
        cdef uint32_t slots[CLUSTER]
        cdef const uint8_t *pages[CLUSTER]
        cdef uint8_t done[CLUSTER]
        cdef uint32_t n = 0, got, i, _look, handle, length, moved = 0
        cdef bint loaded
        cdef const uint8_t *payload
        cdef backing_t backing
        cdef Backing *record
        if not self.mapping.has_swap:
            return 0
        for _look in range(min(min(want, self.nr_bounce), <uint32_t>self.zpool.nr_objects)):
            handle = self.zpool.oldest()
            loaded = self.zpool.loaded(handle)
            self.zpool.rotate(handle)           # whatever happens, the next one is another
            if spare_loaded and loaded:
                continue
            payload = self.zpool.view(handle, &length)
            record = self.mapping.backings.at(self.zpool.owner(handle))
            self.clock.spend(CPU_DECOMPRESS, self.clock.costs.decompress)
            if (self.content.expand(self.bounce[n], payload, length) != OK
                    or self.content.checksum(self.bounce[n]) != record.check):
                self.meter.ev.zpool_writeback_failed += 1   # it stays, and whoever needs the page is told
                continue
            pages[n] = self.content.raw(self.bounce[n])
            handles[n] = handle
            n += 1
        got = self.swap.take(n, slots) if n else 0
        self.meter.ev.reject_swap_full += n - got
        memset(done, 0, sizeof(done))
        if got:
            self.swap.begin_write(got, slots, pages)
            self.swap.write(got, slots, pages, done)
            self.swap.wait(self.clock, True, got, slots)
        for i in range(got):
            if not done[i]:
                self.swap.give(slots[i])
                self.meter.ev.swap_write_failed += 1
                self.meter.ev.zpool_writeback_failed += 1
                continue
            backing = self.zpool.owner(handles[i])
            self.mapping.backings.set_place(backing, BACKING_SWAP, slots[i], self.mapping.backings.at(backing).check)
            self.readahead.know(slots[i], backing)
            self.zpool.free(handles[i])
            self.meter.ev.zpool_written_back += 1
            self.meter.ev.swap_pages_out += 1
            moved += 1
        return moved
