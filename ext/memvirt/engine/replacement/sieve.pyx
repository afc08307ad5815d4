"""SIEVE: a queue in order of arrival and a hand that removes what was not referenced and leaves the rest in place.

Like clock, a sweep clears marks; unlike clock, a page that survives keeps its place, so new pages (between the hand
and the new end) are judged soon and old survivors are seldom looked at: lazy promotion, quick demotion. After the
newest page the hand goes on at the oldest. Zhang, Yang et al., NSDI 2024.

9 bytes per id: 8 of list, one of state. Equal to libcachesim's Sieve, which follows the paper.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check,
    links_make, links_push,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    RESIDENT = 1
    REFERENCED = 2


@cython.final
cdef class Sieve(Order):
    """Order `sieve`."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        self._links = links_make(self.ids, 1)
        self._state = <uint8_t *>calloc(self.ids, 1)
        if self._links == NULL or self._state == NULL:
            raise MemoryError(f"sieve: no memory for {self.ids} ids")
        self._hand = self.ids

    def __dealloc__(self):
        free(self._links)
        free(self._state)

    def metadata_bytes(self):
        return (self.ids + <uint64_t>1) * sizeof(Link) + self.ids

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        self._state[id] = RESIDENT
        links_push(self._links, self.ids, id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] = RESIDENT | REFERENCED
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        cdef uint32_t hand = self._hand
        if self.nr_resident == 0:
            return NONE
        while True:                                 # ends within two rounds: the first clears every mark
            if hand == self.ids:
                hand = self._links[hand].prev
            if not self._state[hand] & REFERENCED:
                self._hand = hand
                return hand
            self._state[hand] = RESIDENT
            hand = self._links[hand].prev

    cdef int spare(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._pass(id)
        return 0

    cdef void _pass(self, uint32_t id) noexcept nogil:
        """The hand leaves id behind, if it stands there."""
        if self._hand == id:
            self._hand = self._links[id].prev
            prefetch_write(&self._links[self._hand])

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._pass(id)
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        linked_rename(self._links, self._state, id, new)
        if self._hand == id:
            self._hand = new
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        linked_prefetch(self._links, self._state, id)

    cpdef object check(self):
        """Walk the list and compare it with the states, the hand and the counter. Raises InvariantError."""
        cdef uint32_t id, found = 0
        linked_check("sieve", self._links, self._state, self.ids)
        for id in range(self.ids):
            found += self._state[id] != 0
        listed = links_check("sieve", self._links, self.ids, self.ids)
        if not found == listed == self.nr_resident:
            raise InvariantError(f"sieve: nr_resident {self.nr_resident}, but {found} states and {listed} listed")
        if self._hand != self.ids and not self._state[self._hand]:
            raise InvariantError(f"sieve: the hand stands at {self._hand}, which is not resident")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Sieve Self
include "replay.pxi"
