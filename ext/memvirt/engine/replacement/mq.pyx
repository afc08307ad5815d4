"""MQ: several LRU lists by the logarithm of references, sinking by age, and ghosts that remember how often.

    queue k: referenced 2^k .. 2^(k+1) - 1 times (the highest: or more)
    referenced -> newest of its queue, alive for another lifetime
    oldest of a queue, lifetime over -> newest of the queue below
    oldest of the lowest queue that has one -> out, its key and its references to Qout, where ghosts go first in, first out
    a key of Qout comes back -> with one reference more than it had

Time is counted in references and insertions; each looks at the oldest of every queue once. Zhou, Philbin and Li, USENIX
Annual Technical Conference 2001, for second-level buffers, in which pages come back after long times.

queues=8, lifetime=10000 and ghost_percent=400 (of the capacity, as in the paper) are libcachesim's; the miss counts are
equal. The paper sets the lifetime to the peak of the distances between references of a page. In a host a reference is a
harvested mark, so a lifetime is that many pages seen referenced, not references.

21 bytes per id, 9 per key, 4.25 per ghost.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .ghosts cimport ghosts_add, ghosts_check, ghosts_hold, ghosts_make, ghosts_recall
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_cut,
    links_make, links_oldest, links_push,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    MOST_REFERENCES = 0x7FFFFFFF        # as in libcachesim, whose count is signed


@cython.final
cdef class Mq(Order):
    """Order `mq`. queues: 1 .. 64; lifetime: ticks in a queue; ghost_percent: keys remembered, of the capacity."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, queues, lifetime, ghost_percent):
        self._queues = queues
        self._lifetime = lifetime
        self._expected = NONE
        self._links = links_make(self.ids, self._queues)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._references = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        self._expires = <uint64_t *>malloc(self.ids * sizeof(uint64_t))
        self._ghost_where = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        self._ghost_tags = <uint8_t *>calloc(<size_t>self.keys + 1, 1)
        self._ghost_references = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        limit = <uint64_t>self.capacity * <uint64_t>ghost_percent // 100
        made = ghosts_make(&self._out, 1, self._ghost_tags, self._ghost_where, self.keys, limit)
        if (self._links == NULL or self._state == NULL or self._references == NULL or self._expires == NULL
                or self._ghost_references == NULL or not made):
            raise MemoryError(f"mq: no memory for {self.ids} ids and {self.keys} keys")

    def __dealloc__(self):
        free(self._links)
        free(self._state)
        free(self._references)
        free(self._expires)
        free(self._ghost_where)
        free(self._ghost_tags)
        free(self._ghost_references)
        free(self._out.queue.slots)

    def metadata_bytes(self):
        return ((self.ids + <uint64_t>self._queues) * sizeof(Link) + self.ids * <uint64_t>13
                + (self.keys + <uint64_t>1) * 9 + self._out.queue.size * <uint64_t>4)

    cdef void _enter(self, uint32_t id, uint32_t queue) noexcept nogil:
        """Make id, which is in no list, the newest of a queue, with a lifetime from now."""
        links_push(self._links, self.ids + queue, id)
        self._state[id] = <uint8_t>(1 + queue)
        self._expires[id] = self._now + self._lifetime

    cdef void _enter_by_references(self, uint32_t id) noexcept nogil:
        cdef uint32_t queue = 0, references = self._references[id]
        while references > 1 and queue < self._queues - 1:
            references >>= 1
            queue += 1
        self._enter(id, queue)

    cdef void _tick(self) noexcept nogil:
        """The paper's Adjust: time goes on, and the oldest of a queue sinks if its lifetime is over."""
        cdef uint32_t queue, id
        self._now += 1
        for queue in range(1, self._queues):
            id = links_oldest(self._links, self.ids + queue)
            if id != NONE and self._expires[id] < self._now:
                links_cut(self._links, id)
                self._enter(id, queue - 1)

    cdef int expect(self, uint32_t key) except -1 nogil:
        self._expected = key
        self._remembered = 0
        if ghosts_hold(&self._out, key):
            self._remembered = self._ghost_references[key]
            ghosts_recall(&self._out, key)
        return 0

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key != self._expected:
            self.expect(key)
        self._references[id] = min(self._remembered + 1, <uint32_t>MOST_REFERENCES)
        self._expected = NONE
        self._remembered = 0
        self._enter_by_references(id)
        self.nr_resident += 1
        self._tick()
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        links_cut(self._links, id)
        self._references[id] = min(self._references[id] + 1, <uint32_t>MOST_REFERENCES)
        self._enter_by_references(id)
        self._tick()
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        cdef uint32_t queue, id
        for queue in range(self._queues):
            id = links_oldest(self._links, self.ids + queue)
            if id != NONE:
                return id
        return NONE

    cdef int spare(self, uint32_t id) except -1 nogil:
        """As if referenced often enough for the next queue in use; those of the highest go round among themselves."""
        cdef uint32_t queue, own
        assert self.holds(id)
        own = self._state[id] - 1
        for queue in range(own + 1, self._queues):
            if links_oldest(self._links, self.ids + queue) != NONE:
                self._references[id] = <uint32_t>1 << min(queue, <uint32_t>30)
                break
        else:
            queue = own
        links_cut(self._links, id)
        self._enter(id, queue)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        ghosts_add(&self._out, key)
        if ghosts_hold(&self._out, key):
            self._ghost_references[key] = self._references[id]
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        ghosts_recall(&self._out, key)
        if key == self._expected:
            self._expected = NONE
            self._remembered = 0
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        linked_rename(self._links, self._state, id, new)
        self._references[new] = self._references[id]
        self._expires[new] = self._expires[id]
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        linked_prefetch(self._links, self._state, id)
        prefetch_write(&self._references[id])
        prefetch_write(&self._expires[id])

    cpdef object check(self):
        """Compare the queues, the ghosts and the counter with the states. Raises InvariantError."""
        cdef uint32_t id, queue, resident = 0, listed = 0
        linked_check("mq", self._links, self._state, self.ids)
        for id in range(self.ids):
            resident += self._state[id] != 0
            if self._state[id] > self._queues:
                raise InvariantError(f"mq: id {id} is in queue {self._state[id] - 1} of {self._queues}")
            if self._state[id] and not (1 <= self._references[id] <= <uint32_t>MOST_REFERENCES
                                        and self._expires[id] <= self._now + self._lifetime):
                raise InvariantError(f"mq: id {id} has {self._references[id]} references and lives until "
                                     f"{self._expires[id]}, which is not within {self._lifetime} from {self._now}")
        for queue in range(self._queues):
            listed += links_check("mq", self._links, self.ids, self.ids + queue)
        ghosts_check("mq", &self._out)
        if not resident == listed == self.nr_resident:
            raise InvariantError(f"mq: nr_resident {self.nr_resident}, but {resident} states and {listed} listed")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Mq Self
include "replay.pxi"
