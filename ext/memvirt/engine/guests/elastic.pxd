from ..types cimport int64_t, uint32_t
from .guest cimport Guest


cdef class Elastic:
    # How a guest gives memory to the host, and has it back. One way is one file; it knows no guest, and keeps nothing.
    cdef uint32_t per_message           # units that a message names at most; 0: there are no messages
    cdef int64_t back_off_ns            # after a step that came to nothing: until the next
    cdef int64_t most_back_off_ns       # twice as long each time, up to this

    # Move up to `units` units toward the guest's balloon_target. OK: all of them, or the target is reached; else why not:
    # REFUSED (floor), EMPTY (no unit can be had), or what the hardware said. *moved counts pages, in every case.
    cdef int step(self, Guest guest, uint32_t units, uint32_t *moved) except -1 nogil
    cdef int _step(self, Guest guest, uint32_t units, uint32_t *moved) except -1 nogil
    # One unit: it is the balloon's, and the host has been told. OK, EMPTY or what the hardware said.
    cdef int give(self, Guest guest) except -1 nogil
    # What a unit costs that has come back; it is the last one that was given.
    cdef void returned(self, Guest guest) noexcept nogil


# Give up this block, taken for it. What the hardware said; then it is free again.
cdef int give_block(Guest guest, uint32_t first) except -1 nogil
