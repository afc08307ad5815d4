"""CLOCK-Pro: LIRS by marks and hands, and with a share of cold pages that finds itself.

All pages stand in one list by their last turn: hot pages, cold pages, and ghosts of cold pages that left during their
test. A reference sets a mark, nothing else. Three hands go from the old end towards the new one:

    cold hand  at the oldest resident cold page. No mark: it goes, and leaves a ghost in its place if it is in test.
               A mark and in test: it becomes hot. A mark and not in test: a new test begins. Both go to the new end.
    hot hand   at the oldest hot page, while there are too many. A mark: it goes around once more. No mark: it becomes
               cold and goes to the new end. On its way to the next hot page it ends the test of whom it passes.
    test hand  ends the oldest tests while there are more ghosts than memory has pages.

A new page is cold, in test; until the first eviction it is hot while there is room for hot pages. A page whose ghost is
still in the list when room has been made for it comes back hot. A test that ends removes a ghost.

The target for cold pages: a page referenced in its test shows that its kind deserves memory, one page more; a test that
ends without a reference one less, within 1 .. capacity. The rest of memory is for hot pages. Jiang, Chen and Zhang,
USENIX Annual Technical Conference 2005.

Where the paper leaves things open, this is what the program of its first author does: hot pages first while memory
fills, and demoted pages to the new end without a test. cold_percent=1 is where the target begins, LIRS's share. A
resident page that was referenced in its test and not looked at yet lowers nothing when its test ends.

Where memory turns out smaller than `capacity` (a host keeps some of it free), the hot pages are fewer: each eviction
shows how many residents there can be.

libcachesim's ClockPro (0.3.5) is not compared with: while cold pages fill their target, it admits no page, and one that
is requested again and again is a miss each time (tests/test_simulation.py). 9 bytes per id, 8 per key.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free

from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_prefetch, links_check, links_make, links_push, links_remove, links_rename,
)
from .order cimport LAST_ID, Order

from memvirt.errors import ConfigError, InvariantError

cdef enum:
    RESIDENT = 1
    HOT = 2
    TEST = 4                            # a cold page whose test goes on; ghosts always are in test
    REFERENCED = 8


@cython.final
cdef class ClockPro(Order):
    """Order `clock-pro`. cold_percent: share of the capacity for cold pages, to begin with. cold_target can be read."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, cold_percent):
        cdef uint64_t nodes = <uint64_t>self.ids + self.keys
        if nodes > <uint32_t>LAST_ID:
            raise ConfigError(f"clock-pro: ids={self.ids} and keys={self.keys} are together more than {<uint32_t>LAST_ID}")
        self._head = self._hot_hand = self._cold_hand = self._test_hand = <uint32_t>nodes
        self._size = self.capacity
        self.cold_target = <uint32_t>max(1, self.capacity * <uint64_t>cold_percent // 100)
        self._links = links_make(self._head, 1)
        self._state = <uint8_t *>calloc(self.ids, 1)
        if self._links == NULL or self._state == NULL:
            raise MemoryError(f"clock-pro: no memory for {self.ids} ids and {self.keys} keys")

    def __dealloc__(self):
        free(self._links)
        free(self._state)

    def metadata_bytes(self):
        return (self._head + <uint64_t>1) * sizeof(Link) + self.ids

    cdef bint _is_hot(self, uint32_t node) noexcept nogil:
        return node < self.ids and self._state[node] & HOT != 0

    cdef bint _in_test(self, uint32_t node) noexcept nogil:
        return node >= self.ids or self._state[node] & TEST != 0

    cdef void _push(self, uint32_t node) noexcept nogil:
        """To the new end; a hand that had passed everybody stands there."""
        links_push(self._links, self._head, node)
        if self._hot_hand == self._head:
            self._hot_hand = node
        if self._cold_hand == self._head:
            self._cold_hand = node
        if self._test_hand == self._head:
            self._test_hand = node

    cdef void _cut(self, uint32_t node) noexcept nogil:
        """Out of the list; hands that stand there go on."""
        cdef uint32_t newer = self._links[node].prev
        if self._hot_hand == node:
            self._hot_hand = newer
        if self._cold_hand == node:
            self._cold_hand = newer
        if self._test_hand == node:
            self._test_hand = newer
        links_remove(self._links, node)

    cdef void _take_place(self, uint32_t node, uint32_t new) noexcept nogil:
        """New, which is in no list, stands where node stands."""
        if self._hot_hand == node:
            self._hot_hand = new
        if self._cold_hand == node:
            self._cold_hand = new
        if self._test_hand == node:
            self._test_hand = new
        links_rename(self._links, node, new)

    cdef void _drop_ghost(self, uint32_t node) noexcept nogil:
        self._cut(node)
        self._nr_ghosts -= 1

    cdef void _end_test(self, uint32_t node) noexcept nogil:
        """A test is over: without a reference, there are too many cold pages."""
        if node >= self.ids or not self._state[node] & REFERENCED:
            self.cold_target = max(1, self.cold_target - 1)
        if node >= self.ids:
            self._drop_ghost(node)
        else:
            self._state[node] &= ~TEST

    cdef void _to_next_hot(self) noexcept nogil:
        """The hot hand stands at the oldest hot page, if there is one, and nobody older is in test."""
        cdef uint32_t node
        while self._nr_hot and not self._is_hot(self._hot_hand):
            node = self._hot_hand
            self._hot_hand = self._links[node].prev
            if self._in_test(node):
                self._end_test(node)

    cdef void _run_hot(self, bint force) noexcept nogil:
        """Demote hot pages while there are too many; force: one in any case."""
        cdef uint32_t id
        while self._nr_hot and (force or self._nr_hot + <uint64_t>self.cold_target > self._size):
            self._to_next_hot()
            id = self._hot_hand
            self._cut(id)
            if self._state[id] & REFERENCED:
                self._state[id] = RESIDENT | HOT
            else:
                self._state[id] = RESIDENT
                self._nr_hot -= 1
                force = False
            self._push(id)
        self._to_next_hot()

    cdef void _heat(self, uint32_t id) noexcept nogil:
        """Id, which is in no list, is hot from now on."""
        self._state[id] = RESIDENT | HOT
        self._nr_hot += 1
        self._push(id)

    cdef void _limit_ghosts(self) noexcept nogil:
        cdef uint32_t node
        while self._nr_ghosts > self.capacity:
            node = self._test_hand
            self._test_hand = self._links[node].prev
            if self._in_test(node):
                self._end_test(node)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef uint32_t ghost = self.ids + key if key < self.keys else self._head
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if ghost != self._head and self._links[ghost].prev != NONE:
            self._drop_ghost(ghost)
            self.cold_target = min(self.cold_target + 1, self.capacity)
            self._heat(id)
            self._run_hot(False)
        elif not self._full and self._nr_hot + <uint64_t>self.cold_target < self._size:
            self._heat(id)
        else:
            self._state[id] = RESIDENT | TEST
            self._push(id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] |= REFERENCED
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        """Ends: every turn clears a mark or makes one hot page cold that has none."""
        cdef uint32_t id
        while self.nr_resident:
            if self._nr_hot == self.nr_resident:
                self._run_hot(True)
                continue
            id = self._cold_hand
            while id >= self.ids or self._state[id] & HOT:
                id = self._links[id].prev
            self._cold_hand = id
            if not self._state[id] & REFERENCED:
                return id
            self._cut(id)
            if self._state[id] & TEST:
                self.cold_target = min(self.cold_target + 1, self.capacity)
                self._heat(id)
                self._run_hot(False)
            else:
                self._state[id] = RESIDENT | TEST
                self._push(id)
        return NONE

    cdef int spare(self, uint32_t id) except -1 nogil:
        """A hot page goes around; a cold one becomes hot, for another to become cold: alone, it would be next again."""
        cdef bint was_hot
        assert self.holds(id)
        was_hot = self._is_hot(id)
        self._nr_hot -= was_hot
        self._cut(id)
        self._heat(id)
        if not was_hot:
            self._run_hot(True)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef uint32_t ghost = self.ids + key if key < self.keys else self._head
        assert self.holds(id)
        self._full = True
        self._size = min(self.capacity, self.nr_resident)
        if self._state[id] & TEST and ghost != self._head and self._links[ghost].prev == NONE:
            self._take_place(id, ghost)
            self._nr_ghosts += 1
            self._state[id] = 0
            self.nr_resident -= 1
            self._limit_ghosts()
        else:
            self._leave(id)
        return 0

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._leave(id)
        return 0

    cdef void _leave(self, uint32_t id) noexcept nogil:
        self._nr_hot -= self._is_hot(id)
        self._cut(id)
        self._state[id] = 0
        self.nr_resident -= 1

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if key < self.keys and self._links[self.ids + key].prev != NONE:
            self._drop_ghost(self.ids + key)
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        self._take_place(id, new)
        self._state[new] = self._state[id]
        self._state[id] = 0
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        linked_prefetch(self._links, self._state, id)

    cpdef object check(self):
        """Compare the list, the hands and the counters with the states. Raises InvariantError."""
        cdef uint32_t id, key, node, hot = 0, cold = 0, ghosts = 0
        cdef bint past_hot = False, past_cold = False, past_test = False
        for id in range(self.ids):
            if (self._links[id].prev != NONE) != (self._state[id] != 0) or self._state[id] & HOT and self._state[id] & TEST:
                raise InvariantError(f"clock-pro: id {id} has state {self._state[id]} and prev {self._links[id].prev}")
            hot += self._is_hot(id)
            cold += self._state[id] & RESIDENT and not self._is_hot(id)
        for key in range(self.keys):
            ghosts += self._links[self.ids + key].prev != NONE
        listed = links_check("clock-pro", self._links, self._head, self._head)
        if listed != hot + cold + ghosts or hot + cold != self.nr_resident:
            raise InvariantError(f"clock-pro: {listed} listed, {hot} hot, {cold} cold and {ghosts} ghosts, nr_resident "
                                 f"{self.nr_resident}")
        if (hot, ghosts) != (self._nr_hot, self._nr_ghosts) or ghosts > self.capacity:
            raise InvariantError(f"clock-pro: counts {self._nr_hot} hot pages and {self._nr_ghosts} ghosts, of {hot} and "
                                 f"{ghosts}; at most {self.capacity} ghosts")
        if not 1 <= self.cold_target <= self.capacity:
            raise InvariantError(f"clock-pro: cold_target {self.cold_target} is not in 1 .. {self.capacity}")
        node = self._links[self._head].prev
        while node != self._head:
            past_hot |= node == self._hot_hand
            past_cold |= node == self._cold_hand
            past_test |= node == self._test_hand
            if (not past_hot and self._is_hot(node) or not past_test and self._in_test(node)
                    or not past_cold and node < self.ids and not self._is_hot(node)):
                raise InvariantError(f"clock-pro: a hand has passed node {node}, which is of those it looks for")
            node = self._links[node].prev

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef ClockPro Self
include "replay.pxi"
