from ..types cimport uint64_t


cdef class Gate:
    # Who may call a host, and when.
    cdef readonly bint closed
    cdef bint entered           # a call is going on
    cdef bint running           # ... or a run is, which lets other calls in while its decider is asked
    cdef uint64_t entries       # calls there have been: each may have changed anything
    cdef unsigned long thread   # that made the host
    cdef int process            # ... a forked child has its memory, and shares its files

    # Raises unless the caller may look at the host. Reading is allowed in the middle of a call, as streams do.
    cpdef int look(self) except -1
    # A call begins; raises in the middle of another.
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    # Raises unless the caller has the host to itself: in the middle of a run also where other calls are let in.
    cpdef int require_idle(self, str what) except -1
    # A call that is over at once. Raises in the middle of another.
    cdef int pass_by(self) except -1
    # True in a process that was forked from the one that made the host.
    cdef bint is_forked(self) noexcept
