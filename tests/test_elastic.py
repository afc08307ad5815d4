"""Guests that give memory in blocks, on a host: bytes stay, what is paid for is what was done, and the recount holds."""

import random

import numpy as np
import pytest

import memvirt
from memvirt.errors import ConfigError
from memvirt.settings import costs

PAGE, BLOCK = 4096, 512
MIB = 1 << 20
WAYS = ("balloon", "balloon-huge", "virtio-mem", "hyperalloc")
WRITE, DISCARD = 1, 3


def host_of(**given):
    return memvirt.Host(**{"memory": "24MiB", "swap": "48MiB", "swap_direct": False, "seed": 1, **given})


def guest_of(host, way, memory="16MiB", name="a", **options):
    return host.create_vm(name, memory, guest={"cache_percent": 0, "elastic": way, **options})


def do(vm, op, pages):
    pages = np.asarray(pages, np.uint32)
    assert vm.access(pages, np.full(len(pages), op, np.uint8)).reason == "done"


def per_gib(vm, pages, ns):
    return vm.counters()[pages] * PAGE / 2**30 / (vm.counters()[ns] / 1e9)


# The rates of hyperalloc-bench of what is touched: its costs have one number for freeing 2 MiB, whoever gave them, so those
# of the three ways that give blocks were not put in. Each is held to a factor of 1.5, the abstract's two ratios to one of 2.
PUBLISHED = {"balloon": 0.9515, "balloon-huge": 136.2, "virtio-mem": 34.50, "hyperalloc": 344.8}


@pytest.fixture(scope="module")
def rates():
    found = {}
    for way in WAYS:
        with memvirt.Host(
            memory="96MiB", content="fingerprint", provisioning="thin-huge", costs="hyperalloc-2025", seed=1
        ) as host:
            vm = guest_of(host, way, "64MiB")
            do(vm, WRITE, np.arange(64 * 256))
            do(vm, DISCARD, np.arange(256, 64 * 256))
            assert vm.balloon("56MiB") == 56 * MIB
            host.check()
            assert vm.counters()["given_freed"] == vm.counters()["ballooned"] == 56 * 256
            assert vm.held_pages == 8 * 256
            found[way] = per_gib(vm, "ballooned", "give_ns")
    return found


@pytest.mark.parametrize("way", WAYS)
def test_touched_memory_goes_at_about_the_published_rate(way, rates):
    assert PUBLISHED[way] / 1.5 <= rates[way] <= PUBLISHED[way] * 1.5


def test_the_ratios_of_the_abstract_hold_within_a_factor_of_two(rates):
    assert 362 / 2 <= rates["hyperalloc"] / rates["balloon"] <= 362 * 2
    assert 10 / 2 <= rates["hyperalloc"] / rates["virtio-mem"] <= 10 * 2


def test_the_ways_stand_in_the_published_order(rates):
    assert sorted(WAYS, key=rates.get) == sorted(WAYS, key=PUBLISHED.get)


def test_a_balloon_costs_what_its_parts_cost():
    model = costs.of_giving(costs.load("hyperalloc-2025"))
    host = host_of(costs="hyperalloc-2025", content="fingerprint")
    vm = guest_of(host, "balloon")
    do(vm, WRITE, np.arange(1000))
    do(vm, DISCARD, np.arange(100, 1000))
    before = host.cpu_ns()["balloon"]
    vm.balloon(2000 * PAGE)
    freed = vm.counters()["given_freed"]
    assert freed == 900 and vm.counters()["messages"] == 8
    spent = host.cpu_ns()["balloon"] - before
    assert spent == 2000 * model["give_page"] + freed * model["release_page"] + 8 * model["message"]
    vm.balloon(0)
    assert host.cpu_ns()["balloon"] - before - spent == 2000 * model["return_page"] + 8 * model["message"]


def test_where_costs_are_not_split_a_page_costs_what_it_did():
    unsplit = {**costs.load("default").model_dump(), "giving": None}
    plain, asked = (guest_of(host_of(content="fingerprint", costs=unsplit), way) for way in (None, "balloon"))
    for vm in (plain, asked):
        do(vm, WRITE, np.arange(1000))
        do(vm, DISCARD, np.arange(100, 1000))
        vm.balloon("8MiB")
        vm.balloon("1MiB")
    assert plain.sim_ns == asked.sim_ns
    assert plain.host.cpu_ns() == asked.host.cpu_ns()
    assert plain.host.cpu_ns()["balloon"] == (2048 + 2048 - 256) * costs.load("default").balloon_page


@pytest.mark.parametrize("provisioning", ["thin", "thin-huge"])
def test_a_block_is_moved_with_its_bytes_though_the_host_has_swapped_them(provisioning):
    host = host_of(memory="12MiB", provisioning=provisioning)
    vm = guest_of(host, "virtio-mem", "8MiB")
    data = np.random.default_rng(1).integers(0, 256, (2048, PAGE), np.uint8)
    for page in range(2048):
        vm.write(page * PAGE, data[page].tobytes())
    do(vm, DISCARD, np.arange(1, 2048, 2))
    other = host.create_vm("b", "11MiB")
    do(other, WRITE, np.arange(11 * 256))
    assert host.stores()["swap"] > 500
    assert vm.balloon("4MiB") == 4 * MIB
    host.check()
    assert vm.counters()["unplug_moved"] > 500
    assert np.array_equal(vm.read_pages(np.arange(0, 2048, 2)), data[::2])
    host.check()


def test_a_pinned_page_keeps_its_block_plugged_and_its_frame():
    host = host_of()
    vm = guest_of(host, "virtio-mem", "8MiB")
    do(vm, WRITE, np.arange(2048))
    vm.pin(2000, 1)
    do(vm, DISCARD, np.delete(np.arange(2048), 2000))
    assert vm.balloon("8MiB") == 6 * MIB
    assert vm.counters()["unplug_failed_pinned"] == 2, "in each of two passes: the second one gave nothing"
    host.check()
    assert vm.held_pages >= 1


def test_soft_reclaim_asks_no_message_and_frames_come_back_before_use():
    host = host_of(provisioning="thin-huge", content="fingerprint")
    vm = guest_of(host, "hyperalloc", report_order=9, report_delay="1s")
    do(vm, WRITE, np.arange(4096))
    do(vm, DISCARD, np.arange(512, 4096))
    host.run({}, until_ns=2 * 10**9)
    host.check()
    assert vm.held_pages == 512 and vm.counters()["balloon_pages"] == 0
    assert (vm.counters()["report_messages"], vm.counters()["reported"]) == (0, 3584)
    faults = host.counters()["fault_huge"]
    do(vm, WRITE, np.arange(512, 1024))
    assert (vm.counters()["installed"], host.counters()["fault_huge"] - faults) == (1, 1)
    assert vm.held_pages == 1024


def test_the_worker_moves_a_balloon_while_time_passes_and_a_driver_that_fails_rests():
    host = host_of(content="fingerprint", memory="24MiB")
    vm = guest_of(host, "virtio-mem", "8MiB", kernel=3 * MIB)
    vm.set_balloon("8MiB")
    host.run({}, until_ns=10**9)
    assert vm.counters()["balloon_pages"] == 4 * MIB // PAGE
    failed = vm.counters()["unplug_failed_pinned"]
    host.run({}, until_ns=49 * 10**9)
    assert vm.counters()["unplug_failed_pinned"] == failed == 2
    host.run({}, until_ns=52 * 10**9)
    assert vm.counters()["unplug_failed_pinned"] == 2 * failed
    host.run({}, until_ns=149 * 10**9)
    assert vm.counters()["unplug_failed_pinned"] == 2 * failed, "the second rest is twice as long"
    host.run({}, until_ns=160 * 10**9)
    assert vm.counters()["unplug_failed_pinned"] == 3 * failed


def test_bad_settings_are_named():
    host = host_of(content="fingerprint")
    with pytest.raises(ConfigError, match=r"report_order: 3; the host takes blocks of order 9"):
        guest_of(host, "hyperalloc", report_order=3)
    with pytest.raises(ConfigError, match="elastic"):
        guest_of(host, "ballon")
    plain = host.create_vm("plain", "1MiB")
    with pytest.raises(ConfigError, match="has no guest: only a guest has a balloon"):
        plain.set_balloon("512KiB")
    with pytest.raises(ConfigError, match="more than it is configured for"):
        guest_of(host, "balloon", "1MiB", name="small").set_balloon("2MiB")


def test_a_snapshot_of_another_way_is_refused():
    host = host_of(content="fingerprint")
    one, other = guest_of(host, "virtio-mem", "4MiB", "one"), guest_of(host, "balloon", "4MiB", "other")
    with pytest.raises(ConfigError, match="elastic: balloon, virtio-mem"):
        other.revert(one.snapshot())


@pytest.mark.parametrize("seed", range(8))
def test_bytes_survive_whatever_is_given_and_taken(seed):
    """Two guests on a host that has not room for both, a clone now and then, a shadow of every page."""
    draw = random.Random(seed)
    host = host_of(
        memory="9MiB",
        swap="64MiB",
        provisioning=draw.choice(["thin", "thin-huge"]),
        sharing=draw.choice([None, "hash", "ksm"]),
        zpool_percent=draw.choice([0, 20]),
        on_exhausted="stop",
    )
    ways = [draw.choice(WAYS[1:]), draw.choice(WAYS)]
    vms = [
        guest_of(host, way, "6MiB", f"vm{i}", report_order=draw.choice([None, 9]), report_delay="1ms", swap=3 * MIB)
        for i, way in enumerate(ways)
    ]
    shadows = [{} for _ in vms]
    for step in range(60):
        which = draw.randrange(len(vms))
        vm, shadow = vms[which], shadows[which]
        what = draw.choice(["write", "write", "discard", "give", "give", "read", "pass", "clone"])
        first = draw.randrange(1500)
        pages = range(first, min(1536, first + draw.choice([1, 40, 300])))
        if what == "write":
            for page in pages:
                data = draw.randrange(1, 60).to_bytes(8, "little") * draw.choice([1, 512])
                if vm.write(page * PAGE, data) == len(data):
                    shadow[page] = data + shadow.get(page, bytes(PAGE))[len(data) :]
                else:
                    shadow.pop(page, None)
        elif what == "discard":
            done = vm.access(np.array(pages, np.uint32), np.full(len(pages), DISCARD, np.uint8)).done
            for page in list(pages)[: done + 1]:
                shadow.pop(page, None)
        elif what == "give":
            vm.balloon(draw.choice([0, 2, 4, 6]) * MIB)
        elif what == "pass":
            host.run({}, until_ns=host.sim_ns + draw.choice([10**6, 10**9]))
        elif what == "clone" and len(vms) < 4:
            vms.append(vm.clone(f"clone{step}"))
            shadows.append(dict(shadow))
        for page in list(shadow)[:: draw.choice([1, 7])] if what == "read" else ():
            try:
                assert vm.read(page * PAGE, PAGE) == shadow[page], (step, page)
            except ConfigError:
                break  # no memory to read it with
        host.check()


def test_what_one_guest_counted_stays_when_another_kind_ends():
    with host_of() as host:
        first, second = guest_of(host, "balloon-huge", "4MiB", "a"), guest_of(host, "balloon", "4MiB", "b")
        first.balloon(2 * MIB)
        host.run({}, until_ns=10**9)
        counted = host.counters()
        assert counted["guest.messages"] > 0
        first.destroy()
        second.destroy()
        assert {name: host.counters()[name] for name in counted if name.startswith("guest.")} == {
            name: count for name, count in counted.items() if name.startswith("guest.")
        }
