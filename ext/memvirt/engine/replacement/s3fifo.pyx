"""S3-FIFO: a small queue filters what is used once, a main queue keeps the rest, ghosts tell who was filtered wrongly.

    new -> small --referenced twice--> main (a queue with reinsertion, up to three rounds) -> out
             |                          ^
             +--> out, its key a ghost -+ comes back while a ghost

10 % of the capacity is the small queue, 90 % the main one, and there are as many ghosts as pages in main. The victim
is the oldest of small, unless small is within its share; pages of small that were referenced twice move on to main,
pages of main that were referenced go around again and lose one of their at most three counts. Yang, Zhang et al.,
SOSP 2023.

variant="libcachesim" (default) is what that package does, variant="paper" is the paper's algorithm 1. They differ in
three points:
- Until the first eviction, libcachesim puts new pages that find small full into main, so that they are not all
  judged at once when the first eviction comes. The paper puts all new pages into small.
- When a move from small fills main beyond its share, the paper takes the victim from main; libcachesim goes on in
  small until it has a victim there or small is empty.
- libcachesim admits a page only if it is smaller than the small queue, which with pages of one unit is nothing at all
  below a capacity of 20 (below 10 it ends the process). replay() counts that: every request is a miss. A Host cannot
  refuse a page, so through the passive interface the small queue is at least one page.

9.5 bytes per id, 5 per key, 4.25 per ghost.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .ghosts cimport ghosts_add, ghosts_check, ghosts_make, ghosts_recall
from .lists cimport (
    Queue, REPLAY_AHEAD, queue_check, queue_make, queue_oldest, queue_push, queue_remove, queue_rename,
    queue_rotate, state_rename,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    SMALL = 1
    MAIN = 2
    SHIFT = 2
    ONE = 4                         # one reference
    MOST = 12                       # references counted: three
    PROMOTED = 8                    # two references in small lead to main


@cython.final
cdef class S3Fifo(Order):
    """Order `s3fifo`. variant: "libcachesim" or "paper"."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, variant):
        self._paper = variant == "paper"
        self._small_size = max(1, self.capacity // 10)
        self._main_size = self.capacity - self.capacity // 10
        self._victim = self._expected = NONE
        self._where = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._ghost_where = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        self._ghost_tags = <uint8_t *>calloc(<size_t>self.keys + 1, 1)
        made = queue_make(&self._small, self._where, self.most, False)
        made &= queue_make(&self._main, self._where, self.most, False)
        made &= ghosts_make(
            &self._ghosts, 1, self._ghost_tags, self._ghost_where, self.keys, <uint64_t>self.capacity * 9 // 10)
        if self._state == NULL or not made:
            raise MemoryError(f"s3fifo: no memory for {self.ids} ids and {self.keys} keys")

    def __dealloc__(self):
        free(self._small.slots)
        free(self._main.slots)
        free(self._ghost_where)
        free(self._ghost_tags)
        free(self._ghosts.queue.slots)
        free(self._where)
        free(self._state)

    def metadata_bytes(self):
        return (self.ids + self.keys + <uint64_t>1) * 5 + (
            <uint64_t>self._small.size + self._main.size + self._ghosts.queue.size) * 4

    cdef Queue *_queue_of(self, uint32_t id) noexcept nogil:
        return &self._small if self._state[id] & SMALL else &self._main

    cdef int expect(self, uint32_t key) except -1 nogil:
        self._recalled = ghosts_recall(&self._ghosts, key)
        self._expected = key
        return 0

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef bint to_main
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key != self._expected:
            self.expect(key)
        to_main = self._recalled
        if not self._paper and not self._has_evicted and self._small.live >= self._small_size:
            to_main = True
        self._state[id] = MAIN if to_main else SMALL
        queue_push(self._queue_of(id), id)
        self._expected = NONE
        self._recalled = False
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        if self._state[id] < MOST:
            self._state[id] += ONE
        return 0

    cdef uint32_t _sweep_small(self) noexcept nogil:
        """Move referenced pages on to main until one is left to go; NONE: small is empty, or it is main's turn."""
        cdef uint32_t id
        while self._small.live:
            id = queue_oldest(&self._small)
            if self._state[id] < PROMOTED:
                return id
            queue_remove(&self._small, id)
            queue_push(&self._main, id)
            self._state[id] = MAIN
            if self._paper and self._main.live > self._main_size:
                return NONE
        return NONE

    cdef uint32_t _sweep_main(self) noexcept nogil:
        """Send referenced pages around until one is left to go: at most three rounds. NONE: main is empty."""
        cdef uint32_t id
        while self._main.live:
            id = queue_oldest(&self._main)
            if self._state[id] < ONE:
                return id
            self._state[id] -= ONE
            queue_rotate(&self._main)
        return NONE

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        cdef uint8_t state
        if self._victim != NONE:
            state = self._state[self._victim]
            if state < (PROMOTED if state & SMALL else ONE):
                return self._victim
        self._victim = NONE
        if self._main.live <= self._main_size:
            self._victim = self._sweep_small()
        if self._victim == NONE:
            self._victim = self._sweep_main()
        if self._victim == NONE:
            self._victim = self._sweep_small()
        return self._victim

    cdef int spare(self, uint32_t id) except -1 nogil:
        """To the new end of its queue, its references forgotten."""
        cdef Queue *queue
        assert self.holds(id)
        queue = self._queue_of(id)
        self._state[id] &= SMALL | MAIN
        queue_remove(queue, id)
        queue_push(queue, id)
        self._victim = NONE
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        if self._state[id] & SMALL:
            ghosts_add(&self._ghosts, key)
        self._has_evicted = True
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        queue_remove(self._queue_of(id), id)
        self._state[id] = 0
        if self._victim == id:
            self._victim = NONE
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        ghosts_recall(&self._ghosts, key)
        if key == self._expected:
            self._expected = NONE
            self._recalled = False
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        queue_rename(self._queue_of(id), id, new)
        state_rename(self._state, id, new)
        if self._victim == id:
            self._victim = new
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._state[id])
        prefetch_write(&self._where[id])

    cpdef object check(self):
        """Compare both queues, the ghosts and the counters with the states. Raises InvariantError."""
        cdef uint32_t id
        for id in range(self.ids):
            if self._state[id] and self._state[id] & (SMALL | MAIN) not in (SMALL, MAIN):
                raise InvariantError(f"s3fifo: id {id} has state {self._state[id]}")
        queue_check("s3fifo small", &self._small, self._state, self.ids, SMALL)
        queue_check("s3fifo main", &self._main, self._state, self.ids, MAIN)
        ghosts_check("s3fifo", &self._ghosts)
        if self._small.live + self._main.live != self.nr_resident:
            raise InvariantError(f"s3fifo: nr_resident {self.nr_resident}, queued {self._small.live}+{self._main.live}")
        if self._victim != NONE and not self._state[self._victim]:
            raise InvariantError(f"s3fifo: the victim {self._victim} is not resident")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        if not self._paper and self._small_size < 2:
            return n
        return replay_loop(self, pages, n)


ctypedef S3Fifo Self
include "replay.pxi"
