"""What a time line holds of a host: numbers that are there to be read, without a recount, for they are taken while VMs run.

A look costs a microsecond or two, so hundreds in a phase do not show in its time; therefore a row is handed out packed, and
made into numbers once the phase has ended. It changes nothing: it does not even settle the stalls, which whoever lets
VMs run has done up to the present.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from memvirt.errors import InvariantError
from memvirt.names import FAULTS, FRAME_USES, MECHANISMS, SAMPLED_COUNTS, SAMPLED_OF_VM, SAMPLED_STATES

from .engine cimport Engine
from .vm cimport Vm
from ..counters cimport FAULT_SWAP, FAULT_ZERO, NR_MECHANISMS, Events
from ..mapping.backing cimport BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL
from ..memory.frames cimport NR_FRAME_STATES
from ..types cimport int64_t, uint32_t, uint64_t

cdef enum:
    NR_EVENTS = 13
    OF_VM = 3

cdef struct Row:
    # In the order of memvirt.names.
    int64_t usage[NR_FRAME_STATES]
    int64_t stores[3]
    int64_t faults[FAULT_SWAP - FAULT_ZERO + 1]
    int64_t events[NR_EVENTS]
    int64_t stalls[2]
    int64_t cpu_ns[NR_MECHANISMS]


def take(Engine engine not None):
    """(row of the host, names of its VMs, their rows): int64 as bytes, of the host SAMPLED_STATES and SAMPLED_COUNTS, of
    each VM SAMPLED_OF_VM."""
    cdef bytes host = PyBytes_FromStringAndSize(NULL, sizeof(Row))
    cdef bytes vms = PyBytes_FromStringAndSize(NULL, len(engine.vms) * OF_VM * sizeof(int64_t))
    cdef int64_t *place = <int64_t *>PyBytes_AS_STRING(vms)
    cdef Vm vm
    _fill(engine, <Row *>PyBytes_AS_STRING(host))
    for vm in engine.vms.values():
        place[0] = engine.mapping.charges.of[vm.id].charged
        place[1] = engine.mapping.charges.of[vm.id].active
        place[2] = vm.guest.memory.nr_balloon if vm.guest is not None else 0
        place += OF_VM
    return host, tuple(engine.vms), vms


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
    for i in range(FAULT_SWAP - FAULT_ZERO + 1):
        row.faults[i] = faults[i]
    row.events = [ev.reclaim_background, ev.reclaim_direct, ev.evicted_same, ev.evicted_zpool, ev.evicted_swap,
                  ev.swap_pages_out, ev.swap_pages_in, ev.zpool_written_back, ev.merges, ev.cow_breaks_shared,
                  ev.leaf_copies, ev.balloon_pages_released, ev.compact_moved]
    row.stalls = [engine.stalls.some.total_ns, engine.stalls.full.total_ns]
    for i in range(NR_MECHANISMS):
        row.cpu_ns[i] = engine.meter.cpu_ns[i]


if (len(SAMPLED_STATES), len(SAMPLED_COUNTS), len(SAMPLED_OF_VM)) != (
        len(FRAME_USES) + 3, len(FAULTS) - 1 + NR_EVENTS + 2 + len(MECHANISMS), OF_VM):
    raise InvariantError("sample.pyx and memvirt.names sample different numbers")
