"""W-TinyLFU: a page enters the main cache only if it was seen more often than the page that would have to go for it.

    new -> window, a small LRU list -- oldest, against the oldest of main: seen more often? --> main, the other out
                                    \\-- else out itself
    main: a segmented LRU. probation -- referenced --> protected, whose oldest sinks back when it has too many

How often keys were seen is in a sketch (sketch.h) that also remembers those that left, and is halved after 32 references
of pages of main for each page of it. While main has room it takes what the window has too many. Einziger, Friedman and
Manes, ACM Transactions on Storage 13(4), 2017.

window_percent=1, a fifth of main on probation, and what counts as seen (an insertion, a reference in main, leaving the
window) are libcachesim's; the miss counts are equal where main is a multiple of five pages. Elsewhere that package
evicts on a hit, see slru.pyx. Below a capacity of 100 it admits nothing; here the window has at least one page.

A page without history has a count of its own, which goes to its key when it leaves. Where memory turns out smaller than
`capacity` (a host keeps some of it free), main is smaller: each eviction shows how many residents there can be. But a
host that evicts many pages at a time brings in as many, and what the window then has too many meets main's oldest late.

17 bytes per id, 57.5 per page of main for the sketch.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_cut,
    links_make, links_oldest, links_push, links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    WINDOW = 0
    PROBATION = 1
    PROTECTED = 2
    HITS_PER_PAGE = 32                  # of main, between two halvings


@cython.final
cdef class WTinyLfu(Order):
    """Order `w-tinylfu`. window_percent: share of the capacity for the window."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, window_percent):
        self._window_size = <uint32_t>max(1, self.capacity * <uint64_t>window_percent // 100)
        self._main_size = self._main_limit = self.capacity - self._window_size
        self._probation_size = self._main_size // 5
        self._protected_size = <uint32_t>(self._main_size * <uint64_t>4 // 5)
        self._winner = self._loser = NONE
        self._sketch.nr_counters = sketch_size(self._main_size)
        self._sketch.counters = <uint32_t *>calloc(self._sketch.nr_counters, sizeof(uint32_t))
        self._links = links_make(self.ids, 3)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._key = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        self._seen = <uint32_t *>calloc(self.ids, sizeof(uint32_t))
        if (self._sketch.counters == NULL or self._links == NULL or self._state == NULL or self._key == NULL
                or self._seen == NULL):
            raise MemoryError(f"w-tinylfu: no memory for {self.ids} ids and a sketch of {self._main_size} pages")

    def __dealloc__(self):
        free(self._sketch.counters)
        free(self._links)
        free(self._state)
        free(self._key)
        free(self._seen)

    def metadata_bytes(self):
        return ((self.ids + <uint64_t>3) * sizeof(Link) + self.ids * <uint64_t>9
                + self._sketch.nr_counters * <uint64_t>sizeof(uint32_t))

    cdef void _enter(self, uint32_t id, uint32_t list_) noexcept nogil:
        """Make id, which is in no list, the newest of one."""
        links_push(self._links, self.ids + list_, id)
        self._state[id] = <uint8_t>(1 + list_)
        self._nr[list_] += 1

    cdef void _leave(self, uint32_t id) noexcept nogil:
        """Take id out of its list, for an _enter that follows."""
        links_cut(self._links, id)
        self._nr[self._state[id] - 1] -= 1

    cdef void _admit(self, uint32_t id) noexcept nogil:
        """From the window to main."""
        self._leave(id)
        if self._nr[PROBATION] >= self._probation_size and self._nr[PROTECTED] < self._protected_size:
            self._enter(id, PROTECTED)
        else:
            self._enter(id, PROBATION)

    cdef void _climb(self, uint32_t id) noexcept nogil:
        """A page of main was referenced."""
        cdef uint32_t sinks
        if self._state[id] == 1 + PROTECTED:
            links_renew(self._links, self.ids + PROTECTED, id)
            return
        self._leave(id)
        self._enter(id, PROTECTED)
        if self._nr[PROTECTED] > self._protected_size:
            sinks = links_oldest(self._links, self.ids + PROTECTED)
            self._leave(sinks)
            self._enter(sinks, PROBATION)

    cdef void _note(self, uint32_t id) noexcept nogil:
        """Id was seen."""
        if self._key[id] != NONE:
            sketch_add(&self._sketch, self._key[id], 1)
        else:
            self._seen[id] += self._seen[id] != NONE

    cdef uint32_t _frequency(self, uint32_t id) noexcept nogil:
        return self._seen[id] if self._key[id] == NONE else sketch_estimate(&self._sketch, self._key[id])

    cdef void _halve(self) noexcept nogil:
        cdef uint32_t id
        sketch_age(&self._sketch)
        for id in range(self.ids):
            self._seen[id] >>= 1

    cdef uint32_t _of_main(self) noexcept nogil:
        """Whom main would give away; NONE: it is empty."""
        return links_oldest(self._links, self.ids + PROBATION if self._nr[PROBATION] else self.ids + PROTECTED)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        self._key[id] = key
        self._seen[id] = 0
        self._enter(id, WINDOW)
        self._note(id)
        self._loser = NONE
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._loser = NONE
        if self._state[id] == 1 + WINDOW:
            links_renew(self._links, self.ids + WINDOW, id)
            return 0
        self._climb(id)
        self._note(id)
        self._hits += 1
        if self._hits >= self._main_size * <uint64_t>HITS_PER_PAGE:
            self._hits = 0
            self._halve()
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        cdef uint32_t oldest, other
        self._loser = self._winner = NONE
        while self._nr[WINDOW] > self._window_size and self._nr[PROBATION] + self._nr[PROTECTED] < self._main_limit:
            oldest = links_oldest(self._links, self.ids + WINDOW)
            self._admit(oldest)
            self._note(oldest)
        oldest = links_oldest(self._links, self.ids + WINDOW)
        other = self._of_main()
        if oldest == NONE or other == NONE:
            return other if oldest == NONE else oldest
        if self._frequency(oldest) > self._frequency(other):
            self._winner = oldest
            self._loser = other
        else:
            self._loser = oldest
        return self._loser

    cdef int spare(self, uint32_t id) except -1 nogil:
        """A page of the window is admitted: alone there, it would be next again. One of main climbs."""
        assert self.holds(id)
        self._loser = NONE
        if self._state[id] == 1 + WINDOW:
            self._admit(id)
        else:
            self._climb(id)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        """The loser of a contest makes room for the winner, and the page of the window was seen."""
        cdef uint32_t resident = self.nr_resident, winner = NONE, times
        assert self.holds(id)
        if id == self._loser:
            winner = self._winner
            self._note(id if winner == NONE else winner)
        if key != NONE and key != self._key[id]:
            times = self._frequency(id)
            sketch_add(&self._sketch, key, times)
        self.forget(id)
        if winner != NONE:
            self._admit(winner)
        self._main_limit = min(self._main_size, resident - min(resident, self._window_size))
        return 0

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._loser = NONE
        self._nr[self._state[id] - 1] -= 1
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if key != NONE:
            self._loser = NONE
            sketch_forget(&self._sketch, key)
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        linked_rename(self._links, self._state, id, new)
        self._key[new] = self._key[id]
        self._seen[new] = self._seen[id]
        self._loser = NONE
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        linked_prefetch(self._links, self._state, id)
        prefetch_write(&self._key[id])

    cpdef object check(self):
        """Compare the three lists, their lengths and the contest with the states. Raises InvariantError."""
        cdef uint32_t id, list_
        found = [0, 0, 0]
        linked_check("w-tinylfu", self._links, self._state, self.ids)
        for id in range(self.ids):
            if self._state[id] > 1 + PROTECTED:
                raise InvariantError(f"w-tinylfu: id {id} has state {self._state[id]}")
            if self._state[id]:
                found[self._state[id] - 1] += 1
        for list_ in range(3):
            listed = links_check("w-tinylfu", self._links, self.ids, self.ids + list_)
            if not found[list_] == listed == self._nr[list_]:
                raise InvariantError(f"w-tinylfu: list {list_} counts {self._nr[list_]}, {found[list_]} states say they "
                                     f"are in it, and it lists {listed}")
        if sum(found) != self.nr_resident or self._nr[PROTECTED] > self._protected_size:
            raise InvariantError(f"w-tinylfu: nr_resident {self.nr_resident}, listed {found}, at most "
                                 f"{self._protected_size} protected")
        if self._loser != NONE and not (self.holds(self._loser)
                                        and (self._winner == NONE or self._state[self._winner] == 1 + WINDOW)):
            raise InvariantError(f"w-tinylfu: {self._winner} won against {self._loser}, and one of them is not there")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef WTinyLfu Self
include "replay.pxi"
