"""Hosts short of memory: stalls, readahead, and the deciders that reclaim ahead of need."""

import numpy as np
import pytest

import memvirt
from memvirt import metrics
from memvirt.policies.base import Targets

MIB = 256  # pages


def stream(seed, pages, batches, size=512, writes=1):
    rng = np.random.default_rng(seed)
    for _ in range(batches):
        yield rng.integers(0, pages, size).astype(np.uint32), np.full(size, writes, np.uint8), None


def test_stall_rises_under_pressure_only():
    for memory, pressed in (("16MiB", False), ("2MiB", True)):
        host = memvirt.Host(memory=memory, swap="16MiB", seed=1)
        vms = [host.create_vm(f"vm{i}", "2MiB") for i in range(2)]
        host.run({vm: stream(i, vm.pages, 8) for i, vm in enumerate(vms)})
        host.check()
        total = host.stall()
        own = [vm.stall_ns for vm in vms]
        assert bool(total["stall_some_ns"]) == pressed
        assert max(own) <= total["stall_some_ns"] <= sum(own)
        assert total["stall_full_ns"] <= min(own) + max(0, abs(vms[0].sim_ns - vms[1].sim_ns))
        assert total["stall_some_ns"] <= host.sim_ns


def test_a_wait_for_memory_is_a_stall():
    host = memvirt.Host(memory="2MiB", on_exhausted="wait", seed=1)
    vm = host.create_vm("a", "4MiB")
    outcome = host.run({vm: [(np.arange(1024, dtype=np.uint32), np.ones(1024, np.uint8))]})[vm]
    assert outcome.reason == "no_frame"
    assert vm.stall_ns >= host.counters()["waits"] > 0
    assert host.stall()["stall_full_ns"] == vm.stall_ns
    host.check()
    vm.destroy()
    assert vm.stall_ns > 0
    host.check()


def test_views_tell_stalls_since_the_last_decision():
    host = memvirt.Host(memory="2MiB", swap="16MiB", seed=1)
    vm = host.create_vm("a", "4MiB")
    seen = []

    class Note:
        interval_ns = 1_000_000

        def decide(self, snapshot):
            seen.append((snapshot.interval_ns, snapshot.vms[0].stall_some_ns))
            host.snapshot()  # looking changes nothing
            return Targets()

    host.run({vm: stream(1, vm.pages, 8)}, decider=Note())
    assert len(seen) > 3 and all(stalled <= interval + 1_000_000 for interval, stalled in seen)
    assert 0 < sum(stalled for _, stalled in seen) <= vm.stall_ns


def test_every_name_of_stall_is_registered():
    host = memvirt.Host(memory="2MiB", seed=1)
    assert not metrics.unregistered(host.stall())


def test_a_failed_read_keeps_the_account_whole():
    host = memvirt.Host(memory="2MiB", swap="16MiB", seed=1)
    vm = host.create_vm("a", "4MiB")
    vm.access(np.arange(1024), np.ones(1024))
    host.engine.mapping.swap.inject("read", 1, 5)
    with pytest.raises(memvirt.StoreError):
        vm.access(np.arange(1024), np.zeros(1024))
    vm.access(np.arange(1024), np.zeros(1024))
    assert vm.stall_ns <= vm.sim_ns
    host.check()
