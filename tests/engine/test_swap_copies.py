"""A page that came back from swap keeps its slot, as a clean copy, while at most half of the slots are in use."""

import numpy as np
import pytest

import memvirt

PAGE = 4096


def host_with_pages_out(slots, out, readahead=0, guest=False):
    """A host of whose VM's first pages `out` are in swap, and nothing else is."""
    host = memvirt.Host(memory=1024 * PAGE, swap=slots * PAGE, readahead=readahead)
    vm = host.create_vm("a", 200 * PAGE, guest=guest)
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
    before = host.counters()
    vm.access(np.arange(out), np.ones(out, np.uint8))
    assert used(host) == 0, "a page written to has no copy"
    refills = host.counters()["tcache_refills"] - before["tcache_refills"]
    assert refills == slots // 2, "one without a copy is dirty already, and its translation may write"
    host.check()


def faults(host):
    """Faults by kind, and their latencies."""
    return {name: count for name, count in host.counters().items() if name.startswith("fault_")}, host.histograms()


@pytest.mark.parametrize("guest", [False, True])
def test_the_first_write_to_a_page_that_has_come_back_is_no_fault(guest):
    """do_swap_page maps it writable, and hardware sets the dirty bit."""
    host, vm = host_with_pages_out(600, 100, guest=guest)
    pages = np.arange(200, dtype=np.uint32)
    vm.access(pages, np.zeros(200, np.uint8))
    assert used(host) == 100, "each keeps its slot"
    before, spent = faults(host), host.cpu_ns()
    came = host.sim_ns
    vm.access(pages, np.ones(200, np.uint8))
    host.check()
    assert faults(host) == before and used(host) == 0
    costs = host.config.costs
    assert host.counters()["fault_swap"] == 100
    assert host.cpu_ns() == spent | {"access": spent["access"] + 100 * costs.refill + 200 * costs.hit}
    assert host.sim_ns - came == 100 * costs.refill + 200 * costs.hit
    written, clean = host.counters()["swap_pages_out"], host.counters()["evicted_clean"]
    host.harvest()
    assert host.engine.reclaim_from(vm.engine_vm, 100) == 100
    assert host.counters()["swap_pages_out"] == written + 100 and host.counters()["evicted_clean"] == clean


def test_a_write_that_brings_a_page_back_is_one_fault():
    host, vm = host_with_pages_out(400, 100)
    (before, _), out = faults(host), np.arange(100, dtype=np.uint32)
    vm.access(out, np.ones(100, np.uint8))
    assert faults(host)[0] == before | {"fault_swap": before["fault_swap"] + 100} and used(host) == 0
    host.check()


def test_a_pin_gives_the_copy_up():
    host, vm = host_with_pages_out(400, 10)
    vm.read(0, 8)
    assert used(host) == 10
    vm.pin(0, 1)
    assert used(host) == 9
    host.check()


def test_the_last_of_those_who_shared_a_page_still_takes_a_fault():
    """It was protected for the others: do_wp_page finds that nobody else has it."""
    host, vm = host_with_pages_out(400, 10)
    vm.read(0, 8)
    twin = vm.clone("b")
    before = host.counters()
    twin.write(0, b"x")
    vm.write(0, b"y")
    after = host.counters()
    assert (after["fault_cow"] - before["fault_cow"], after["fault_reuse"] - before["fault_reuse"]) == (1, 1)
    assert used(host) == 9
    host.check()


def test_copies_of_pages_that_two_name_are_kept_until_one_is_left():
    """The first to come back finds that the other's entry still names the slot, and may not write in place."""
    host, vm = host_with_pages_out(400, 10)
    twin = vm.clone("b")
    twin.write(100 * PAGE, b"x")  # a leaf of its own: the slots are named twice
    vm.read(0, 8)
    before = host.counters()
    vm.write(0, b"y")
    assert host.counters()["fault_reuse"] == before["fault_reuse"] + 1, "its frame is one entry's, but protected"
    assert twin.read(0, 1) != b"y" and used(host) == 10
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
