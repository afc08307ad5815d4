"""Segmented LRU: a page climbs one segment with each reference, and what a full segment has too many sinks one.

    new -> segment 0 --referenced--> segment 1 --referenced--> ... --> top, an LRU list
             |        <--too many---            <--too many---
             +--> out

Each segment is an LRU list with an equal share of the capacity; what the division leaves over is segment 0's. The victim
is the oldest page of the lowest segment that has one. Until memory is full, a new page takes the lowest segment with
room. Karedla, Love and Wherry, IEEE Computer 27(3), 1994, have two segments, a probationary and a protected one.

segments=4 (default) and the rule for a memory that is not full are libcachesim's, whose miss counts these are where the
capacity is a multiple of the segments. Elsewhere that package evicts on a hit whatever segment 0 holds above an equal
share, and so uses less memory than it has; a passive order cannot, and need not.

9 bytes per id.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free

from ..types cimport NONE, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_cut, links_make,
    links_oldest, links_push, links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError


@cython.final
cdef class Slru(Order):
    """Order `slru`. segments: how many there are, 1 .. 16."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False, segments):
        self._segments = segments
        self._share = self.capacity // self._segments
        self._links = links_make(self.ids, self._segments)
        self._state = <uint8_t *>calloc(self.ids, 1)
        if self._links == NULL or self._state == NULL:
            raise MemoryError(f"slru: no memory for {self.ids} ids")

    def __dealloc__(self):
        free(self._links)
        free(self._state)

    def metadata_bytes(self):
        return (self.ids + <uint64_t>self._segments) * sizeof(Link) + self.ids

    cdef void _enter(self, uint32_t id, uint32_t segment) noexcept nogil:
        """Make id the newest of a segment."""
        links_push(self._links, self.ids + segment, id)
        self._state[id] = <uint8_t>(1 + segment)
        self._nr[segment] += 1

    cdef void _leave(self, uint32_t id) noexcept nogil:
        """Take id out of its segment, for an _enter that follows."""
        links_cut(self._links, id)
        self._nr[self._state[id] - 1] -= 1

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef uint32_t segment
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        for segment in range(self._segments):
            if self._nr[segment] < self._share:
                break
        else:
            segment = 0
        self._enter(id, segment)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        cdef uint32_t segment, sinks
        assert self.holds(id)
        segment = self._state[id]               # the one above its own
        if segment == self._segments:
            links_renew(self._links, self.ids + segment - 1, id)
            return 0
        self._leave(id)
        self._enter(id, segment)
        while segment and self._nr[segment] > self._share:      # one page each, but segment 0 holds any number
            sinks = links_oldest(self._links, self.ids + segment)
            segment -= 1
            self._leave(sinks)
            self._enter(sinks, segment)
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        cdef uint32_t segment
        for segment in range(self._segments):
            if self._nr[segment]:
                return links_oldest(self._links, self.ids + segment)
        return NONE

    cdef int spare(self, uint32_t id) except -1 nogil:
        """As if referenced: were it to stay in its segment, it would be next again where it is alone there."""
        return self.touch(id)

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._nr[self._state[id] - 1] -= 1
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
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
        """Compare the segments' lists and lengths with the states. Raises InvariantError."""
        cdef uint32_t id, segment, total = 0
        found = [0] * self._segments
        linked_check("slru", self._links, self._state, self.ids)
        for id in range(self.ids):
            if self._state[id] > self._segments:
                raise InvariantError(f"slru: id {id} is in segment {self._state[id] - 1} of {self._segments}")
            if self._state[id]:
                found[self._state[id] - 1] += 1
        for segment in range(self._segments):
            listed = links_check("slru", self._links, self.ids, self.ids + segment)
            if not found[segment] == listed == self._nr[segment]:
                raise InvariantError(f"slru: segment {segment} counts {self._nr[segment]}, {found[segment]} states say it "
                                     f"is theirs, and it lists {listed}")
            total += listed
            if segment and self._nr[segment] > self._share:
                raise InvariantError(f"slru: segment {segment} has {self._nr[segment]} pages, above {self._share}")
        if total != self.nr_resident:
            raise InvariantError(f"slru: nr_resident is {self.nr_resident}, {total} listed")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef Slru Self
include "replay.pxi"
