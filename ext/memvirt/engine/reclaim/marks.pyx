"""What an order may do to a host's page tables: clear the accessed marks of a page that it moves between its lists.

It costs what a look at a candidate costs, and is counted as one: the kernel walks the page's reverse map for it as well.
"""

from ..counters cimport CPU_RECLAIM
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport FRAME_GUEST
from ..replacement.order cimport Marks
from ..types cimport uint32_t


cdef class TableMarks(Marks):
    """Of one host; ids are its frames."""

    def __cinit__(self, Mapping mapping not None):
        self.mapping = mapping

    cdef int clear(self, uint32_t id) except -1 nogil:
        """A frame that was read ahead is in no table: nobody has asked for it."""
        self.mapping.meter.ev.reclaim_scanned += 1
        self.mapping.clock.spend(CPU_RECLAIM, self.mapping.clock.costs.reclaim_visit)
        if self.mapping.frames.frame[id].state != FRAME_GUEST:
            return 0
        return self.mapping.tables.test_and_clear_accessed(id)
