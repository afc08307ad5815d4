"""The hardware that a guest believes to run on: the requests it makes of it, and nothing that answers them.

A host implements them on its own memory (host_hardware.pyx), tests on an array of tags. An answer is an outcome. A request
may also raise, when bytes do not come back that had left memory. Either way it has done nothing, and the guest undoes its
own part.
"""

from memvirt.errors import InvariantError

from ..types cimport gfn_t, int64_t, uint32_t, vpn_t


cdef int undefined(Hardware hardware) except -1 nogil:
    with gil:
        raise InvariantError(f"{type(hardware).__name__} does not define all that a guest may request")


cdef class Hardware:
    """Base of what guests run on: every request fails loudly until a subclass defines it."""

    cdef int clear(self, gfn_t gfn) except -1 nogil:
        return undefined(self)

    cdef int read_file(self, gfn_t gfn, vpn_t vpn) except -1 nogil:
        return undefined(self)

    cdef int read_out(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        return undefined(self)

    cdef int write_in(self, gfn_t gfn, uint32_t slot) except -1 nogil:
        return undefined(self)

    cdef int forget_slot(self, uint32_t slot) except -1 nogil:
        return undefined(self)

    cdef int release(self, gfn_t gfn) except -1 nogil:
        return undefined(self)

    cdef int release_block(self, gfn_t first) except -1 nogil:
        return undefined(self)

    cdef int move(self, gfn_t source, gfn_t target) except -1 nogil:
        return undefined(self)

    cdef int install(self, gfn_t first) except -1 nogil:
        return undefined(self)

    cdef void pay(self, GuestWork work, uint32_t times) noexcept nogil:
        pass

    cdef int64_t now(self) noexcept nogil:
        return 0

    cdef int64_t count_aside(self) noexcept nogil:
        return 0

    cdef int begin_report(self, bint message) except -1 nogil:
        return 0

    cdef uint32_t end_report(self) noexcept nogil:
        return 0

    cdef uint32_t count_freed(self) noexcept nogil:
        return 0

    cdef int flush(self, vpn_t vpn) except -1 nogil:
        return undefined(self)

    cdef bint test_and_clear_accessed(self, vpn_t vpn, gfn_t gfn) noexcept nogil:
        return False

    cdef void rehome(self, const vpn_t *vpn_of) noexcept nogil:
        pass
