"""Multi-generation LRU: pages are sorted into up to four generations by when they were last seen accessed.

    fault --> youngest .. oldest --not accessed--> out
                 ^           |
                 +- accessed +        aging: a new youngest generation, all accessed pages join it, marks cleared

The two youngest generations are not evictable (MIN_NR_GENS 2, MAX_NR_GENS 4). When only they are left, *aging* walks
the marks of all pages: those accessed since the last walk belong to the new youngest generation from then on. As in
Linux the walk changes only the page's number, not the lists; a page that is met on an older list than its number says
is sorted then. A page met accessed on the oldest list is promoted at once. So the order knows *in which walk* a page
was last seen, not when. Linux, mm/vmscan.c; its tiers concern file descriptor accesses, which memory of a guest does
not have. A refault is *recent* if its eviction lies less than four generations back; that is counted, as in
mm/workingset.c, and does not place the page: pages that are faulted in are the youngest in any case.

9 bytes per id, 4 per key.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free

from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_make,
    links_oldest, links_push, links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    RESIDENT = 1
    ACCESSED = 2
    GEN_SHIFT = 2
    MIN_NR_GENS = 2
    MAX_NR_GENS = 4
    SEQ_MASK = 0x7FFFFFFF
    EVICTED = 0x80000000                # of every shadow; 0: there is none. Keys that are never used take no memory


@cython.final
cdef class MgLru(Order):
    """Order `mglru`. min_seq, max_seq, nr_refaults and nr_recent can be read."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        self._links = links_make(self.ids, MAX_NR_GENS)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._shadow = <uint32_t *>calloc(<size_t>self.keys + 1, sizeof(uint32_t))
        if self._links == NULL or self._state == NULL or self._shadow == NULL:
            raise MemoryError(f"mglru: no memory for {self.ids} ids and {self.keys} keys")
        self.max_seq = MIN_NR_GENS

    def __dealloc__(self):
        free(self._links)
        free(self._state)
        free(self._shadow)

    def metadata_bytes(self):
        return (self.ids + <uint64_t>MAX_NR_GENS) * sizeof(Link) + self.ids + (self.keys + <uint64_t>1) * 4

    cdef void _age(self) noexcept nogil:
        """A new youngest generation of all pages accessed since the last walk."""
        cdef uint32_t id
        cdef uint8_t youngest
        self.max_seq += 1
        youngest = <uint8_t>(RESIDENT | self.max_seq % MAX_NR_GENS << GEN_SHIFT)
        for id in range(self.ids):
            self._state[id] = youngest if self._state[id] & ACCESSED else self._state[id]

    cdef void _move(self, uint32_t id, uint32_t seq) noexcept nogil:
        """To the new end of a generation's list, mark cleared."""
        self._state[id] = <uint8_t>(RESIDENT | seq % MAX_NR_GENS << GEN_SHIFT)
        links_renew(self._links, self.ids + seq % MAX_NR_GENS, id)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key < self.keys and self._shadow[key]:
            self.nr_refaults += 1
            self.nr_recent += ((self.max_seq - self._shadow[key]) & SEQ_MASK) < MAX_NR_GENS
            self._shadow[key] = 0
        self._state[id] = <uint8_t>(RESIDENT | self.max_seq % MAX_NR_GENS << GEN_SHIFT)
        links_push(self._links, self.ids + self.max_seq % MAX_NR_GENS, id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] |= ACCESSED
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        """Ends: after the first walk no mark is left but for those cleared on the way, and two more walks make even
        the youngest generation evictable."""
        cdef uint32_t id, gen
        if self.nr_resident == 0:
            return NONE
        while True:
            if self.max_seq - self.min_seq < MIN_NR_GENS:
                self._age()
            id = links_oldest(self._links, self.ids + self.min_seq % MAX_NR_GENS)
            if id == NONE:
                self.min_seq += 1
                continue
            gen = self._state[id] >> GEN_SHIFT
            if self._state[id] & ACCESSED:
                self._move(id, self.max_seq)
            elif gen != self.min_seq % MAX_NR_GENS:
                self._move(id, self.min_seq + (gen - self.min_seq) % MAX_NR_GENS)
            else:
                return id

    cdef int spare(self, uint32_t id) except -1 nogil:
        """To the generation after the oldest."""
        assert self.holds(id)
        self._move(id, self.min_seq + 1)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        if key < self.keys:
            self._shadow[key] = EVICTED | self.max_seq & SEQ_MASK
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if key < self.keys:
            self._shadow[key] = 0
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        linked_rename(self._links, self._state, id, new)
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        linked_prefetch(self._links, self._state, id)

    cpdef object check(self):
        """Compare the generation lists and the counters with the states. Raises InvariantError."""
        cdef uint32_t id, gen, resident = 0, listed = 0
        cdef uint32_t gens = self.max_seq - self.min_seq + 1
        if not MIN_NR_GENS <= gens <= MAX_NR_GENS:
            raise InvariantError(f"mglru: generations {self.min_seq} .. {self.max_seq}")
        linked_check("mglru", self._links, self._state, self.ids)
        for id in range(self.ids):
            resident += self._state[id] != 0
            if self._state[id] and ((self._state[id] >> GEN_SHIFT) - self.min_seq) % MAX_NR_GENS >= gens:
                raise InvariantError(f"mglru: id {id} is of no generation in {self.min_seq} .. {self.max_seq}")
        for gen in range(MAX_NR_GENS):
            count = links_check("mglru", self._links, self.ids, self.ids + gen)
            listed += count
            if count and (gen - self.min_seq) % MAX_NR_GENS >= gens:
                raise InvariantError(f"mglru: the list of no generation holds {count} ids")
        if not resident == listed == self.nr_resident:
            raise InvariantError(f"mglru: nr_resident {self.nr_resident}, but {resident} states and {listed} listed")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef MgLru Self
include "replay.pxi"
