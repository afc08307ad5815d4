"""Exhaustion at every point of every operation of several steps: refused, it leaves no trace, and then it works.

`fail_after(n)` refuses the nth request for frames. Each operation is tried with n = 1, 2, … on the same host until it
no longer notices; after every refusal everything is recounted and every page of every VM must hold what it held. Frames
for metadata (slab pages) may have been taken and stay for the next operation that needs them; no guest frame may.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import memvirt
from helpers import world as world_module
from memvirt.errors import AdmissionError, ConfigError

World, MIB, PAGE = world_module.World, world_module.MIB, world_module.PAGE


def refuse_everywhere(world: World, attempt: Callable[[], bool], *, at_least: int) -> int:
    """Try with the 1st, 2nd, … request refused; False from `attempt` = it noticed. Returns how many refusals it met."""
    buddy = world.host.engine.frames.buddy
    world.check()
    for n in range(1, 60):
        guests = world.host.usage()["guest"]
        buddy.fail_after(n)
        done = attempt()
        buddy.fail_after(0)
        if done:
            world.check()
            assert n > at_least, f"only {n - 1} refusals were noticed"
            return n - 1
        assert world.host.usage()["guest"] == guests
        world.check()
    pytest.fail("never succeeds")


def host(**settings: Any) -> World:
    return World(memvirt.Host(**{"memory": "16MiB", "swap": "16MiB", **settings}))


def test_first_touch_of_a_vm_that_has_no_directory_yet() -> None:
    world = host()
    world.create("a", 4 * MIB)
    refuse_everywhere(world, lambda: world.write("a", 700, 7), at_least=1)


def test_write_below_a_leaf_that_a_clone_shares() -> None:
    world = host()
    world.create("a", 4 * MIB)
    assert all(world.write("a", page, page + 1) for page in range(0, 600, 3))
    world.vm("a").clone("b")
    world.contents["b"] = dict(world.contents["a"])
    assert refuse_everywhere(world, lambda: world.write("b", 3, 9), at_least=2) == 2  # leaf copy, then the page's
    assert world.vm("a").read(3 * PAGE, 8) != world.vm("b").read(3 * PAGE, 8)


def test_cow_with_a_leaf_of_ones_own() -> None:
    world = host()
    world.create("a", 4 * MIB)
    assert all(world.write("a", page, page + 1) for page in range(20))
    world.vm("a").clone("b")
    world.contents["b"] = dict(world.contents["a"])
    assert world.write("b", 0, 5)
    assert refuse_everywhere(world, lambda: world.write("b", 1, 6), at_least=1) == 1


def test_huge_fault_falls_back_to_a_small_one_and_that_may_fail_too() -> None:
    world = host(provisioning="thin-huge", memory="32MiB")
    world.create("a", 8 * MIB)
    buddy = world.host.engine.frames.buddy
    buddy.fail_after(1)
    assert world.write("a", 5, 5)
    assert world.host.counters()["fault_huge"] == 0 and world.host.counters()["fault_zero"] == 1
    buddy.fail_after(0)
    assert world.write("a", 600, 6)
    assert world.host.counters()["fault_huge"] == 1
    world.check()


def test_split_of_a_huge_leaf_that_a_clone_shares() -> None:
    world = host(provisioning="thin-huge", memory="32MiB")
    world.create("a", 8 * MIB)
    assert all(world.write("a", page, page + 1) for page in range(0, 512, 5))
    world.vm("a").clone("b")
    world.contents["b"] = dict(world.contents["a"])
    assert refuse_everywhere(world, lambda: world.write("b", 10, 9), at_least=2) == 2  # split and copy, then the page's
    assert world.host.counters()["leaf_splits"] == 1


def test_clone_and_creation_of_a_vm() -> None:
    world = host()
    world.create("a", 4 * MIB)
    assert all(world.write("a", page, page + 1) for page in range(0, 1024, 7))

    def create(**settings: Any) -> Callable[[], bool]:
        def attempt() -> bool:
            try:
                world.create("new", 2 * MIB, **settings)
            except AdmissionError:
                assert [vm.name for vm in world.host.vms] == ["a"]
                return False
            world.vm("new").destroy()
            return True

        return attempt

    def clone() -> bool:
        try:
            world.vm("a").clone("b")
        except AdmissionError:
            assert [vm.name for vm in world.host.vms] == ["a"]
            return False
        world.contents["b"] = dict(world.contents["a"])
        return True

    assert refuse_everywhere(world, create(), at_least=1) == 1
    assert refuse_everywhere(world, create(guest=True), at_least=1) >= 2
    assert refuse_everywhere(world, clone, at_least=1) >= 1


@pytest.mark.parametrize("memory", [2 * MIB, 3 * MIB, 5 * MIB])
def test_a_thick_vm_that_is_refused_leaves_nothing_behind(memory: int) -> None:
    world = host(provisioning="thick", memory="32MiB", swap=0)
    world.create("first", 2 * MIB)
    assert all(world.write("first", page, page + 1) for page in range(0, 512, 9))
    world.create("new", memory).destroy()  # slab pages that creation needs are there from now on
    usage = world.host.usage()

    def create() -> bool:
        try:
            world.create("new", memory)
        except AdmissionError as error:
            assert "frames" in str(error)
            assert world.host.usage() == usage
            return False
        world.vm("new").destroy()
        return True

    # A huge block refused becomes single pages, each of which asks: the first dozens of refusals are enough here.
    buddy = world.host.engine.frames.buddy
    refused = 0
    for n in range(1, 40):
        buddy.fail_after(n)
        refused += not create()
        buddy.fail_after(0)
        world.check()
    assert refused >= 1
    assert create()
    assert world.host.usage() == usage


def test_a_thick_vm_larger_than_what_is_free_is_refused_and_leaves_nothing_behind() -> None:
    world = host(provisioning="thick", memory="16MiB", swap=0)
    world.create("first", 6 * MIB)
    before = None
    for _ in range(3):
        with pytest.raises(AdmissionError, match=r"needs 41\d\d frames to begin with"):
            world.create("new", 16 * MIB)
        world.check()
        assert before is None or world.host.usage() == before
        before = world.host.usage()


def test_merge_is_put_off_and_made_up_for() -> None:
    """A merge needs frames where a huge leaf has to be split for it."""
    world = host(sharing="hash", provisioning="thin-huge")
    world.create("a", 4 * MIB)
    world.create("b", 4 * MIB)
    for page in range(8):
        assert world.write("a", page, 77) and world.write("b", page, 77)
    buddy = world.host.engine.frames.buddy
    buddy.fail_after(1)
    world.host.scan()
    buddy.fail_after(0)
    assert world.host.sharing()["merges_put_off"] == 1
    world.check()
    world.host.scan()
    assert world.host.sharing()["pages_shared"] == 1 and world.host.sharing()["pages_sharing"] == 15
    world.check()


def test_refusals_while_everything_is_full_lose_nothing() -> None:
    """Reclaim, the compressed cache and swap at work, with a refusal every few requests."""
    world = host(memory="4MiB", swap="16MiB", zpool_percent=25, provisioning="thin")
    world.create("a", 8 * MIB)
    buddy = world.host.engine.frames.buddy
    rng = np.random.default_rng(3)
    refused = 0
    for step in range(1500):
        if step % 5 == 0:
            buddy.fail_after(int(rng.integers(1, 9)))
        page = int(rng.integers(0, 2000))
        refused += not world.write("a", page, int(rng.integers(1, 1 << 60)) if step % 3 else page % 4)
    buddy.fail_after(0)
    assert refused > 50
    world.check()


def test_fail_after_names_a_bad_number() -> None:
    with pytest.raises(ValueError, match="-1"):
        host().host.engine.frames.buddy.fail_after(-1)
    with pytest.raises(ConfigError, match="beyond"):
        World(memvirt.Host(memory="16MiB")).create("a", MIB).read(MIB, 1)


@pytest.mark.parametrize("provisioning", ["thin", "thin-huge"])
@pytest.mark.parametrize("zpool_percent", [0, 30])
def test_without_watermarks_memory_is_used_to_the_last_frames_and_reclaimed_by_who_needs_it(
    provisioning, zpool_percent
):
    marks = {"min": 0, "low": 0, "high": 0}
    host = memvirt.Host(
        memory="4MiB", swap="16MiB", watermarks=marks, provisioning=provisioning, zpool_percent=zpool_percent
    )
    with host:
        vm = host.create_vm("a", "8MiB")
        pages = np.arange(vm.pages)
        least = host.usage()["free"]
        for ops in (1, 0, 1):
            for part in np.array_split(pages, 32):
                assert vm.access(part, np.full(len(part), ops, np.uint8)).done == len(part)
                host.check()
                least = min(least, host.usage()["free"])
        found = host.counters()
        assert found["reclaim_background"] == found["exhausted_no_frame"] == 0 < found["reclaim_direct"]
        assert least <= 32  # what a batch of reclaim leaves
