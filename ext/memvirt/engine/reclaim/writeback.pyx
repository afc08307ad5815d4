"""Zpool writeback: a full compressed cache makes room on its own time.

A pool that declines a page wakes its shrinker, an actor with a clock of its own, and the page goes to swap at once; so
does Linux (zswap_store queues shrink_worker and rejects). The shrinker first compacts: zspages that writeback and loads
have thinned out become whole frames again, as zsmalloc does when memory is short. Then it moves the oldest objects to
swap, a batch at a time, until the pool accepts again. Nobody waits for it but through the swap device they share.

An object that is written back or moved changes its record and no entry: whoever faults on it meanwhile finds the record
at its new place.
"""

from ..agenda cimport FOREVER
from ..mapping.backing cimport BACKING_ZPOOL
from ..counters cimport CPU_COMPACT, CPU_COPY, CPU_DECOMPRESS
from ..simtime cimport Actor
from ..memory.frames cimport FRAME_FIXED
from ..mapping.mapping cimport Mapping
from .swapout cimport SwapOut
from ..types cimport OK, PAGE_SIZE, backing_t, hfn_t, int64_t, uint8_t, uint32_t, uint64_t
from ..stores.zpool cimport COMPACT_MOVED_BYTES


cdef class Writeback:
    """Shrinks the zpool of one host: knows which record an object belongs to."""

    def __cinit__(self, Mapping mapping not None, SwapOut swapout):
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.zpool = mapping.zpool
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.swapout = swapout
        if mapping.zpool is not None and swapout is not None:
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
        cdef uint32_t n = 0, begun, i, _look, handle, moved = 0
        cdef backing_t backing
        cdef bint loaded
        if self.swapout is None:
            return 0
        for _look in range(min(min(want, self.nr_bounce), <uint32_t>self.zpool.nr_objects)):
            handle = self.zpool.oldest()
            loaded = self.zpool.loaded(handle)
            self.zpool.rotate(handle)           # whatever happens, the next one is another
            if not (spare_loaded and loaded) and self._expand(handle, self.bounce[n]):
                handles[n] = handle
                n += 1
        begun = self.swapout.begin(self.bounce, n)
        self.swapout.finish()
        for i in range(n):
            if not self.swapout.done[i]:
                continue
            backing = self.zpool.owner(handles[i])
            self.swapout.keep(i, backing, self.mapping.backings.at(backing).check)
            self.zpool.free(handles[i])
            moved += 1
        self.meter.ev.zpool_written_back += moved
        self.meter.ev.zpool_writeback_failed += begun - moved
        return moved

    cdef bint _expand(self, uint32_t handle, hfn_t frame) except? True nogil:
        """Put the page of an object into a frame. False, counted: it does not come back as it went, and stays; whoever
        needs the page is told."""
        if (self.load(handle, frame) == OK
                and self.content.checksum(frame) == self.mapping.backings.at(self.zpool.owner(handle)).check):
            return True
        self.meter.ev.zpool_writeback_failed += 1
        return False

    cdef int load(self, uint32_t handle, hfn_t frame) except -1 nogil:
        cdef uint32_t payload_bytes
        cdef const uint8_t *payload = self.zpool.view(handle, &payload_bytes)
        if self.zpool.is_raw(handle):
            self.clock.spend(CPU_COPY, self.clock.costs.copy_page)
        else:
            self.clock.spend(CPU_DECOMPRESS, self.clock.costs.decompress)
        return self.content.expand(frame, payload, payload_bytes)
