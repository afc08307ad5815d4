"""Drivers on their VM's own processor: what they do in the guest makes it go on later, what the host does not."""

import numpy as np
import pytest

import memvirt
from memvirt.errors import ConfigError
from memvirt.settings import costs

PAGE, BLOCK = 4096, 512
MIB = 1 << 20
WRITE, DISCARD = 1, 3
MS = 10**6
MODEL = costs.of_giving(costs.load("hyperalloc-2025"))


def host_of(**given):
    return memvirt.Host(
        **{
            "memory": "96MiB",
            "content": "fingerprint",
            "provisioning": "thin-huge",
            "costs": "hyperalloc-2025",
            "seed": 1,
        }
        | given
    )


def guest_of(host, way, driver="vcpu", memory="64MiB", name="a", **options):
    partition = {"partition": "4MiB", "base_percent": 0} if way == "squeezy" else {}
    guest = {"cache_percent": 0, "elastic": way, "driver": driver, **partition, **options}
    return host.create_vm(name, memory, guest=guest)


def do(vm, op, pages):
    pages = np.asarray(pages, np.uint32)
    assert vm.access(pages, np.full(len(pages), op, np.uint8)).reason == "done"


def busy(accesses, work_ns=10_000, due_ns=None):
    """Touches of the first page, each followed by work; one after the other, or all due at one time."""
    due = () if due_ns is None else (np.array([due_ns], np.int64),)
    yield np.zeros(accesses, np.uint32), np.zeros(accesses, np.uint8), None, work_ns, *due


def used(way, driver="vcpu", **options):
    """A VM that has used and freed all but a block and whose balloon is to hold three quarters; the host."""
    host = host_of()
    vm = guest_of(host, way, driver, **options)
    do(vm, WRITE, np.arange(64 * 256))
    do(vm, DISCARD, np.arange(BLOCK, 64 * 256))
    return host, vm


def taken(way, driver="vcpu"):
    host, vm = used(way, driver)
    before = vm.sim_ns, vm.work_ns
    vm.set_balloon("48MiB")
    host.run({vm: busy(20_000)})
    assert vm.counters()["balloon_pages"] == 48 * 256
    host.check()
    return vm.sim_ns - before[0], vm.work_ns - before[1], vm


@pytest.mark.parametrize("way", ["balloon", "balloon-huge", "virtio-mem", "squeezy", "hyperalloc"])
def test_a_busy_vm_goes_on_later_by_what_the_driver_does_in_the_guest(way):
    beside_ns, worked_ns, beside = taken(way, "beside")
    vcpu_ns, work_ns, vm = taken(way)
    pages, blocks = 48 * 256, 24
    expected = {
        "balloon": pages * MODEL["give_page"] + 48 * MODEL["message"],
        "balloon-huge": blocks * MODEL["give_block"] + MODEL["message"],
        "virtio-mem": blocks * (MODEL["offline_block"] + MODEL["message"]),
        "squeezy": blocks * MODEL["unplug_block"] + 12 * MODEL["message"],
        "hyperalloc": 0,
    }[way]
    assert vm.counters()["driver_ns"] == vm.driver_ns == expected
    assert vcpu_ns == beside_ns + expected
    assert work_ns == worked_ns and vm.stall_ns == beside.stall_ns == 0, "neither its work nor a stall"
    assert "driver_ns" not in beside.counters() and beside.driver_ns == 0
    assert {name: count for name, count in vm.counters().items() if name not in ("driver_ns", "sim_ns")} == {
        name: count for name, count in beside.counters().items() if name != "sim_ns"
    }


def test_what_was_done_while_the_vm_slept_costs_it_nothing():
    host, vm = used("balloon")
    vm.set_balloon("48MiB")
    late = host.sim_ns + 10**9
    host.run({vm: busy(100, due_ns=late)})
    assert vm.counters()["driver_ns"] > 0 and vm.driver_ns == 0
    assert late + 100 * 10_000 <= vm.sim_ns <= late + 100 * 10_200, "it begins when it is due"


def test_who_wakes_while_the_driver_works_waits_for_the_rest():
    rows = {}
    for driver in ("beside", "vcpu"):
        host, vm = used("balloon", driver)
        vm.set_balloon("48MiB")
        start = host.sim_ns
        host.run({vm: busy(5000, due_ns=start + 10 * MS)})
        rows[driver] = vm
    vm, beside = rows["vcpu"], rows["beside"]
    assert 0 < vm.driver_ns < vm.counters()["driver_ns"]
    later = vm.sim_ns - beside.sim_ns - vm.driver_ns
    assert later in (0, costs.load("hyperalloc-2025").refill), "who runs longer may lose a translation meanwhile"


def test_requests_that_are_due_meanwhile_are_late():
    latency = {}
    for driver in ("beside", "vcpu"):
        host, vm = used("balloon", driver)
        vm.set_balloon("48MiB")
        due = host.sim_ns + 100_000 * np.arange(400)
        host.run({vm: iter([(np.zeros(400, np.uint32), np.zeros(400, np.uint8), None, 50_000, due)])})
        latency[driver] = vm.requests()["latency"]["max_ns"]
    assert latency["vcpu"] > latency["beside"] + 100_000


def test_moves_are_the_guest_s_and_the_guest_s_disk_is_waited_for_beside_it():
    host = host_of(memory="96MiB", provisioning="thin")
    vm = guest_of(host, "virtio-mem")
    do(vm, WRITE, np.arange(64 * 256))
    do(vm, DISCARD, np.arange(0, 60 * 256))
    vm.set_balloon("16MiB")
    host.run({vm: busy(20_000)})
    moved = vm.counters()["unplug_moved"]
    assert moved == 4 * 256
    assert vm.driver_ns >= moved * costs.load("hyperalloc-2025").move_page + 8 * MODEL["offline_block"]
    swaps = host_of(provisioning="thin", swap_device="hdd")
    vm = guest_of(swaps, "balloon", memory="16MiB", swap=16 * MIB)
    do(vm, WRITE, np.arange(16 * 256))
    vm.set_balloon("1MiB")
    swaps.run({vm: busy(400_000)})
    assert vm.counters()["guest_swap_out"] > 200
    model = costs.load("hyperalloc-2025")
    most = 256 * (MODEL["give_page"] + model.swap_submit + model.fault + model.zero_page) + MODEL["message"]
    assert 0 < vm.driver_ns <= most < vm.counters()["give_ns"] // 10


def test_a_balloon_that_is_moved_by_hand_takes_the_vm_s_time_once():
    clocks = []
    for driver in ("beside", "vcpu"):
        host, vm = used("balloon", driver)
        vm.balloon("48MiB")
        vm.balloon("0")
        before = vm.sim_ns
        host.run({vm: busy(1000)})
        clocks.append((before, vm.sim_ns))
        assert vm.driver_ns == 0
    assert clocks[0] == clocks[1]


def test_copies_owe_nothing_and_a_revert_goes_on_counting():
    host, vm = used("balloon")
    saved = vm.snapshot()
    vm.set_balloon("48MiB")
    host.run({vm: busy(3000)})
    counted = vm.counters()["driver_ns"]
    twin = vm.clone("b")
    assert counted > 0 and twin.counters()["driver_ns"] == twin.driver_ns == 0
    vm.revert(saved)
    assert vm.counters()["driver_ns"] == counted
    host.check()
    other = guest_of(host, "balloon", "beside", name="c")
    with pytest.raises(ConfigError, match="driver: beside, vcpu"):
        other.revert(saved)
    vm.destroy()
    assert vm.driver_ns > 0 and vm.work_ns > 0


def test_the_same_however_batches_are_cut():
    seen = set()
    for parts in (1, 7, 100):
        host, vm = used("balloon")
        vm.set_balloon("48MiB")
        host.run({vm: (batch for _ in range(parts) for batch in busy(7000 // parts))})
        seen.add((vm.sim_ns, vm.driver_ns, vm.work_ns))
    assert len(seen) == 1


def test_a_driver_that_there_is_not_is_named():
    with pytest.raises(ConfigError, match="driver"):
        guest_of(host_of(), "balloon", driver="host")
