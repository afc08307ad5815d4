"""Free page reporting: guests name their free blocks, and the host takes the frames behind them.

    a block is free ──── report_delay ────▶ pass: messages ──▶ nothing left: asleep until another block is free
                                             │  ▲
                                             └──┘ report_delay, if more are free than a pass may name

A pass is Linux's (mm/page_reporting.c): it begins 2 s after the first free block (PAGE_REPORTING_DELAY), names up to 32
blocks in a message (PAGE_REPORTING_CAPACITY), and sends at most a message for each 512 free blocks, and one more, so
that a guest that is idle has reported all in some 30 s; a guest with few free pages is left alone. The order of a block
is the guest's (`report_order`; Linux's own is pageblock_order, 9). A list of larger blocks has no budget of its own here.

Each VM's passes run on a clock of their own, as each has its worker in its own kernel: what one VM reports does not delay
another. What a pass costs: an exit for each message (costs.fault), and for each frame that comes free what giving it back
costs (costs.evict). Pages that were named and frames that came free are counted apart: a page that the host never gave a
frame to, or that is pinned, brings none.

Where reports are hints (HostHardware.hints), the host takes nothing at once: the pages are given up lazily, stay mapped,
and go before any other when frames are short. A guest that uses one first has it back without a frame or a cleared page,
for a walk of the tables that sees the write. That is what a host does which answers hints with madvise(MADV_FREE).
"""

from ..agenda cimport FOREVER
from ..mapping.lazylist cimport LazyList
from ..simtime cimport Actor, Clock
from ..types cimport OK, uint64_t
from .balloon cimport Balloon
from .balloon_driver cimport MESSAGE_BLOCKS, may_report, report, unreported
from .guest cimport Guest

cdef enum:
    FREE_PER_MESSAGE = 16 * MESSAGE_BLOCKS  # free blocks for each message of a pass; as page_reporting_cycle


cdef class Reporting(Actor):
    """Of one host."""

    def __cinit__(self, Clock clock not None, LazyList lazies not None):
        cdef uint32_t vm
        self.clock = clock
        self.lazies = lazies
        for vm in range(MAX_VMS):
            self.due_ns[vm] = FOREVER

    cdef void join(self, vmid_t vm, Balloon worker) noexcept:
        self.worker[vm] = <void *>worker
        self.due_ns[vm] = FOREVER

    cdef void leave(self, vmid_t vm) noexcept:
        self.worker[vm] = NULL
        self.due_ns[vm] = FOREVER

    cdef int look(self, vmid_t vm, int64_t now) except -1 nogil:
        if self.worker[vm] == NULL or self.due_ns[vm] != FOREVER or (<Balloon>self.worker[vm]).guest is None:
            return 0
        self._plan(vm, (<Balloon>self.worker[vm]).guest, now)
        if self.clock.agenda.at(self.number) > self.due_ns[vm]:
            self.clock.agenda.put(self.number, self.due_ns[vm])
        return 0

    cdef void _plan(self, uint32_t vm, Guest guest, int64_t now) noexcept nogil:
        """Its next pass, if it has anything to report."""
        self.due_ns[vm] = now + guest.report_delay_ns if unreported(guest) and may_report(guest) else FOREVER

    cdef uint32_t _first(self) noexcept nogil:
        """The VM whose pass is due first, of equals the lowest."""
        cdef uint32_t vm, first = 0
        for vm in range(MAX_VMS):
            if self.due_ns[vm] < self.due_ns[first]:
                first = vm
        return first

    cdef int64_t rest(self) noexcept nogil:
        return self.due_ns[self._first()]

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        """The pass that is due; pages that the host held and holds no more, or may take: to name others changes nothing."""
        cdef uint32_t vm = self._first()
        if self.due_ns[vm] == FOREVER:
            return 0
        if (<Balloon>self.worker[vm]).guest is None:
            self.due_ns[vm] = FOREVER
            return 0
        return self._pass(vm, (<Balloon>self.worker[vm]).guest)

    cdef uint32_t _pass(self, uint32_t vm, Guest guest) except? 0xFFFFFFFF nogil:
        cdef uint32_t blocks = unreported(guest)
        cdef uint64_t before = guest.count.report_freed + self.lazies.marked
        cdef uint32_t messages = 1 + (blocks + guest.memory.nr_reported + FREE_PER_MESSAGE - 1) / FREE_PER_MESSAGE
        if guest.installs:                  # the host reads all of the table at once
            messages = 1 + blocks / MESSAGE_BLOCKS
        while messages and blocks and not self.clock.interrupt.asked():
            messages -= 1
            if report(guest, MESSAGE_BLOCKS, &blocks) != OK:        # it tries again, but not at once
                self.clock.wait_until(self.clock.now + self.clock.costs.wait_quantum)
                break
        if not self.clock.interrupt.caught:
            self._plan(vm, guest, self.clock.now)
        return guest.count.report_freed + self.lazies.marked - before
