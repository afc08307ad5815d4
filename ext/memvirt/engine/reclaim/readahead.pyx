"""Swap readahead: a fault on a swapped page reads its neighbours too, because pages that went out together lie together.

The window is Linux's (mm/swap_state.c: swapin_nr_pages, __swapin_nr_pages, swap_cluster_readahead). It grows with the
pages of earlier windows that were accessed since the last fault (hits), shrinks by no more than half at a time, and
is an aligned power of two of slots around the faulting one, at most 2^page_cluster. Without hits it is one slot, two if
the fault is next to the one before. The state is the host's, as it is the kernel's. Slot 0 is a page here, not a header.

Pages read ahead lie in frames of their own state (FRAME_CACHE): no entry names them, nobody pays for them, their backing
record caches them and keeps its slot. The first access maps the frame (a fault `cached`, charged to that VM), reclaim
drops it without I/O, and it vanishes with the last entry that names the record.

    SWAP record ──read ahead──► cached in a FRAME_CACHE frame ──access──► an ordinary clean page of a VM
         ▲                                │
         └──────── reclaimed ─────────────┘

Frames are taken only while more than the low watermark stay free, beside what is set aside: readahead never makes anyone
reclaim. The faulting VM waits for the whole window; runs of neighbouring slots are one request each. A neighbour that
does not come back, or not as it went, is left where it is: whoever needs it will be told.
"""

import cython

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from memvirt.errors import ConfigError, InvariantError

from ..mapping.backing cimport BACKING_CACHED, BACKING_SWAP, Backing
from ..memory.frames cimport FRAME_CACHE
from ..mapping.mapping cimport Mapping
from ..types cimport IO_FAILED, NONE16, OK, backing_t, hfn_t, uint8_t, uint32_t

cdef enum:
    MAX_WINDOW = 1 << MAX_PAGE_CLUSTER


@cython.final
cdef class Window:
    """page_cluster: 0 (off) to 5; Linux's default is 3 (mm/swap.c: swap_setup)."""

    def __cinit__(self, page_cluster=3):
        if type(page_cluster) is not int or not 0 <= page_cluster <= MAX_PAGE_CLUSTER:
            raise ConfigError(f"readahead {page_cluster!r}: must be an int, 0 (off) to {MAX_PAGE_CLUSTER}")
        self.page_cluster = page_cluster
        self.hits = 4           # the kernel begins as if it had had four

    cdef uint32_t next_pages(self, uint32_t slot) noexcept nogil:
        cdef uint32_t most = <uint32_t>1 << self.page_cluster, pages, roundup = 4
        if most <= 1:
            return 1
        pages = self.hits + 2
        if pages == 2:
            if slot != self.previous + 1 and slot + 1 != self.previous:
                pages = 1
        else:
            while roundup < pages:
                roundup <<= 1
            pages = roundup
        pages = max(min(pages, most), self.last_pages / 2)
        if self.hits == 0:
            self.previous = slot
        self.hits = 0
        self.last_pages = pages
        return pages


@cython.final
cdef class Readahead:
    """Of one host; page_cluster 0: swap is read page by page."""

    def __cinit__(self, Mapping mapping not None, page_cluster):
        self.window = Window(page_cluster)
        self.mapping = mapping
        self.frames = mapping.frames
        self.content = mapping.content
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.swap = mapping.swap
        if page_cluster and mapping.swap is not None:
            self.nr_slots = mapping.swap.nr_slots
            self._backing_of = <uint32_t *>calloc(self.nr_slots, sizeof(uint32_t))
            if self._backing_of == NULL:
                raise MemoryError(f"the records of {self.nr_slots} swap slots")

    def __dealloc__(self):
        free(self._backing_of)

    cdef void know(self, uint32_t slot, backing_t backing) noexcept nogil:
        if self._backing_of != NULL:
            self._backing_of[slot] = backing

    cdef int read(self, backing_t id, hfn_t frame) except -1 nogil:
        cdef uint32_t slots[MAX_WINDOW]
        cdef hfn_t frames[MAX_WINDOW]
        cdef uint8_t *pages[MAX_WINDOW]
        cdef uint8_t done[MAX_WINDOW]
        cdef uint32_t slot = self.mapping.backings.where(self.mapping.backings.at(id)), n, i
        cdef int outcome = IO_FAILED
        n = self._gather(slot, frame, slots, frames)
        memset(done, 0, sizeof(done))
        for i in range(n):
            pages[i] = self.content.raw_target(frames[i])
        self.swap.wait(self.clock, False, n, slots)
        self.swap.read_batch(n, slots, pages, done)
        self.meter.ev.swap_pages_in += n
        for i in range(n):
            if frames[i] == frame:
                outcome = OK if done[i] else IO_FAILED
            else:
                self._keep(slots[i], frames[i], done[i])
        return outcome

    cdef uint32_t _gather(self, uint32_t slot, hfn_t frame, uint32_t *slots, hfn_t *frames) except? 0xFFFFFFFF nogil:
        """The slots of the window that are worth reading, in their order, each with a frame."""
        cdef uint32_t n = 0, at, first, last
        self.swap.window(slot, self.window.next_pages(slot), &first, &last)
        for at in range(first, last + 1):
            if at == slot:
                slots[n] = slot
                frames[n] = frame
                n += 1
                continue
            if not self.swap.in_use(at):
                continue
            if self.mapping.backings.at(self._backing_of[at]).place & BACKING_CACHED:
                continue
            if self.frames.take(0, FRAME_CACHE, self.frames.low_pages + self.mapping.charges.aside(NONE16),
                                &frames[n]) != OK:
                continue
            slots[n] = at
            n += 1
        return n

    cdef int _keep(self, uint32_t slot, hfn_t frame, bint arrived) except -1 nogil:
        """A neighbour: cache it if it came back as it went."""
        cdef backing_t id = self._backing_of[slot]
        if not arrived or self.content.checksum(frame) != self.mapping.backings.at(id).check:
            return self.frames.give(frame, 0)
        self.meter.ev.readahead_pages += 1
        return self.mapping.cache_ahead(frame, id)

    cpdef object check(self):
        """Every record on swap is the one known for its slot."""
        cdef uint32_t id
        cdef Backing *record
        if self._backing_of == NULL:
            return
        free_ids = self.mapping.backings.records.check()
        for id in range(self.mapping.backings.records.end()):
            record = self.mapping.backings.at(id)
            if id in free_ids or self.mapping.backings.kind(record) != BACKING_SWAP:
                continue
            if self._backing_of[self.mapping.backings.where(record)] != id:
                raise InvariantError(f"swap slot {self.mapping.backings.where(record)}: known as backing "
                                     f"{self._backing_of[self.mapping.backings.where(record)]}, named by {id}")
