"""Several swap areas behind one flat range of slots, by priority, as swapon(8) has it.

Slots come from the highest priority that has any; areas of equal priority take turns, a cluster each. A flat slot is
its area's first flat slot plus the slot in the area; the areas lie in the order of their priority, then as given. Each
area may lie on a device of its own: no request and no readahead window crosses from one area into the next.

Invariant: what the areas count sums to what the set counts; nobody takes from an area but through its set.
"""

import cython

from libc.stdlib cimport calloc, free

from ..device cimport Device
from .swap cimport Swap
from .swapspace cimport SwapSpace
from ..types cimport OK

from memvirt.engine.stores.swapspace import MAX_SLOTS
from memvirt.errors import ConfigError, InvariantError

cdef extern from "stores/swapio.h" nogil:
    enum:
        MV_BATCH
        MV_READ
        MV_WRITE


@cython.final
cdef class SwapSet(SwapSpace):
    """Several areas that look like one.

    areas       Swap objects of one slot size
    priorities  one integer each, the highest is used first

    Raises ConfigError for lists that do not match, an area given twice, and more than 2^32 - 2 slots in total.
    """

    def __cinit__(self, areas, priorities):
        areas, priorities = list(areas), list(priorities)
        if not areas or len(areas) != len(priorities) or not all(isinstance(area, Swap) for area in areas):
            raise ConfigError(f"{len(areas)} swap areas with {len(priorities)} priorities: one each, one or more")
        if len({id(area) for area in areas}) != len(areas) or len({area.slot_bytes for area in areas}) != 1:
            raise ConfigError("swap areas must be different objects with slots of one size")
        order = sorted(range(len(areas)), key=lambda i: -priorities[i])
        self.areas = tuple(areas[i] for i in order)
        self.priorities = tuple(priorities[i] for i in order)
        if sum(area.nr_slots for area in areas) > MAX_SLOTS:
            raise ConfigError(f"swap areas of {sum(area.nr_slots for area in areas)} slots: at most {MAX_SLOTS}")
        self._nr_areas, self.slot_bytes = len(areas), areas[0].slot_bytes
        self._base = <uint32_t *>calloc(self._nr_areas + 1, sizeof(uint32_t))
        self._group_end = <uint32_t *>calloc(self._nr_areas, sizeof(uint32_t))
        self._turn = <uint32_t *>calloc(self._nr_areas, sizeof(uint32_t))
        self._area = <void **>calloc(self._nr_areas, sizeof(void *))
        if self._base == NULL or self._group_end == NULL or self._turn == NULL or self._area == NULL:
            raise MemoryError(f"{len(areas)} swap areas")
        for i, area in enumerate(self.areas):
            self._base[i + 1] = self._base[i] + area.nr_slots
            self._group_end[i] = max(k for k in range(len(areas)) if self.priorities[k] == self.priorities[i]) + 1
            self._turn[i] = i
            self._area[i] = <void *>area
        self.nr_slots = self._base[self._nr_areas]
        self.direct_io = all(area.direct_io for area in self.areas)
        self.gather()

    cdef void release(self) noexcept:
        cdef Swap area
        for area in self.areas:
            area.release()

    def __dealloc__(self):
        free(self._base)
        free(self._group_end)
        free(self._turn)
        free(self._area)

    cdef uint32_t area_of(self, uint32_t slot) noexcept nogil:
        """The area that a flat slot lies in."""
        cdef uint32_t i = 0
        while slot >= self._base[i + 1]:
            i += 1
        return i

    def metadata_bytes(self):
        return sum(area.metadata_bytes() for area in self.areas)

    def attach(self, Device device not None):
        for area in self.areas:
            area.attach(device)

    def name_of(self, uint32_t slot):
        cdef uint32_t i = self.area_of(slot)
        return f"swap slot {slot - self._base[i]} of area {i} (priority {self.priorities[i]})"

    cdef bint adjacent(self, uint32_t slot, uint32_t next) noexcept nogil:
        return next == slot + 1 and next < self._base[self.area_of(slot) + 1]

    cdef void window(self, uint32_t slot, uint32_t pages, uint32_t *first, uint32_t *last) noexcept nogil:
        cdef uint32_t i = self.area_of(slot)
        (<Swap>self._area[i]).window(slot - self._base[i], pages, first, last)
        first[0] += self._base[i]
        last[0] += self._base[i]

    cdef int64_t submit(self, bint write, int64_t now, uint32_t slot, uint32_t pages) noexcept nogil:
        return (<Swap>self._area[self.area_of(slot)]).submit(write, now, slot, pages)

    cdef bint in_use(self, uint32_t slot) noexcept nogil:
        cdef uint32_t i
        if slot >= self.nr_slots:
            return False
        i = self.area_of(slot)
        return (<Swap>self._area[i]).in_use(slot - self._base[i])

    cdef uint32_t take(self, uint32_t n, uint32_t *slots) except? 0xFFFFFFFF nogil:
        cdef uint32_t got = 0, group = 0
        while group < self._nr_areas and got < n:
            got += self.take_from_group(group, n - got, slots + got)
            group = self._group_end[group]
        self.nr_used += got
        return got

    cdef uint32_t take_from_group(self, uint32_t group, uint32_t n, uint32_t *slots) except? 0xFFFFFFFF nogil:
        cdef uint32_t i, k, part, got = 0, refused = 0, size = self._group_end[group] - group
        while got < n and refused < size:
            i = self._turn[group]
            part = (<Swap>self._area[i]).take_in_cluster(n - got, slots + got)
            for k in range(got, got + part):
                slots[k] += self._base[i]
            got += part
            refused = refused + 1 if part == 0 else 0
            if part == 0 or (<Swap>self._area[i]).at_cluster_end():
                self._turn[group] = i + 1 if i + 1 < self._group_end[group] else group
        return got

    cdef int give(self, uint32_t slot) except -1 nogil:
        cdef uint32_t i
        if not self.in_use(slot):
            with gil:
                raise InvariantError(f"swap slot {slot} given back but not in use; the areas have {self.nr_slots}")
        i = self.area_of(slot)
        (<Swap>self._area[i]).give(slot - self._base[i])
        self.nr_used -= 1
        self.gather()
        return OK

    cdef void begin_write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages) noexcept nogil:
        """The first stretch only: it nearly always is all, and an area that has several finishes one before the next."""
        cdef uint32_t local[MV_BATCH]
        cdef uint32_t length
        if n and self.in_use(slots[0]):
            length = self.stretch(n, slots, local)
            (<Swap>self._area[self.area_of(slots[0])]).begin_write(length, local, pages)

    cdef uint32_t write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages,
                        uint8_t *done) except? 0xFFFFFFFF nogil:
        return self.move(MV_WRITE, n, slots, <uint8_t **>pages, done)

    cdef uint32_t read_batch(self, uint32_t n, const uint32_t *slots, uint8_t **pages,
                             uint8_t *done) except? 0xFFFFFFFF nogil:
        return self.move(MV_READ, n, slots, pages, done)

    cdef uint32_t stretch(self, uint32_t n, const uint32_t *slots, uint32_t *local) noexcept nogil:
        """Number of these slots, from the first on, that lie in one area and go in one call; *local: its names for them."""
        cdef uint32_t i = self.area_of(slots[0]), length = 0
        while length < n and length < MV_BATCH and self._base[i] <= slots[length] < self._base[i + 1]:
            local[length] = slots[length] - self._base[i]
            length += 1
        return length

    cdef uint32_t move(self, int way, uint32_t n, const uint32_t *slots, uint8_t **pages,
                       uint8_t *done) except? 0xFFFFFFFF nogil:
        """Hand each stretch of slots that lies in one area to that area, in pieces of one call's size."""
        cdef uint32_t local[MV_BATCH]
        cdef uint32_t i, first = 0, length, worked = 0, part
        while first < n:
            if not self.in_use(slots[first]):
                with gil:
                    raise InvariantError(f"swap slot {slots[first]} read or written but not in use; "
                                         f"the areas have {self.nr_slots}")
            i = self.area_of(slots[first])
            length = self.stretch(n - first, slots + first, local)
            if way == MV_WRITE:
                part = (<Swap>self._area[i]).write(length, local, <const uint8_t **>pages + first, done + first)
            else:
                part = (<Swap>self._area[i]).read_batch(length, local, pages + first, done + first)
            if part < length:
                self.last_errno = (<Swap>self._area[i]).last_errno
            worked += part
            first += length
        self.gather()
        return worked

    cdef void gather(self) noexcept nogil:
        """Sum the areas' counters into this object's."""
        cdef uint32_t i
        self.write_calls = self.read_calls = self.write_failures = self.read_failures = self.discards = 0
        for i in range(self._nr_areas):
            self.write_calls += (<Swap>self._area[i]).write_calls
            self.read_calls += (<Swap>self._area[i]).read_calls
            self.write_failures += (<Swap>self._area[i]).write_failures
            self.read_failures += (<Swap>self._area[i]).read_failures
            self.discards += (<Swap>self._area[i]).discards

    cpdef object check(self):
        """check() of every area, and the sum of their slots in use."""
        total = 0
        for area in self.areas:
            area.check()
            total += area.nr_used
        if total != self.nr_used:
            raise InvariantError(f"swap areas: {total} slots in use, {self.nr_used} counted")
