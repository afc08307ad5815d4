from ..simtime cimport Actor
from ..types cimport int64_t, uint32_t
from .engine cimport Engine


cdef class Deciding(Actor):
    cdef Engine engine          # during a run
    cdef object key             # who is asked
    cdef object decide          # how; None: no run is going on
    cdef int64_t next_ns        # between runs: when it is asked next
    cdef int64_t due_ns         # when its interval ends
    cdef bint armed             # free memory has been at the level, and the decider is asked when it falls below
    cdef uint32_t wakes         # how often that may still be before the interval ends
    cdef uint32_t blocks        # Engine.nr_blocks at the last decision
    cdef uint32_t idle          # decisions in a row since which no VM has run

    cdef int begin(self, Engine engine, object key, object decide, int64_t interval_ns) except -1
    cdef int end(self) except -1
    # Whether free memory has fallen below the decider's level: then it is asked now.
    cdef bint look(self, int64_t now) noexcept nogil
    cdef int _require_progress(self) except -1
    cdef object ask(self, int64_t now)
