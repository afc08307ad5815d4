"""The harvest: at fixed intervals of simulated time the accessed marks of all pages are collected at once.

Three things learn from it: the replacement order, which is told of every page that was accessed; the ages of pages (see
`ages`), from which deciders take how much of a VM is cold; and each VM's number of active pages. Between harvests marks
are read only when a page is a candidate for eviction.

It costs no VM time: a thread of the hypervisor does it.
"""

from ..agenda cimport FOREVER
from ..mapping.mapping cimport Mapping
from ..mapping.charges cimport Account
from ..memory.frames cimport FRAME_GUEST, Frame
from ..simtime cimport Actor
from ..types cimport MAX_VMS, NONE, NONE16, hfn_t, int64_t, uint32_t


cdef class Harvester(Actor):
    """Of one host. `interval_ns`: simulated; 0: only when asked."""

    def __cinit__(self, Mapping mapping not None, int64_t interval_ns):
        self.mapping = mapping
        self.frames = mapping.frames
        self.clock = mapping.clock
        self.meter = mapping.meter
        self.pause_ns = interval_ns

    cdef int64_t rest(self) noexcept nogil:
        return self.now_ns + self.pause_ns if self.pause_ns else FOREVER

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """Tell the order of every accessed mark on the host; marks found. One that is interrupted has not taken place:
        the marks it took have been told of, ages are as they were."""
        cdef uint32_t id, found, slot, total = 0
        cdef Account *account
        for id in range(MAX_VMS):
            self.mapping.charges.of[id].active = 0
        for id in range(self.mapping.leaves.records.end()):
            if not self.mapping.leaves.at(id).used:
                continue
            if self.clock.interrupt.asked():
                return total
            found = self.mapping.tables.harvest_leaf(id)
            total += found
            slot = self.mapping.leaves.at(id).holders
            while slot != NONE:
                account = &self.mapping.charges.of[self.mapping.leaves.slot(slot).vm]
                account.active += found
                slot = self.mapping.leaves.slot(slot).next
        self._count_ages()
        self.meter.ev.harvested += total
        self.meter.ev.harvests += 1
        return total

    cdef void _count_ages(self) noexcept nogil:
        cdef hfn_t frame
        cdef Frame *record
        self.mapping.ages.clear()
        for frame in range(self.frames.nr_frames):
            record = &self.frames.frame[frame]
            if record.state == FRAME_GUEST and record.charge != NONE16:
                self.mapping.ages.count(frame, record.charge)
