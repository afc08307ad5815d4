from .batch cimport Batch
from ..types cimport uint32_t, uint64_t


cdef class Stream:
    # What one VM has left to do: an iterator of batches, and the batch it is in.
    cdef object batches
    cdef Batch batch            # its own: whatever the generators do to their arrays meanwhile
    cdef uint32_t at            # accesses of the batch that are done
    cdef uint64_t done          # accesses done in this run
    cdef str reason             # why it ended, or stopped

    # Fetch the next batch that is not empty; False when there is none.
    cdef bint refill(self, str vm, uint32_t nr_vpns, uint32_t nr_sources) except? False
