from ..simtime cimport Actor
from .elastic cimport Elastic
from .guest cimport Guest
from ..types cimport int64_t


cdef class Balloon(Actor):
    # The worker that moves one guest's balloon to its target.
    cdef Guest guest            # None: there is none
    cdef Elastic way            # in which it does; None as guest
    cdef int outcome            # of the last message

    # From now on of this guest.
    cdef int serve(self, Guest guest) except -1
    # Wakes if the balloon is not at its target.
    cdef void look(self, int64_t now) noexcept nogil
