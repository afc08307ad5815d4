"""Compaction: free 2 MiB blocks out of free memory that lies in pieces, by moving what lies between.

Linux walks two scanners towards each other, pages to move from the low end, free frames from the high end. Here the
whole of memory is surveyed first, which costs one pass over the frame records, and then the block that needs the fewest
moves is emptied into the fullest ones, again and again:

    source        the block with the fewest frames in use, all of them movable; the lowest of equals
    destination   blocks that can never be emptied first, then the fullest; the highest of equals, frames from its end

A block once emptied is no destination, and a destination only gets fuller, so each page moves at most once per call,
each block made is one more, and the work is bounded by the frames there are. Equal states give equal moves.

What moves, and what has to learn of it:

    guest frames      entries, backing record, order, share index     Mapping.move
    leaf tables       the leaf                                        Leaves.move_table
    slab pages        the slab (leaves, directories, records)         Slab.move_page
    zspages           the zspage and its objects                      Zpool.move_frame

Metadata of fixed size stays where it was put, as kernel memory does; pinned guest frames too. A frame under a huge leaf
lies in a block that is full, and full blocks are not worth moving.

Each move is complete in itself: whatever ends a compaction half-way (no frame, a limit) leaves every page where somebody
finds it. Cost: CPU_COMPACT, costs.move_page for each frame; the survey is free of charge.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from ..counters cimport CPU_COMPACT
from ..memory.frames cimport (FRAME_BACKING, FRAME_GUEST, FRAME_ISOLATED, FRAME_PINNED, FRAME_TABLE, FRAME_ZERO,
                              FRAME_ZSPAGE, Frame, FrameState)
from ..types cimport HUGE_ORDER, MAX_ORDER, NONE, OK, int64_t

cdef enum:
    BLOCK = 512                 # frames in a block of HUGE_ORDER


cdef class Compactor:
    """Makes free 2 MiB blocks on one host. threshold: per mille, COMPACT_NEVER: only when asked."""

    def __cinit__(self, Mapping mapping not None, uint32_t threshold=COMPACT_NEVER):
        self.mapping = mapping
        self.frames = mapping.frames
        self.leaves = mapping.leaves
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.threshold = threshold
        self.share = 1
        self.nr_blocks = (self.frames.nr_frames + BLOCK - 1) // BLOCK
        self.used = <uint16_t *>calloc(self.nr_blocks, sizeof(uint16_t))
        self.stuck = <uint8_t *>calloc(self.nr_blocks, 1)
        if self.used == NULL or self.stuck == NULL:
            raise MemoryError(f"compaction: no memory for {self.nr_blocks} blocks")

    def __dealloc__(self):
        free(self.used)
        free(self.stuck)

    cdef uint32_t unusable(self) noexcept nogil:
        """Linux's unusable free space index at order 9, per mille (see fragmentation.pyx)."""
        cdef uint64_t free_pages = self.frames.buddy.nr_free, suitable = 0
        cdef int order
        if free_pages == 0:
            return 1000
        for order in range(HUGE_ORDER, MAX_ORDER + 1):
            suitable += <uint64_t>self.frames.buddy.free_blocks(order) << order
        return <uint32_t>((free_pages - suitable) * 1000 // free_pages)

    cdef void look(self, int64_t now) noexcept nogil:
        cdef uint64_t misses = self.meter.ev.huge_missed + self.meter.ev.collapse_missed
        if misses == self.misses_seen or self.now_ns > now or self.threshold >= COMPACT_NEVER:
            return
        self.misses_seen = misses
        if self.unusable() >= self.threshold:
            self.wake(now)

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """Make up to `want` free blocks; how many. Each page moves at most once per call."""
        cdef uint32_t made = 0, block
        self._survey()
        while made < want and not self.clock.interrupt.asked():
            block = self._cheapest()
            if block == NONE:
                break
            if self._room_beside(block) < self.used[block]:
                self.meter.ev.compact_failed_room += 1
                break
            if self._empty(block) != OK:
                self.meter.ev.compact_failed_frame += 1
                break
            made += 1
        self.meter.ev.compact_blocks += made
        return made

    # ---- choosing

    cdef bint movable(self, hfn_t frame) noexcept nogil:
        cdef Frame *record = &self.frames.frame[frame]
        if record.state == FRAME_GUEST:
            return not record.flags & (FRAME_PINNED | FRAME_ISOLATED | FRAME_ZERO)
        return record.state == FRAME_TABLE or record.state == FRAME_BACKING or record.state == FRAME_ZSPAGE

    cdef void _survey(self) noexcept nogil:
        """Count every block anew."""
        cdef hfn_t frame
        cdef uint32_t missing = self.nr_blocks * BLOCK - self.frames.nr_frames
        memset(self.used, 0, self.nr_blocks * sizeof(uint16_t))
        memset(self.stuck, 0, self.nr_blocks)
        for frame in range(self.frames.nr_frames):
            if not self.frames.frame[frame].state:
                continue
            self.used[frame // BLOCK] += 1
            if not self.movable(frame):
                self.stuck[frame // BLOCK] = 1
        if missing:
            self.used[self.nr_blocks - 1] += missing
            self.stuck[self.nr_blocks - 1] = 1
        self.destination = NONE

    cdef uint32_t _cheapest(self) noexcept nogil:
        """The block to empty next, or NONE; why there is none is counted."""
        cdef uint32_t block, best = NONE
        cdef bint partly = False
        for block in range(self.nr_blocks):
            if self.used[block] == 0 or self.used[block] == BLOCK:
                continue
            partly = True
            if not self.stuck[block] and (best == NONE or self.used[block] < self.used[best]):
                best = block
        if best == NONE and partly:
            self.meter.ev.compact_failed_unmovable += 1
        return best

    cdef uint32_t _room_beside(self, uint32_t but) noexcept nogil:
        """Free frames in blocks that are in use, but for one."""
        cdef uint32_t block, room = 0
        for block in range(self.nr_blocks):
            if block != but and self.used[block]:
                room += BLOCK - self.used[block]
        return room

    cdef uint32_t _fullest(self, uint32_t but) noexcept nogil:
        """The block to fill next: one with room that can never be emptied, else the fullest. There is one."""
        cdef uint32_t block, best = NONE
        for block in range(self.nr_blocks):
            if block == but or self.used[block] == 0 or self.used[block] == BLOCK:
                continue
            if (best == NONE or self.stuck[block] > self.stuck[best]
                    or (self.stuck[block] == self.stuck[best] and self.used[block] >= self.used[best])):
                best = block
        return best

    cdef hfn_t _next_target(self, uint32_t but) noexcept nogil:
        """A free frame of the destination, from its end; of the next destination when that one is full."""
        if self.destination == NONE or self.destination == but or self.used[self.destination] == BLOCK:
            self.destination = self._fullest(but)
            self.below = min((self.destination + 1) * BLOCK, self.frames.nr_frames)
        while True:
            self.below -= 1
            if self.frames.buddy.is_free(self.below):
                return self.below

    # ---- moving

    cdef int _empty(self, uint32_t block) except -1 nogil:
        """Move everything out of a block for which there is room elsewhere: OK, or NO_FRAME part of the way."""
        cdef hfn_t source, target
        cdef int outcome
        for source in range(block * BLOCK, (block + 1) * BLOCK):
            if not self.frames.frame[source].state:
                continue
            target = self._next_target(block)
            outcome = self.frames.take_at(target, <FrameState>self.frames.frame[source].state)
            if outcome != OK:
                return outcome
            self._move(source, target)
            self.used[block] -= 1
            self.used[target // BLOCK] += 1
        return OK

    cdef int _move(self, hfn_t source, hfn_t target) except -1 nogil:
        self.clock.spend(CPU_COMPACT, self.clock.costs.move_page)
        self.meter.ev.compact_moved += 1
        if self.frames.frame[source].state == FRAME_GUEST:
            self.frames.content.copy(target, source)
            return self.mapping.move(source, target)
        if self.frames.frame[source].state == FRAME_ZSPAGE:
            self.mapping.zpool.move_frame(source, target)
        else:
            self._move_metadata(source, target)
        return self.frames.give(source, 0)

    cdef void _move_metadata(self, hfn_t source, hfn_t target) noexcept nogil:
        """A table or a slab page; or a frame that is taken for bytes on the heap."""
        cdef Frame *record = &self.frames.frame[source]
        if record.state == FRAME_BACKING and record.where == NONE:
            self.frames.frame[target].where = NONE
        elif record.state == FRAME_BACKING:
            self.mapping.backings.records.move_page(source, target)
        elif self.leaves.owns_table(source):
            self.leaves.move_table(source, target)
        elif self.leaves.records.owns_page(source):
            self.leaves.records.move_page(source, target)
        else:
            self.leaves.pages.move_page(source, target)
