"""Simulated time: integer nanoseconds, a named cost model, one running actor.

Every VM, the background reclaimer, the scanner and each balloon worker is an actor with a clock of its own. The engine
always runs the actor that is furthest behind, so what they do interleaves in simulated time without threads, and the
same inputs give the same schedule on any machine.

Exactly one clock runs. Whoever lets an actor work sets the running clock to the actor's, and back afterwards; `Actor`
is the one place where that is written for all that work beside the VMs.
"""

from .counters cimport Meter
from .interrupt cimport Interrupt
from .types cimport int64_t, uint32_t


cdef class Clock:
    """The running actor's clock. `costs`: {operation: ns}, integers, one for each field of Costs."""

    def __cinit__(self, Meter meter not None, dict costs not None):
        self.costs = costs
        self.meter = meter
        self.cpu_ns = meter.cpu_ns
        self.now = 0
        self.interrupt = Interrupt()

    @property
    def table(self):
        """The cost model in force, {operation: ns}."""
        return self.costs


cdef class Actor:
    """Base of what works beside the VMs; this one never does."""

    cdef bint due(self, int64_t now) noexcept nogil:
        return False

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        return 0

    cdef int step(self) except -1 nogil:
        self.clock.now = self.now_ns
        self.clock.progress += self.work(self.share)
        self.now_ns = self.clock.now + self.pause_ns
        return 0

    cdef int catch_up(self, int64_t now) except -1 nogil:
        cdef int64_t caller = self.clock.now
        while self.due(now) and not self.clock.interrupt.asked():
            self.step()
        self.clock.now = caller
        return 0
