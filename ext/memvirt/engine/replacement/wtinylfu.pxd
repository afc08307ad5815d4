cimport cython

from ..types cimport uint8_t, uint32_t, uint64_t
from .lists cimport Link
from .order cimport Order

cdef extern from "replacement/sketch.h":
    ctypedef struct Sketch:
        uint32_t *counters
        uint32_t nr_counters
    uint32_t sketch_size(uint32_t keys) noexcept nogil
    uint32_t sketch_estimate(const Sketch *sketch, uint32_t key) noexcept nogil
    void sketch_add(Sketch *sketch, uint32_t key, uint32_t times) noexcept nogil
    void sketch_forget(Sketch *sketch, uint32_t key) noexcept nogil
    void sketch_age(Sketch *sketch) noexcept nogil


@cython.final
cdef class WTinyLfu(Order):
    cdef Link *_links                   # ids, then the sentinels of window, probation and protected
    cdef uint8_t *_state                # per id: 1 + its list
    cdef uint32_t *_key                 # per id: what the sketch knows it as, NONE without history
    cdef uint32_t *_seen                # per id without history: how often it was seen
    cdef Sketch _sketch
    cdef uint32_t _nr[3]                # residents of each list
    cdef uint32_t _window_size, _main_size      # shares of the capacity
    cdef uint32_t _main_limit           # pages that main has room for, as the last eviction showed
    cdef uint32_t _probation_size, _protected_size
    cdef uint64_t _hits                 # references of pages of main since the counts were halved
    cdef uint32_t _winner               # the page of the window that beat the candidate; NONE: nobody
    cdef uint32_t _loser                # the candidate of a contest between window and main; NONE: there was none
    cdef void _enter(self, uint32_t id, uint32_t list_) noexcept nogil
    cdef void _leave(self, uint32_t id) noexcept nogil
    cdef void _admit(self, uint32_t id) noexcept nogil
    cdef void _climb(self, uint32_t id) noexcept nogil
    cdef void _note(self, uint32_t id) noexcept nogil
    cdef uint32_t _frequency(self, uint32_t id) noexcept nogil
    cdef void _halve(self) noexcept nogil
    cdef uint32_t _of_main(self) noexcept nogil
    cdef void prefetch(self, uint32_t id) noexcept nogil
