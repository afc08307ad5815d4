"""LFU: the page with the fewest references since it came in goes first, of equals the first to get that far.

Ids of one count form a first-in-first-out list, and the counts that occur form a sorted list of ranks, so every step
is O(1): a reference moves an id from its rank to the next, which is made if it is not there. Counts are forgotten at
eviction. Ties are first in, first out, as in libcachesim's LFU, whose miss counts these are; the many published LFUs
differ in just this.

12 bytes per id, and 24 per different count that occurs.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint32_t, uint64_t
from .lists cimport REPLAY_AHEAD
from .order cimport Order

from memvirt.errors import InvariantError


@cython.final
cdef class Lfu(Order):
    """Order `lfu`."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        cdef uint32_t id
        self._places = <Place *>malloc(self.ids * sizeof(Place))
        self._ranks = <Rank *>calloc(<size_t>self.most + 1, sizeof(Rank))
        if self._places == NULL or self._ranks == NULL:
            raise MemoryError(f"lfu: no memory for {self.ids} ids")
        for id in range(self.ids):
            self._places[id].rank = NONE
        self._lowest = self._free = NONE
        self._unused = 0

    def __dealloc__(self):
        free(self._places)
        free(self._ranks)

    def metadata_bytes(self):
        return self.ids * <uint64_t>sizeof(Place) + (self.most + <uint64_t>1) * sizeof(Rank)

    cdef uint32_t _rank_above(self, uint32_t below, uint64_t count) noexcept nogil:
        """The rank of count, made if needed; `below` is the nearest rank of a lower count, NONE if there is none."""
        cdef uint32_t above = self._lowest if below == NONE else self._ranks[below].higher
        cdef uint32_t rank
        if above != NONE and self._ranks[above].count == count:
            return above
        if self._free != NONE:
            rank = self._free
            self._free = self._ranks[rank].higher
        else:
            rank = self._unused
            self._unused += 1
        self._ranks[rank].count = count
        self._ranks[rank].newest = self._ranks[rank].oldest = NONE
        self._ranks[rank].lower = below
        self._ranks[rank].higher = above
        if above != NONE:
            self._ranks[above].lower = rank
        if below != NONE:
            self._ranks[below].higher = rank
        else:
            self._lowest = rank
        return rank

    cdef void _enter(self, uint32_t id, uint32_t rank) noexcept nogil:
        """Make id the newest of rank."""
        cdef uint32_t newest = self._ranks[rank].newest
        self._places[id].rank = rank
        self._places[id].newer = NONE
        self._places[id].older = newest
        if newest == NONE:
            self._ranks[rank].oldest = id
        else:
            self._places[newest].newer = id
        self._ranks[rank].newest = id

    cdef void _leave(self, uint32_t id) noexcept nogil:
        """Take id out of its rank, and the rank out of use if that was its last."""
        cdef uint32_t rank = self._places[id].rank, newer = self._places[id].newer, older = self._places[id].older
        cdef uint32_t higher = self._ranks[rank].higher, lower = self._ranks[rank].lower
        self._places[id].rank = NONE
        if newer == NONE:
            self._ranks[rank].newest = older
        else:
            self._places[newer].older = older
        if older == NONE:
            self._ranks[rank].oldest = newer
        else:
            self._places[older].newer = newer
        if self._ranks[rank].newest != NONE:
            return
        if lower == NONE:
            self._lowest = higher
        else:
            self._ranks[lower].higher = higher
        if higher != NONE:
            self._ranks[higher].lower = lower
        self._ranks[rank].higher = self._free
        self._free = rank

    cdef void _raise_to(self, uint32_t id, uint64_t count) noexcept nogil:
        """Id gets the count, which is above its own and at most that of the next rank, if there is one."""
        cdef uint32_t rank = self._places[id].rank, higher = self._ranks[rank].higher
        if self._ranks[rank].newest == self._ranks[rank].oldest and (
            higher == NONE or self._ranks[higher].count != count
        ):
            self._ranks[rank].count = count         # alone, and nobody has that count: the rank itself rises
            return
        rank = self._rank_above(rank, count)
        self._leave(id)
        self._enter(id, rank)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self.holds(id) and self.nr_resident < self.most
        self._enter(id, self._rank_above(NONE, 1))
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._raise_to(id, self._ranks[self._places[id].rank].count + 1)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        return NONE if self._lowest == NONE else self._ranks[self._lowest].oldest

    cdef int spare(self, uint32_t id) except -1 nogil:
        """As if referenced as often as the next more often referenced; those go round among themselves."""
        cdef uint32_t rank, higher
        assert self.holds(id)
        rank = self._places[id].rank
        higher = self._ranks[rank].higher
        if higher != NONE:
            self._raise_to(id, self._ranks[higher].count)
        elif self._ranks[rank].newest != id:
            self._leave(id)
            self._enter(id, rank)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._leave(id)
        self.nr_resident -= 1
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        cdef Place *place = &self._places[new]
        assert self.holds(id) and not self.holds(new)
        place[0] = self._places[id]
        self._places[id].rank = NONE
        if place.newer == NONE:
            self._ranks[place.rank].newest = new
        else:
            self._places[place.newer].older = new
        if place.older == NONE:
            self._ranks[place.rank].oldest = new
        else:
            self._places[place.older].newer = new
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._places[id].rank != NONE

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._places[id])

    cpdef object check(self):
        """Walk all ranks and their ids and compare with the counter. Raises InvariantError."""
        cdef uint32_t rank = self._lowest, lower = NONE, id, newer, found = 0, placed = 0
        while rank != NONE:
            if self._ranks[rank].lower != lower or rank >= self._unused:
                raise InvariantError(f"lfu: rank {rank} follows {lower}, which it does not name")
            if lower != NONE and self._ranks[lower].count >= self._ranks[rank].count:
                raise InvariantError(f"lfu: rank {rank} has no higher count than rank {lower}")
            id, newer = self._ranks[rank].newest, NONE
            if id == NONE:
                raise InvariantError(f"lfu: rank {rank} is empty")
            while id != NONE:
                if self._places[id].rank != rank or self._places[id].newer != newer or found >= self.nr_resident:
                    raise InvariantError(f"lfu: id {id} is in the list of rank {rank}, but not placed there")
                found += 1
                newer, id = id, self._places[id].older
            if self._ranks[rank].oldest != newer:
                raise InvariantError(f"lfu: rank {rank} ends with {newer}, but names {self._ranks[rank].oldest}")
            lower, rank = rank, self._ranks[rank].higher
        for id in range(self.ids):
            placed += self._places[id].rank != NONE
        if not found == placed == self.nr_resident:
            raise InvariantError(f"lfu: nr_resident {self.nr_resident}, but {found} listed and {placed} placed")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Lfu Self
include "replay.pxi"
