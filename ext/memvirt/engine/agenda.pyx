"""The agenda of a host: who works next, in simulated time.

Everything that happens by itself is somebody's turn: a VM's next accesses, a slice of the scanner, a batch of the
background reclaimer, a harvest, a message to a balloon, a decision. Each of those who work has a number, and at most one
entry here: the time of its next turn. Whoever is first goes first, however the work of the others is cut into batches
or calls, and whether or not there are others. Of two at the same time the lower number goes first, so the order never
depends on how the heap was filled.

    agenda   ┌─ 10.00 ms  harvest
             ├─ 10.02 ms  vm 3
             ├─ 10.02 ms  vm 7
             └─ 10.05 ms  balloon of vm 1        put(who, at) moves an entry; put(who, FOREVER) takes it out

An actor that is asleep until something wakes it has no entry. The heap is indexed by number, so an entry moves in
O(log n), and there is room for everybody from the start: nothing in here can fail.

Invariants (check): no entry is earlier than its parent; every entry is where its place says, and no other place is set.
"""

import cython

from libc.stdlib cimport calloc, free

from memvirt.errors import InvariantError

from .types cimport int64_t, uint32_t


cdef inline bint earlier(Entry a, Entry b) noexcept nogil:
    return a.at_ns < b.at_ns or (a.at_ns == b.at_ns and a.who < b.who)


@cython.final
cdef class Agenda:
    """One per host; empty at first."""

    def __cinit__(self):
        self._heap = <Entry *>calloc(NUMBERS, sizeof(Entry))
        self._place = <uint32_t *>calloc(NUMBERS, sizeof(uint32_t))
        if self._heap == NULL or self._place == NULL:
            raise MemoryError("the agenda")

    def __dealloc__(self):
        free(self._heap)
        free(self._place)

    cdef void put(self, uint32_t who, int64_t at_ns) noexcept nogil:
        """From now on the next turn of `who` is at `at_ns`; FOREVER: it has none."""
        cdef uint32_t i = self._place[who]
        cdef Entry entry = Entry(at_ns, who), last
        if at_ns != FOREVER:
            if i == 0:
                self.nr += 1
                self._rise(self.nr - 1, entry)
            elif earlier(entry, self._heap[i - 1]):
                self._rise(i - 1, entry)
            else:
                self._sink(i - 1, entry)
        elif i:
            self._place[who] = 0
            self.nr -= 1
            last = self._heap[self.nr]
            if i - 1 < self.nr:
                if earlier(last, self._heap[i - 1]):
                    self._rise(i - 1, last)
                else:
                    self._sink(i - 1, last)

    cdef void _rise(self, uint32_t i, Entry entry) noexcept nogil:
        """Put the entry at i, or above, where its parent is not later."""
        while i and earlier(entry, self._heap[(i - 1) / 2]):
            self._heap[i] = self._heap[(i - 1) / 2]
            self._place[self._heap[i].who] = i + 1
            i = (i - 1) / 2
        self._heap[i] = entry
        self._place[entry.who] = i + 1

    cdef void _sink(self, uint32_t i, Entry entry) noexcept nogil:
        """Put the entry at i, or below, where its children are not earlier."""
        cdef uint32_t child
        while True:
            child = 2 * i + 1
            if child + 1 < self.nr and earlier(self._heap[child + 1], self._heap[child]):
                child += 1
            if child >= self.nr or earlier(entry, self._heap[child]):
                break
            self._heap[i] = self._heap[child]
            self._place[self._heap[i].who] = i + 1
            i = child
        self._heap[i] = entry
        self._place[entry.who] = i + 1

    def entries(self):
        """{number: time in ns} of all that there is."""
        return {self._heap[i].who: self._heap[i].at_ns for i in range(self.nr)}

    cpdef object check(self):
        cdef uint32_t i, placed = 0
        for i in range(self.nr):
            if i and earlier(self._heap[i], self._heap[(i - 1) / 2]):
                raise InvariantError(f"agenda: entry {i} is earlier than its parent")
            if self._place[self._heap[i].who] != i + 1:
                raise InvariantError(f"agenda: number {self._heap[i].who} is at {i}, its place says "
                                     f"{<int64_t>self._place[self._heap[i].who] - 1}")
        for i in range(NUMBERS):
            placed += self._place[i] != 0
        if placed != self.nr:
            raise InvariantError(f"agenda: {self.nr} entries, {placed} places")
