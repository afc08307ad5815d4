"""Lazily freed pages go: before any that an order names, without I/O, without being compressed, and without a record.

As shrink_folio_list of Linux (mm/vmscan.c) with folios that are anonymous and not swap-backed: what was accessed since it
was last looked at goes another round, what is left is unmapped and freed. A write in between has taken the page off the
list when it happened. So a host without swap, or with a full one, can have these frames back.

A visit costs what one of any candidate does, freeing what an eviction does. They are no evictions: nothing can come back.
"""

from ..counters cimport CPU_RECLAIM
from ..mapping.mapping cimport Mapping
from ..mapping.rmap cimport Walk
from ..types cimport hfn_t, uint32_t, vmid_t


cdef class LazyFree:
    """Of one host."""

    def __cinit__(self, Mapping mapping not None, Eviction eviction not None):
        self.mapping = mapping
        self.charges = mapping.charges
        self.lazies = mapping.recency.lazies
        self.clock = mapping.clock
        self.eviction = eviction

    cdef uint32_t of_vm(self, vmid_t vm, uint32_t want, uint32_t keep) except? 0xFFFFFFFF nogil:
        """Ends: each visit frees a frame or clears a mark, and no VM runs meanwhile."""
        cdef uint32_t gone = 0
        cdef hfn_t frame
        while gone < want and self.lazies.of[vm] and self.charges.may_lose(vm, keep) and not self.clock.interrupt.asked():
            frame = self.lazies.oldest(vm)
            self.mapping.meter.ev.reclaim_scanned += 1
            self.clock.spend(CPU_RECLAIM, self.clock.costs.reclaim_visit)
            if self.mapping.tables.test_and_clear_accessed(frame):
                self.mapping.meter.ev.reclaim_spared_accessed += 1
                self.lazies.renew(frame, vm)
                continue
            self._free(frame)
            gone += 1
        return gone

    cdef uint32_t of_all(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """VMs take turns, a call each or as much of it as they have."""
        cdef uint32_t gone = 0, _vm
        cdef vmid_t vm
        for _vm in range(self.lazies.end if self.lazies.nr else 0):
            if gone >= want:
                break
            vm = self.lazies.next_turn()
            gone += self.of_vm(vm, want - gone, self.charges.of[vm].reservation)
        return gone

    cdef int _free(self, hfn_t frame) except -1 nogil:
        cdef Walk walk
        self.clock.spend(CPU_RECLAIM, self.clock.costs.evict)
        self.eviction.changes += 1
        self.mapping.rmap.walk(frame, &walk)
        self.mapping.unmap(walk.id, walk.index)
        self.lazies.released -= 1               # as which it was counted when it left the list
        self.lazies.freed += 1
        return 0
