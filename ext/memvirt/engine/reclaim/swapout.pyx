"""The one way to write to swap, for pages that reclaim evicts and for objects that leave the zpool.

A batch goes through three steps. *Begin*: the pages get slots, as many as there are, and the disk begins. *Finish*: the
clock waits for the disk; what did not arrive gives its slot back and is counted. *Keep*: each page that arrived gets the
record that names its slot. Between begin and finish the caller does what needs the pages and no result, as checksums.

A page without a slot, and one that did not arrive, is where it was: what becomes of it is the caller's business.
"""

import cython

from libc.string cimport memset

from ..mapping.backing cimport BACKING_SWAP
from ..mapping.mapping cimport Mapping
from .readahead cimport Readahead
from ..types cimport backing_t, hfn_t, uint32_t


@cython.final
cdef class SwapOut:
    """Of one host."""

    def __cinit__(self, Mapping mapping not None, Readahead readahead not None):
        self.content = mapping.content
        self.backings = mapping.backings
        self.readahead = readahead
        self.swap = mapping.swap
        self.clock = mapping.clock
        self.meter = mapping.meter

    cdef uint32_t begin(self, const hfn_t *frames, uint32_t n) except? 0xFFFFFFFF nogil:
        cdef uint32_t i
        assert n <= SWAP_BATCH
        memset(self.done, 0, n)
        self.nr_begun = self.swap.take(n, self.slot) if n else 0
        self.meter.ev.reject_swap_full += n - self.nr_begun
        for i in range(self.nr_begun):
            self.page[i] = self.content.raw(frames[i])
        if self.nr_begun:
            self.swap.begin_write(self.nr_begun, self.slot, self.page)
        return self.nr_begun

    cdef int finish(self) except -1 nogil:
        cdef uint32_t i
        if self.nr_begun == 0:
            return 0
        self.swap.write(self.nr_begun, self.slot, self.page, self.done)
        self.swap.wait(self.clock, True, self.nr_begun, self.slot)
        for i in range(self.nr_begun):
            if not self.done[i]:
                self.swap.give(self.slot[i])
                self.meter.ev.swap_write_failed += 1
        return 0

    cdef void keep(self, uint32_t i, backing_t backing, uint32_t check) noexcept nogil:
        assert self.done[i]
        self.backings.set_place(backing, BACKING_SWAP, self.slot[i], check)
        self.readahead.know(self.slot[i], backing)
        self.meter.ev.swap_pages_out += 1
