"""What a time line holds of a host: numbers that are there to be read, without a recount, for they are taken while VMs run.

A look costs a few microseconds, so hundreds in a phase do not show in its time. It changes nothing: it does not even
settle the stalls, which whoever lets VMs run has done up to the present.
"""

from memvirt.names import FAULTS, FRAME_USES, MECHANISMS, SAMPLED_COUNTS, SAMPLED_STATES

from .core cimport Core
from .vm cimport Vm
from ..counters cimport NR_MECHANISMS, Events
from ..mapping.backing cimport BACKING_SAME, BACKING_SWAP, BACKING_ZPOOL

from memvirt.errors import InvariantError

cdef tuple STORES = (BACKING_SAME, BACKING_ZPOOL, BACKING_SWAP)


def of_host(Core engine not None):
    """[numbers], those of SAMPLED_STATES and then those of SAMPLED_COUNTS."""
    cdef Events *ev = &engine.meter.ev
    cdef int i
    found = [engine.frames.nr_state[i] for i in range(len(FRAME_USES))]
    for i in STORES:
        found.append(engine.mapping.backings.nr_kind[i] - engine.mapping.backings.nr_cached[i])
    found += [ev.fault_zero, ev.fault_huge, ev.fault_cow, ev.fault_reuse, ev.fault_cached, ev.fault_same, ev.fault_zpool,
              ev.fault_swap, ev.reclaim_background, ev.reclaim_direct, ev.evicted_same, ev.evicted_zpool, ev.evicted_swap,
              ev.swap_pages_out, ev.swap_pages_in, ev.zpool_written_back, ev.merges, ev.cow_breaks_shared,
              ev.leaf_copies, ev.balloon_pages_released, ev.compact_moved,
              engine.stalls.some.total_ns, engine.stalls.full.total_ns]
    for i in range(NR_MECHANISMS):
        found.append(engine.meter.cpu_ns[i])
    return found


def of_vms(Core engine not None):
    """{VM: (frames charged to it, pages that the last harvest found accessed, pages in its balloon)}, oldest first."""
    cdef Vm vm
    found = {}
    for name, vm in engine.vms.items():
        found[name] = (engine.mapping.account[vm.id].charged, engine.mapping.account[vm.id].active,
                       vm.guest.nr_balloon if vm.has_guest else 0)
    return found


if len(SAMPLED_STATES) != len(FRAME_USES) + len(STORES) or len(SAMPLED_COUNTS) != len(FAULTS) - 1 + 15 + len(MECHANISMS):
    raise InvariantError("sample.pyx and memvirt.names sample different numbers")
