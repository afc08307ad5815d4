from .types cimport uint32_t


cdef class Interrupt:
    # Says whether to stop: asked by whatever works for long without the interpreter.
    cdef bint caught            # a signal handler has raised; kept until `deliver`
    cdef object raised          # what it raised
    cdef uint32_t calls         # of `asked`
    cdef long long looked_ns    # this machine's time at the last look for signals

    # Ask once per page, turn or chunk. True: end now, as when memory runs out; what is done stays done.
    cdef inline bint asked(self) noexcept nogil:
        self.calls += 1
        if self.calls & 31:
            return self.caught
        return self.look()

    # Something slow has been done (a disk): the next `asked` looks.
    cdef inline void hurry(self) noexcept nogil:
        self.calls |= 31

    cdef bint look(self) noexcept nogil
    # Raise what a handler raised, if one did. Called where host, VMs and their callers are whole again.
    cdef int deliver(self) except -1
