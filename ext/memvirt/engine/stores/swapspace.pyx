"""What the host swaps to, be it one area or several: the interface, and its border to Python, which both share.

A slot is a number and nothing else here: which page is in it, and whether its bytes are still right, is for the backing
record that names it.

Bytes and simulated time part here: write and read_batch move bytes in a file, wait and submit say how long the device
that the slots are said to lie on would have taken.
"""

import cython

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from ..counters cimport CPU_SWAP
from ..device cimport Device
from ..types cimport IO_FAILED, OK, PAGE_SIZE

from memvirt.errors import ConfigError

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **memory, size_t alignment, size_t size)

MAX_SLOTS = 2**32 - 2               # slot numbers are 32 bits, and NONE is not one of them


cdef class SwapSpace:
    """The interface; its border to Python is here, because it is the same for one area and for several."""

    def __cinit__(self, *args, **kwargs):
        if type(self) is SwapSpace:
            raise TypeError("SwapSpace is an interface: make Swap or SwapSet")

    cdef uint32_t take(self, uint32_t n, uint32_t *slots) except? 0xFFFFFFFF nogil:
        return 0

    cdef int give(self, uint32_t slot) except -1 nogil:
        return OK

    cdef void begin_write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages) noexcept nogil:
        pass

    cdef uint32_t write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages,
                        uint8_t *done) except? 0xFFFFFFFF nogil:
        return 0

    cdef int read(self, uint32_t slot, uint8_t *page) except -1 nogil:
        cdef uint8_t done = 0
        self.read_batch(1, &slot, &page, &done)
        return OK if done else IO_FAILED

    cdef uint32_t read_batch(self, uint32_t n, const uint32_t *slots, uint8_t **pages,
                             uint8_t *done) except? 0xFFFFFFFF nogil:
        return 0

    cdef bint in_use(self, uint32_t slot) noexcept nogil:
        return False

    cdef void window(self, uint32_t slot, uint32_t pages, uint32_t *first, uint32_t *last) noexcept nogil:
        first[0] = slot & ~(pages - 1)
        last[0] = min(slot | (pages - 1), self.nr_slots - 1)

    cdef bint adjacent(self, uint32_t slot, uint32_t next) noexcept nogil:
        return next == slot + 1

    cdef int64_t submit(self, bint write, int64_t now, uint32_t slot, uint32_t pages) noexcept nogil:
        return now

    cdef void wait(self, Clock clock, bint write, uint32_t n, const uint32_t *slots) noexcept nogil:
        cdef uint32_t first = 0, i
        cdef int64_t last = clock.now
        for i in range(1, n + 1):
            if i == n or not self.adjacent(slots[i - 1], slots[i]):
                clock.spend(CPU_SWAP, clock.costs.swap_submit)
                last = max(last, self.submit(write, clock.now, slots[first], i - first))
                first = i
        clock.wait_until(last)
        clock.interrupt.hurry()

    def attach(self, Device device not None):
        """The device of every area that has none of its own."""

    def metadata_bytes(self):
        """What the maps of its slots take in memory; the pages are in the file."""
        return 0

    def name_of(self, uint32_t slot):
        """A slot as messages name it."""
        return f"swap slot {slot}"

    def window_of(self, uint32_t slot, uint32_t pages):
        """First and last slot of the window (for tests)."""
        cdef uint32_t first = 0, last = 0
        self.window(slot, pages, &first, &last)
        return first, last

    cdef void release(self) noexcept:
        pass

    cpdef object check(self):
        return None

    def take_slots(self, uint32_t n):
        """Up to n free slots, as a list."""
        cdef Batch batch = Batch(n, self.slot_bytes)
        return [batch.slots[i] for i in range(self.take(n, batch.slots))]

    def give_slot(self, uint32_t slot):
        """Give a slot back; InvariantError if it is not in use."""
        self.give(slot)

    def slot_in_use(self, uint32_t slot):
        """Whether the slot is taken; False beyond the last."""
        return self.in_use(slot)

    def write_slots(self, slots, payloads, bint begun=False):
        """Write payloads (slot_bytes each) to taken slots; a list of bools, True where it worked. begun: as the engine
        does, beginning the write before it is waited for."""
        cdef Batch batch = Batch(len(slots), self.slot_bytes, begun)
        if len(payloads) != len(slots):
            raise ConfigError(f"{len(payloads)} payloads for {len(slots)} slots")
        for i, (slot, payload) in enumerate(zip(slots, payloads)):
            batch.put(i, slot, payload)
        if begun:
            self.begin_write(batch.n, batch.slots, <const uint8_t **>batch.pages)
        self.write(batch.n, batch.slots, <const uint8_t **>batch.pages, batch.done)
        return [bool(batch.done[i]) for i in range(batch.n)]

    def read_slots(self, slots):
        """The payloads of taken slots; None for each that could not be read."""
        cdef Batch batch = Batch(len(slots), self.slot_bytes)
        for i, slot in enumerate(slots):
            batch.slots[i] = slot
        self.read_batch(batch.n, batch.slots, batch.pages, batch.done)
        return [batch.get(i) if batch.done[i] else None for i in range(batch.n)]


@cython.final
cdef class Batch:
    """Arrays for one call from Python. Its pages are deliberately not aligned, as a caller's may be; or they are, and lie
    in pieces of 1, 2 and 3, as frames do."""

    cdef uint32_t n, unit
    cdef uint32_t *slots
    cdef uint8_t **pages
    cdef uint8_t *done
    cdef uint8_t *memory

    def __cinit__(self, uint32_t n, uint32_t unit, bint aligned=False):
        cdef uint32_t i, at = 0
        cdef size_t room = (<size_t>n * 2 + 1) * unit
        self.n, self.unit = n, unit
        self.slots = <uint32_t *>calloc(n + 1, sizeof(uint32_t))
        self.pages = <uint8_t **>calloc(n + 1, sizeof(uint8_t *))
        self.done = <uint8_t *>calloc(n + 1, 1)
        if (self.slots == NULL or self.pages == NULL or self.done == NULL
                or posix_memalign(<void **>&self.memory, PAGE_SIZE, room)):
            raise MemoryError(f"a batch of {n} slots")
        memset(self.memory, 0, room)
        for i in range(n):
            at += 1 + (aligned and i % 6 in (0, 1, 3))
            self.pages[i] = self.memory + (<size_t>at - 1) * unit + (not aligned)

    def __dealloc__(self):
        free(self.slots)
        free(self.pages)
        free(self.done)
        free(self.memory)

    cdef put(self, uint32_t i, slot, payload):
        cdef bytes source = bytes(payload)
        if len(source) != self.unit:
            raise ConfigError(f"a payload of {len(source)} bytes: a slot holds {self.unit}")
        self.slots[i] = slot
        memcpy(self.pages[i], <const char *>source, self.unit)

    cdef get(self, uint32_t i):
        return self.pages[i][:self.unit]
