"""What one VM has left to do in a run.

The batch it is in survives the run: a run that stops at a time, in the middle of a batch, and another that is given the
same iterator are one.
"""

import cython

from .batch cimport Batch, check_lengths
from ..types cimport uint8_t, uint32_t


@cython.final
cdef class Stream:
    """Of one VM. `batches`: an iterator of (pages, ops[, sources])."""

    def __cinit__(self, batches):
        self.batches = batches
        self.batch = Batch()

    cdef bint refill(self, str vm, uint32_t nr_vpns, uint32_t nr_sources) except? False:
        cdef const uint32_t[::1] pages, sources
        cdef const uint8_t[::1] ops
        while self.at == self.batch.n:
            batch = next(self.batches, None)
            if batch is None:
                return False
            pages, ops, sources = batch[0], batch[1], batch[2] if len(batch) > 2 else None
            check_lengths(vm, pages, ops, sources)
            self.at = self.batch.n = 0
            if pages.shape[0]:
                self.batch.own(vm, nr_vpns, nr_sources, pages, ops, sources, 0, pages.shape[0])
        return True
