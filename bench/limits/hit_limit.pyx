"""Limit loops of the hit path (hit.h), over the very translations and frames of a VM, so that only the loops differ.

Each call runs the whole trace once and returns nanoseconds per access. The word loops write into the VM's frames: what
the VM holds is no longer what it wrote.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from memvirt.engine.vm cimport Vm

cdef extern from "buddy.h" nogil:
    int64_t limits_now_ns()

cdef extern from "hit.h" nogil:
    ctypedef struct LimitRadix:
        uint64_t *node
    uint64_t limit_flat(const uint32_t *table, const uint32_t *pages, const uint8_t *ops, uint32_t n)
    uint64_t limit_words(const uint32_t *table, uint8_t *arena, const uint32_t *pages, const uint8_t *ops, uint32_t n,
                         int ahead)
    int limit_radix_new(LimitRadix *radix, const uint32_t *table, uint32_t nr_pages)
    uint64_t limit_radix(const LimitRadix *radix, const uint32_t *pages, const uint8_t *ops, uint32_t n)


cdef class Translations:
    """What a VM has cached at this moment, as a flat table and as a radix tree."""
    cdef Vm vm
    cdef uint32_t *table
    cdef LimitRadix tree

    def __cinit__(self, Vm vm not None):
        self.vm = vm
        self.table = <uint32_t *>malloc(<size_t>vm.nr_vpns * sizeof(uint32_t))
        if self.table == NULL:
            raise MemoryError(f"a table of {vm.nr_vpns} pages")
        memcpy(self.table, vm.hits.entry, <size_t>vm.nr_vpns * sizeof(uint32_t))
        if limit_radix_new(&self.tree, self.table, vm.nr_vpns):
            raise MemoryError(f"a radix tree of {vm.nr_vpns} pages")

    def __dealloc__(self):
        free(self.table)
        free(self.tree.node)

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
