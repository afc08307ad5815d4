"""A page that came back from swap keeps its slot, as a clean copy, while at most half of the slots are in use."""

import numpy as np
import pytest

import memvirt

PAGE = 4096


def host_with_pages_out(slots, out, readahead=0):
    """A host of whose VM's first pages `out` are in swap, and nothing else is."""
    host = memvirt.Host(memory=1024 * PAGE, swap=slots * PAGE, readahead=readahead)
    vm = host.create_vm("a", 200 * PAGE)
    pages = np.arange(200, dtype=np.uint32)
    vm.access(pages, np.ones(200, np.uint8))  # every write's tag is of its own, so no page is of one word
    host.harvest()
    assert host.engine.reclaim_from(vm.engine_vm, out) == out == used(host)
    return host, vm


def used(host):
    return host.engine.mapping.swap.nr_used


@pytest.mark.parametrize("slots, out", [(40, 21), (40, 40), (41, 21), (41, 22)])
def test_slots_are_freed_at_swap_in_while_more_than_half_are_in_use(slots, out):
    host, vm = host_with_pages_out(slots, out)
    for page in range(out):
        before = used(host)
        vm.read(page * PAGE, 8)
        assert used(host) == before - (before > slots / 2)
        host.check()
    faults = host.counters()["fault_reuse"]
    vm.access(np.arange(out), np.ones(out, np.uint8))
    assert used(host) == 0, "a page written to has no copy"
    assert host.counters()["fault_reuse"] - faults == slots // 2, "one without a copy is dirty and writable already"
    host.check()


def test_pages_read_ahead_are_treated_alike_when_somebody_asks_for_them():
    host, vm = host_with_pages_out(40, 40, readahead=3)
    vm.read(0, 8)
    ahead = host.counters()["readahead_pages"]
    assert ahead == 7 and used(host) == 39, "read ahead is not swapped in: their slots stay until they are asked for"
    for page in range(1, 8):
        vm.read(page * PAGE, 8)
        host.check()
    assert host.counters()["readahead_hits"] == 7 and used(host) == 32
    for page in range(8, 40):
        vm.read(page * PAGE, 8)
        host.check()
    assert used(host) == 20
    vm.access(np.arange(40), np.ones(40, np.uint8))
    assert used(host) == 0
    host.check()


def test_a_slot_others_need_stays():
    host, vm = host_with_pages_out(40, 40)
    twin = vm.clone("b")
    twin.write(100 * PAGE, b"x")  # a leaf of its own: the slots are named twice
    vm.read(0, 8)
    assert used(host) == 40
    twin.read(0, 8)
    host.check()
    assert vm.read(0, PAGE) == twin.read(0, PAGE)
