"""The balloon's worker: moves a guest's balloon to its target, a message at a time, beside the VM or on its processor.

How is the guest's way (elastic.pyx). A message takes its time, the next one follows it. After one that guest or host
refused the worker rests before it tries again, as long as that way's driver does. It sleeps where the balloon is what it
should be, and `look` wakes it when it is not: a new target, pages that a guest without memory took back, another guest.
"""

from ..agenda cimport FIRST_BALLOON, FOREVER
from ..simtime cimport Actor, Clock
from ..types cimport LEAF_ENTRIES, OK, int64_t, uint32_t
from .guest cimport Guest
from .ways cimport way_of


cdef class Balloon(Actor):
    """Of VM `vm`; `serve` says whose when it has a guest, and again when that is replaced."""

    def __cinit__(self, Clock clock not None, uint32_t vm):
        self.clock = clock
        self.number = FIRST_BALLOON + vm

    cdef int serve(self, Guest guest) except -1:
        self.way = way_of(guest)
        self.share = self.way.per_message or LEAF_ENTRIES
        self.guest = guest
        return 0

    cdef void look(self, int64_t now) noexcept nogil:
        if self.guest is not None and self.guest.memory.nr_balloon != self.guest.balloon_target:
            self.wake(now)

    cdef int64_t rest(self) noexcept nogil:
        return self.now_ns + self.pause_ns if self.guest.memory.nr_balloon != self.guest.balloon_target else FOREVER

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """Up to `want` units, on the running clock; pages moved. `outcome` says why they were not as many."""
        cdef uint32_t moved = 0
        self.outcome = self.way.step(self.guest, want, &moved)
        if self.outcome == OK:
            self.pause_ns = 0
        else:
            self.pause_ns = min(max(2 * self.pause_ns, self.way.back_off_ns), self.way.most_back_off_ns)
        return moved
