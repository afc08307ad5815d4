"""What the host swaps to, be it one area or several: the interface, and its border to Python, which both share.

A slot is a number and nothing else here: which page is in it, and whether its bytes are still right, is for the backing
record that names it.

Bytes and simulated time part here: write and read_batch move bytes in a file, wait and submit say how long the device
that the slots are said to lie on would have taken.
"""

from ..counters cimport CPU_SWAP
from ..device cimport Device
from ..types cimport IO_FAILED, OK

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

    cdef void release(self) noexcept:
        pass

    cpdef object check(self):
        return None
