from ..simtime cimport Actor
from .guest cimport Guest
from ..types cimport int64_t


cdef class Balloon(Actor):
    # The worker that moves one guest's balloon to its target.
    cdef Guest guest            # None: there is none
    cdef int outcome            # of the last message

    # Wakes if the balloon is not at its target.
    cdef void look(self, int64_t now) noexcept nogil
