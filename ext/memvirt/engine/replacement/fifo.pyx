"""FIFO: first in, first out. References are ignored.

9.25 bytes per id: one of state, 8.25 of queue. Equal to libcachesim's FIFO.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport (
    REPLAY_AHEAD, queue_check, queue_make, queue_oldest, queue_push, queue_remove, queue_rename,
    state_rename,
)
from .order cimport Order

from memvirt.errors import InvariantError


@cython.final
cdef class Fifo(Order):
    """Order `fifo`."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._where = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        made = queue_make(&self._queue, self._where, self.most, bounded)
        if self._state == NULL or not made:
            raise MemoryError(f"fifo: no memory for {self.ids} ids")

    def __dealloc__(self):
        free(self._state)
        free(self._where)
        free(self._queue.slots)

    def metadata_bytes(self):
        return self.ids * <uint64_t>5 + self._queue.size * <uint64_t>4

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        self._state[id] = 1
        queue_push(&self._queue, id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        return queue_oldest(&self._queue)

    cdef int spare(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
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

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._state[id])
        prefetch_write(&self._where[id])

    cpdef object check(self):
        """Recount residents from the states and compare with the queue. Raises InvariantError."""
        cdef uint32_t id, found = 0
        for id in range(self.ids):
            found += self._state[id]
        if found != self.nr_resident:
            raise InvariantError(f"fifo: nr_resident is {self.nr_resident}, the states say {found}")
        queue_check("fifo", &self._queue, self._state, self.ids, 1)

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Fifo Self
include "replay.pxi"
