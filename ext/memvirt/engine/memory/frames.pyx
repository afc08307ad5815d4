"""Host frames: who holds each 4 KiB of host memory, and the slabs of small records that live in them.

A frame is free (in the buddy allocator) or in exactly one use (FrameState). A guest frame carries the number of entries
that name it, its reverse map, the backing record it still equals, and the VM that pays for it. Everything memvirt keeps
about guests, tables, zspages, records, is put into frames of this same host and shows in usage(): metadata is never
free of charge. A table that has to lie in one piece and grow is on the heap, and takes the frames that its bytes would
fill (`grow`); without free frames it does not grow, and its caller declines.

There are two ways to get frames. `take` asks and takes in one step and may be told NO_FRAME. An operation of several
steps *secures* first (can_take, through Reclaim.secure where reclaim may help) and *claims* later: what was secured is
there, so a commit has no outcome to look at, and a claim that finds nothing is a bug that raises.

Bytes of a frame are garbage until its taker clears or fills them. Debug builds fill freed frames with a pattern;
sanitizer builds poison them, so that a stale pointer into the arena is caught as it would be on a heap.

A Slab keeps records of one power-of-two size, as many to a frame as fit. `reserve` makes room and may be told NO_FRAME;
`make_room` does so from secured frames. `claim` then hands out a record, and cannot fail. There are never more than
`most`, as many as those who name them have bits for. Records stay where they are; frames of a slab are given back when
the host ends.

Invariants (check): the counts per state match the frames; free here = free in the buddy; a free frame has no
references, charge, or flags.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from memvirt.errors import ConfigError, InvariantError
from memvirt.names import FRAME_USES

from .buddy cimport Buddy
from ..content.content cimport Content
from ..types cimport NO_FRAME, NONE, NONE16, OK, PAGE_SIZE, hfn_t, uint8_t, uint32_t

cdef extern from "content/arena.h" nogil:
    size_t mv_arena_reserved(size_t bytes)
    void *mv_arena_map(size_t bytes, uint8_t **arena)
    int mv_arena_populate(uint8_t *arena, size_t bytes)
    void mv_unmap(void *memory, size_t bytes)

cdef enum:
    CHUNK_BYTES = 2 << 20

if len(FRAME_USES) != NR_FRAME_STATES:
    raise InvariantError("frames.pxd and memvirt.names count different uses of frames")


cdef class Frames:
    """nr_frames host frames over `content`. Watermarks are in free frames: min <= low <= high."""

    def __cinit__(self, Content content not None, uint32_t min_pages=0, uint32_t low_pages=0, uint32_t high_pages=0):
        self.nr_frames = content.nr_frames
        if not min_pages <= low_pages <= high_pages:
            raise ConfigError(f"watermarks: min {min_pages} <= low {low_pages} <= high {high_pages} must hold")
        if high_pages > self.nr_frames // 2:
            raise ConfigError(f"watermarks: high {high_pages} is more than half of the host's {self.nr_frames} frames")
        self.content = content
        self.buddy = Buddy(self.nr_frames)
        self.min_pages = min_pages
        self.low_pages = low_pages
        self.high_pages = high_pages
        self.frame = <Frame *>calloc(self.nr_frames, sizeof(Frame))
        if self.frame == NULL:
            raise MemoryError(f"{self.nr_frames} frame records")
        self.nr_state[<int>FRAME_FREE] = self.nr_frames
        cdef hfn_t frame
        for frame in range(self.nr_frames):
            self.frame[frame].charge = NONE16
            self.frame[frame].backing = NONE
            content.shut(frame)

    def __dealloc__(self):
        self.release()
        free(self.frame)

    cdef void release(self) noexcept:
        """Nobody looks into a frame or a page of metadata any more."""
        cdef uint32_t i
        if self.content is not None:
            self.content.unshut(0, self.nr_frames)
        for i in range(self._nr_chunks):
            mv_unmap(self._chunk[i], mv_arena_reserved(CHUNK_BYTES))
        free(self._chunk)
        self._chunk = NULL
        self._nr_chunks = 0
        self._beside = NULL

    cdef int take(self, int order, FrameState state, uint32_t reserve, hfn_t *frame) except -1 nogil:
        """A block of 2^order frames for `state`, leaving `reserve` frames free: OK or NO_FRAME."""
        cdef uint32_t count = <uint32_t>1 << order
        if self.buddy.nr_free < count + reserve or self.buddy.take(order, frame) != OK:
            return NO_FRAME
        self._mark_taken(frame[0], count, state)
        return OK

    cdef bint can_take(self, uint32_t frames, uint32_t reserve) noexcept nogil:
        return not self.buddy.refuses() and self.buddy.nr_free >= frames + reserve

    cdef int claim(self, int order, FrameState state, hfn_t *frame) except -1 nogil:
        if self.buddy.claim(order, frame) != OK:
            if order == 0:
                with gil:
                    raise InvariantError(f"no frame for the state '{FRAME_USES[<int>state]}': it was not secured")
            return NO_FRAME
        self._mark_taken(frame[0], <uint32_t>1 << order, state)
        return OK

    cdef void _mark_taken(self, hfn_t frame, uint32_t count, FrameState state) noexcept nogil:
        cdef uint32_t i
        cdef Frame *record
        for i in range(count):
            record = &self.frame[frame + i]
            assert record.state == FRAME_FREE
            record.state = state
            record.refs = 1
        self.content.unshut(frame, count)
        self.nr_state[<int>FRAME_FREE] -= count
        self.nr_state[<int>state] += count

    cdef int take_at(self, hfn_t frame, FrameState state) except -1 nogil:
        """This very frame, if it is free: OK or NO_FRAME."""
        if self.buddy.take_at(frame, 0) != OK:
            return NO_FRAME
        self._mark_taken(frame, 1, state)
        return OK

    cdef int give(self, hfn_t frame, int order) except -1 nogil:
        cdef uint32_t count = <uint32_t>1 << order, i
        cdef Frame *record
        cdef uint8_t state = self.frame[frame].state
        assert state != FRAME_FREE
        for i in range(count):
            record = &self.frame[frame + i]
            assert record.state == state
            record.refs = 0
            record.where = 0
            record.backing = NONE
            record.charge = NONE16
            record.state = FRAME_FREE
            record.flags = 0
            self.content.shut(frame + i)
        self.nr_state[<int>state] -= count
        self.nr_state[<int>FRAME_FREE] += count
        return self.buddy.give(frame, order)

    cdef void turn(self, hfn_t frame, FrameState state) noexcept nogil:
        """A frame in use gets another use."""
        self.nr_state[<int>self.frame[frame].state] -= 1
        self.frame[frame].state = state
        self.nr_state[<int>state] += 1

    cdef int grow(self, void **table, uint32_t *room, uint32_t size, uint32_t least, uint32_t most,
                  uint32_t reserve) except -1 nogil:
        """By a 32nd of what there is, so that moving it costs little; by `least` where that is refused."""
        cdef uint32_t more = min(max(least, room[0] // 32), most - room[0])
        least = min(least, more)
        if self._grow_by(table, room, size, more, reserve) == OK:
            return OK
        return self._grow_by(table, room, size, least, reserve) if least < more else NO_FRAME

    cdef int _grow_by(self, void **table, uint32_t *room, uint32_t size, uint32_t more, uint32_t reserve) except -1 nogil:
        cdef uint64_t held = self.heap_bytes + <uint64_t>more * size
        cdef uint32_t missing = pages_of(held) - pages_of(self.heap_bytes)
        cdef void *grown
        cdef hfn_t frame
        if more == 0 or missing and not self.can_take(missing, reserve):
            return NO_FRAME
        grown = realloc(table[0], (<size_t>room[0] + more) * size)
        if grown == NULL:
            return NO_FRAME
        table[0] = grown
        room[0] += more
        self.heap_bytes = held
        while missing:
            self.claim(0, FRAME_BACKING, &frame)
            self.frame[frame].where = NONE
            missing -= 1
        return OK

    cdef void *claim_page(self, FrameState state, hfn_t *frame) except NULL nogil:
        """A cleared page of metadata in a secured frame."""
        cdef void *page = self.claim_raw_page(state, frame)
        memset(page, 0, PAGE_SIZE)
        return page

    cdef void *claim_raw_page(self, FrameState state, hfn_t *frame) except NULL nogil:
        """Uninitialised; the caller overwrites all of it. Content without bytes takes the frame all the same, and the
        page lies beside it."""
        cdef void *page = NULL
        if not self.content.has_bytes:
            if self._beside == NULL:
                with gil:
                    self._cut_pages()
            page = self._beside
            self._beside = (<void **>page)[0]
        self.claim(0, state, frame)
        return self.content.page(frame[0]) if page == NULL else page

    cdef int _cut_pages(self) except -1:
        """More pages for metadata that lies beside the frames: 2 MiB on a huge page, if there is one. malloc would lay
        each across two lines, and give them back to the kernel and fetch them again all the time."""
        cdef uint32_t i
        cdef void **page
        cdef uint8_t *chunk
        cdef void **grown = <void **>realloc(self._chunk, (self._nr_chunks + 1) * sizeof(void *))
        if grown == NULL:
            raise MemoryError("pages of metadata")
        self._chunk = grown
        self._chunk[self._nr_chunks] = mv_arena_map(CHUNK_BYTES, &chunk)
        if self._chunk[self._nr_chunks] == NULL:
            raise MemoryError("pages of metadata")
        self._nr_chunks += 1
        if mv_arena_populate(chunk, CHUNK_BYTES) != 0:
            raise MemoryError("pages of metadata")
        for i in range(CHUNK_BYTES // PAGE_SIZE):
            page = <void **>(chunk + CHUNK_BYTES - (<size_t>i + 1) * PAGE_SIZE)
            page[0] = self._beside
            self._beside = <void *>page
        return 0

    cdef void *move_page(self, void *page, hfn_t target) noexcept nogil:
        if not self.content.has_bytes:
            return page
        return memcpy(self.content.page(target), page, PAGE_SIZE)

    cdef int give_page(self, hfn_t frame, void *page) except -1 nogil:
        if not self.content.has_bytes:
            (<void **>page)[0] = self._beside
            self._beside = page
        return self.give(frame, 0)

    def usage(self):
        """{use: frames}; sums to nr_frames."""
        return {name: self.nr_state[i] for i, name in enumerate(FRAME_USES)}

    cpdef object check(self):
        cdef uint32_t counted[NR_FRAME_STATES]
        cdef hfn_t frame
        cdef Frame *record
        cdef int i
        cdef uint32_t heap = 0
        memset(counted, 0, sizeof(counted))
        for frame in range(self.nr_frames):
            record = &self.frame[frame]
            if record.state >= NR_FRAME_STATES:
                raise InvariantError(f"frame {frame}: state {record.state} does not exist")
            counted[record.state] += 1
            heap += record.state == FRAME_BACKING and record.where == NONE
            if (record.state == FRAME_FREE) != self.buddy.is_free(frame):
                raise InvariantError(f"frame {frame}: {FRAME_USES[record.state]} here, not so in the buddy allocator")
            if record.state == FRAME_FREE and (record.refs or record.flags or record.charge != NONE16
                                               or record.backing != NONE):
                raise InvariantError(f"frame {frame}: free, yet refs {record.refs} flags {record.flags} "
                                     f"charge {record.charge} backing {record.backing}")
        if heap != pages_of(self.heap_bytes):
            raise InvariantError(f"{heap} frames for {self.heap_bytes} bytes of tables on the heap")
        for i in range(NR_FRAME_STATES):
            if counted[i] != self.nr_state[i]:
                raise InvariantError(f"{FRAME_USES[i]} frames: counter {self.nr_state[i]}, recount {counted[i]}")
        self.buddy.check()


cdef class Slab:
    """Records of `size` bytes (a power of two, 8 .. 4096) in frames of `state`; ids from 0."""

    def __cinit__(self, Frames frames not None, uint32_t size, int state, uint32_t most=NONE):
        if size & (size - 1) or not 8 <= size <= PAGE_SIZE:
            raise ValueError(f"slab records of {size} bytes: a power of two from 8 to 4096 is needed")
        self.frames = frames
        self.size = size
        self.state = <FrameState>state
        self.shift = 0
        while (size << self.shift) < PAGE_SIZE:
            self.shift += 1
        self.free_head = NONE
        self.most = most

    def __dealloc__(self):
        free(self.page)
        free(self.page_frame)

    cdef uint32_t frames_needed(self, uint32_t records) noexcept nogil:
        """Frames that reserving this many records takes right now; NEVER beyond the most there can be."""
        cdef uint32_t spare = (self.nr_pages << self.shift) - self.nr_used
        if records > self.most - self.nr_used:
            return NEVER
        if records <= spare:
            return 0
        return ((records - spare) + (<uint32_t>1 << self.shift) - 1) >> self.shift

    cdef int reserve(self, uint32_t records, uint32_t keep_free) except -1 nogil:
        """Make sure that the next `records` can be claimed: OK or NO_FRAME (then nothing has changed)."""
        cdef uint32_t pages = self.frames_needed(records)
        if pages and not self.frames.can_take(pages, keep_free):
            return NO_FRAME
        return self.make_room(records)

    cdef int make_room(self, uint32_t records) except -1 nogil:
        """The same from secured frames (see frames_needed)."""
        cdef uint32_t pages = self.frames_needed(records), _page
        for _page in range(pages):
            self._grow()
        return OK

    cdef int _grow(self) except -1 nogil:
        cdef hfn_t frame
        cdef void *page
        cdef uint32_t room, id, i
        if self.nr_pages == self.room:
            room = 64 if self.room == 0 else self.room * 2
            with gil:
                self._resize(room)
        page = self.frames.claim_page(self.state, &frame)
        self.page[self.nr_pages] = <char *>page
        self.page_frame[self.nr_pages] = frame
        self.frames.frame[frame].where = self.nr_pages
        self.nr_pages += 1
        i = <uint32_t>1 << self.shift
        while i > 0:                # lowest id first out
            i -= 1
            id = ((self.nr_pages - 1) << self.shift) + i
            (<uint32_t *>self.at(id))[0] = self.free_head
            self.free_head = id
        return OK

    cdef int _resize(self, uint32_t room) except -1:
        cdef char **page = <char **>realloc(self.page, room * sizeof(char *))
        if page == NULL:
            raise MemoryError("slab pages")
        self.page = page
        cdef hfn_t *page_frame = <hfn_t *>realloc(self.page_frame, room * sizeof(hfn_t))
        if page_frame == NULL:
            raise MemoryError("slab pages")
        self.page_frame = page_frame
        self.room = room
        return 0

    cdef void give(self, uint32_t id) noexcept nogil:
        memset(self.at(id), 0, self.size)
        (<uint32_t *>self.at(id))[0] = self.free_head
        self.free_head = id
        self.nr_used -= 1

    cdef bint owns_page(self, hfn_t frame) noexcept nogil:
        """True if this frame, which is in our state, is a page of this slab."""
        cdef uint32_t index = self.frames.frame[frame].where
        return index < self.nr_pages and self.page_frame[index] == frame

    cdef void move_page(self, hfn_t source, hfn_t target) noexcept nogil:
        """Host compaction gives our page in frame `source` the frame `target`."""
        cdef uint32_t index = self.frames.frame[source].where
        self.page[index] = <char *>self.frames.move_page(self.page[index], target)
        self.page_frame[index] = target
        self.frames.frame[target].where = index

    cdef uint32_t end(self) noexcept nogil:
        """One past the largest id ever handed out."""
        return self.nr_pages << self.shift

    cpdef object check(self):
        free_ids = set()
        cdef uint32_t id = self.free_head
        while id != NONE:
            if id >= self.end() or id in free_ids:
                raise InvariantError(f"slab: free list holds {id} twice or past the end {self.end()}")
            free_ids.add(id)
            if not len(free_ids) & 0xFFF:           # a recount may stop anywhere
                PyErr_CheckSignals()
            id = (<uint32_t *>self.at(id))[0]
        if len(free_ids) + self.nr_used != self.end():
            raise InvariantError(f"slab: {len(free_ids)} free + {self.nr_used} used != {self.end()}")
        return free_ids
