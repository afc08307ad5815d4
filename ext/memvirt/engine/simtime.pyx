"""Simulated time: integer nanoseconds, a named cost model, one running actor.

Every VM, the background reclaimer, the scanner and each balloon worker is an actor with a clock of its own. The engine
always runs the actor that is furthest behind (see `agenda`), so what they do interleaves in simulated time without
threads, and the same inputs give the same schedule on any machine.

Exactly one clock runs. Whoever lets an actor work sets the running clock to the actor's, and back afterwards; `Actor`
is the one place where that is written for all that work beside the VMs.
"""

from .agenda cimport FOREVER, Agenda
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
        self.agenda = Agenda()

    @property
    def table(self):
        """The cost model in force, {operation: ns}."""
        return self.costs


cdef class Actor:
    """Base of what works beside the VMs; this one never does."""

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        return 0

    cdef int64_t rest(self) noexcept nogil:
        return FOREVER

    cdef void wake(self, int64_t now) noexcept nogil:
        if self.clock.agenda.at(self.number) == FOREVER:
            self.clock.agenda.put(self.number, max(now, self.now_ns))

    cdef int step(self) except -1 nogil:
        self.clock.now = self.clock.agenda.at(self.number)
        self.clock.progress += self.work(self.share)
        self.now_ns = self.clock.now
        # What was interrupted goes on where it was: it has not slept.
        self.clock.agenda.put(self.number, self.now_ns if self.clock.interrupt.caught else self.rest())
        return 0

    cdef int catch_up(self, int64_t now) except -1 nogil:
        cdef int64_t caller = self.clock.now
        while self.clock.agenda.at(self.number) <= now and not self.clock.interrupt.asked():
            self.step()
        self.clock.now = caller
        return 0
