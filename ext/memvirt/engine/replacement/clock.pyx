"""Clock: first in, first out, but a page referenced since the hand last passed gets another round.

Corbato's clock turns a hand around a circle of frames. Advancing the hand past a referenced page equals moving that
page to the tail of a queue. A page that replaces the one the hand just took is the newest. So the circle is a queue
with reinsertion, here a ring of slots that the sweep walks in memory order. The mark is one bit, set by a touch and not
by the insertion itself.

9.25 bytes per id: one of state, 8.25 of queue (8 in a bounded order, whose ring is the circle itself). Equal to
libcachesim's Clock with its default of one bit.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcpy

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .lists cimport (
    HEAD_AHEAD, prefetch_write, REPLAY_AHEAD, queue_check, queue_copy, queue_drop_hole, queue_make, queue_oldest,
    queue_push, queue_remove, queue_rename, queue_rotate, state_rename,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    RESIDENT = 1
    REFERENCED = 2


@cython.final
cdef class Clock(Order):
    """Order `clock`."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._where = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        made = queue_make(&self._queue, self._where, self.most, bounded)
        if self._state == NULL or not made:
            raise MemoryError(f"clock: no memory for {self.ids} ids")

    def __dealloc__(self):
        free(self._state)
        free(self._where)
        free(self._queue.slots)

    def metadata_bytes(self):
        return self.ids * <uint64_t>5 + self._queue.size * <uint64_t>4

    cdef int expect(self, uint32_t key) except -1 nogil:
        return 0                                # as the base's; only a method of this class is inlined into replay's loop

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        self._state[id] = RESIDENT
        queue_push(&self._queue, id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] = RESIDENT | REFERENCED
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        cdef Queue *queue = &self._queue
        cdef uint32_t *slots = queue.slots
        cdef uint8_t *state = self._state
        cdef uint32_t id
        while queue.live:                       # ends: each turn clears a mark or drops a hole
            id = slots[queue.head]
            prefetch_write(state + slots[queue.head + HEAD_AHEAD])
            if id == NONE:
                queue_drop_hole(queue)
            elif state[id] & REFERENCED:
                state[id] = RESIDENT
                queue_rotate(queue)
            else:
                return id
        return NONE

    cdef int spare(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] = RESIDENT
        queue_remove(&self._queue, id)
        queue_push(&self._queue, id)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] = 0
        queue_remove(&self._queue, id)
        self.nr_resident -= 1
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        queue_rename(&self._queue, id, new)
        state_rename(self._state, id, new)
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef int copy_from(self, Order other) except -1:
        """The round takes those without a mark, in the order of the queue, then those with one."""
        cdef Clock clock = <Clock>other
        cdef uint32_t i, _turn, id, last = clock.nr_resident, nr_resident = clock.nr_resident
        if memchr(clock._state, RESIDENT | REFERENCED, clock.ids) == NULL:     # nobody has one: the round changes nothing
            memcpy(self._state, clock._state, clock.ids)
            memcpy(self._where, clock._where, clock.ids * sizeof(uint32_t))
            queue_copy(&self._queue, &clock._queue)
            self.nr_resident = nr_resident
            return 0
        for i in range(nr_resident):
            id = queue_oldest(&clock._queue)
            queue_rotate(&clock._queue)
            if clock._state[id] & REFERENCED:
                last = i
            else:
                self.insert(id, NONE)
        for _turn in range(last + 1):           # the round ends with the last of them
            id = queue_oldest(&clock._queue)
            queue_rotate(&clock._queue)
            if clock._state[id] & REFERENCED:
                clock._state[id] = RESIDENT
                self.insert(id, NONE)
        return 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._state[id])

    cpdef object check(self):
        """Recount residents from the states and compare with the queue. Raises InvariantError."""
        cdef uint32_t id, found = 0
        for id in range(self.ids):
            found += self._state[id] != 0
            if self._state[id] & ~(RESIDENT | REFERENCED) or self._state[id] == REFERENCED:
                raise InvariantError(f"clock: id {id} has state {self._state[id]}")
        if found != self.nr_resident:
            raise InvariantError(f"clock: nr_resident is {self.nr_resident}, the states say {found}")
        queue_check("clock", &self._queue, self._state, self.ids, RESIDENT)

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Clock Self
include "replay.pxi"
