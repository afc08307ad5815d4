"""Guests with partitions on a host: instances come and end, bytes stay, copies go on, bad settings are named."""

import random

import numpy as np
import pytest

import memvirt
from memvirt.errors import ConfigError
from memvirt.settings import costs
from memvirt.settings.vm_config import GuestOptions, VmConfig

PAGE, BLOCK = 4096, 512
MIB = 1 << 20
WRITE, DISCARD = 1, 3
SIZE = 4 * 256  # pages of an instance


def host_of(**given):
    return memvirt.Host(**{"memory": "24MiB", "swap": "48MiB", "swap_direct": False, "seed": 1, **given})


def guest_of(host, memory="16MiB", name="a", **options):
    guest = {"cache_percent": 0, "elastic": "squeezy", "partition": "4MiB", "base_percent": 0, **options}
    return host.create_vm(name, memory, guest=guest)


def do(vm, op, pages):
    pages = np.asarray(pages, np.uint32)
    assert vm.access(pages, np.full(len(pages), op, np.uint8)).reason == "done"


def instance(number):
    return np.arange(number * SIZE, (number + 1) * SIZE)


@pytest.mark.parametrize("way", ["virtio-mem", "squeezy"])
def test_what_ends_beside_others_is_given_without_moving_them(way):
    """The same four instances, filled by turns, of which two end: virtio-mem moves what is left of the others."""
    host = host_of(content="fingerprint", provisioning="thin-huge", costs="hyperalloc-2025")
    options = {"elastic": way} if way == "squeezy" else {"elastic": way, "partition": None, "base_percent": 10}
    vm = guest_of(host, **options)
    do(vm, WRITE, np.concatenate([instance(number)[:1000] for number in range(4)]).reshape(4, -1).T.ravel())
    do(vm, DISCARD, np.concatenate([instance(0)[:1000], instance(2)[:1000]]))
    assert vm.balloon("6MiB") == (6 * MIB if way == "virtio-mem" else 4 * MIB), "whole partitions"
    assert vm.balloon("8MiB") == 8 * MIB
    assert (vm.counters()["unplug_moved"] == 0) == (way == "squeezy")
    host.check()


def test_unplugging_costs_what_its_blocks_cost_and_an_instance_waits_for_its_plug():
    model = costs.of_giving(costs.load("hyperalloc-2025"))
    host = host_of(costs="hyperalloc-2025", content="fingerprint", provisioning="thin-huge")
    vm = guest_of(host)
    do(vm, WRITE, instance(1))
    do(vm, DISCARD, instance(1))
    before = host.cpu_ns()["balloon"]
    assert vm.balloon("16MiB") == 16 * MIB
    spent = host.cpu_ns()["balloon"] - before
    assert spent == 8 * model["unplug_block"] + 2 * model["release_block"] + 4 * model["message"]
    assert vm.counters()["give_ns"] == spent
    began, stalled = vm.sim_ns, vm.stall_ns
    do(vm, WRITE, instance(2)[:1])
    plug = 2 * model["plug_block"] + model["message"]
    assert host.cpu_ns()["balloon"] - before - spent == vm.counters()["return_ns"] == plug
    assert vm.sim_ns - began > plug and vm.stall_ns == stalled, "in its own time, which is no stall"
    assert vm.counters()["plugged_on_demand"] == 1


def test_costs_that_are_left_out_are_virtio_mem_s():
    model = costs.load("hyperalloc-2025").giving.model_dump() | {"unplug_block": None, "plug_block": None}
    split = costs.of_giving(costs.load("hyperalloc-2025").model_copy(update={"giving": costs.GivingCosts(**model)}))
    assert (split["unplug_block"], split["plug_block"]) == (split["offline_block"], split["online_block"])
    default = costs.load("default")
    plain = costs.of_giving(default.model_copy(update={"giving": None}))
    assert plain["unplug_block"] == plain["plug_block"] == 512 * default.balloon_page


def test_the_worker_takes_what_ends_and_leaves_what_runs():
    host = host_of(content="fingerprint")
    vm = guest_of(host)
    do(vm, WRITE, np.concatenate([instance(number)[:9] for number in range(4)]))
    vm.set_balloon("16MiB")
    host.run({}, until_ns=10**9)
    assert vm.counters()["balloon_pages"] == 0 and vm.counters()["balloon_refused_pages"] > 1
    do(vm, DISCARD, instance(3)[:9])
    host.run({}, until_ns=host.sim_ns + 201 * 10**6)
    assert vm.counters()["balloon_pages"] == SIZE
    do(vm, WRITE, instance(3)[5:6])
    assert vm.counters()["balloon_pages"] == 0
    host.check()


def test_an_instance_that_finds_no_frame_finds_its_partition_plugged_when_it_tries_again():
    host = host_of(memory="6MiB", swap="0", content="fingerprint", on_exhausted="stop")
    vm = guest_of(host, "8MiB")
    vm.balloon("8MiB")
    hog = host.create_vm("b", "6MiB")
    pages = np.arange(1536, dtype=np.uint32)
    assert hog.access(pages, np.ones(len(pages), np.uint8)).reason != "done"
    assert vm.access(instance(0)[:1].astype(np.uint32), np.ones(1, np.uint8)).reason == "no_frame"
    assert vm.counters()["balloon_pages"] == SIZE
    host.check()
    hog.destroy()
    do(vm, WRITE, instance(0)[:1])
    assert vm.counters()["plugged_on_demand"] == 1


def test_clones_and_snapshots_have_partitions_of_their_own():
    host = host_of(memory="48MiB")
    vm = guest_of(host)
    vm.write(instance(1)[0] * PAGE, b"one")
    assert vm.balloon("12MiB") == 12 * MIB
    saved = vm.snapshot()
    twin = vm.clone("b")
    do(twin, DISCARD, instance(1))
    assert twin.balloon("16MiB") == 16 * MIB
    twin.write(instance(0)[0] * PAGE, b"other")
    host.check()
    assert (twin.counters()["balloon_pages"], vm.counters()["balloon_pages"]) == (3 * SIZE, 3 * SIZE)
    vm.write(instance(3)[0] * PAGE, b"three")
    assert vm.counters()["balloon_pages"] == 2 * SIZE
    vm.revert(saved)
    assert vm.counters()["balloon_pages"] == 3 * SIZE and vm.read(instance(1)[0] * PAGE, 3) == b"one"
    assert vm.counters()["plugged_on_demand"] == 1, "counters go on"
    assert twin.read(instance(1)[0] * PAGE, 3) == bytes(3)
    host.check()
    others = guest_of(host, name="c", partition="8MiB"), guest_of(host, name="d", base_percent=30)
    for other, said in zip(others, ("partition: 2048, 1024", "partitions: 2, 4"), strict=True):
        with pytest.raises(ConfigError, match=said):
            other.revert(saved)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": None}, r'guest.partition: is what elastic = "squeezy" needs; give a size, as 64MiB'),
        ({"partition": "3MiB"}, r"partition: 3MiB is no multiple of 2 MiB; did you mean 4MiB"),
        ({"partition": "4KiB"}, r"partition: 4KiB is no multiple of 2 MiB; did you mean 2MiB"),
        ({"partition": "32MiB"}, r"partition: 32MiB is more than a VM of 16MiB has .*: 16MiB"),
        ({"kernel": "1MiB", "partition": "16MiB"}, r"partition: 16MiB is more than .*: 15MiB"),
        ({"cache_percent": 100}, r"partition: 4MiB is more than .*: 0"),
        ({"base_percent": 80}, r"partition: 4MiB is more than"),
        ({"swap": "1MiB"}, r"swap: pages of instances stay in their partitions \(elastic squeezy\); leave it out"),
        ({"elastic": "virtio-mem"}, r'partition: is of elastic = "squeezy" alone; leave it out, or set that'),
        ({"elastic": None}, r'base_percent: is of elastic = "squeezy" alone'),
    ],
)
def test_bad_settings_are_named_with_what_to_do(options, said):
    with pytest.raises(ConfigError, match=said):
        guest_of(host_of(content="fingerprint"), **options)


@pytest.mark.parametrize("memory", [512, 1000, 1024, 4096, 5000, 70000])
@pytest.mark.parametrize("partition", [512, 1024])
@pytest.mark.parametrize("beside", [{}, {"kernel": 90 * PAGE}, {"cache_percent": 25}, {"base_percent": 33}])
def test_settings_and_engine_count_the_same_partitions(memory, partition, beside):
    options = {"cache_percent": 0, "base_percent": 0, **beside, "elastic": "squeezy", "partition": partition * PAGE}
    guest = GuestOptions(**options)
    try:
        VmConfig(name="a", memory=memory * PAGE, guest=guest)
    except ValueError:
        assert guest.partitions_of(memory) == 0
        return
    with host_of(memory="384MiB", content="fingerprint") as host:
        vm = host.create_vm("a", memory * PAGE, guest=options)
        assert vm.engine_vm.guest.partitions == guest.partitions_of(memory) > 0
        do(vm, WRITE, np.arange(90 if "kernel" in beside else 0, memory * (100 - guest.cache_percent) // 100))
        host.check()


@pytest.mark.parametrize("seed", range(6))
def test_bytes_survive_instances_that_come_and_end(seed):
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
    options = {"partition": "2MiB", "report_order": draw.choice([None, 9]), "report_delay": "1ms"}
    vms = [guest_of(host, "7MiB", f"vm{i}", **options, kernel=draw.choice([0, MIB])) for i in range(2)]
    shadows = [{} for _ in vms]
    for step in range(60):
        at = draw.randrange(len(vms))
        vm, shadow = vms[at], shadows[at]
        what = draw.choice(["write", "write", "end", "give", "pass", "read", "clone"])
        first = draw.randrange(1792)
        pages = range(first, min(1792, first + draw.choice([1, 20, 200])))
        if what == "write":
            for page in pages[:20]:
                data = draw.randbytes(64)
                if vm.write(page * PAGE, data) == len(data):
                    shadow[page] = data + shadow.get(page, bytes(PAGE))[len(data) :]
                else:
                    break
        elif what == "end":
            begin = 256 + draw.randrange(3) * BLOCK
            do(vm, DISCARD, range(begin, begin + BLOCK))
            for page in range(begin, begin + BLOCK):
                shadow.pop(page, None)
        elif what == "give":
            vm.balloon(draw.choice([0, 2, 4, 6]) * MIB)
        elif what == "pass":
            host.run({}, until_ns=host.sim_ns + draw.choice([10**6, 10**9]))
        elif what == "clone" and len(vms) < 4:
            vms.append(vm.clone(f"clone{step}"))
            shadows.append(dict(shadow))
        else:
            for page in list(shadow)[::7]:
                try:
                    assert vm.read(page * PAGE, PAGE) == shadow[page], (step, page)
                except ConfigError:
                    break  # no memory to read it with
        assert vm.counters()["unplug_moved"] == 0
        host.check()
