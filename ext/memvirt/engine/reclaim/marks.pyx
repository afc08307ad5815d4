"""What an order may do to a host's page tables: clear the accessed marks of a page that it moves between its lists.

It costs what a look at a candidate costs, and is counted as one: the kernel walks the page's reverse map for it as well.
Where a page is in two orders, the other is told of the mark that this one takes.
"""

from ..counters cimport CPU_RECLAIM
from ..mapping.mapping cimport Mapping
from ..memory.frames cimport FRAME_GUEST
from ..replacement.order cimport Marks
from ..types cimport NONE16, hfn_t, uint32_t


cdef class TableMarks(Marks):
    """Of one host; ids are its frames, or for the order of a VM (`whose`) those of that."""

    def __cinit__(self, Mapping mapping not None):
        self.mapping = mapping
        self.whose = NONE16

    cdef int clear(self, uint32_t id) except -1 nogil:
        """A frame that was read ahead is in no table: nobody has asked for it."""
        cdef hfn_t frame = id if self.whose == NONE16 else self.mapping.recency.own[self.whose].frame_of[id]
        self.mapping.meter.ev.reclaim_scanned += 1
        self.mapping.clock.spend(CPU_RECLAIM, self.mapping.clock.costs.reclaim_visit)
        if self.mapping.frames.frame[frame].state != FRAME_GUEST or not self.mapping.tables.test_and_clear_accessed(frame):
            return 0
        if self.whose != NONE16:
            self.mapping.recency.order.touch(frame)
        elif self.mapping.recency.nr_own:
            self.mapping.recency.touch_own(frame)
        return 1
