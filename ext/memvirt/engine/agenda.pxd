from .types cimport MAX_VMS, int64_t, uint32_t

cdef extern from *:
    """
    #include <stdint.h>
    #define MEMVIRT_FOREVER INT64_MAX
    """
    const int64_t FOREVER "MEMVIRT_FOREVER"

cdef enum:
    # Who works, by number; of two at the same time the lower goes first.
    FIRST_BALLOON = 16              # + VM: the worker of its balloon. Below: the host's actors, as in Engine.actors
    DECIDER = FIRST_BALLOON + MAX_VMS
    FIRST_VM = DECIDER + 1          # + VM
    NUMBERS = FIRST_VM + MAX_VMS

cdef struct Entry:
    int64_t at_ns
    uint32_t who


cdef class Agenda:
    # What happens next: for each of those who work the time at which it does.
    cdef Entry *_heap               # [nr]: a binary heap, earliest first
    cdef uint32_t *_place           # [NUMBERS]: index in the heap plus 1; 0: not in it
    cdef readonly uint32_t nr

    # Who comes next, and when; NONE when nobody does.
    cdef inline uint32_t first(self, int64_t *at_ns) noexcept nogil:
        if self.nr == 0:
            return 0xFFFFFFFF
        at_ns[0] = self._heap[0].at_ns
        return self._heap[0].who

    # When this one works next; FOREVER: not before it is woken.
    cdef inline int64_t at(self, uint32_t who) noexcept nogil:
        return self._heap[self._place[who] - 1].at_ns if self._place[who] else FOREVER

    cdef void put(self, uint32_t who, int64_t at_ns) noexcept nogil
    cdef void _rise(self, uint32_t i, Entry entry) noexcept nogil
    cdef void _sink(self, uint32_t i, Entry entry) noexcept nogil
    cpdef object check(self)
