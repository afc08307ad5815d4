"""Limit loops of the hit path (hit.h), over the very translations and frames of a VM, and in memory got the same way as
the engine's own cache, so that only the loops differ.

Each call runs the whole trace once and returns nanoseconds per access. The word loops write into the VM's frames: what
the VM holds is no longer what it wrote.
"""

import numpy

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from memvirt.engine.host.vm cimport Vm

cdef extern from "buddy.h" nogil:
    int64_t limits_now_ns()

cdef extern from "content/arena.h" nogil:
    void *mv_zeroed_map(size_t bytes)
    int munmap(void *memory, size_t bytes)

cdef extern from "hit.h" nogil:
    ctypedef struct LimitRadix:
        pass
    uint64_t limit_flat(const uint32_t *table, const uint32_t *pages, const uint8_t *ops, uint32_t n)
    uint64_t limit_words(const uint32_t *table, uint8_t *arena, const uint32_t *pages, const uint8_t *ops, uint32_t n,
                         int ahead)
    size_t limit_radix_bytes(uint32_t nr_pages)
    void limit_radix_new(LimitRadix *radix, uint64_t *memory, const uint32_t *table, uint32_t nr_pages)
    uint64_t limit_radix(const LimitRadix *radix, const uint32_t *pages, const uint8_t *ops, uint32_t n)


cdef class Flat:
    """A flat table of pages that are all there and may be written: the least that an access can be."""
    cdef uint32_t[::1] table

    def __init__(self, nr_pages):
        self.table = numpy.full(nr_pages, 0xC0000000, numpy.uint32)

    def touch(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None):
        """Look every page up; how many."""
        if pages.shape[0] and limit_flat(&self.table[0], &pages[0], &ops[0], pages.shape[0]) == 0:
            raise ValueError("a page of the table is missing")
        return pages.shape[0]


cdef class Translations:
    """What a VM has cached at this moment, as a flat table and as a radix tree."""
    cdef Vm vm
    cdef uint32_t *table
    cdef uint64_t *nodes
    cdef size_t table_bytes, node_bytes
    cdef LimitRadix tree

    def __cinit__(self, Vm vm not None):
        self.vm = vm
        self.table_bytes = <size_t>vm.nr_vpns * sizeof(uint32_t)
        self.node_bytes = limit_radix_bytes(vm.nr_vpns)
        self.table = <uint32_t *>mv_zeroed_map(self.table_bytes)
        self.nodes = <uint64_t *>mv_zeroed_map(self.node_bytes)
        if self.table == NULL or self.nodes == NULL:
            raise MemoryError(f"tables of {vm.nr_vpns} pages")
        memcpy(self.table, vm.hits.entry, self.table_bytes)
        limit_radix_new(&self.tree, self.nodes, self.table, vm.nr_vpns)

    def __dealloc__(self):
        if self.table != NULL:
            munmap(self.table, self.table_bytes)
        if self.nodes != NULL:
            munmap(self.nodes, self.node_bytes)

    def flat(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None):
        cdef int64_t start = limits_now_ns()
        return self._per_access(limit_flat(self.table, &pages[0], &ops[0], pages.shape[0]), start, pages.shape[0])

    def radix(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None):
        cdef int64_t start = limits_now_ns()
        return self._per_access(limit_radix(&self.tree, &pages[0], &ops[0], pages.shape[0]), start, pages.shape[0])

    def words(self, const uint32_t[::1] pages not None, const uint8_t[::1] ops not None, bint ahead=True):
        cdef int64_t start = limits_now_ns()
        return self._per_access(limit_words(self.table, self.vm.hits.arena, &pages[0], &ops[0], pages.shape[0], ahead),
                                start, pages.shape[0])

    cdef double _per_access(self, uint64_t sum, int64_t start, Py_ssize_t n) except -1:
        if sum == 0:
            raise ValueError("the trace touches a page that the VM has not made writable")
        return <double>(limits_now_ns() - start) / n
