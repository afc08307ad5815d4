"""Swap readahead: a fault on a swapped page reads its neighbours too, because what is near goes and comes together.

Which neighbours: Linux has two kinds, and takes the first where any swap area rotates (mm/swap_state.c).

    cluster  the neighbours in the area: pages that went out together lie together, and one request reads them
             (swap_cluster_readahead). The window is an aligned power of two of slots. Its state is the host's.
    vma      the neighbours in memory, wherever they lie, if they are out on swap (swap_vma_readahead). The window begins at
             the fault if it follows the one before, ends there if it precedes it, and else lies around it; it stays within
             2 MiB of memory and within the VM, which is one mapping. Each VM has a state of its own.

The window's size is by one rule (__swapin_nr_pages): it grows with the pages of earlier windows that were accessed since
the last fault (hits), shrinks by no more than half at a time, and is at most 2^page_cluster. Without hits it is one page,
two if the fault is next to the one before. Slot 0 is a page here, not a header.

Pages read ahead lie in frames of their own state (FRAME_CACHE): no entry names them, nobody pays for them, their backing
record caches them and keeps its slot. The first access maps the frame (a fault `cached`, charged to that VM), reclaim
drops it without I/O, and it vanishes with the last entry that names the record.

    SWAP record ──read ahead──► cached in a FRAME_CACHE frame ──access──► an ordinary clean page of a VM
         ▲                                │
         └──────── reclaimed ─────────────┘

Pages that are read ahead are allocated as any other: Linux reads them with the flags of the fault, and may reclaim for each
(__read_swap_cache_async). So the fault first asks `wanted`, and Reclaim makes that much room, once a fault; what there is
then beside the min watermark and what is set aside is taken. Where that is less, the window is cut. The faulting VM waits
for the whole window; runs of slots that follow each other are one request each. A neighbour that does not come back, or
not as it went, is left where it is: whoever needs it will be told.
"""

import cython

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from memvirt.errors import ConfigError, InvariantError

from ..mapping.backing cimport BACKING_CACHED, BACKING_SWAP, Backing
from ..memory.frames cimport FRAME_CACHE
from ..mapping.mapping cimport Mapping
from ..mapping.leaf cimport PTE_BACKED, PTE_PRESENT, PTE_WHERE, Look
from ..types cimport (IO_FAILED, LEAF_ENTRIES, MAX_VMS, NONE, NONE16, OK, backing_t, gfn_t, hfn_t, int64_t, uint8_t,
                      uint32_t, vmid_t)

cdef enum:
    MAX_WINDOW = 1 << MAX_PAGE_CLUSTER
    BEGUN_HITS = 4              # the kernel begins as if it had had four
    MOST_HITS = 63              # SWAP_RA_HITS_MAX


cdef uint32_t window_pages(uint32_t hits, bint near, uint32_t most, uint32_t last_pages) noexcept nogil:
    cdef uint32_t pages = hits + 2, roundup = 4
    if pages == 2:
        pages = 2 if near else 1
    else:
        while roundup < pages:
            roundup <<= 1
        pages = roundup
    return max(min(pages, most), last_pages / 2)


@cython.final
cdef class Window:
    """page_cluster: 0 (off) to 5; Linux's default is 3 (mm/swap.c: swap_setup)."""

    def __cinit__(self, page_cluster=3):
        if type(page_cluster) is not int or not 0 <= page_cluster <= MAX_PAGE_CLUSTER:
            raise ConfigError(f"readahead {page_cluster!r}: must be an int, 0 (off) to {MAX_PAGE_CLUSTER}")
        self.page_cluster = page_cluster
        self.hits = BEGUN_HITS

    cdef uint32_t pages_at(self, uint32_t slot) noexcept nogil:
        cdef uint32_t most = <uint32_t>1 << self.page_cluster
        if most <= 1:
            return 1
        return window_pages(self.hits, slot == self.previous + 1 or slot + 1 == self.previous, most, self.last_pages)

    cdef uint32_t next_pages(self, uint32_t slot) noexcept nogil:
        cdef uint32_t pages = self.pages_at(slot)
        if self.page_cluster == 0:
            return pages
        if self.hits == 0:
            self.previous = slot
        self.hits = 0
        self.last_pages = pages
        return pages


@cython.final
cdef class Readahead:
    """Of one host; page_cluster 0: swap is read page by page. by_address: kind vma."""

    def __cinit__(self, Mapping mapping not None, page_cluster, bint by_address=False):
        cdef uint32_t vm
        self.window = Window(page_cluster)
        self.by_address = by_address
        self.mapping = mapping
        self.leaves = mapping.leaves
        self.frames = mapping.frames
        self.content = mapping.content
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.swap = mapping.swap
        for vm in range(MAX_VMS):
            self.open(<vmid_t>vm)
        if page_cluster and mapping.swap is not None and not by_address:
            self.nr_slots = mapping.swap.nr_slots
            self._backing_of = <uint32_t *>calloc(self.nr_slots, sizeof(uint32_t))
            if self._backing_of == NULL:
                raise MemoryError(f"the records of {self.nr_slots} swap slots")

    def __dealloc__(self):
        free(self._backing_of)

    cdef void know(self, uint32_t slot, backing_t backing) noexcept nogil:
        if self._backing_of != NULL:
            self._backing_of[slot] = backing

    cdef void open(self, vmid_t vm) noexcept nogil:
        self._nearby[vm].gfn = self._nearby[vm].pages = 0
        self._nearby[vm].hits = BEGUN_HITS

    cdef void found(self, vmid_t vm, gfn_t gfn, bint ahead) noexcept nogil:
        self.window.hits += ahead
        self._nearby[vm].gfn = gfn
        self._nearby[vm].hits = min(self._nearby[vm].hits + ahead, <uint32_t>MOST_HITS)

    cdef uint32_t most(self) noexcept nogil:
        return (<uint32_t>1 << self.window.page_cluster) - 1

    cdef uint32_t wanted(self, vmid_t vm, gfn_t gfn, backing_t id) except? 0xFFFFFFFF nogil:
        cdef backing_t ids[MAX_WINDOW]
        if self.by_address:
            return self._in_memory(vm, gfn, id, NONE, ids, NULL) - 1
        return self._in_area(id, NONE, ids, NULL) - 1

    cdef int read(self, vmid_t vm, gfn_t gfn, backing_t id, hfn_t frame) except -1 nogil:
        cdef backing_t ids[MAX_WINDOW]
        cdef uint32_t slots[MAX_WINDOW]
        cdef hfn_t frames[MAX_WINDOW]
        cdef uint8_t *pages[MAX_WINDOW]
        cdef uint8_t done[MAX_WINDOW]
        cdef uint32_t n, i
        cdef int outcome = IO_FAILED
        if self.by_address:
            n = self._in_memory(vm, gfn, id, frame, ids, frames)
        else:
            n = self._in_area(id, frame, ids, frames)
        memset(done, 0, sizeof(done))
        for i in range(n):
            pages[i] = self.content.raw_target(frames[i])
            slots[i] = self.mapping.backings.where(self.mapping.backings.at(ids[i]))
        self.swap.wait(self.clock, False, n, slots)
        self.swap.read_batch(n, slots, pages, done)
        self.meter.ev.swap_pages_in += n
        for i in range(n):
            if frames[i] == frame:
                outcome = OK if done[i] else IO_FAILED
            else:
                self._keep(ids[i], frames[i], done[i])
        return outcome

    cdef uint32_t _in_area(self, backing_t id, hfn_t frame, backing_t *ids, hfn_t *frames) except? 0xFFFFFFFF nogil:
        """The records of the window's slots that are worth reading, in the order of the slots, each with a frame. Without
        `frames`: what they would be, and the window has not moved."""
        cdef uint32_t slot = self.mapping.backings.where(self.mapping.backings.at(id)), n = 0, at, first, last, pages
        pages = self.window.pages_at(slot) if frames == NULL else self.window.next_pages(slot)
        self.swap.window(slot, pages, &first, &last)
        for at in range(first, last + 1):
            if at == slot:
                ids[n] = id
                if frames != NULL:
                    frames[n] = frame
                n += 1
                continue
            if not self.swap.in_use(at):
                continue
            ids[n] = self._backing_of[at]
            if not self.mapping.backings.at(ids[n]).place & BACKING_CACHED:
                n += self._take_frame(frames, n)
        return n

    cdef uint32_t _in_memory(self, vmid_t vm, gfn_t gfn, backing_t id, hfn_t frame, backing_t *ids,
                             hfn_t *frames) except? 0xFFFFFFFF nogil:
        """The same of the window's addresses. A record that several of them name is read once."""
        cdef Nearby *last = &self._nearby[vm]
        cdef uint32_t most = <uint32_t>1 << self.window.page_cluster, pages, n = 0, i
        cdef int64_t first = gfn, at, end
        cdef Look look
        cdef Backing *record
        pages = window_pages(last.hits, gfn == last.gfn + 1 or gfn + 1 == last.gfn, most, last.pages) if most > 1 else 1
        if gfn + 1 == last.gfn:
            first = <int64_t>gfn - pages + 1
        elif gfn != last.gfn + 1:
            first = <int64_t>gfn - (pages - 1) / 2
        end = min(first + pages, <int64_t>(gfn / LEAF_ENTRIES + 1) * LEAF_ENTRIES)
        if frames != NULL:
            last.gfn, last.pages, last.hits = gfn, pages, 0
        self.leaves.look(vm, gfn, &look)
        for at in range(max(first, <int64_t>(gfn / LEAF_ENTRIES) * LEAF_ENTRIES), end):
            ids[n] = look.leaf.entries[at % LEAF_ENTRIES] & PTE_WHERE
            if at == gfn:
                if frames != NULL:
                    frames[n] = frame
                n += 1
                continue
            if (look.leaf.entries[at % LEAF_ENTRIES] & (PTE_PRESENT | PTE_BACKED)) != PTE_BACKED or ids[n] == id:
                continue
            record = self.mapping.backings.at(ids[n])
            if self.mapping.backings.kind(record) != BACKING_SWAP or record.place & BACKING_CACHED:
                continue
            for i in range(n):
                if ids[i] == ids[n]:
                    break
            else:
                n += self._take_frame(frames, n)
        return n

    cdef int _take_frame(self, hfn_t *frames, uint32_t n) except -1 nogil:
        """1, and frames[n] for a page that nobody has asked for yet, if there are enough. Without `frames`: 1."""
        cdef uint32_t reserve = self.frames.min_pages + self.mapping.charges.aside(NONE16)
        return frames == NULL or self.frames.take(0, FRAME_CACHE, reserve, &frames[n]) == OK

    cdef int _keep(self, backing_t id, hfn_t frame, bint arrived) except -1 nogil:
        """A neighbour: cache it if it came back as it went."""
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
