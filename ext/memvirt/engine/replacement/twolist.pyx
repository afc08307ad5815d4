"""Two lists: Linux's active and inactive list, with refault distance (mm/vmscan.c, mm/workingset.c).

    fault, far or no history --> inactive --accessed twice--> active
    fault, near history -------------------------------------> active
    inactive, not accessed --> out, leaving a shadow           active --when inactive is low--> inactive

Accessed marks are looked at when a page reaches the old end of the inactive list: the first mark sends it around, a
second one activates it. The active list is not asked: its oldest pages are deactivated, marks cleared, while
inactive * ratio < active, with ratio = int_sqrt(10 * GiB) and at least 1.

Refault distance. `age` counts evictions and activations: both move inactive pages one slot towards their end. A
shadow holds the age at eviction, so at the refault

    distance = (age now - age at eviction) & mask

is how many more slots the inactive list would have needed to keep the page. If that is at most what the active pages
hold, the page deserved their memory more than the coldest of them, and it is activated at once. Linux compares with
all lists that compete; here all pages are of one kind (anonymous, swap available), whose competitor is the active
list alone. The pages of a guest are anonymous memory to its host.

9 bytes per id, 4 per key.
"""

cimport cython

from libc.stddef cimport size_t
from libc.stdlib cimport calloc, free, malloc

from ..types cimport NONE, PAGE_SHIFT, uint8_t, uint32_t, uint64_t
from .lists cimport (
    Link, REPLAY_AHEAD, linked_check, linked_prefetch, linked_remove, linked_rename, links_check, links_make,
    links_oldest, links_push, links_renew,
)
from .order cimport Order

from memvirt.errors import InvariantError

cdef enum:
    RESIDENT = 1
    ACTIVE = 2
    ACCESSED = 4                        # the page table entry's mark
    REFERENCED = 8                      # the page's own: one mark was seen and cleared
    AGE_MASK = 0x7FFFFFFF               # leaves NONE free


@cython.final
cdef class TwoList(Order):
    """Order `twolist`. nr_active, age, nr_refaults and nr_activated can be read."""

    def __cinit__(self, ids, capacity, keys=0, *, bounded=False):
        cdef uint32_t key
        self._links = links_make(self.ids, 2)
        self._state = <uint8_t *>calloc(self.ids, 1)
        self._shadow = <uint32_t *>malloc((<size_t>self.keys + 1) * sizeof(uint32_t))
        if self._links == NULL or self._state == NULL or self._shadow == NULL:
            raise MemoryError(f"twolist: no memory for {self.ids} ids and {self.keys} keys")
        for key in range(self.keys):
            self._shadow[key] = NONE

    def __dealloc__(self):
        free(self._links)
        free(self._state)
        free(self._shadow)

    def metadata_bytes(self):
        return (self.ids + <uint64_t>2) * sizeof(Link) + self.ids + (self.keys + <uint64_t>1) * 4

    cdef bint _inactive_is_low(self) noexcept nogil:
        cdef uint64_t gib = self.nr_resident >> (30 - PAGE_SHIFT), ratio = 1
        while gib and (ratio + 1) * (ratio + 1) <= 10 * gib:
            ratio += 1
        return (self.nr_resident - self.nr_active) * ratio < self.nr_active

    cdef void _grow_older(self) noexcept nogil:
        self.age = (self.age + 1) & AGE_MASK

    cdef void _move(self, uint32_t id, uint32_t list_, uint8_t state) noexcept nogil:
        """To the new end of a list, in a new state."""
        self.nr_active += (state & ACTIVE != 0) - (self._state[id] & ACTIVE != 0)
        self._state[id] = state
        links_renew(self._links, list_, id)

    cdef int insert(self, uint32_t id, uint32_t key) except -1 nogil:
        cdef bint near = False
        assert id < self.ids and not self._state[id] and self.nr_resident < self.most
        if key < self.keys and self._shadow[key] != NONE:
            near = ((self.age - self._shadow[key]) & AGE_MASK) <= self.nr_active
            self._shadow[key] = NONE
            self.nr_refaults += 1
            self.nr_activated += near
        if near:
            self._grow_older()
            self.nr_active += 1
        self._state[id] = RESIDENT | ACTIVE if near else RESIDENT
        links_push(self._links, self.ids + near, id)
        self.nr_resident += 1
        return 0

    cdef int touch(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self._state[id] |= ACCESSED
        return 0

    cdef uint32_t candidate(self) except? 0xFFFFFFFE nogil:
        """Ends: every turn but a deactivation clears a mark, and only a cleared mark makes work for a deactivation."""
        cdef uint32_t id
        while True:
            while self._inactive_is_low():
                self._move(links_oldest(self._links, self.ids + 1), self.ids, RESIDENT)
            id = links_oldest(self._links, self.ids)
            if id == NONE or not self._state[id] & ACCESSED:
                return id
            if self._state[id] & REFERENCED:
                self._move(id, self.ids + 1, RESIDENT | ACTIVE)
                self._grow_older()
            else:
                self._move(id, self.ids, RESIDENT | REFERENCED)

    cdef int spare(self, uint32_t id) except -1 nogil:
        """To the new end of the inactive list, where reclaim puts back what it could not free."""
        assert self.holds(id)
        self._move(id, self.ids, RESIDENT)
        return 0

    cdef int take(self, uint32_t id, uint32_t key) except -1 nogil:
        if key < self.keys:
            self._shadow[key] = self.age
        self._grow_older()
        return self.forget(id)

    cdef int forget(self, uint32_t id) except -1 nogil:
        assert self.holds(id)
        self.nr_active -= self._state[id] & ACTIVE != 0
        linked_remove(self._links, self._state, id)
        self.nr_resident -= 1
        return 0

    cdef int forget_key(self, uint32_t key) except -1 nogil:
        if key < self.keys:
            self._shadow[key] = NONE
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
        """Compare both lists, the shadows and the counters with the states. Raises InvariantError."""
        cdef uint32_t id, key, active = 0, inactive = 0
        linked_check("twolist", self._links, self._state, self.ids)
        for id in range(self.ids):
            active += self._state[id] & ACTIVE != 0
            inactive += self._state[id] & (RESIDENT | ACTIVE) == RESIDENT
        listed = (links_check("twolist inactive", self._links, self.ids, self.ids),
                  links_check("twolist active", self._links, self.ids, self.ids + 1))
        if listed != (inactive, active) or active != self.nr_active or active + inactive != self.nr_resident:
            raise InvariantError(f"twolist: states count {inactive} + {active}, lists {listed}, "
                                 f"nr_active {self.nr_active} of {self.nr_resident}")
        for key in range(self.keys):
            if self._shadow[key] != NONE and self._shadow[key] > AGE_MASK:
                raise InvariantError(f"twolist: key {key} has shadow {self._shadow[key]}, above the mask")

    cdef uint64_t replay(self, const uint32_t *pages, size_t n) except? 0xFFFFFFFFFFFFFFFF nogil:
        return replay_loop(self, pages, n)


ctypedef TwoList Self
include "replay.pxi"
