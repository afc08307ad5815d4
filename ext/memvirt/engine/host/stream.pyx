"""What one VM has left to do in a run.

The batch it is in survives the run: a run that stops at a time, in the middle of a batch, and another that is given the
same iterator are one.
"""

import cython

from .batch cimport Batch, check_lengths
from ..types cimport int64_t, uint8_t, uint32_t


@cython.final
cdef class Stream:
    """Of one VM. `batches`: an iterator of (pages, ops[, sources[, work_ns[, due_ns]]]); see Batch."""

    def __cinit__(self, batches):
        self.batches = batches
        self.batch = Batch()

    cdef bint refill(self, str vm, uint32_t nr_vpns, uint32_t nr_sources) except? False:
        cdef const uint32_t[::1] pages, sources
        cdef const uint8_t[::1] ops
        cdef const int64_t[::1] due_ns
        cdef int64_t work_ns
        while self.at == self.batch.n:
            batch = next(self.batches, None)
            if batch is None:
                return False
            given = [*batch, *(None, 0, None)[len(batch) - 2:]]
            pages, ops, sources, work_ns, due_ns = given
            check_lengths(vm, pages, ops, sources)
            self.at = self.part_end = self.batch.n = 0
            if pages.shape[0]:
                self.batch.own(vm, nr_vpns, nr_sources, pages, ops, sources, 0, pages.shape[0])
                self.batch.time(vm, work_ns, due_ns)
        return True

    cdef void next_part(self) noexcept nogil:
        cdef uint32_t length = self.batch.n
        self.due_ns = -1
        if self.batch.nr_parts:
            length = self.batch.n / self.batch.nr_parts
            self.due_ns = self.batch.due_ns[self.at / length]
        self.part_end = self.at + length
