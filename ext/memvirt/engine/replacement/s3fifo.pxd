cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .ghosts cimport Ghosts
from .lists cimport Queue
from .order cimport Order


@cython.final
cdef class S3Fifo(Order):
    cdef Queue _small, _main            # residents in order of arrival there
    cdef uint32_t *_ghost_where         # per key
    cdef uint8_t *_ghost_tags           # per key
    cdef Ghosts _ghosts                 # keys evicted from the small queue
    cdef uint32_t *_where               # per id: its slot in the queue it is in
    cdef uint8_t *_state                # per id: SMALL or MAIN, references since arrival or last look << SHIFT
    cdef uint32_t _small_size, _main_size   # planned lengths, their sum is the capacity
    cdef uint32_t _victim               # what candidate() has found and may still stand by; NONE: nothing
    cdef uint32_t _expected             # the key expect() announced
    cdef bint _recalled                 # ... was a ghost
    cdef bint _paper                    # variant
    cdef bint _has_evicted              # something was taken since the beginning
    cdef void prefetch(self, uint32_t far, uint32_t near) noexcept nogil
    cdef Queue *_queue_of(self, uint32_t id) noexcept nogil
    cdef uint32_t _sweep_small(self) noexcept nogil
    cdef uint32_t _sweep_main(self) noexcept nogil
