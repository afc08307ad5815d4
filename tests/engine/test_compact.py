"""Compaction and collapse: what they make, what they leave, and that no page is lost on the way."""

from typing import Any

import numpy as np
import pytest

import memvirt
from helpers import world as world_module
from memvirt.engine.memory.fragmentation import external_index, unusable_index
from memvirt.engine.testing.memory import BuddyProbe
from memvirt.errors import AdmissionError, ConfigError

World, MIB, PAGE = world_module.World, world_module.MIB, world_module.PAGE
BLOCK = 512


def interleaved(vms: int = 4, memory: str = "32MiB", pages: int = 1024, **settings: Any) -> Any:
    """VMs whose pages alternate frame by frame; every other VM is then destroyed."""
    world = World(memvirt.Host(**{"memory": memory, "swap": "32MiB", **settings}))
    for vm in range(vms):
        world.create(f"v{vm}", 4 * MIB)
    for page in range(pages):
        for vm in range(vms):
            assert world.write(f"v{vm}", page, page * 64 + vm + 1)
    for vm in range(1, vms, 2):
        world.vm(f"v{vm}").destroy()
    return world


def free_map(host: memvirt.Host) -> list[bool]:
    buddy = BuddyProbe(host.engine.frames.buddy)
    return [buddy.page_is_free(frame) for frame in range(buddy.nr_pages)]


def naive_blocks(free: list[bool]) -> list[int]:
    """Free blocks per order from the free frames alone: the largest aligned groups that are free throughout."""
    counts, taken = [0] * 11, set()
    for order in range(10, -1, -1):
        for start in range(0, len(free) - (1 << order) + 1, 1 << order):
            group = range(start, start + (1 << order))
            if start not in taken and all(free[frame] for frame in group):
                counts[order] += 1
                taken.update(group)
    return counts


def naive_fewest_moves(host: memvirt.Host) -> int | None:
    """Frames in use in the emptiest 2 MiB block that is neither empty nor full."""
    free = free_map(host)
    used = [BLOCK - sum(free[start : start + BLOCK]) for start in range(0, len(free), BLOCK)]
    return min((count for count in used if 0 < count < BLOCK), default=None)


def test_indices_against_the_formula() -> None:
    isolated = [512] + [0] * 10
    assert external_index(isolated, 9) == 997 and external_index([4] + [0] * 10, 9) == 749
    assert external_index([0, 3, 0, 0, 2] + [0] * 6, 5) == 1000 - (1000 + 38 * 1000 // 32) // 5 == 563
    assert unusable_index([512] + [0] * 8 + [1, 0], 9) == 500
    assert unusable_index([100, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1], 10) == (100 + 3 * 512) * 1000 // (100 + 3 * 512 + 1024)


def test_what_fragmentation_reports_is_what_a_recount_gives() -> None:
    world = interleaved()
    for _ in range(2):
        report, free = world.host.fragmentation(), free_map(world.host)
        assert report["free_blocks"] == naive_blocks(free)
        for order in range(11):
            assert report["unusable"][order] == unusable_index(report["free_blocks"], order)
            assert report["external"][order] == external_index(report["free_blocks"], order)
        runs = "".join("x" if is_free else " " for is_free in free).split()
        expected = [sum(1 << k <= len(run) < 2 << k for run in runs) for k in range(len(report["free_runs"]))]
        assert report["free_runs"] == expected and report["largest_free_run"] == max(map(len, runs))
        world.host.compact(2)


def test_one_block_takes_as_many_moves_as_the_emptiest_has_pages() -> None:
    world = interleaved(pages=500)
    world.check()
    fewest = naive_fewest_moves(world.host)
    blocks = world.host.fragmentation()["free_blocks"]
    before = blocks[9] + 2 * blocks[10]
    assert world.host.compact(1) == 1
    blocks = world.host.fragmentation()["free_blocks"]
    assert blocks[9] + 2 * blocks[10] == before + 1
    counters = world.host.counters()
    assert counters["compact_moved"] == fewest and counters["compact_blocks"] == 1
    assert world.host.cpu_ns()["compact"] == fewest * world.host.engine.clock.table["move_page"]
    world.check()


@pytest.mark.parametrize("settings", [{}, {"replacement": "mglru"}, {"zpool_percent": 20}, {"sharing": "hash"}])
def test_everything_that_can_be_made_is_made_and_nothing_is_lost(settings: dict[str, Any]) -> None:
    world = interleaved(**settings)
    if "sharing" in settings:
        world.host.scan()
    if "zpool_percent" in settings:
        world.host.engine.reclaim_from(world.vm("v0").engine_vm, 300)
    world.host.check()
    used = world.host.usage()
    made = world.host.compact()
    world.host.check()
    assert made >= 2 and world.host.usage() == used
    stuck = sum(not all(free) and any(free) for free in blocks_of(free_map(world.host)))
    assert stuck <= 2, "more than a block for the fixed metadata and one for the rest"
    assert world.host.compact() == 0
    world.check()


def blocks_of(free: list[bool]) -> list[list[bool]]:
    return [free[start : start + BLOCK] for start in range(0, len(free), BLOCK)]


def test_pinned_pages_keep_their_blocks() -> None:
    world = interleaved()
    for page in range(0, 1024, 16):
        world.vm("v0").pin(page, 1)
    world.host.check()
    made = world.host.compact()
    assert made < interleaved().host.compact()
    assert world.host.counters()["compact_failed_unmovable"] + world.host.counters()["compact_failed_room"] == 1
    world.check()


def test_no_room_is_a_reason() -> None:
    world = World(memvirt.Host(memory="8MiB", swap="32MiB"))
    world.create("a", 16 * MIB)
    for page in range(1950):
        assert world.write("a", page, page + 1)
    assert world.host.compact() == 0
    assert world.host.counters()["compact_failed_room"] + world.host.counters()["compact_failed_unmovable"] == 1
    world.check()


def test_a_merged_page_stays_findable_after_it_has_moved() -> None:
    world = World(memvirt.Host(memory="32MiB", swap=0, sharing="hash"))
    world.create("low", 2 * MIB)
    world.write("low", 0, 1 << 50)  # the scanner's cursor stays before all that moves
    world.create("gap", 8 * MIB)
    world.create("a", 4 * MIB)
    world.create("b", 4 * MIB)
    for page in range(2048):
        world.write("gap", page, page + 1)
        if 700 <= page < 740:  # not in the first 2 MiB, whose fixed metadata keeps it from being emptied
            world.write("a", page - 700, 1 << 40 | page - 700)
            world.write("b", page - 700, 1 << 40 | page - 700)
    world.host.scan()
    assert world.host.sharing()["pages_shared"] == 40
    world.vm("gap").destroy()
    world.create("c", 4 * MIB)
    for page in range(40):
        world.write("c", page, 1 << 40 | page)
    world.host.scan(1)  # a pass begins: the index is made anew, and not again before the next
    assert world.host.compact() >= 1
    world.host.check()
    world.host.scan(1_000_000)
    assert world.host.sharing()["pages_shared"] == 40 and world.host.sharing()["pages_sharing"] == 80
    world.check()


def test_moved_pages_keep_their_turn() -> None:
    def evicted(compact: bool) -> list[int]:
        world = interleaved(replacement="fifo", pages=1000)
        if compact:
            assert world.host.compact(2) == 2  # the block filled last, and the lowest: of the oldest pages
        world.host.engine.reclaim_from(world.vm("v0").engine_vm, 150)
        vm, gone = world.vm("v0"), []
        for page in range(1000):
            faults = world.host.counters()
            vm.read(page * PAGE, 8)
            after = world.host.counters()
            gone += [page] * (after["fault_same"] + after["fault_swap"] > faults["fault_same"] + faults["fault_swap"])
        return gone

    assert evicted(True) == evicted(False) != []


def test_collapse_in_place_and_by_copying() -> None:
    world = World(memvirt.Host(memory="32MiB", swap=0, provisioning="thin-huge"))
    world.create("a", 4 * MIB)
    world.write("a", 0, 1)
    world.vm("a").clone("b")
    world.contents["b"] = dict(world.contents["a"])
    world.write("b", 1, 2)  # the leaf is split and copied; all but one page have two owners
    assert world.host.collapse() == 0
    world.vm("b").destroy()
    assert world.host.fragmentation()["vms"]["a"]["collapsible_pages"] == 512
    assert world.host.collapse() == 1
    assert world.host.fragmentation()["vms"]["a"] == {
        "present_pages": 512, "huge_pages": 512, "collapsible_pages": 0, "promotable_pages": 0, "runs": 1,
        "mean_run": 512_000,
    }  # fmt: skip
    assert world.host.counters()["collapse_copied"] == 0
    world.check()
    world = interleaved(vms=2)
    lies = world.host.fragmentation()["vms"]["v0"]
    assert lies["promotable_pages"] == 1024 and lies["runs"] > 1000 and 1000 <= lies["mean_run"] < 2000
    moved = world.host.cpu_ns()["compact"]
    assert world.host.collapse() == 2
    assert world.host.counters()["collapse_copied"] == 2
    assert world.host.cpu_ns()["compact"] - moved == 1024 * world.host.engine.clock.table["move_page"]
    assert world.host.fragmentation()["vms"]["v0"]["runs"] <= 2
    world.check()


@pytest.mark.parametrize("hindrance", ["hole", "shared", "pinned", "out", "merged"])
def test_what_keeps_a_leaf_small(hindrance: str) -> None:
    world = World(memvirt.Host(memory="32MiB", swap="8MiB", sharing="hash"))
    world.create("other", 2 * MIB)
    world.create("a", 2 * MIB)
    for page in range(512 - (hindrance == "hole")):
        world.write("a", page, page + 1)
        world.write("other", page, (page + 1) if hindrance == "merged" and page == 7 else page + 1000)
    vm = world.vm("a")
    if hindrance == "shared":
        vm.clone("b")
        world.contents["b"] = dict(world.contents["a"])
        world.write("b", 9, 1)
    elif hindrance == "pinned":
        vm.pin(100, 1)
    elif hindrance == "out":
        world.host.engine.reclaim_from(vm.engine_vm, 1)
    elif hindrance == "merged":
        world.host.scan()
    world.vm("other").destroy() if hindrance != "merged" else None
    world.host.collapse()
    assert world.host.fragmentation()["vms"]["a"]["huge_pages"] == 0
    world.check()


def test_collapse_without_a_block_is_missed_and_may_be_refused() -> None:
    world = interleaved(vms=2)
    buddy = world.host.engine.frames.buddy
    buddy.fail_after(1)
    assert world.host.collapse() == 1 and world.host.counters()["collapse_missed"] == 1
    buddy.fail_after(0)
    world.check()
    assert world.host.collapse() == 1
    world.check()


def test_compaction_refused_at_every_frame_and_resumed() -> None:
    world = interleaved(pages=200)
    buddy = world.host.engine.frames.buddy
    for n in range(1, 400, 23):
        buddy.fail_after(n)
        world.host.compact(1)
        buddy.fail_after(0)
        world.host.check()
    assert world.host.counters()["compact_failed_frame"] > 0
    world.host.compact()
    world.check()


def test_missed_huge_pages_set_off_compaction_above_the_threshold() -> None:
    def run(threshold: int | None) -> dict[str, int]:
        world = World(memvirt.Host(memory="24MiB", swap=0, provisioning="thin-huge", compact_threshold=threshold))
        for vm in range(6):
            world.create(f"v{vm}", 3 * MIB)  # a region and a half: the half comes page by page
        for page in range(768):
            for vm in range(6):
                world.write(f"v{vm}", page, page * 64 + vm + 1)
        for vm in range(1, 6, 2):
            world.vm(f"v{vm}").destroy()
        late = world.create("late", 12 * MIB)
        pages = np.arange(0, 3072, 2, dtype=np.uint32)
        world.host.run({late: iter([(pages, np.ones(len(pages), np.uint8))])})
        world.check()
        return world.host.counters()

    never, low, top = run(None), run(0), run(1000)
    assert never["huge_missed"] > 0 and never["compact_blocks"] == 0
    assert low["compact_blocks"] > 0 and low["fault_huge"] > never["fault_huge"]
    assert top["compact_moved"] <= low["compact_moved"]


def test_the_actors_compact_and_collapse_by_themselves() -> None:
    world = interleaved(vms=6, memory="28MiB", compact_threshold=200, collapse_interval="1us")
    host = world.host
    busy = world.vm("v0")
    pages = np.tile(np.arange(1024, dtype=np.uint32), 40)
    host.run({busy: iter([(pages, np.zeros(len(pages), np.uint8))] * 8)})
    counters = host.counters()
    assert counters["compact_blocks"] > 0 and counters["collapse_missed"] > 0
    assert counters["leaf_collapses"] >= 4 and host.fragmentation()["vms"]["v0"]["huge_pages"] == 1024
    world.check()


def test_numbers_that_cannot_be() -> None:
    host = memvirt.Host(memory="8MiB")
    with pytest.raises(ConfigError, match="blocks: -1"):
        host.compact(-1)
    for settings in ({"compact_threshold": 1001}, {"collapse_interval": "-1ms"}):
        with pytest.raises(ConfigError):
            memvirt.Host(memory="8MiB", **settings)


STEPS = {
    "write": 0.3, "run": 0.15, "new": 0.08, "end": 0.05, "clone": 0.05, "evict": 0.1, "scan": 0.05, "compact": 0.08,
    "collapse": 0.06, "pin": 0.03, "refuse": 0.05,
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"provisioning": "thin", "zpool_percent": 20, "sharing": "hash"},
        {"provisioning": "thin-huge", "replacement": "s3fifo", "sharing": "hash"},
        {"provisioning": "thick", "replacement": "lfu"},
        {"provisioning": "thin-huge", "content": "fingerprint", "zpool_percent": 20, "sharing": "hash"},
    ],
)
def test_random_walk(settings: dict[str, Any]) -> None:
    """Allocate, free, share, split, evict, collapse, compact, refuse: recounted after every step, compared often."""
    host = memvirt.Host(**{"memory": "12MiB", "swap": "24MiB", "compact_threshold": 300, **settings})
    world, rng = World(host), np.random.default_rng(7)
    buddy = host.engine.frames.buddy
    number = 0
    for step in range(900):
        names = [vm.name for vm in host.vms]
        kind = rng.choice(list(STEPS), p=list(STEPS.values()))
        name = str(rng.choice(names)) if names else ""
        if kind == "new" and len(names) < 4:
            number += 1
            try:
                world.create(f"vm{number}", int(rng.choice([2, 3, 5])) * MIB)
            except AdmissionError:
                assert f"vm{number}" not in [vm.name for vm in host.vms]
        elif kind == "refuse":
            buddy.fail_after(int(rng.integers(1, 30)))
        elif kind == "compact":
            host.compact(int(rng.integers(0, 3)) or None)
        elif kind == "collapse":
            host.collapse()
        elif kind == "scan" and settings.get("sharing"):
            host.scan()
        elif name:
            act_on_vm(world, str(kind), name, rng)
        host.check()
        if step % 50 == 49:
            buddy.fail_after(0)
            world.check()
            assert host.fragmentation()["free_blocks"] == naive_blocks(free_map(host))
    moved = host.counters()
    assert moved["compact_moved"] > 0 and moved["compact_blocks"] > 0


def act_on_vm(world: Any, kind: str, name: str, rng: Any) -> None:
    vm = world.vm(name)
    if kind == "write" and world.host.config.content == "bytes":
        for _ in range(20):
            world.write(name, int(rng.integers(0, vm.pages)), int(rng.integers(0, 40)))
    elif kind in ("write", "run"):
        first = int(rng.integers(0, max(1, vm.pages - 300)))
        pages = np.arange(first, min(first + 300, vm.pages), dtype=np.uint32)
        done = world.host.run({vm: iter([(pages, np.ones(len(pages), np.uint8))])})[vm].done
        world.remember(name, pages[:done])
    elif kind == "end":
        vm.destroy()
    elif kind == "clone" and len(world.host.vms) < 4:
        twin = f"{name}-twin"
        if twin not in [other.name for other in world.host.vms]:
            try:
                vm.clone(twin)
            except AdmissionError:
                return
            world.contents[twin] = dict(world.contents[name])
    elif kind == "evict":
        world.host.engine.reclaim_from(vm.engine_vm, int(rng.integers(1, 200)))
    elif kind == "pin" and world.contents[name]:
        page = int(rng.choice(sorted(world.contents[name])))
        vm.pin(page, 1) if rng.integers(0, 2) else vm.unpin(page, 1)
