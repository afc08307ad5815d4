"""Asking the decider: at its interval, and when free memory falls below the level that it gave.

    interval     |---------------|---------------|---------------|     asked at each end of one
    free memory  ======== level ......                                 and at the next turn of anybody when it falls below,
                         ========                                      at most MOST_WAKES times in an interval

It takes no simulated time. What a decider does (make balloons move, take pages, keep VMs from running) is done between two
turns. One that is given again in another run goes on with the interval that it was in, and with its level; another one
begins anew.
"""

from memvirt.errors import DeciderError

from ..agenda cimport DECIDER, FOREVER
from ..types cimport NONE, uint64_t
from .engine cimport END_NS
from .vm cimport Vm

cdef enum:
    MOST_WAKES = 16             # times a decider is asked between two times that are due
    BLOCK_LIMIT = 10000         # decisions in a row that let no VM run, and keep one from it, before that is an error


cdef class Deciding(Actor):
    """Asks the decider at its interval, and below its level of free memory, in no time. One that is given again goes on
    with the interval it was in."""

    cdef int begin(self, Engine engine, object key, object decide, int64_t interval_ns) except -1:
        cdef Vm vm
        if key is not self.key or self.key is None:
            self.key = key
            self.next_ns = self.due_ns = min(engine.reached_ns, END_NS - 1) + interval_ns
            self.armed, self.wakes, self.idle, engine.wake_below = False, MOST_WAKES, 0, 0
            for vm in engine.vms.values():
                vm.block_above = NONE
        self.clock, self.number = engine.clock, DECIDER
        self.engine, self.decide, self.pause_ns = engine, decide, interval_ns
        self.clock.agenda.put(DECIDER, max(self.next_ns, engine.reached_ns))
        return 0

    cdef int end(self) except -1:
        if self.decide is not None:
            self.next_ns = self.clock.agenda.at(DECIDER)
            self.clock.agenda.put(DECIDER, FOREVER)
        self.engine = self.decide = None
        return 0

    cdef bint look(self, int64_t now) noexcept nogil:
        """Whether free memory has fallen below the decider's level: then it is asked now."""
        if self.engine.frames.buddy.nr_free >= self.engine.wake_below:
            self.armed = True
        elif self.armed and self.wakes:
            self.armed = False
            self.wakes -= 1
            self.clock.agenda.put(self.number, min(now, self.clock.agenda.at(self.number)))
            return True
        return False

    cdef int64_t rest(self) noexcept nogil:
        if self.now_ns >= self.due_ns:
            self.due_ns = self.now_ns + self.pause_ns
            self.wakes = MOST_WAKES
        return self.due_ns

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        with gil:
            self._require_progress()
            self.ask(self.clock.now)
        return 0

    cdef int _require_progress(self) except -1:
        """Whoever keeps all VMs from running does so for ever: nothing else would end a run without an end."""
        self.idle = self.idle + 1 if self.engine.nr_blocks != self.blocks and self.engine.nr_blocks else 0
        self.blocks = self.engine.nr_blocks
        if self.idle > BLOCK_LIMIT:
            raise DeciderError(f"the decider has let no VM run for {BLOCK_LIMIT} decisions in a row "
                               f"(Targets.block_above_pages); let one run, or give less above which it may not")
        return 0

    cdef object ask(self, int64_t now):
        """Whoever has done nothing by then, but to be asked, has changed nothing."""
        cdef uint64_t entries = self.engine.gate.entries
        self.engine.leave()
        try:
            self.decide(now)
        finally:
            self.engine.enter()
            if self.engine.gate.entries == entries + 1:
                self.engine.gate.entries = entries
            self.clock.now = now
            self.armed = self.engine.frames.buddy.nr_free >= self.engine.wake_below
