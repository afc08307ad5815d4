"""Dense numbers for pages of any number: 0, 1, 2 … in the order in which they first appear.

Traces name pages by addresses, blocks or hashes of 64 bits, and by the volume they lie on; everything that replays them
wants numbers without gaps. One open hash table maps (space, key) to its number. It holds what has appeared, so memory
goes with the footprint and never with the length of the trace: 16 bytes a slot, at most 5 of 8 slots in use.

A slot is empty where its number is 0; otherwise it holds the number plus one. Slots are probed one after another. The
hash is seeded anew in each table, so that no file can be made whose keys collide; the numbers do not depend on it. Keys
are looked up a batch at a time: first all slots are asked for, then they are read.
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from ..prefetch cimport prefetch_write

import os

import numpy as np

from memvirt.errors import InvariantError

MOST = 1 << 31  # numbers that a replay can take


cdef struct Slot:
    uint64_t key
    uint32_t space
    uint32_t number  # plus one; 0 where the slot is empty


cdef enum:
    BATCH = 64
    NUMBERED = 0
    FULL = 1


cdef inline uint64_t hashed(uint64_t key, uint64_t space, uint64_t seed) noexcept nogil:
    """Every bit of the result hangs on every bit given: the finalizer of MurmurHash3, twice."""
    cdef uint64_t h = key ^ seed
    h = (h ^ (h >> 33)) * <uint64_t> 0xFF51AFD7ED558CCD
    h = (h ^ (h >> 33)) + space * <uint64_t> 0x9E3779B97F4A7C15
    h = (h ^ (h >> 29)) * <uint64_t> 0xC4CEB9FE1A85EC53
    return h ^ (h >> 33)


@cython.final
cdef class Renumber:
    """The table. `pages` is how many there are so far.

    slots   capacity of them, a power of two
    seed    of the hash; drawn when the table is made
    """

    cdef Slot *slots
    cdef uint64_t capacity
    cdef uint64_t seed
    cdef uint64_t most
    cdef readonly uint64_t pages

    def __cinit__(self, most=MOST):
        """A table for at most so many pages, 2^31 unless given."""
        if not isinstance(most, int) or not 0 < most <= MOST:
            raise InvariantError(f"a table is made for 1 to {MOST} pages, not {most!r}")
        self.capacity = 1 << 12
        self.slots = <Slot *> calloc(self.capacity, sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError("no memory for a table of page numbers")
        self.seed = int.from_bytes(os.urandom(8), "little")
        self.most = most
        self.pages = 0

    def __dealloc__(self):
        free(self.slots)

    cdef bint _grow(self) noexcept nogil:
        """Twice the slots; whether there was memory for them. Nothing changes where there was none."""
        cdef uint64_t wide = 2 * self.capacity, i, at
        cdef Slot *more = <Slot *> calloc(wide, sizeof(Slot))
        if more == NULL:
            return False
        for i in range(self.capacity):
            if self.slots[i].number:
                at = hashed(self.slots[i].key, self.slots[i].space, self.seed) & (wide - 1)
                while more[at].number:
                    at = (at + 1) & (wide - 1)
                more[at] = self.slots[i]
        free(self.slots)
        self.slots = more
        self.capacity = wide
        return True

    cdef int _batch(self, const uint64_t *keys, const uint32_t *spaces, uint32_t *numbers, uint64_t count) noexcept nogil:
        """Number at most BATCH keys, for which there is room; FULL where one is new and there are too many already."""
        cdef uint64_t at[BATCH]
        cdef uint64_t i, mask = self.capacity - 1
        cdef uint32_t space
        cdef Slot *slot
        for i in range(count):
            at[i] = hashed(keys[i], 0 if spaces == NULL else spaces[i], self.seed) & mask
            prefetch_write(&self.slots[at[i]])
        for i in range(count):
            space = 0 if spaces == NULL else spaces[i]
            slot = &self.slots[at[i]]
            while slot.number and (slot.key != keys[i] or slot.space != space):
                at[i] = (at[i] + 1) & mask
                slot = &self.slots[at[i]]
            if slot.number == 0:
                if self.pages == self.most:
                    return FULL
                self.pages += 1
                slot.key = keys[i]
                slot.space = space
                slot.number = <uint32_t> self.pages
            numbers[i] = slot.number - 1
        return NUMBERED

    def number(self, keys, spaces=None):
        """The numbers (uint32) of uint64 keys, each in its space (uint32; all in space 0, unless given).

        OverflowError when there are more pages than the table is for, MemoryError when there is no memory for more.
        """
        cdef const uint64_t[::1] wanted = np.ascontiguousarray(keys, dtype=np.uint64)
        cdef const uint32_t[::1] where
        cdef const uint32_t *space = NULL
        cdef const uint32_t *beside = NULL
        cdef uint64_t done = 0, count = wanted.shape[0], step
        if spaces is not None:
            where = np.ascontiguousarray(spaces, dtype=np.uint32)
            if where.shape[0] != wanted.shape[0]:
                raise InvariantError(f"{count} keys need as many spaces, not {where.shape[0]}")
        result = np.empty(count, dtype=np.uint32)
        if count == 0:
            return result
        cdef uint32_t[::1] numbers = result
        if spaces is not None:
            space = &where[0]
        cdef int outcome = NUMBERED
        cdef bint grown = True
        with nogil:
            while done < count and outcome == NUMBERED:
                while grown and 8 * (self.pages + BATCH) > 5 * self.capacity:
                    grown = self._grow()
                if not grown:
                    break
                step = BATCH if count - done > BATCH else count - done
                if space != NULL:
                    beside = space + done
                outcome = self._batch(&wanted[done], beside, &numbers[done], step)
                done += step
        if not grown:
            raise MemoryError(f"no memory for the numbers of more than {self.pages} pages")
        if outcome == FULL:
            raise OverflowError(f"more than {self.most} different pages")
        return result

    def originals(self):
        """(keys, spaces): of page 0, 1, 2 …, what it was called."""
        keys, spaces = np.empty(self.pages, dtype=np.uint64), np.empty(self.pages, dtype=np.uint32)
        cdef uint64_t[::1] key = keys
        cdef uint32_t[::1] space = spaces
        cdef uint64_t i
        with nogil:
            for i in range(self.capacity):
                if self.slots[i].number:
                    key[self.slots[i].number - 1] = self.slots[i].key
                    space[self.slots[i].number - 1] = self.slots[i].space
        return keys, spaces

    def check(self):
        """Every number there is stands in one slot, and every key is found from its hash. Raises InvariantError."""
        seen = np.zeros(self.pages, dtype=np.uint8)
        cdef unsigned char[::1] mark = seen
        cdef uint64_t i
        for i in range(self.capacity):
            if self.slots[i].number:
                if self.slots[i].number > self.pages or mark[self.slots[i].number - 1]:
                    raise InvariantError(f"page number {self.slots[i].number - 1} of {self.pages} is out of range or twice")
                mark[self.slots[i].number - 1] = 1
        if not seen.all():
            raise InvariantError("a page number is missing from the table")
        keys, spaces = self.originals()
        again = self.number(keys, spaces)
        if not (again == np.arange(len(again), dtype=np.uint32)).all():
            raise InvariantError("a key does not lead to its own number")

    def memory_bytes(self):
        """Bytes of the table."""
        return self.capacity * sizeof(Slot)
