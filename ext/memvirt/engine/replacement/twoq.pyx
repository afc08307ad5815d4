"""2Q: pages seen once wait in a short queue; only those that come back after leaving it enter the main LRU list.

    new -> A1in (first in, first out; hits change nothing) -> out, its key to A1out
           key in A1out comes back -> Am (LRU) -> out

A1in has a quarter of the capacity, A1out remembers half as many keys as the capacity. The victim is A1in's oldest
while A1in is longer than its share, else Am's. Johnson and Shasha, VLDB 1994 (the full version).

variant="libcachesim" (default) is what that package does, variant="paper" the paper. They differ in two points:
- A key that comes back leaves A1out before libcachesim makes room, and after it in the paper, where the room made may
  push one more key out of a full A1out.
- libcachesim admits no page larger than A1in, which is any page below a capacity of 4: replay() then counts every
  request as a miss. A Host cannot refuse a page: through the passive interface A1in then just has no share.

9 bytes per id, 5 per key, 4.25 per ghost.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .ghosts cimport ghosts_add, ghosts_check, ghosts_hold, ghosts_make, ghosts_recall
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_cut, links_make,
    links_oldest, links_push, links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    IN = 1
    HOT = 2


@cython.final
cdef class TwoQ(Order):
    """Order `2q`. variant: "libcachesim" or "paper"."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, variant):
        self._paper = variant == "paper"
        self._in_size = self.capacity // 4
        self._expected = NONE
        self._links = links_make(self.ids, 2)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._ghost_where = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        self._ghost_tags = <uint8_t *>calloc(<size_t>self.keys + 1, 1)
        made = ghosts_make(&self._out, 1, self._ghost_tags, self._ghost_where, self.keys, self.capacity // 2)
        if self._links == NULL or self._state == NULL or not made:
            raise MemoryError(f"2q: no memory for {self.ids} ids and {self.keys} keys")

    def __dealloc__(self):
        free(self._links)
        free(self._state)
        free(self._ghost_where)
        free(self._ghost_tags)
        free(self._out.queue.slots)

    def metadata_bytes(self):
        return ((self.ids + <uint64_t>2) * sizeof(Link) + self.ids + (self.keys + <uint64_t>1) * 5
                + self._out.queue.size * <uint64_t>4)

    cdef uint32_t _list_of(self, uint32_t id) noexcept nogil:
        return self.ids if self._state[id] == IN else self.ids + 1

    cdef int expect(self, uint32_t key) except -1 nogil:
        self._recalled = ghosts_hold(&self._out, key) if self._paper else ghosts_recall(&self._out, key)
        self._expected = key
        return 0

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key != self._expected:
            self.expect(key)
        ghosts_recall(&self._out, key)
        self._state[id] = HOT if self._recalled else IN
        self._nr_in += not self._recalled
        links_push(self._links, self._list_of(id), id)
        self._expected = NONE
        self._recalled = False
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        if self._state[id] == HOT:
            links_cut(self._links, id)
            links_push(self._links, self.ids + 1, id)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        if self._nr_in > self._in_size or self._nr_in == self.nr_resident:
            return links_oldest(self._links, self.ids)
        return links_oldest(self._links, self.ids + 1)

    cdef int spare(self, uint32_t id) except -1 nogil:
        """To the new end of its list."""
        assert self.holds(id)
        links_renew(self._links, self._list_of(id), id)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        if self._state[id] == IN:
            ghosts_add(&self._out, key)
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._nr_in -= self._state[id] == IN
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        ghosts_recall(&self._out, key)
        if key == self._expected:
            self._expected = NONE
            self._recalled = False
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
        """Compare both lists, the ghosts and the counters with the states. Raises InvariantError."""
        cdef uint32_t id, cold = 0, hot = 0
        linked_check("2q", self._links, self._state, self.ids)
        for id in range(self.ids):
            cold += self._state[id] == IN
            hot += self._state[id] == HOT
        listed = (links_check("2q A1in", self._links, self.ids, self.ids),
                  links_check("2q Am", self._links, self.ids, self.ids + 1))
        if listed != (cold, hot) or cold != self._nr_in or cold + hot != self.nr_resident:
            raise InvariantError(
                f"2q: states count {cold} + {hot}, lists {listed}, nr_in {self._nr_in} of {self.nr_resident}")
        ghosts_check("2q", &self._out)

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        if not self._paper and self._in_size < 1:
            return n
        return replay_loop(self, pages, n)


ctypedef TwoQ Self
include "replay.pxi"
