"""Ctrl-C while the engine works: signals are looked at every few milliseconds, and answered where everything is whole.

The interpreter runs a signal's handler between two of its own instructions, and an engine call may take minutes. So
every long loop asks `asked()`: once per page, per turn of a VM, per chunk of hits. Every LOOK_NS of this machine's time
that lets the interpreter run the handlers that wait. If one raises (KeyboardInterrupt), the exception is kept, and
`asked` says yes from then on: the loop ends early, as if no page could be had any more, and the call unwinds by outcomes
as it does when memory runs out. No fault, guest or scanner needs to know exceptions for that. At the end of the call,
when nothing is half done, `deliver` raises what was kept.
"""

import cython

from cpython.exc cimport PyErr_CheckSignals

cdef extern from "walltime.h" nogil:
    long long memvirt_coarse_ns()

cdef enum:
    LOOK_NS = 8_000_000         # wall time between two looks; a look needs the interpreter's lock


@cython.final
cdef class Interrupt:
    """One per host."""

    cdef bint look(self) noexcept nogil:
        cdef long long now
        if not self.caught:
            now = memvirt_coarse_ns()
            if now - self.looked_ns >= LOOK_NS:
                with gil:
                    try:
                        PyErr_CheckSignals()
                    except BaseException as why:
                        self.raised = why
                        self.caught = True
                self.looked_ns = memvirt_coarse_ns()
        return self.caught

    cdef int deliver(self) except -1:
        if self.caught:
            why, self.raised, self.caught = self.raised, None, False
            raise why
        return 0
