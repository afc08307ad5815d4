"""The balloon's worker: moves a guest's balloon to its target, a message at a time, beside the VMs.

A message names up to 256 pages, as virtio-balloon's do, and takes its time; the next one follows it. After a message
that the guest or the host refused the worker rests before it tries again. It sleeps where the balloon is what it should
be, and `look` wakes it when it is not: a new target, pages that a guest without memory took back, another guest.
"""

from ..agenda cimport FIRST_BALLOON, FOREVER
from ..counters cimport CPU_BALLOON
from ..simtime cimport Actor, Clock
from ..types cimport OK, int64_t, uint32_t
from .balloon_driver cimport balloon_step

cdef enum:
    MESSAGE_PAGES = 256                 # as virtio-balloon
    BACK_OFF_NS = 200_000_000           # after a refusal, as virtio-balloon


cdef class Balloon(Actor):
    """Of VM `vm`; `guest` is set when it has one, and again when that is replaced."""

    def __cinit__(self, Clock clock not None, uint32_t vm):
        self.clock = clock
        self.number = FIRST_BALLOON + vm
        self.share = MESSAGE_PAGES

    cdef void look(self, int64_t now) noexcept nogil:
        if self.guest is not None and self.guest.memory.nr_balloon != self.guest.balloon_target:
            self.wake(now)

    cdef int64_t rest(self) noexcept nogil:
        return self.now_ns + self.pause_ns if self.guest.memory.nr_balloon != self.guest.balloon_target else FOREVER

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """One message's worth on the running clock; pages moved. `outcome` says why they were not `want`."""
        cdef uint32_t before = self.guest.memory.nr_balloon, moved = 0
        self.outcome = balloon_step(self.guest, want, &moved)
        if self.guest.memory.nr_balloon < before:   # deflating asks nothing of the host; inflating is charged per release
            self.clock.spend(CPU_BALLOON, (before - self.guest.memory.nr_balloon) * self.clock.costs.balloon_page)
        self.pause_ns = 0 if self.outcome == OK else BACK_OFF_NS
        return moved
