"""Stalls: how long VMs, and the host, wait for memory. The form is that of Linux's pressure stall information (psi).

A VM stalls while one of its accesses waits for what only lack of memory makes it wait for: direct reclaim (its own limit
included), bytes that come back from the zpool or from swap, its guest's own swap, and the sleep of `on_exhausted="wait"`.
The rest of a fault (first touch, copy on write) is work, not a stall. A VM is one task here, so *some* and *full* are
the same for it. While it has work and does not stall it works (`busy` less its stalls): what it is slowed down by is
(work + stall) / work. A VM that sleeps until its next accesses are due has no work.

The host has both: *some* is the time in which at least one VM stalls, *full* the time in which at least one VM has work
and every VM that has work stalls. VMs have clocks of their own, and run ahead of each other by a quantum and more; so
each stall is kept as two edges in a heap, and the account is settled in the order of simulated time, up to the clock of
the VM that is furthest behind: nothing can still happen before that. A VM that starts to run before the settled time
enters the host's account from the settled time on, so that no time is counted twice. Its own account has all of it.

Which waits are pressure. With setting psi = "all-waits" all of these. With "linux" those that the kernel counts: reclaim,
and bytes that come back of pages that were active, and would be again (PG_workingset: swap_read_folio in mm/page_io.c).
Other pages that come back are I/O there, and so is a guest's swap. What a VM is slowed down by is all of it in any case.

     VM a   ──────████████──────────▶            some      ──████████████████──
     VM b   ──████──────████████──▶              full      ────────────████────     (a and b have work, c has none)
     VM c

Averages over 10, 60 and 300 s are moved every 2 s of simulated time, in Linux's fixed point (kernel/sched/psi.c:
collect_percpu_times, calc_avgs, with calc_load of include/linux/sched/loadavg.h): the share of the period in whole per
cent, weighed in with 1 - e^(-2/10), 1 - e^(-2/60), 1 - e^(-2/300) over 2048. Two things are exact here that are not
there: a stall is divided at the end of a period to the nanosecond, and empty periods are counted one by one where the
kernel takes a power. Periods end at even seconds for everybody.

Invariants (check): the heap is one; edges that are to come bring the number of stalled VMs to none, and of those with
work to the flags; full <= some <= time settled.
"""

import cython

from libc.stdint cimport int32_t
from libc.stdlib cimport calloc, free, realloc

from memvirt.errors import InvariantError

from .types cimport MAX_VMS, NONE16, int64_t, uint32_t, uint64_t, vmid_t

cdef enum:
    FIXED_1 = 2048              # 1.0
    EXP_10S = 1677              # FIXED_1 / e^(2 s / 10 s)
    EXP_60S = 1981
    EXP_300S = 2034
    FAULT_EDGES = 64            # a fault notes a handful of stalls, two edges each, between two looks for room

cdef int64_t PERIOD_NS = 2_000_000_000
cdef uint32_t[STALL_WINDOWS] DECAY = [EXP_10S, EXP_60S, EXP_300S]
WINDOWS = ("avg10", "avg60", "avg300")


cdef uint32_t calc_load(uint32_t load, uint32_t decay, uint32_t active) noexcept nogil:
    """One step of the exponential average, rounded up while it rises, so that it reaches 100 %."""
    cdef uint64_t moved = <uint64_t>load * decay + <uint64_t>active * (FIXED_1 - decay)
    if active >= load:
        moved += FIXED_1 - 1
    return <uint32_t>(moved / FIXED_1)


cdef void advance(Pressure *pressure, int64_t now) noexcept nogil:
    """Close the periods that have ended by now."""
    cdef int i
    cdef uint32_t active
    while pressure.period_end_ns <= now:
        active = <uint32_t>(pressure.in_period_ns * 100 / PERIOD_NS) * FIXED_1
        pressure.in_period_ns = 0
        pressure.period_end_ns += PERIOD_NS
        for i in range(STALL_WINDOWS):
            pressure.average[i] = calc_load(pressure.average[i], DECAY[i], active)
        if pressure.average[0] + pressure.average[1] + pressure.average[2] == 0 and pressure.period_end_ns <= now:
            pressure.period_end_ns += (now - pressure.period_end_ns) / PERIOD_NS * PERIOD_NS + PERIOD_NS
    pressure.known_ns = max(pressure.known_ns, now)


cdef void add(Pressure *pressure, int64_t began, int64_t ended) noexcept nogil:
    """A stall, later than all before it."""
    pressure.total_ns += ended - began
    advance(pressure, began)
    while pressure.period_end_ns <= ended:
        pressure.in_period_ns += pressure.period_end_ns - began
        began = pressure.period_end_ns
        advance(pressure, began)
    pressure.in_period_ns += ended - began
    pressure.known_ns = ended


cdef void clear(Pressure *pressure, int64_t now) noexcept nogil:
    cdef int i
    pressure.total_ns = pressure.in_period_ns = 0
    pressure.known_ns = now
    pressure.period_end_ns = now / PERIOD_NS * PERIOD_NS + PERIOD_NS
    for i in range(STALL_WINDOWS):
        pressure.average[i] = 0


cdef uint32_t hundredths(const Pressure *pressure, int window) noexcept nogil:
    """The two digits that /proc/pressure shows."""
    return pressure.average[window] * 100 / FIXED_1


cdef dict report(str state, Pressure *pressure):
    cdef int i
    found = {f"stall_{state}_ns": pressure.total_ns}
    for i in range(STALL_WINDOWS):
        found[f"stall_{state}_{WINDOWS[i]}"] = hundredths(pressure, i)
    return found


@cython.final
cdef class Stalls:
    """Accounts of all VMs of one host."""

    def __cinit__(self, bint as_linux=False):
        self.as_linux = as_linux
        self.vm = <Pressure *>calloc(MAX_VMS, sizeof(Pressure))
        self.works = <uint8_t *>calloc(MAX_VMS, 1)
        self._waited_ns = <int64_t *>calloc(MAX_VMS, sizeof(int64_t))
        self._began_ns = <int64_t *>calloc(MAX_VMS, sizeof(int64_t))
        self._busy_ns = <int64_t *>calloc(MAX_VMS, sizeof(int64_t))
        if (self.vm == NULL or self.works == NULL or self._began_ns == NULL or self._busy_ns == NULL
                or self._waited_ns == NULL):
            raise MemoryError("stall accounts")
        self.running = NONE16
        clear(&self.some, 0)
        clear(&self.full, 0)

    def __dealloc__(self):
        free(self.vm)
        free(self.works)
        free(self._waited_ns)
        free(self._began_ns)
        free(self._busy_ns)
        free(self._heap)

    cpdef int open(self, vmid_t vm, int64_t now) except -1:
        """A new VM, which has not stalled yet."""
        if vm >= MAX_VMS or now < 0:
            raise ValueError(f"VM {vm} at {now} ns: ids are below {MAX_VMS}, times not negative")
        clear(&self.vm[vm], now)
        self._busy_ns[vm] = self._waited_ns[vm] = 0
        return 0

    cdef bint make_room(self) noexcept nogil:
        cdef uint32_t room
        cdef Edge *grown
        if self._room - self._nr_edges < FAULT_EDGES + MAX_VMS:         # each VM may stop
            room = max(2 * self._room, <uint32_t>(2 * (FAULT_EDGES + MAX_VMS)))
            grown = <Edge *>realloc(self._heap, <size_t>room * sizeof(Edge))
            if grown == NULL:
                return False
            self._heap, self._room = grown, room
        return True

    cpdef int start(self, vmid_t vm, int64_t now) except -1 nogil:
        if self.works[vm]:
            with gil:
                raise InvariantError(f"stalls: VM {vm} starts twice")
        if not self.make_room():
            with gil:
                raise MemoryError("edges of stalls")
        self.works[vm] = 1
        self._began_ns[vm] = now
        self._push(max(now, self.settled_ns), 0, 1)
        return 0

    cpdef int stop(self, vmid_t vm, int64_t now) except -1 nogil:
        """The VM has no more work. Nothing if it had none."""
        if not self.works[vm]:
            return 0
        self.works[vm] = 0
        self._busy_ns[vm] += now - self._began_ns[vm]
        self._push(max(now, max(self.settled_ns, self.vm[vm].known_ns)), 0, -1)
        return 0

    cpdef int64_t busy(self, vmid_t vm, int64_t now) noexcept:
        return self._busy_ns[vm] + (now - self._began_ns[vm] if self.works[vm] else 0)

    cpdef int64_t waited(self, vmid_t vm) noexcept:
        return self._waited_ns[vm]

    cdef void note(self, int64_t began, int64_t ended, bint counts) noexcept nogil:
        cdef Pressure *pressure
        if self.running == NONE16:
            return
        pressure = &self.vm[self.running]
        began = max(began, pressure.known_ns)
        if ended <= began:
            return
        self._waited_ns[self.running] += ended - began
        if not counts:
            pressure.known_ns = ended
            return
        add(pressure, began, ended)
        began = max(began, self.settled_ns)
        if began < ended and self.alone:        # the heap would only grow until the batch ends
            self._book(began)
            self._nr_stalled += 1
            self._spend(ended)
            self._nr_stalled -= 1
        elif began < ended:
            self._push(began, 1, 0)
            self._push(ended, -1, 0)

    cdef int wait(self, vmid_t vm, int64_t began, int64_t ended) except -1 nogil:
        if not self.make_room():
            with gil:
                raise MemoryError("edges of stalls")
        self.running = vm
        self.note(began, ended, True)
        self.running = NONE16
        return 0

    cpdef int book_until(self, int64_t now) except -1 nogil:
        self._book(now)
        return 0

    cdef void _book(self, int64_t now) noexcept nogil:
        while self._nr_edges and self._heap[0].at_ns <= now:
            self._spend(self._heap[0].at_ns)
            self._nr_stalled += self._heap[0].stalled
            self._nr_working += self._heap[0].working
            self._pop()
        if now > self.settled_ns:
            self._spend(now)

    cpdef int drain(self) except -1:
        while self._nr_edges:
            self.book_until(self._heap[0].at_ns)
        return 0

    cdef void _spend(self, int64_t until) noexcept nogil:
        """Nothing changed from settled_ns until then: book that time."""
        if until > self.settled_ns and self._nr_stalled > 0:
            add(&self.some, self.settled_ns, until)
            if self._nr_stalled == self._nr_working:
                add(&self.full, self.settled_ns, until)
        self.settled_ns = max(self.settled_ns, until)

    # ---- the heap

    cdef void _push(self, int64_t at_ns, int32_t stalled, int32_t working) noexcept nogil:
        """There is room: see secure."""
        cdef uint32_t i = self._nr_edges
        assert i < self._room
        self._nr_edges += 1
        while i and self._heap[(i - 1) / 2].at_ns > at_ns:
            self._heap[i] = self._heap[(i - 1) / 2]
            i = (i - 1) / 2
        self._heap[i].at_ns = at_ns
        self._heap[i].stalled = stalled
        self._heap[i].working = working

    cdef void _pop(self) noexcept nogil:
        """Drop the earliest edge."""
        cdef uint32_t i = 0, child
        cdef Edge last
        self._nr_edges -= 1
        last = self._heap[self._nr_edges]
        while True:
            child = 2 * i + 1
            if child + 1 < self._nr_edges and self._heap[child + 1].at_ns < self._heap[child].at_ns:
                child += 1
            if child >= self._nr_edges or self._heap[child].at_ns >= last.at_ns:
                break
            self._heap[i] = self._heap[child]
            i = child
        self._heap[i] = last

    # ---- what there is to see

    cdef Pressure *look(self, vmid_t vm, int64_t now) noexcept nogil:
        advance(&self.vm[vm], now)
        return &self.vm[vm]

    def of_vm(self, vmid_t vm, int64_t now):
        """{"stall_some_ns", "stall_some_avg10" … "stall_full_avg300"} of a VM whose clock is at `now`. Averages are
        in 1/100 %."""
        if vm >= MAX_VMS:
            raise ValueError(f"VM {vm}: ids are below {MAX_VMS}")
        self.look(vm, now)
        return report("some", &self.vm[vm]) | report("full", &self.vm[vm])

    def of_host(self):
        """The same of the host, up to settled_ns."""
        advance(&self.some, self.settled_ns)
        advance(&self.full, self.settled_ns)
        return report("some", &self.some) | report("full", &self.full)

    def stall(self, vmid_t vm, int64_t began, int64_t ended):
        """Note a stall of a VM from Python."""
        self.wait(vm, began, ended)

    cpdef object check(self):
        cdef uint32_t i, flags = 0
        cdef int64_t stalled = self._nr_stalled, working = self._nr_working
        for i in range(self._nr_edges):
            if i and self._heap[(i - 1) // 2].at_ns > self._heap[i].at_ns:
                raise InvariantError(f"stalls: edge {i} is earlier than its parent")
            if self._heap[i].at_ns < self.settled_ns:
                raise InvariantError(f"stalls: an edge at {self._heap[i].at_ns} ns, settled up to {self.settled_ns}")
            stalled += self._heap[i].stalled
            working += self._heap[i].working
        for i in range(MAX_VMS):
            flags += self.works[i]
        if stalled or working != flags:
            raise InvariantError(f"stalls: {stalled} VMs stalled and {working} with work when all edges have passed; "
                                 f"0 and {flags} are right")
        if not self.full.total_ns <= self.some.total_ns <= self.settled_ns:
            raise InvariantError(f"stalls: full {self.full.total_ns} <= some {self.some.total_ns} <= "
                                 f"{self.settled_ns} ns must hold")
