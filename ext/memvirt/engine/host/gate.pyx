"""Who may call a host, and when.

One thread per host: a second one that enters while a batch runs, or at all, even to look, gets an InvariantError. A host
that is closed, or that a fork has copied into another process, refuses everything: the child's copy of memory would write
over the parent's pages in the swap file that both have.

Every call asks which process it is in. The kernel takes a microsecond to answer that, longer than most calls take, so the
answer is kept, and a child that is forked asks anew before it does anything else.

A run lets other calls in while it asks its decider, but none that is about all VMs or the whole of simulated time: another
run, the end of the host.
"""

from cpython.pythread cimport PyThread_get_thread_ident
from posix.unistd cimport getpid

from memvirt.errors import ConfigError, InvariantError

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*before)() noexcept nogil, void (*in_parent)() noexcept nogil,
                       void (*in_child)() noexcept nogil)

cdef int this_process


cdef void _look_which_process() noexcept nogil:
    global this_process
    this_process = getpid()


_look_which_process()
if pthread_atfork(NULL, NULL, _look_which_process):
    raise MemoryError("what is done in a forked child")


cdef class Gate:

    def __cinit__(self):
        self.thread = PyThread_get_thread_ident()
        self.process = this_process

    cpdef int look(self) except -1:
        if self.closed:
            raise ConfigError("the host is closed")
        if self.is_forked():
            raise ConfigError(f"this host belongs to process {self.process}: a process that was forked from it makes hosts "
                              f"of its own")
        if PyThread_get_thread_ident() != self.thread:
            raise InvariantError("a host belongs to the thread that made it")
        return 0

    cdef bint is_forked(self) noexcept:
        return this_process != self.process

    cdef int enter(self) except -1:
        self.look()
        if self.entered:
            raise InvariantError("a host runs one call at a time, and is in the middle of one")
        self.entered = True
        self.entries += 1
        return 0

    cdef void leave(self) noexcept:
        self.entered = False

    cpdef int require_idle(self, str what) except -1:
        self.look()
        if self.entered:
            raise InvariantError("a host runs one call at a time, and is in the middle of one")
        if self.running:
            raise ConfigError(f"{what}: a host runs one call at a time, and is in the middle of a run; do it when that is "
                              f"over (a decider says in its Targets what to do; accesses are the streams' business)")
        return 0

    cdef int pass_by(self) except -1:
        self.enter()
        self.leave()
        return 0
