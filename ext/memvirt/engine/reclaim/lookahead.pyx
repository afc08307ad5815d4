"""Hints for this machine's memory: what the next accesses of a batch will want is asked for early.

A page in the zpool is four steps away, each named by the one before: entry, record, zspage, bytes. Every access that misses
asks for one of them for each of the next four, so that they are near in time. Nothing that a host counts depends on it.
"""

from ..mapping.backing cimport BACKING_KIND_SHIFT, BACKING_ZPOOL, Backing
from ..mapping.leaf cimport PTE_BACKED, PTE_PRESENT, PTE_WHERE
from ..prefetch cimport prefetch_write
from ..types cimport gfn_t


cdef Backing *_out(Mapping mapping, vmid_t vm, gfn_t gfn) noexcept nogil:
    """The record of a page that is in the zpool; NULL for any other."""
    cdef uint32_t *entry = mapping.leaves.entry_of(vm, gfn)
    cdef Backing *record
    if entry == NULL or (entry[0] & (PTE_PRESENT | PTE_BACKED)) != PTE_BACKED:
        return NULL
    record = mapping.backings.at(entry[0] & PTE_WHERE)
    return record if record.place >> BACKING_KIND_SHIFT == <uint32_t>BACKING_ZPOOL else NULL        # and not cached


cdef void look_ahead(Mapping mapping, vmid_t vm, const uint32_t *pages, uint32_t n) noexcept nogil:
    cdef uint32_t *entry
    cdef Backing *record
    if n > 3:
        entry = mapping.leaves.entry_of(vm, pages[3])
        if entry != NULL:
            prefetch_write(entry)
    if n > 2:
        entry = mapping.leaves.entry_of(vm, pages[2])
        if entry != NULL and (entry[0] & (PTE_PRESENT | PTE_BACKED)) == PTE_BACKED:
            prefetch_write(mapping.backings.at(entry[0] & PTE_WHERE))
    if n > 1:
        record = _out(mapping, vm, pages[1])
        if record != NULL:
            mapping.zpool.expect(mapping.backings.where(record))
    if n > 0:
        record = _out(mapping, vm, pages[0])
        if record != NULL:
            mapping.zpool.expect_bytes(mapping.backings.where(record))
