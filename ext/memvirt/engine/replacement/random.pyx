"""Random: every resident is equally likely to go, as in ESX's host swapping (Waldspurger, OSDI 2002).

A host that pages behind its guests' backs knows less than they do; a random victim cannot collude with a guest's own
replacement into paging out exactly what the guest is about to page out itself. Draws come from splitmix64 with a
given seed, in integers, so the same calls give the same victims on any machine.

8 bytes per id.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport free, malloc

from ..splitmix cimport draw
from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint32_t, uint64_t
from .lists cimport REPLAY_AHEAD
from .order cimport Order

from memvirt.errors import ConfigError, InvariantError


@cython.final
cdef class Random(Order):
    """Order `random`. seed: an int in 0 .. 2**64 - 1 that fixes all draws."""

    draws = True

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, seed=0):
        cdef uint32_t id
        if not isinstance(seed, int) or not 0 <= seed <= 0xFFFFFFFFFFFFFFFF:
            raise ConfigError(f"random: seed={seed!r} must be an int in 0 .. 2**64 - 1")
        self._residents = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        self._where = <uint32_t *>malloc(self.ids * sizeof(uint32_t))
        if self._residents == NULL or self._where == NULL:
            raise MemoryError(f"random: no memory for {self.ids} ids")
        for id in range(self.ids):
            self._where[id] = NONE
        self._chosen = NONE
        self._seed = seed

    def __dealloc__(self):
        free(self._residents)
        free(self._where)

    def metadata_bytes(self):
        return self.ids * <uint64_t>8

    cdef uint32_t _draw(self, uint32_t n) noexcept nogil:
        """A number in 0 .. n - 1: the high half of a product."""
        return <uint32_t>(((draw(&self._seed) >> 32) * n) >> 32)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self.holds(id) and self.nr_resident < self.most
        self._residents[self.nr_resident] = id
        self._where[id] = self.nr_resident
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        if self.nr_resident == 0:
            return NONE
        if self._chosen == NONE:
            self._chosen = self._draw(self.nr_resident)
        return self._residents[self._chosen]

    cdef int spare(self, uint32_t id) except -1 nogil:
        """The next draw is among the others."""
        cdef uint32_t place
        assert self.holds(id)
        place = self._where[id]
        if self.nr_resident > 1:
            self._chosen = self._draw(self.nr_resident - 1)
            self._chosen += self._chosen >= place
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        cdef uint32_t place, last
        assert self.holds(id)
        self.nr_resident -= 1
        place = self._where[id]
        last = self._residents[self.nr_resident]
        self._residents[place] = last
        self._where[last] = place
        self._where[id] = NONE
        if self._chosen == place:
            self._chosen = NONE
        elif self._chosen == self.nr_resident:
            self._chosen = place
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        self._residents[self._where[id]] = new
        self._where[new] = self._where[id]
        self._where[id] = NONE
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._where[id] != NONE

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._where[id])

    cpdef object check(self):
        """Compare both arrays and the choice with the counter. Raises InvariantError."""
        cdef uint32_t id, found = 0
        for id in range(self.ids):
            if self._where[id] == NONE:
                continue
            found += 1
            if self._where[id] >= self.nr_resident or self._residents[self._where[id]] != id:
                raise InvariantError(f"random: id {id} is not at its place {self._where[id]}")
        if found != self.nr_resident:
            raise InvariantError(f"random: nr_resident is {self.nr_resident}, {found} ids have a place")
        if self._chosen != NONE and self._chosen >= self.nr_resident:
            raise InvariantError(f"random: the choice {self._chosen} is not below {self.nr_resident}")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Random Self
include "replay.pxi"
