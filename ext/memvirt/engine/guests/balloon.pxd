from ..simtime cimport Actor
from .guest cimport Guest


cdef class Balloon(Actor):
    # The worker that moves one guest's balloon to its target.
    cdef Guest guest            # None: there is none
    cdef int outcome            # of the last message
