"""LIRS: pages whose last two references lay close together are kept, whatever happened since; the others pass through.

The distance of a page's last two references, in other pages referenced between them, is its inter-reference recency.
Pages with a low one (LIR) have nearly all of the memory, pages with a high one (HIR) a small rest of it. Two lists say
which is which, without a number for anything:

    S  a stack by recency: all LIR pages, and HIR pages, also ghosts of some that left, as long as they were referenced
       more recently than the oldest LIR page, which is always at its bottom
    Q  the HIR pages that are in memory; the oldest goes next

    new             -> top of S; LIR while there are too few of those, else HIR, to the new end of Q
    LIR, referenced -> top of S; were it at the bottom, everything above it up to the next LIR leaves S (pruning)
    HIR in S, referenced, or its ghost comes back: closer together than those of the oldest LIR page, so they change
                       roles: it becomes LIR, that one HIR, to the new end of Q
    HIR not in S, referenced -> top of S, and the new end of Q

Jiang and Zhang, SIGMETRICS 2002. HIR pages have hir_percent=1 % of the memory, as there, and at least one page.

Beyond the paper: S has at most twice the capacity of entries, as in libcachesim, and forgets first who left first. And
where memory turns out smaller than `capacity` (a host keeps some of it free), the LIR pages are fewer: each eviction
shows how many residents there can be.

libcachesim's LIRS is not compared with. Its hit on a HIR page outside S demotes a LIR page, as the paper does not, and
where HIR pages have room for one page only, that hit loses count of the page: it then holds more pages than it has room
for, and beats the optimum (tests/test_simulation.py has such a trace).

17 bytes per id, 13 per key, 4.25 per ghost.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .ghosts cimport ghosts_add, ghosts_check, ghosts_hold, ghosts_make, ghosts_remove
from .lists cimport (
    Link, REPLAY_AHEAD, links_check, links_make, links_oldest, links_push, links_remove, links_rename,
    links_renew, queue_oldest,
)
from .order cimport LAST_ID, Order

from memvirt.errors import ConfigError, InvariantError

cdef enum:
    RESIDENT = 1
    LIR = 2
    STACK_FACTOR = 2                    # entries of S for each page of the capacity


@cython.final
cdef class Lirs(Order):
    """Order `lirs`. hir_percent: share of the capacity for HIR pages."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, hir_percent):
        cdef uint64_t nodes = <uint64_t>self.ids + self.keys
        if nodes > <uint32_t>LAST_ID:
            raise ConfigError(f"lirs: ids={self.ids} and keys={self.keys} are together more than {<uint32_t>LAST_ID}")
        self._high_size = <uint32_t>max(1, self.capacity * <uint64_t>hir_percent // 100)
        self._low_size = self._low_limit = self.capacity - self._high_size
        self._top = <uint32_t>nodes
        self._stack = links_make(self._top, 1)
        self._queue = links_make(self.ids, 1)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._ghost_where = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        self._ghost_tags = <uint8_t *>calloc(<size_t>self.keys + 1, 1)
        made = ghosts_make(&self._ghosts, 1, self._ghost_tags, self._ghost_where, self.keys,
                           <uint64_t>self.capacity * STACK_FACTOR)
        if self._stack == NULL or self._queue == NULL or self._state == NULL or not made:
            raise MemoryError(f"lirs: no memory for {self.ids} ids and {self.keys} keys")

    def __dealloc__(self):
        free(self._stack)
        free(self._queue)
        free(self._state)
        free(self._ghost_where)
        free(self._ghost_tags)
        free(self._ghosts.queue.slots)

    def metadata_bytes(self):
        return ((<uint64_t>self._top + self.ids + 2) * sizeof(Link) + self.ids + (self.keys + <uint64_t>1) * 5
                + self._ghosts.queue.size * <uint64_t>4)

    cdef bint _is_low(self, uint32_t node) noexcept nogil:
        return node < self.ids and self._state[node] & LIR != 0

    cdef void _raise_to_top(self, uint32_t id) noexcept nogil:
        if self._stack[id].prev != NONE:
            links_renew(self._stack, self._top, id)
        else:
            links_push(self._stack, self._top, id)
            self._nr_stack += 1

    cdef void _out_of_stack(self, uint32_t node) noexcept nogil:
        if self._stack[node].prev != NONE:
            links_remove(self._stack, node)
            self._nr_stack -= 1

    cdef void _drop_ghost(self, uint32_t key) noexcept nogil:
        ghosts_remove(&self._ghosts, key)
        self._out_of_stack(self.ids + key)

    cdef void _prune(self) noexcept nogil:
        """Nothing in S is older than its oldest LIR page."""
        cdef uint32_t node
        while True:
            node = links_oldest(self._stack, self._top)
            if node == NONE or self._is_low(node):
                return
            if node < self.ids:
                self._out_of_stack(node)
            else:
                self._drop_ghost(node - self.ids)

    cdef void _demote(self) noexcept nogil:
        """The oldest LIR page, at the bottom of S, becomes HIR."""
        cdef uint32_t id = links_oldest(self._stack, self._top)
        self._out_of_stack(id)
        self._state[id] = RESIDENT
        self._nr_low -= 1
        links_push(self._queue, self.ids, id)
        self._prune()

    cdef void _promote(self, uint32_t id) noexcept nogil:
        """A HIR page becomes LIR, and those the oldest HIR that are too many then."""
        links_remove(self._queue, id)
        self._raise_to_top(id)
        self._state[id] = RESIDENT | LIR
        self._nr_low += 1
        while self._nr_low > self._low_limit:
            self._demote()

    cdef void _limit_stack(self) noexcept nogil:
        while self._nr_stack > <uint64_t>self.capacity * STACK_FACTOR and self._ghosts.queue.live:
            self._drop_ghost(queue_oldest(&self._ghosts.queue))

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef bint recalled = ghosts_hold(&self._ghosts, key)
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if recalled:
            self._drop_ghost(key)
        self._state[id] = RESIDENT
        links_push(self._queue, self.ids, id)
        if recalled or self._nr_low < self._low_limit:
            self._promote(id)
        else:
            self._raise_to_top(id)
        self._prune()
        self._limit_stack()
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        if self._state[id] & LIR:
            self._raise_to_top(id)
        elif self._stack[id].prev != NONE:
            self._promote(id)
        else:
            self._raise_to_top(id)
            links_renew(self._queue, self.ids, id)
        self._prune()
        self._limit_stack()
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        if self._nr_low and links_oldest(self._queue, self.ids) == NONE:
            self._demote()
        return links_oldest(self._queue, self.ids)

    cdef int spare(self, uint32_t id) except -1 nogil:
        """A HIR page becomes LIR: alone in Q, it would be next again."""
        assert self.holds(id)
        if self._state[id] & LIR:
            return self.touch(id)
        self._promote(id)
        self._prune()
        self._limit_stack()
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        """A page that is in S leaves a ghost in its place there."""
        cdef uint32_t resident = self.nr_resident
        assert self.holds(id)
        if self._stack[id].prev != NONE and key < self.keys and not ghosts_hold(&self._ghosts, key):
            if self._ghosts.queue.live >= self._ghosts.limit:
                self._drop_ghost(queue_oldest(&self._ghosts.queue))
            ghosts_add(&self._ghosts, key)
            links_rename(self._stack, id, self.ids + key)
        self._leave(id)
        self._low_limit = min(self._low_size, resident - min(resident, self._high_size))
        while self._nr_low > self._low_limit:
            self._demote()
        return 0

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._leave(id)
        return 0

    cdef void _leave(self, uint32_t id) noexcept nogil:
        self._out_of_stack(id)
        if self._state[id] & LIR:
            self._nr_low -= 1
        else:
            links_remove(self._queue, id)
        self._state[id] = 0
        self.nr_resident -= 1
        self._prune()

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if ghosts_hold(&self._ghosts, key):
            self._drop_ghost(key)
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        if self._stack[id].prev != NONE:
            links_rename(self._stack, id, new)
        if not self._state[id] & LIR:
            links_rename(self._queue, id, new)
        self._state[new] = self._state[id]
        self._state[id] = 0
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._state[id] != 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._state[id])
        prefetch_write(&self._stack[id])

    cpdef object check(self):
        """Compare both lists, the ghosts and the counters with the states. Raises InvariantError."""
        cdef uint32_t id, key, low = 0, high = 0, stacked = 0
        for id in range(self.ids):
            low += self._state[id] & LIR != 0
            high += self._state[id] == RESIDENT
            stacked += self._stack[id].prev != NONE
            if (self._queue[id].prev != NONE) != (self._state[id] == RESIDENT):
                raise InvariantError(f"lirs: id {id} has state {self._state[id]}, Q says otherwise")
            if (self._stack[id].prev == NONE and self._state[id] & LIR
                    or self._stack[id].prev != NONE and not self._state[id]):
                raise InvariantError(f"lirs: id {id} has state {self._state[id]}, S says otherwise")
        for key in range(self.keys):
            stacked += self._stack[self.ids + key].prev != NONE
            if (self._stack[self.ids + key].prev != NONE) != ghosts_hold(&self._ghosts, key):
                raise InvariantError(f"lirs: key {key} is in S or a ghost, and not the other")
        ghosts_check("lirs", &self._ghosts)
        listed = links_check("lirs S", self._stack, self._top, self._top)
        queued = links_check("lirs Q", self._queue, self.ids, self.ids)
        if not stacked == listed == self._nr_stack or queued != high:
            raise InvariantError(f"lirs: S counts {self._nr_stack}, {stacked} nodes are in it and {listed} listed; "
                                 f"Q lists {queued} of {high}")
        if low != self._nr_low or low + high != self.nr_resident or low > self._low_limit:
            raise InvariantError(f"lirs: {low} LIR pages, counted {self._nr_low}, at most {self._low_limit}; with "
                                 f"{high} HIR pages {self.nr_resident} resident")
        if listed and not self._is_low(links_oldest(self._stack, self._top)):
            raise InvariantError("lirs: the bottom of S is no LIR page")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Lirs Self
include "replay.pxi"
