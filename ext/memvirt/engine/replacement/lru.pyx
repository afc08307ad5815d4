"""LRU: the page whose last reference is longest ago goes first.

A doubly linked list in order of the last touch. In a Host it is *sampled*: touches arrive when accessed marks are
harvested, so pages of one interval are ordered by the harvest, not by their references. In simulate it is exact.

8 bytes per id.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from ..prefetch cimport prefetch_write
from ..types cimport NONE, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, links_check, links_make, links_oldest, links_push, links_remove, links_rename,
    links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError


@cython.final
cdef class Lru(Order):
    """Order `lru`."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        self._links = links_make(self.ids, 1)
        if self._links == NULL:
            raise MemoryError(f"lru: no memory for {self.ids} ids")

    def __dealloc__(self):
        free(self._links)

    def metadata_bytes(self):
        return (self.ids + <uint64_t>1) * sizeof(Link)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        assert id < self.ids and not self.holds(id) and self.nr_resident < self.most
        links_push(self._links, self.ids, id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        links_renew(self._links, self.ids, id)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        return links_oldest(self._links, self.ids)

    cdef int spare(self, uint32_t id) except -1 nogil:
        return self.touch(id)

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        links_remove(self._links, id)
        self.nr_resident -= 1
        return 0

    cdef int rename(self, uint32_t id, uint32_t new) except -1 nogil:
        assert self.holds(id) and not self.holds(new)
        links_rename(self._links, id, new)
        return 0

    cdef bint holds(self, uint32_t id) noexcept nogil:
        return self._links[id].prev != NONE

    cdef int copy_from(self, Order other) except -1:
        """A round moves every page once and so changes nothing."""
        memcpy(self._links, (<Lru>other)._links, (<size_t>self.ids + 1) * sizeof(Link))
        self.nr_resident = other.nr_resident
        return 0

    cdef void prefetch(self, uint32_t id) noexcept nogil:
        prefetch_write(&self._links[id])

    cpdef object check(self):
        """Walk the list and compare it with the counter and the nodes. Raises InvariantError."""
        cdef uint32_t id, found = 0
        for id in range(self.ids):
            found += self.holds(id)
        listed = links_check("lru", self._links, self.ids, self.ids)
        if not found == listed == self.nr_resident:
            raise InvariantError(f"lru: nr_resident {self.nr_resident}, but {found} nodes linked and {listed} listed")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Lru Self
include "replay.pxi"
