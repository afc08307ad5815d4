"""Simulated time: integer nanoseconds, a named cost model, one running actor.

Every VM, the background reclaimer, the scanner and each balloon worker is an actor with a clock of its own. The engine
always runs the actor that is furthest behind, so what they do interleaves in simulated time without threads, and the
same inputs give the same schedule on any machine.
"""

from .counters cimport Meter

cdef class Clock:
    """The running actor's clock. `costs`: {operation: ns}, integers, one for each field of Costs."""

    def __cinit__(self, Meter meter not None, dict costs not None):
        self.costs = costs
        self.meter = meter
        self.cpu_ns = meter.cpu_ns
        self.now = 0

    @property
    def table(self):
        """The cost model in force, {operation: ns}."""
        return self.costs
