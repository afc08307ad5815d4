from ..simtime cimport Clock
from ..types cimport int64_t, uint8_t, uint32_t, uint64_t


cdef class SwapSpace:
    # What the host swaps to: one area (Swap) or several (SwapSet). Knows slots, nothing of VMs.
    cdef readonly uint32_t nr_slots, nr_used
    cdef readonly uint32_t slot_bytes           # 4096, or 8 for fingerprints
    cdef readonly bint direct_io                # past the page cache; of several areas: all of them
    cdef readonly int last_errno               # why the last transfer that failed did; 0: none has. EIO: file cut short
    cdef readonly uint64_t write_calls, read_calls          # system calls, retries included
    cdef readonly uint64_t write_failures, read_failures    # slots that were not moved
    cdef readonly uint64_t discards                         # clusters given back to the file system

    # Up to n free slots, contiguous where a cluster allows it; returns how many.
    cdef uint32_t take(self, uint32_t n, uint32_t *slots) except? 0xFFFFFFFF nogil
    cdef int give(self, uint32_t slot) except -1 nogil
    # Optional: the kernel, if it can, begins to write what `write` is then called for with the same arguments, all runs
    # side by side; nothing else may be asked of this object in between, and the pages must stay as they are.
    cdef void begin_write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages) noexcept nogil
    # Write n payloads (slot_bytes each) to their slots, batching neighbours into one call. done[i] = 1 where it worked.
    # Returns how many worked; last_errno says why others did not.
    cdef uint32_t write(self, uint32_t n, const uint32_t *slots, const uint8_t **pages,
                        uint8_t *done) except? 0xFFFFFFFF nogil
    # OK or IO_FAILED (short, EIO, truncated file).
    cdef int read(self, uint32_t slot, uint8_t *page) except -1 nogil
    # Read n slots, batching neighbours; done[i] as above.
    cdef uint32_t read_batch(self, uint32_t n, const uint32_t *slots, uint8_t **pages,
                             uint8_t *done) except? 0xFFFFFFFF nogil
    cdef bint in_use(self, uint32_t slot) noexcept nogil
    # First and last slot of the aligned run of `pages` (a power of two) slots around this one, within its area.
    cdef void window(self, uint32_t slot, uint32_t pages, uint32_t *first, uint32_t *last) noexcept nogil
    # True if `next` lies right behind `slot`, so that one request serves both.
    cdef bint adjacent(self, uint32_t slot, uint32_t next) noexcept nogil
    # Simulated time: one request for `pages` neighbours at `now`; when it completes.
    cdef int64_t submit(self, bint write, int64_t now, uint32_t slot, uint32_t pages) noexcept nogil
    # A request per run of neighbours, all submitted at once; the clock waits for the last.
    cdef void wait(self, Clock clock, bint write, uint32_t n, const uint32_t *slots) noexcept nogil
    # Close the file, and remove it where it has a name: whoever keeps the object has none of its space. Not in a process
    # that a fork has made: the name is its parent's.
    cdef void release(self) noexcept
    cpdef object check(self)
