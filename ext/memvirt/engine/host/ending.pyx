"""How VMs end, and hosts.

What may fail comes first: a VM that cannot end is as it was. Whoever still has the object of one that has ended keeps
nothing of the host by that, and what the VM counted can be asked of it as before.
"""

from ..mapping.spaces cimport close_space
from .fixed cimport give_fixed


cpdef object destroy_vm(Engine engine, Vm vm):
    engine.own(vm)
    engine.enter()
    try:
        engine.clock.now = min(vm.now_ns, engine.reached_ns)    # it may sleep, or have run ahead
        engine.dismiss(vm)
        engine.stalls.stop(vm.id, vm.now_ns)
        vm.last_stall, vm.last_busy_ns = vm.stall(), engine.stalls.busy(vm.id, vm.now_ns)
        vm.last_waited_ns = engine.stalls.waited(vm.id)
        if engine.scanner is not None:
            engine.scanner.forget_vm(vm.id)
        close_space(engine.mapping, vm.id)
        give_fixed(engine.frames, vm.fixed)
        vm.fixed = []
        _keep_counts(engine, vm)
        vm.end()
        engine.keep_limits()
        if engine.vms.get(vm.name) is vm:
            del engine.vms[vm.name]
        else:
            engine.snapshots.remove(vm)
    finally:
        engine.leave()
    engine.clock.interrupt.deliver()


cdef int _keep_counts(Engine engine, Vm vm) except -1:
    """The VM's guest goes; what it counted stays, and so does what only others count."""
    if vm.guest is not None:
        counts = dict(engine.ended or {})
        for name, count in vm.guest.counters().items():
            counts[name] = counts.get(name, 0) + count
        engine.ended = counts
    return 0


def close(Engine engine not None):
    """Give memory, files and descriptors back to this machine now, whatever objects of the host are kept."""
    cdef Vm vm
    if engine.gate.closed:
        return
    if not engine.gate.is_forked():         # a forked child gives back its copies, whatever went on at the fork
        engine.gate.require_idle("close")
    for vm in [*engine.vms.values(), *engine.snapshots]:
        vm.last_stall = vm.stall()
        engine.mapping.tcache.close(vm.id)
        vm.end()
    engine.gate.closed = True
    engine.vms.clear()
    engine.snapshots.clear()
    engine.mapping.listener = None          # the index knows the mapping, which would know it
    if engine.index is not None:
        engine.index.follower = None
    engine.frames.release()
    engine.content.release()
    if engine.mapping.swap is not None:
        engine.mapping.swap.release()
