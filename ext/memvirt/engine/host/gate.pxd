from ..types cimport uint64_t


cdef class Gate:
    # Who may call a host, and when.
    cdef readonly bint closed
    cdef bint entered           # a call is going on
    cdef uint64_t entries       # calls there have been: each may have changed anything
    cdef unsigned long thread   # that made the host
    cdef int process            # ... a forked child has its memory, and shares its files

    # Raises unless the caller may look at the host. Reading is allowed in the middle of a call, as streams do.
    cpdef int look(self) except -1
    # A call begins; raises in the middle of another.
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    # A call that is over at once. Raises in the middle of another.
    cdef int pass_by(self) except -1
    # True in a process that was forked from the one that made the host.
    cdef bint is_forked(self) noexcept
