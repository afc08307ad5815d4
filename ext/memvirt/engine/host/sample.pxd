from ..simtime cimport Actor
from ..types cimport int64_t, uint32_t
from .engine cimport Engine

cdef struct Sampled


cdef class Samples(Actor):
    # The rows of one phase; works as an actor while VMs run.
    cdef Engine engine
    cdef Sampled *_rows               # [most]
    cdef uint32_t most              # rows there may be, the last included
    cdef readonly uint32_t nr       # rows there are
    cdef list fleets                # whose VMs rows have: tuples of names, in the order in which they came up
    cdef int64_t began_ns           # where steps begin
    cdef int64_t due_ns             # when the next look is due
    cdef readonly int64_t step_ns

    # A row, if one is due: what there is at that time.
    cpdef int64_t look(self, int64_t now) except -1
    cdef int64_t _place(self, int64_t now) noexcept nogil
    cdef void _thin(self) noexcept
    cdef int _append(self, int64_t now) except -1
    cdef int _of_vms(self, Sampled *row) except -1
    cdef bint _are(self, tuple names) noexcept
