"""Hosts short of memory: stalls, readahead, and the deciders that reclaim ahead of need."""

from types import SimpleNamespace

import numpy as np
import pytest

import memvirt
from memvirt.deciding import Decisions
from memvirt.metrics import registry
from memvirt.policies.base import Targets
from memvirt.policies.far_memory import FarMemory
from memvirt.policies.senpai import Tmo
from memvirt.report.notes import idle_deciders


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
    host = memvirt.Host(memory="256KiB", on_exhausted="wait", seed=1)
    vm = host.create_vm("a", "512KiB")
    outcome = host.run({vm: [(np.arange(128, dtype=np.uint32), np.ones(128, np.uint8))]})[vm]
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
    assert not registry.unregistered(host.stall())


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


def test_a_limited_vm_is_served_from_its_own_pages_only_and_in_batches():
    host = memvirt.Host(memory="16MiB", swap="16MiB", seed=1, content="fingerprint")
    big, small = host.create_vm("big", "8MiB"), host.create_vm("small", "2MiB", limit="512KiB")
    big.access(np.arange(2048), np.ones(2048, np.uint8))
    small.access(np.arange(512), np.ones(512, np.uint8))
    host.check()
    counted = host.counters()
    assert big.counters()["charged_pages"] == 2048
    assert small.counters()["charged_pages"] <= 128
    # at most two looks per eviction, however many pages others have
    assert counted["reclaim_scanned"] <= 2 * 512 + 256
    assert counted["reclaim_limit"] >= 512 - 128
    assert host.engine.mapping.swap.write_calls <= counted["swap_pages_out"] // 8


def test_coldest_pages_go_first_when_a_decider_asks():
    host = memvirt.Host(memory="8MiB", swap="8MiB", seed=1, content="fingerprint", harvest_interval="1h")
    vm = host.create_vm("a", "2MiB")
    vm.access(np.arange(512), np.ones(512, np.uint8))
    for _ in range(4):
        host.harvest()
        vm.access(np.arange(256), np.zeros(256, np.uint8))
    host.harvest()
    ages = {bucket.age_ns // 3_600_000_000_000: bucket for bucket in vm.view().cold_ages}
    assert ages[4].cold_pages == 256 and max(ages) == 4
    assert ages[1].promoted_pages == 0
    assert host.engine.reclaim_from(vm.engine_vm, 200) == 200
    faults = host.counters()["fault_swap"]
    vm.access(np.arange(256), np.zeros(256, np.uint8))
    assert host.counters()["fault_swap"] == faults, "the warm half stayed"
    host.harvest()
    vm.access(np.arange(256, 512), np.zeros(256, np.uint8))
    host.harvest()
    ages = {bucket.age_ns // 3_600_000_000_000: bucket for bucket in vm.view().cold_ages}
    assert ages[5].promoted_pages == 256 and 7 not in ages, "those that were out keep their age"
    host.check()


def decided(decider, streams_of, **options):
    settings = {"memory": "16MiB", "swap": "16MiB", "seed": 1, "content": "fingerprint", "harvest_interval": "1ms"}
    host = memvirt.Host(**{**settings, **options})
    vms = [host.create_vm(f"vm{i}", "4MiB") for i in range(2)]
    host.run({vm: streams_of(i) for i, vm in enumerate(vms)}, decider=decider)
    host.check()
    return host, vms


def touch_all_then(hot, batches):
    yield np.arange(1024, dtype=np.uint32), np.ones(1024, np.uint8), None
    for _ in range(batches):
        pages = np.resize(np.arange(hot, dtype=np.uint32), 4096)
        yield pages, np.zeros(4096, np.uint8), None


def test_a_decider_that_is_never_asked_is_told_of():
    """The published intervals of tmo and far-memory are longer than the suites' phases."""
    host, _ = decided(Tmo(interval_ns=2_000_000, ratio_ppm=8000), lambda i: touch_all_then((128, 1024)[i], 50))
    assert host.counters()["decisions"] >= host.counters()["decisions_acted"] > 0
    host, _ = decided(Tmo(interval_ns=2_000_000, ratio_ppm=1), lambda i: touch_all_then((128, 1024)[i], 50))
    assert host.counters()["decisions"] > 0 == host.counters()["decisions_acted"]
    host, _ = decided(Tmo(), lambda i: touch_all_then((128, 1024)[i], 50))
    assert host.counters()["decisions"] == 0

    def cells(preset, balloon, *decisions):
        config = {"host": {"balloon": balloon}}
        return [
            SimpleNamespace(
                preset=preset,
                config=config,
                status="done",
                asked={"preset": preset},
                counters={"decisions": asked, "decisions_acted": acted},
                timeline=SimpleNamespace(vms={"a": {"balloon_pages": [0, *filled]}}),
            )
            for asked, acted, *filled in decisions
        ]

    never, nothing, own = idle_deciders(
        [
            *cells("tmo", "tmo", (0, 0), (0, 0)),
            *cells("mom", "mom", (0, 0), (3, 1)),
            *cells("senpai", "senpai", (0, 0), (3, 0)),
            *cells("swap", None, (0, 0)),
            *cells("esx", "esx", (3, 0, 8)),  # what it put into balloons before is there
            *cells("Mine", "mine.py:Mine", (3, 0, 8, 0)),
        ]
    )
    assert "'tmo' of tmo was never asked" in never and "interval_ns" in never
    assert (
        "'senpai' of senpai was asked 3 times and changed nothing" in nothing and "'memvirt explain senpai'" in nothing
    )
    assert "'mine.py:Mine' of Mine was asked 3 times and changed nothing" in own and "explain" not in own


def test_a_decider_acts_when_it_changes_something_and_not_when_it_repeats_itself():
    host = memvirt.Host(memory="2MiB", sharing="hash")
    vm = host.create_vm("a", "1MiB", guest=True)
    same = Targets(balloon_pages={"a": 16, "gone": 3}, scan_pages=7)
    decisions = Decisions(10**9)

    def acts(targets):
        return decisions.apply(targets, host.engine, {"a": vm})

    assert [acts(same), acts(same)] == [True, False]
    assert acts(Targets(scan_sleep_ns=5)) and not acts(Targets())
    assert not acts(Targets(reclaim_pages={"a": 4}))  # it holds nothing
    assert vm.engine_vm.guest.balloon_target == 16 and host.engine.scanner.pages_to_scan == 7


def test_tmo_takes_idle_memory_and_stops_at_stall():
    """vm0 uses an eighth of what it touched, vm1 all of it: TMO shrinks the first and leaves the second its memory."""
    tmo = Tmo(interval_ns=2_000_000, ratio_ppm=8_000, threshold_ppm=20_000)
    host, (idle, busy) = decided(tmo, lambda i: touch_all_then((128, 1024)[i], 2000))
    held = [vm.counters()["charged_pages"] for vm in (idle, busy)]
    assert held[0] < 300 and held[1] > 850
    assert host.counters()["reclaim_proactive"] > 700
    assert busy.stall_ns < 0.2 * busy.sim_ns


def test_far_memory_keeps_promotions_within_its_slo():
    rule = FarMemory(
        interval_ns=4_000_000, min_age_ns=2_000_000, warmup_ns=8_000_000, slo_ppm=2000 * 15_000, percentile=90
    )
    host, (idle, busy) = decided(rule, lambda i: touch_all_then((128, 1024)[i], 2000))
    assert idle.counters()["charged_pages"] < 300 and busy.counters()["charged_pages"] > 900
    counted = host.counters()
    assert counted["reclaim_proactive"] > 700
    assert counted["fault_swap"] + counted["fault_cached"] < counted["reclaim_proactive"] // 5


def test_a_full_pool_is_written_back_and_the_shrinker_begins_before():
    rejected, moved = [], []
    for shrinker in (False, True):
        host = memvirt.Host(
            memory="4MiB", swap="32MiB", zpool_percent=20, zpool_shrinker=shrinker, seed=1, readahead=0, content="bytes"
        )
        vm = host.create_vm("a", "16MiB")
        page = bytes(range(256)) * 2
        for gfn in range(4096):
            vm.write(gfn << 12, page + gfn.to_bytes(4, "little") * 500)
        host.check()
        # The test comes before the store, as in zswap: one zspage more at most.
        assert host.usage()["zspage"] < 1024 * 20 // 100 + 8
        for gfn in range(0, 4096, 97):
            assert vm.read(gfn << 12, 520) == page + gfn.to_bytes(4, "little") * 2
        rejected.append(host.counters()["reject_pool_full"])
        moved.append(host.counters()["zpool_written_back"])
        host.check()
    assert 0 < moved[0] < moved[1]
    assert rejected[1] < rejected[0]
