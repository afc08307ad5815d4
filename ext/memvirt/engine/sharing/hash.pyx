"""memvirt's own scanner: frames in frame order, one hash and one look-up each.

A pass walks host memory once, front to back, so that it reads memory in order and meets each content exactly once,
however many VMs map it. Zero pages go to the zero frame without being hashed. Everything else is looked up; the first
frame of a content stays, later ones are merged into it. After a pass over memory that does not change, every content
has one frame: the result of exact sharing.

There is no volatility test: a page that will be written again soon is merged and broken again. That costs a copy and is
counted; KSM's checksum test saves it at the price of one pass of delay.

`zero_only` merges zero pages and looks at nothing else.
"""

from ..counters cimport CPU_SCAN
from ..memory.frames cimport FRAME_STABLE
from ..types cimport NONE, hfn_t, uint32_t, uint64_t
from .scanner cimport Scanner

cdef enum:
    ASK_EVERY = 64              # frames between two questions whether to stop: some 30 us, and the question costs nothing
    FORESEEN = 16               # frames whose cells are on their way at once, where a page is an id


cdef class HashScanner(Scanner):

    def __init__(self, index, pages_to_scan, sleep_ns, zero_only, hints):
        Scanner.__init__(self, index, pages_to_scan, sleep_ns, hints)
        self.zero_only = zero_only
        self.waiting = NONE
        self.foresees = not (zero_only or self.index.content.has_bytes)     # to hash bytes twice would cost more
        if not zero_only:
            self.index.use_table()

    cdef uint32_t scan(self, uint32_t pages) except? 0xFFFFFFFF nogil:
        cdef uint32_t merged = 0, looked = 0
        if pages == NONE:
            self.cursor = 0
        if self.cursor == 0:
            self.met = False
        merged += self.follow_hints(pages, &looked)
        while looked < pages:
            if self.cursor % ASK_EVERY == 0 and self.clock.interrupt.asked():
                break
            if self.cursor == 0 and not self.zero_only:
                self.index.rebuild()
            if self.foresees and self.cursor + FORESEEN < self.index.frames.nr_frames:
                self.index.foresee(self.cursor + FORESEEN)
            merged += self.visit(self.cursor, &looked)
            self.cursor += 1
            if self.cursor == self.index.frames.nr_frames:
                self.cursor = 0
                self.full_scans += self.met
                break
        return merged + self._share_waiting()

    cdef bint visit(self, hfn_t frame, uint32_t *looked) except? True nogil:
        """Look at this frame. Returns whether one was merged away: this one, or the one that waited."""
        if not self.index.mergeable(frame):
            return False
        self.met = True
        looked[0] += 1
        self.pages_scanned += 1
        self.clock.spend(CPU_SCAN, self.clock.costs.scan_visit)
        if not self.zero_only:
            return self._share(frame)
        if self.index.frames.frame[frame].flags & FRAME_STABLE or not self.index.is_zero(frame):
            return False
        return self.index.merge_zero(frame)

    cdef bint _share(self, hfn_t frame) except? True nogil:
        """ShareIndex.try_share with the look-up put off until the next frame is hashed, as its cell is far away."""
        cdef uint64_t hash
        cdef bint merged
        if self.index.frames.frame[frame].flags & FRAME_STABLE or frame == self.waiting:
            return False
        if self.index.zero_frame != NONE and self.index.is_zero(frame):
            return self.index.merge_zero(frame)
        hash = self.index.ahead(frame)
        merged = self._share_waiting()
        self.waiting = frame
        self.waiting_hash = hash
        return merged

    cdef bint _share_waiting(self) except? True nogil:
        """Merge the frame that waits, if there is another with its content."""
        cdef hfn_t frame = self.waiting, other
        if frame == NONE:
            return False
        self.waiting = NONE
        other = self.index.find_or_add(frame, self.waiting_hash)
        return other != NONE and self.index.merge(frame, other)

    def counters(self):
        return Scanner.counters(self) | {"hints_followed": self.hints_followed}
