"""ARC: two LRU lists, pages seen once and pages seen again, whose shares follow the ghosts of both.

    T1 seen once --hit--> T2 seen again         evicted from T1: key to B1; from T2: key to B2
    a key of B1 comes back: T1 was too short, its target grows; of B2: it shrinks; either goes to T2

With capacity c, T1 and B1 together stay within c, all four within 2c. Megiddo and Modha, FAST 2003, cases I to IV.

The paper leaves open whether the target p is a whole number. libcachesim takes it as a double, and so do we, which
makes the miss counts equal; nothing else deviates. The few operations on it (add, subtract, divide, compare) are
rounded the same on every IEEE 754 machine, so results stay equal everywhere. Through the passive interface, where
residents come and go without regard to c, the ghosts are cut at c and 2c.

9 bytes per id, 5 per key, 4.25 per ghost.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .ghosts cimport (
    ghosts_add, ghosts_check, ghosts_drop_oldest, ghosts_hold, ghosts_make, ghosts_recall, ghosts_remove,
)
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_make,
    links_oldest, links_push, links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    ONCE = 1
    OFTEN = 2


@cython.final
cdef class Arc(Order):
    """Order `arc`. target: how many residents T1 should have."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        self._expected = NONE
        self._links = links_make(self.ids, 2)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._ghost_where = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        self._ghost_tags = <uint8_t *>calloc(<size_t>self.keys + 1, 1)
        made = ghosts_make(&self._ghosts1, ONCE, self._ghost_tags, self._ghost_where, self.keys, self.capacity)
        made &= ghosts_make(
            &self._ghosts2, OFTEN, self._ghost_tags, self._ghost_where, self.keys, <uint64_t>self.capacity * 2)
        if self._links == NULL or self._state == NULL or not made:
            raise MemoryError(f"arc: no memory for {self.ids} ids and {self.keys} keys")

    def __dealloc__(self):
        free(self._links)
        free(self._state)
        free(self._ghost_where)
        free(self._ghost_tags)
        free(self._ghosts1.queue.slots)
        free(self._ghosts2.queue.slots)

    def metadata_bytes(self):
        return ((self.ids + <uint64_t>2) * sizeof(Link) + self.ids + (self.keys + <uint64_t>1) * 5
                + (<uint64_t>self._ghosts1.queue.size + self._ghosts2.queue.size) * 4)

    cdef uint32_t _list_of(self, uint32_t id) noexcept nogil:
        return self.ids if self._state[id] == ONCE else self.ids + 1

    cdef int expect(self, uint32_t key) except -1 nogil:
        """Cases II and III: a ghost that comes back moves the target, by at least one page."""
        cdef double b1 = self._ghosts1.queue.live, b2 = self._ghosts2.queue.live
        self._expected = key
        self._recalled = 0
        if ghosts_hold(&self._ghosts1, key):
            self._recalled = ONCE
            self.target = min(self.target + max(b2 / b1, 1.0), <double>self.capacity)
            ghosts_remove(&self._ghosts1, key)
        elif ghosts_hold(&self._ghosts2, key):
            self._recalled = OFTEN
            self.target = max(self.target - max(b1 / b2, 1.0), 0.0)
            ghosts_remove(&self._ghosts2, key)
        return 0

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key != self._expected:
            self.expect(key)
        self._state[id] = OFTEN if self._recalled else ONCE
        self._nr_often += self._recalled != 0
        self._nr_once += self._recalled == 0
        links_push(self._links, self._list_of(id), id)
        self._expected = NONE
        self._recalled = 0
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        links_renew(self._links, self.ids + 1, id)
        if self._state[id] == ONCE:
            self._state[id] = OFTEN
            self._nr_once -= 1
            self._nr_often += 1
        return 0

    cdef uint32_t _replace(self) noexcept nogil:
        """The paper's REPLACE: T1 while it is above its target."""
        if self._nr_often == 0 or self._nr_once and (
            self._nr_once > self.target or self._nr_once == self.target and self._recalled == OFTEN
        ):
            return links_oldest(self._links, self.ids)
        return links_oldest(self._links, self.ids + 1)

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        if not self._recalled and self._nr_once >= self.capacity and self._ghosts1.queue.live == 0:
            return links_oldest(self._links, self.ids)      # case IV A, second half
        return self._replace()

    cdef int spare(self, uint32_t id) except -1 nogil:
        """To the new end of its list."""
        assert self.holds(id)
        links_renew(self._links, self._list_of(id), id)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        """Case IV cuts the ghosts before one is added; a T1 that fills the capacity alone leaves none."""
        cdef bint leaves_ghost = True
        cdef uint64_t total = <uint64_t>self.nr_resident + self._ghosts1.queue.live + self._ghosts2.queue.live
        if not self._recalled:
            if <uint64_t>self._nr_once + self._ghosts1.queue.live >= self.capacity:
                leaves_ghost = self._ghosts1.queue.live > 0 or self._state[id] == OFTEN
                ghosts_drop_oldest(&self._ghosts1)
            elif total >= <uint64_t>self.capacity * 2:
                ghosts_drop_oldest(&self._ghosts2)
        if leaves_ghost:
            ghosts_add(&self._ghosts1 if self._state[id] == ONCE else &self._ghosts2, key)
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._nr_once -= self._state[id] == ONCE
        self._nr_often -= self._state[id] == OFTEN
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if not ghosts_recall(&self._ghosts1, key):
            ghosts_recall(&self._ghosts2, key)
        if key == self._expected:
            self._expected = NONE
            self._recalled = 0
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
        cdef uint32_t id, once = 0, often = 0
        linked_check("arc", self._links, self._state, self.ids)
        for id in range(self.ids):
            once += self._state[id] == ONCE
            often += self._state[id] == OFTEN
        listed = (links_check("arc T1", self._links, self.ids, self.ids),
                  links_check("arc T2", self._links, self.ids, self.ids + 1))
        if listed != (once, often) or (once, often) != (self._nr_once, self._nr_often) \
                or once + often != self.nr_resident:
            raise InvariantError(f"arc: states count {once} + {often}, lists {listed}, counters differ")
        ghosts_check("arc B1", &self._ghosts1)
        ghosts_check("arc B2", &self._ghosts2)
        if not 0.0 <= self.target <= self.capacity:
            raise InvariantError(f"arc: target {self.target} is not in 0 .. {self.capacity}")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Arc Self
include "replay.pxi"
