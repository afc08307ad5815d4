"""The samples of a time line: what a host looks like while VMs run, in as many rows as fit, evenly.

How long a phase will take is not known. So it is sampled at the shortest step first; whenever there is no room for
another row, the step is doubled, and of the rows that lie in one step now the first stays. What is left is what sampling
at the last step from the start would have given: a step of 2 s begins where one of s does.

    step      0       1       2       3       4       5       6       7
    looks     x       x       x       x       x                             full: 5 rows
    doubled   x               x               x               x             the first of each two steps stays

A phase has thousands of looks, most of which are dropped again, and each comes when the caches hold what VMs do. So a look
reads numbers that are there, without a recount, into a row that is there; nothing of it is interpreted. It changes
nothing: it does not even settle the stalls, which whoever lets VMs run has done up to the present.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdlib cimport calloc, free, realloc

from memvirt.errors import InvariantError
from memvirt.names import FAULTS, FRAME_USES, MECHANISMS, SAMPLED_COUNTS, SAMPLED_OF_VM, SAMPLED_STATES

from ..counters cimport FAULT_SWAP, FAULT_ZERO, NR_MECHANISMS, Events
from ..mapping.backing cimport BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL
from ..memory.frames cimport NR_FRAME_STATES
from ..types cimport int64_t, uint32_t, uint64_t
from .engine cimport Engine
from .vm cimport Vm

cdef enum:
    NR_EVENTS = 13
    LEAST_ROWS = 3              # the first, the last, and one that can be thinned between them

cdef struct Row:
    # In the order of memvirt.names.
    int64_t usage[NR_FRAME_STATES]
    int64_t stores[3]
    int64_t decider_state
    int64_t faults[FAULT_SWAP - FAULT_ZERO + 1]
    int64_t events[NR_EVENTS]
    int64_t stalls[2]
    int64_t cpu_ns[NR_MECHANISMS]

cdef struct OfVm:
    int64_t held
    int64_t active
    int64_t balloon

cdef struct Sampled:
    int64_t sim_ns
    Row host
    uint32_t fleet              # index in `fleets`
    uint32_t room               # of `vms`, which a row keeps when it is used again
    OfVm *vms


cdef class Samples(Actor):
    """From the present on, at most `most` rows, `step_ns` apart at first."""

    def __cinit__(self, Engine engine not None, uint32_t most, int64_t step_ns):
        if most < LEAST_ROWS or step_ns < 1:
            raise InvariantError(f"samples: {most} rows, {step_ns} ns apart")
        self._rows = <Sampled *>calloc(most, sizeof(Sampled))
        if self._rows == NULL:
            raise MemoryError("the rows of a time line")
        self.most = most

    def __init__(self, Engine engine not None, uint32_t most, int64_t step_ns):
        self.engine, self.clock = engine, engine.clock
        self.step_ns = step_ns
        self.fleets = []
        self.began_ns = self.due_ns = engine.reached_ns
        self.look(self.began_ns)

    def __dealloc__(self):
        cdef uint32_t i
        if self._rows != NULL:
            for i in range(self.most):
                free(self._rows[i].vms)
            free(self._rows)

    cdef uint32_t work(self, uint32_t want) except? 0xFFFFFFFF nogil:
        if self.clock.now >= self.due_ns:
            with gil:
                self.look(self.clock.now)
        return 0

    cdef int64_t rest(self) noexcept nogil:
        return max(self.due_ns, self.now_ns + 1)

    cpdef int64_t look(self, int64_t now) except -1:
        """Take a row if one is due; when the next one is."""
        if now < self.due_ns:
            return self.due_ns
        while self.nr >= self.most - 1:             # the last row is for the end
            self._thin()
        if self.nr == 0 or self._place(self._rows[self.nr - 1].sim_ns) < self._place(now):
            self._append(now)
        self.due_ns = self.began_ns + (self._place(now) + 1) * self.step_ns
        return self.due_ns

    def end(self, int64_t now):
        """The last row is what there is at that time, the present, in place of one that says so already. Returns
        [(simulated time in ns, row of the host, names of its VMs, their rows)]: int64 as bytes, of the host
        SAMPLED_STATES and SAMPLED_COUNTS, of each VM SAMPLED_OF_VM."""
        cdef Sampled *row
        if self.nr > 1 and self._rows[self.nr - 1].sim_ns == now:
            self.nr -= 1
        self._append(now)
        told = []
        for i in range(self.nr):
            row = &self._rows[i]
            names = self.fleets[row.fleet]
            told.append((row.sim_ns, PyBytes_FromStringAndSize(<char *>&row.host, sizeof(Row)), names,
                         PyBytes_FromStringAndSize(<char *>row.vms, len(names) * sizeof(OfVm))))
        return told

    cdef int64_t _place(self, int64_t now) noexcept nogil:
        """In which step from the start this time lies."""
        return (now - self.began_ns) / self.step_ns

    cdef void _thin(self) noexcept:
        """Rows change places, so that none loses its room for VMs."""
        cdef uint32_t i, kept = 0
        cdef Sampled other
        self.step_ns *= 2
        for i in range(self.nr):
            if kept == 0 or self._place(self._rows[kept - 1].sim_ns) < self._place(self._rows[i].sim_ns):
                if kept < i:
                    other = self._rows[kept]
                    self._rows[kept] = self._rows[i]
                    self._rows[i] = other
                kept += 1
        self.nr = kept

    cdef int _append(self, int64_t now) except -1:
        cdef Sampled *row = &self._rows[self.nr]
        row.sim_ns = now
        _fill(self.engine, &row.host)
        self._of_vms(row)
        self.nr += 1
        return 0

    cdef int _of_vms(self, Sampled *row) except -1:
        cdef dict vms = self.engine.vms
        cdef uint32_t nr = len(vms)
        cdef OfVm *of
        cdef Vm vm
        if row.room < nr:
            of = <OfVm *>realloc(row.vms, nr * sizeof(OfVm))
            if of == NULL:
                raise MemoryError("the rows of a time line")
            row.vms, row.room = of, nr
        if not self.fleets or not self._are(<tuple>self.fleets[len(self.fleets) - 1]):
            self.fleets.append(tuple(vms))
        row.fleet = len(self.fleets) - 1
        of = row.vms
        for vm in vms.values():
            of.held = self.engine.mapping.charges.of[vm.id].charged
            of.active = self.engine.mapping.charges.of[vm.id].active
            of.balloon = vm.guest.memory.nr_balloon if vm.guest is not None else 0
            of += 1
        return 0

    cdef bint _are(self, tuple names) noexcept:
        """Whether these are the names of the VMs there are now: the same objects, which is quick to see, and no other VM
        has them as long as the tuple does."""
        cdef Py_ssize_t at = 0, i = 0
        cdef PyObject *name
        if PyTuple_GET_SIZE(names) != len(self.engine.vms):
            return False
        while PyDict_Next(self.engine.vms, &at, &name, NULL):
            if <void *>name != <void *>PyTuple_GET_ITEM(names, i):
                return False
            i += 1
        return True


cdef void _fill(Engine engine, Row *row) noexcept:
    cdef Events *ev = &engine.meter.ev
    cdef uint64_t *faults = &ev.fault_zero                  # the kinds stand in Events as they do in Fault
    cdef uint32_t *kinds = engine.mapping.backings.nr_kind
    cdef uint32_t *cached = engine.mapping.backings.nr_cached
    cdef int i
    for i in range(NR_FRAME_STATES):
        row.usage[i] = engine.frames.nr_state[i]
    row.stores[0] = <int64_t>kinds[<int>BACKING_SAME] - cached[<int>BACKING_SAME]
    row.stores[1] = <int64_t>kinds[<int>BACKING_ZPOOL] - cached[<int>BACKING_ZPOOL]
    row.stores[2] = <int64_t>kinds[<int>BACKING_SWAP] - cached[<int>BACKING_SWAP]
    row.decider_state = engine.decider_state
    for i in range(FAULT_SWAP - FAULT_ZERO + 1):
        row.faults[i] = faults[i]
    row.events = [ev.reclaim_background, ev.reclaim_direct, ev.evicted_same, ev.evicted_zpool, ev.evicted_swap,
                  ev.swap_pages_out, ev.swap_pages_in, ev.zpool_written_back, ev.merges, ev.cow_breaks_shared,
                  ev.leaf_copies, ev.balloon_pages_released, ev.compact_moved]
    row.stalls = [engine.stalls.some.total_ns, engine.stalls.full.total_ns]
    for i in range(NR_MECHANISMS):
        row.cpu_ns[i] = engine.meter.cpu_ns[i]


if (len(SAMPLED_STATES), len(SAMPLED_COUNTS), len(SAMPLED_OF_VM)) != (
        len(FRAME_USES) + 4, len(FAULTS) - 1 + NR_EVENTS + 2 + len(MECHANISMS), sizeof(OfVm) / sizeof(int64_t)):
    raise InvariantError("sample.pyx and memvirt.names sample different numbers")
