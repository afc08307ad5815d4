"""Pressure as the kernel counts it: reclaim, and what comes back of pages that were active. Waits stay what they are."""

import numpy as np
import pytest

import memvirt
from memvirt.settings.costs import load as cost_model

READ, WRITE = 0, 1


def thrash(psi, pages, **options):
    """(host, VM) after these accesses by a VM that has twice the host's memory."""
    host = memvirt.Host(**{"memory": "4MiB", "zpool_percent": 40, "zpool_reject_above": 4096, "replacement": "twolist",
                           "psi": psi, "watermarks": {"min": 8, "low": 120, "high": 240}, "seed": 1, **options})  # fmt: skip
    vm = host.create_vm("a", "8MiB")
    vm.access(pages, (np.arange(len(pages)) % 3 == 0).astype(np.uint8))
    host.check()
    return host, vm


def hot_and_cold(rng, count):
    """Nine of ten accesses go to a seventh of the pages, which moves."""
    base = np.arange(count) * 6 // count * 150
    return np.where(rng.integers(0, 10, count) < 9, base + rng.integers(0, 150, count), rng.integers(0, 1050, count))


@pytest.mark.parametrize("pattern", ["loop", "hot and cold"])
@pytest.mark.parametrize("store", [{}, {"zpool_percent": 0, "swap": "16MiB"}])
def test_only_pressure_differs(pattern, store):
    rng = np.random.default_rng(4)
    pages = np.arange(6000) % 1050 if pattern == "loop" else hot_and_cold(rng, 12_000)
    (every, one), (linux, two) = thrash("all-waits", pages, **store), thrash("linux", pages, **store)
    with every, linux:
        assert every.counters() == linux.counters() and one.sim_ns == two.sim_ns
        assert one.stall_ns == two.stall_ns == one.stall()["stall_some_ns"] > 0 and one.work_ns == two.work_ns
        restored = linux.engine.order.nr_restored
        pressure = linux.stall()["stall_some_ns"]
        assert pressure == two.stall()["stall_some_ns"] < every.stall()["stall_some_ns"] == one.stall_ns
        if not linux.counters()["reclaim_direct"]:
            assert (pressure > 0) == (restored > 0)
            if not store:
                assert pressure == restored * cost_model("default").decompress
        if pattern == "loop":
            assert restored == 0


def test_reclaim_by_the_vm_itself_is_pressure():
    marks = {"min": 8, "low": 8, "high": 8}
    host, vm = thrash("linux", np.arange(6000) % 1050, watermarks=marks)
    with host:
        assert host.counters()["reclaim_direct"] > 0 and host.engine.order.nr_restored == 0
        assert 0 < host.stall()["stall_some_ns"] < vm.stall_ns


def test_a_vm_that_has_ended_still_says_how_long_it_waited():
    host, vm = thrash("linux", np.arange(6000) % 1050)
    with host:
        waited, pressure = vm.stall_ns, vm.stall()
        vm.destroy()
        assert (vm.stall_ns, vm.stall()) == (waited, pressure) and waited > pressure["stall_some_ns"]


def test_a_guest_s_own_swap_is_its_own_pressure():
    counts = {}
    for psi in ("all-waits", "linux"):
        with memvirt.Host(memory="16MiB", replacement="twolist", psi=psi, seed=2) as host:
            vm = host.create_vm("a", "1MiB", guest={"swap": "2MiB", "cache_percent": 0, "kernel": "512KiB"})
            for op in (WRITE, READ):
                vm.access(np.arange(256), np.full(256, op, np.uint8))
            assert host.counters()["guest.guest_swap_in"] > 100
            counts[psi] = vm.stall_ns, host.stall()["stall_some_ns"]
    assert counts["all-waits"][0] == counts["all-waits"][1] == counts["linux"][0] > 0 == counts["linux"][1]


def test_an_order_that_does_not_know_active_pages_is_refused():
    with pytest.raises(memvirt.ConfigError, match=r"psi: 'linux' needs replacement 'twolist'"):
        memvirt.Host(psi="linux")
    with pytest.raises(memvirt.ConfigError, match="psi"):
        memvirt.Host(psi="some")
