"""Several swap areas from the outside: priorities, a device each, errors that name the area, discard, what is reported."""

import errno
import os

import numpy as np
import pytest

import memvirt
from memvirt.engine.device import Device
from memvirt.engine.stores.swap import Swap
from memvirt.engine.stores.swapset import SwapSet
from memvirt.engine.testing.host import locate
from memvirt.engine.testing.stores import SwapProbe
from memvirt.errors import AdmissionError
from memvirt.metrics import registry
from memvirt.names import DEVICE_CONSTANTS, DEVICES
from memvirt.settings import presets
from memvirt.settings.config import HostConfig

PAGE = 4096
SLOW = {"size": "4MiB", "priority": -5, "device": "hdd"}


def noise(page):
    return np.random.Generator(np.random.PCG64(page)).bytes(PAGE)


def filled(pages=900, **settings):
    """A host of 256 frames with a VM that has written so many pages of noise."""
    host = memvirt.Host(**{"memory": 256 * PAGE, "seed": 1, **settings})
    vm = host.create_vm("a", 1000 * PAGE)
    for page in range(pages):
        assert vm.write(page * PAGE, noise(page)) == PAGE
    host.check()
    return host, vm


def reads_back(host, vm, pages=900):
    for page in range(pages):
        assert vm.read(page * PAGE, PAGE) == noise(page)
    host.check()


def test_areas_fill_by_priority_whatever_the_order_they_are_given_in():
    fast = {"size": "1MiB", "priority": 7, "device": "nvme"}
    host, vm = filled(swap="1MiB", swap_areas=[SLOW, fast])
    first, own, last = host.swap()
    assert (first["priority"], own["priority"], last["priority"]) == (7, 0, -5)
    assert (first["device"], own["device"], last["device"]) == ("nvme", "nvme", "hdd")
    assert first["used_slots"] == own["used_slots"] == 256 and 0 < last["used_slots"] < 1024
    reads_back(host, vm)


def test_areas_of_equal_priority_share_the_load():
    host, vm = filled(swap=0, swap_areas=[{"size": "8MiB", "priority": 3}] * 2)
    one, other = host.swap()
    assert min(one["used_slots"], other["used_slots"]) > 0
    reads_back(host, vm)


def test_each_area_waits_for_its_own_device():
    """What spills to a disk arm takes a disk arm's time; what stays on flash does not."""
    nvme, _ = filled(swap="8MiB")
    spilled, vm = filled(swap="1MiB", swap_areas=[SLOW])
    assert vm.sim_ns > 5 * nvme.sim_ns
    counted = spilled.counters()
    assert counted["device_write_requests"] > 0 and not registry.unregistered(counted)
    assert spilled.engine.reclaim_from(vm.engine_vm, 64) > 0  # a fault has a frame then, and writes nothing out
    before = vm.sim_ns
    slot_of = {page: locate(spilled.engine, vm.engine_vm, page) for page in range(900)}
    page = next(page for page, where in slot_of.items() if where and where[0] == "swap" and where[1] < 256)
    vm.read(page * PAGE, 8)
    assert vm.sim_ns - before < 12_000_000, "this one lies on flash"
    before = vm.sim_ns
    page = next(page for page, where in slot_of.items() if where and where[0] == "swap" and where[1] >= 256)
    vm.read(page * PAGE, 8)
    assert vm.sim_ns - before >= 12_000_000, "and this one on the disk"


def test_a_device_of_ones_own_serves_swap_and_areas():
    """With the constants of a named one it takes that one's time, and with others another."""
    own = dict(zip(DEVICE_CONSTANTS, DEVICES["hdd"], strict=True))
    own = {name: value if name == "channels" else f"{value}ns" for name, value in own.items()}
    times = {}
    for name, device in {"hdd": "hdd", "own": own, "slow": {**own, "read_latency_ns": "1s"}}.items():
        for where in ("swap", "areas"):
            at = {"swap": "8MiB", "swap_device": device} if where == "swap" else {}
            host, vm = filled(**at or {"swap_areas": [{"size": "8MiB", "device": device}]})
            reads_back(host, vm)
            times[name, where] = vm.sim_ns
            assert host.swap()[0]["device"] == ("custom" if name == "slow" else "hdd"), "constants have a name"
    assert times["own", "swap"] == times["hdd", "swap"] and times["own", "areas"] == times["hdd", "areas"]
    assert times["slow", "swap"] > 2 * times["own", "swap"] and times["slow", "areas"] > 2 * times["own", "areas"]


def test_requests_and_windows_end_where_an_area_ends():
    device = Device("custom", read_latency_ns=100, write_latency_ns=100, read_page_ns=1, write_page_ns=1, channels=1)
    areas = [Swap(size, slot_bytes=8, device=device if i else None) for i, size in enumerate((67, 64))]
    both = SwapProbe(SwapSet(areas, [1, 1]))
    both.attach(Device("hdd"))
    assert areas[0].device.name == "hdd" and areas[1].device is device, "an area keeps the device it has"
    assert both.window_of(66, 8) == (64, 66)
    assert both.window_of(67, 8) == (67, 74), "aligned within its area"
    assert SwapProbe(areas[0]).window_of(9, 4) == (8, 11)
    assert both.name_of(68) == "swap slot 1 of area 1 (priority 1)"


def test_an_error_names_the_area_and_the_slot_in_it():
    host, vm = filled(swap="1MiB", swap_areas=[SLOW], readahead=0)
    areas = host.engine.mapping.swap.areas
    page, slot = next(
        (page, where[1])
        for page in range(900)
        if (where := locate(host.engine, vm.engine_vm, page)) and where[0] == "swap" and where[1] >= 256
    )
    areas[1].inject("read", 1, errno.EIO)
    with pytest.raises(memvirt.StoreError, match=rf"page {page}: swap slot {slot - 256} of area 1 .*errno 5"):
        vm.read(page * PAGE, 1)
    reads_back(host, vm)


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC, "short"])
def test_an_area_that_fails_costs_no_page(fault):
    for nth in (1, 2, 4):
        host = memvirt.Host(memory=256 * PAGE, swap="1MiB", swap_areas=[SLOW, {"size": "1MiB", "priority": 0}], seed=1)
        vm = host.create_vm("a", 1000 * PAGE)
        for area in host.engine.mapping.swap.areas:
            area.inject("write", nth, fault, 3)
        written = [page for page in range(900) if vm.write(page * PAGE, noise(page)) == PAGE]
        assert len(written) == 900
        assert fault == "short" or host.counters()["swap_write_failed"] > 0
        reads_back(host, vm)


def test_discard_gives_space_back_and_is_off_unless_asked_for(tmp_path):
    for discard in (False, True):
        path = str(tmp_path / f"swap-{discard}")
        host, vm = filled(swap="4MiB", swap_path=path, swap_discard=discard)
        taken = os.stat(path).st_blocks
        vm.destroy()
        host.check()
        assert (host.counters()["swap_clusters_discarded"] > 0) == discard
        assert (os.stat(path).st_blocks < taken) == discard
        again = host.create_vm("b", 1000 * PAGE)
        for page in range(900):
            assert again.write(page * PAGE, noise(page)) == PAGE
        reads_back(host, again)


def test_areas_in_settings_overrides_and_admission():
    assert presets.resolve("swap", ["swap_areas=[{size='200%', device='hdd'}]"]).swap_areas[0].size == 32768
    config = HostConfig(memory="4MiB", swap="1MiB", swap_areas=[{"size": "50%"}])
    assert config.swap_total == 256 + 512
    assert HostConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(memvirt.ConfigError) as caught:
        presets.resolve("swap", ["swap_areas=[{size='4MB', prio=3}]"])
    assert "did you mean 4MiB?" in str(caught.value) and "'priority'" in str(caught.value)
    host = memvirt.Host(memory="1MiB", swap_areas=[{"size": "1MiB"}], commit="nominal")
    host.create_vm("a", "2MiB")
    with pytest.raises(AdmissionError, match="memory and swap have 512"):
        host.create_vm("b", "4KiB")


def test_fingerprints_take_the_same_way():
    counted = []
    for content in ("bytes", "fingerprint"):
        host = memvirt.Host(memory=256 * PAGE, swap="1MiB", swap_areas=[SLOW], content=content, seed=1)
        vm = host.create_vm("a", 900 * PAGE)
        vm.access(np.arange(900), np.ones(900))
        vm.access(np.arange(900)[::-1], np.zeros(900))
        host.check()
        counted.append((host.counters(), vm.sim_ns, [area["used_slots"] for area in host.swap()]))
    assert counted[0] == counted[1]
