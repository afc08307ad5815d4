from .batch cimport Batch
from ..types cimport int64_t, uint32_t, uint64_t


cdef class Stream:
    # What one VM has left to do: an iterator of batches, and the batch it is in.
    cdef object batches
    cdef Batch batch            # its own: whatever the generators do to their arrays meanwhile
    cdef uint32_t at            # accesses of the batch that are done
    cdef uint32_t part_end      # where the part ends that it is in; at it: the next has not begun
    cdef int64_t due_ns         # when that was due; -1: it has no time of its own
    cdef bint sleeps            # it is not due yet
    cdef uint64_t done          # accesses done in this run
    cdef str reason             # why it ended, or stopped

    # Go on to the part that begins at `at`.
    cdef void next_part(self) noexcept nogil
    # Fetch the next batch that is not empty; False when there is none.
    cdef bint refill(self, str vm, uint32_t nr_vpns, uint32_t nr_sources) except? False
