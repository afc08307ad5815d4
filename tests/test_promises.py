"""What a VM was promised holds whatever is done to it: reservations, limits, pins; and what admission says is there."""

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing.host import is_pinned, locate
from memvirt.errors import AdmissionError, ConfigError
from memvirt.policies.base import Targets

PAGE = 4096
MIB = 1 << 20


def host_of(**settings):
    return memvirt.Host(**{"memory": "8MiB", "seed": 1, **settings})


def noise(pages, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).bytes(pages * PAGE)


def charged(vm):
    return vm.usage()["charged_pages"]


def fill(vm, pages, first=0):
    return vm.access(np.arange(first, first + pages), np.ones(pages))


# -- reservations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["fifo", "clock", "lru", "random", "mglru", "arc"])
@pytest.mark.parametrize("stores", [{"swap": "64MiB"}, {"swap": "64MiB", "zpool_percent": 20}], ids=["swap", "zpool"])
def test_reclaim_never_goes_below_a_reservation(order, stores):
    """A VM a little above it loses that little, and no batch of pages on their way to swap more."""
    host = host_of(replacement=order, **stores)
    reserved = [host.create_vm(f"r{i}", "2MiB", reservation=200 * PAGE) for i in range(2)]
    for i, vm in enumerate(reserved):
        vm.write(0, noise(210 + 20 * i, i))
    other = host.create_vm("other", "16MiB")
    for step in range(48):
        other.write(step * 64 * PAGE, noise(64, step + 2))
        assert min(charged(vm) for vm in reserved) >= 200
        host.check()
    assert host.counters()["reclaim_spared_reserved"] > 0
    for i, vm in enumerate(reserved):
        assert vm.read(0, (210 + 20 * i) * PAGE) == noise(210 + 20 * i, i)


def test_a_decider_takes_nothing_that_is_reserved_by_no_means():
    host = host_of(swap="64MiB")
    plain = host.create_vm("plain", "2MiB", reservation=400 * PAGE)
    guest = host.create_vm("guest", "2MiB", reservation=300 * PAGE, guest={"cache_percent": 0})
    for vm in (plain, guest):
        fill(vm, 512 if vm is plain else 100)
    assert host.engine.reclaim_from(plain.engine_vm, 512) <= 112

    class Greedy:
        interval_ns = 10_000

        def decide(self, snapshot):
            return Targets(balloon_pages={"guest": 512}, reclaim_pages={"plain": 512})

    host.run(
        {plain: [(np.arange(512), np.ones(512))] * 3, guest: [(np.arange(100), np.ones(100))] * 300}, decider=Greedy()
    )
    assert charged(plain) >= 400
    assert guest.counters()["balloon_pages"] == 512 - 300
    host.check()


def test_a_vm_whose_limit_is_its_reservation_replaces_its_own_pages():
    host = host_of(swap="16MiB")
    vm = host.create_vm("a", "2MiB", limit=100 * PAGE, reservation=100 * PAGE)
    assert fill(vm, 300).reason == "done"
    assert charged(vm) <= 100
    host.check()


@pytest.mark.parametrize("first", [True, False], ids=["made before", "made after"])
@pytest.mark.parametrize("zpool", [0, 20])
def test_what_is_reserved_is_there_when_it_is_asked_for(first, zpool):
    """Without swap others cannot be made to give back: so they do not get it, or the VM is refused."""
    host = host_of(zpool_percent=zpool)
    make = lambda: host.create_vm("a", "4MiB", reservation=512 * PAGE)  # noqa: E731
    vm = make() if first else None
    other = host.create_vm("b", "16MiB")
    wrote = other.write(0, noise(4096))
    assert other.outcome == "no_frame"
    if first:
        assert 1100 * PAGE < wrote < 1700 * PAGE, "what nobody reserved is there for all"
        assert fill(vm, 512) == (512, "done")
        assert charged(vm) == 512
    else:
        before = charged(other)
        with pytest.raises(AdmissionError, match="90 are free|cannot be set aside"):
            make()
        assert charged(other) == before or zpool
        assert [each.name for each in host.vms] == ["b"]
    host.check()
    assert other.read(0, wrote) == noise(4096)[:wrote]


def test_a_revert_leaves_what_is_reserved_with_its_vm():
    """The snapshot has the VM's pages meanwhile, and gives them back: a full host's reservation is held as before."""
    host = host_of(memory=100 * PAGE)
    vm = host.create_vm("kept", 80 * PAGE, reservation=60 * PAGE)
    assert fill(vm, 60).reason == "done"
    saved = vm.snapshot()
    assert fill(host.create_vm("other", 80 * PAGE), 80).reason == "no_frame"
    vm.revert(saved)
    assert charged(vm) == 60 and saved.engine_vm.charged == 0 and host.counters()["reservation_unmet"] == 0
    host.check()


@pytest.mark.parametrize("limit", [None, 30])
def test_a_revert_takes_back_no_more_than_is_reserved_or_fits_and_nothing_from_who_needs_it(limit):
    """A clone that holds no more than it was promised keeps it; the snapshot, which was promised nothing, gives."""
    host = host_of()
    vm = host.create_vm("kept", 80 * PAGE, reservation=(limit or 40) * PAGE, limit=limit and limit * PAGE)
    vm.write(0, noise(limit or 60))
    clone = vm.clone("clone")
    saved = vm.snapshot()
    vm.revert(saved)
    assert charged(vm) + charged(clone) + saved.engine_vm.charged == (limit or 60)
    assert charged(vm) + charged(clone) >= (limit or 40) and charged(vm) <= (limit or 40)
    assert vm.read(0, PAGE) == clone.read(0, PAGE) == noise(limit or 60)[:PAGE]
    host.check()


def test_what_was_lent_for_good_is_counted():
    """Without swap a page that another keeps, merged with it, does not come back: its VM asks in vain, and that is said."""
    host = host_of(memory=100 * PAGE, sharing="ksm")
    twin, other = host.create_vm("twin", 40 * PAGE), host.create_vm("other", 200 * PAGE)
    vm = host.create_vm("kept", 40 * PAGE, reservation=30 * PAGE)
    saved = vm.snapshot()
    for each in (twin, vm):
        each.write(0, noise(30))
        host.scan()
        host.scan()
    assert host.counters()["merges"] == 30 and charged(vm) == 30
    assert fill(other, 200).reason == fill(vm, 1).reason == "no_frame"
    assert host.counters()["reservation_unmet"] == 0  # it has what it was promised, and asks for one more
    vm.revert(saved)
    assert charged(vm) == 0 and charged(twin) == 30
    assert fill(vm, 1).reason == "no_frame" and host.counters()["reservation_unmet"] == 1
    host.check()


def test_with_swap_others_may_use_what_is_reserved_until_it_is_asked_for():
    host = host_of(swap="64MiB")
    vm, other = host.create_vm("a", "4MiB", reservation=512 * PAGE), host.create_vm("b", "16MiB")
    other.write(0, noise(2500))
    assert host.usage()["free"] < 512 and charged(other) > 1200
    assert fill(vm, 512) == (512, "done") and charged(vm) == 512
    host.check()


def test_a_reservation_is_kept_when_swap_runs_out_meanwhile():
    host = host_of(swap=600 * PAGE)
    vm, other = host.create_vm("a", "4MiB", reservation=512 * PAGE), host.create_vm("b", "16MiB")
    other.write(0, noise(4096))
    assert other.outcome == "no_frame"
    assert fill(vm, 512) == (512, "done")
    host.check()


def test_a_vm_that_ends_or_gives_pages_up_leaves_the_account_of_reservations_exact():
    host = host_of()
    vms = [host.create_vm(f"v{i}", "1MiB", reservation=(i + 1) * 20 * PAGE) for i in range(4)]
    for i, vm in enumerate(vms):
        fill(vm, 15 * (i + 1))
    host.check()
    clone = vms[3].clone("c")
    host.check()
    fill(clone, 30)
    host.check()
    for vm in (vms[0], vms[3], clone, vms[1], vms[2]):
        vm.destroy()
        host.check()
    assert host.engine.mapping.charges.ahead == host.engine.mapping.charges.ahead_vms == 0


def test_the_kill_rule_spares_what_is_reserved():
    host = host_of(memory="32MiB", on_exhausted="kill")
    big = host.create_vm("big", "24MiB", reservation=5000 * PAGE)
    small = host.create_vm("small", "24MiB")
    fill(big, 5000)
    outcome = host.run({small: [(np.arange(4000), np.ones(4000))]})
    assert outcome[small].reason == "killed" and [vm.name for vm in host.vms] == ["big"]
    host.check()


def test_of_two_the_kill_rule_takes_the_one_that_holds_more_beyond_what_it_was_promised():
    host = host_of(memory="32MiB", on_exhausted="kill")
    some, none = host.create_vm("some", "24MiB", reservation=4000 * PAGE), host.create_vm("none", "24MiB")
    fill(some, 4500)
    host.run({none: [(np.arange(6000), np.ones(6000))]})
    assert [vm.name for vm in host.vms] == ["some"]


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["parent ends", "parent writes"])
def test_a_limit_holds_for_a_family_of_clones(how):
    """Frames that one leaves go to another with room; above its limit nobody stays who has a page that can go."""
    host = host_of(memory="16MiB", swap="64MiB")
    parent = host.create_vm("p", "8MiB", limit="4MiB")
    parent.write(0, noise(1024))
    clones = [parent.clone(name) for name in "cd"]
    clones[0].write(1024 * PAGE, noise(700, 1))
    if how == "parent ends":
        parent.destroy()
    else:
        parent.write(0, noise(1024, 2))
    host.check()
    for vm in host.vms:
        assert charged(vm) <= 1024, vm
    for vm in clones:
        assert vm.read(0, 1024 * PAGE) == noise(1024)
        assert charged(vm) <= 1024
    assert clones[0].read(1024 * PAGE, 700 * PAGE) == noise(700, 1)
    host.check()


@pytest.mark.parametrize("how", ["revert", "balloon", "destroy"])
def test_a_limit_holds_at_the_end_of_whatever_leaves_pages_to_a_clone(how):
    """The clone is at its limit when it comes to pay for what both shared; by the end of that call it is below again."""
    host = host_of(memory="16MiB", swap="64MiB")
    guest = {"swap": "8MiB", "cache_percent": 0} if how == "balloon" else False
    parent = host.create_vm("p", "4MiB", limit="2MiB", guest=guest)
    empty = parent.snapshot()
    parent.write(0, noise(512))
    clone = parent.clone("c")
    clone.write(512 * PAGE, noise(500, 1))
    assert charged(clone) == 500
    if how == "revert":
        parent.revert(empty)
    elif how == "balloon":
        parent.balloon("4MiB")
    else:
        parent.destroy()
    assert host.counters()["charged_over_limit"] > 0, "the test puts nobody above a limit"
    assert charged(clone) <= 512 and host.counters()["limit_unmet"] == 0
    assert clone.read(0, 512 * PAGE) == noise(512) and clone.read(512 * PAGE, 500 * PAGE) == noise(500, 1)
    host.check()


def test_what_cannot_be_kept_of_a_limit_is_counted():
    host = host_of(memory="16MiB")  # nowhere to go
    parent = host.create_vm("p", "8MiB", limit="4MiB")
    parent.write(0, noise(1024))
    clone = parent.clone("c")
    clone.write(1024 * PAGE, noise(300, 1))
    assert host.counters()["charged_over_limit"] == host.counters()["limit_unmet"] == 0
    parent.destroy()
    assert charged(clone) == 1324
    assert host.counters()["charged_over_limit"] == host.counters()["limit_unmet"] == 300
    assert clone.write(2000 * PAGE, b"x") == 0 and clone.outcome == "limited"
    host.check()


# -- pins -------------------------------------------------------------------------------------------------------------


def frame_of(vm, page):
    kind, number = locate(vm.host.engine, vm.engine_vm, page)
    assert kind == "frame"
    return number


def pressure(host, pages=3000):
    other = host.create_vm("pressure", "16MiB")
    other.write(0, noise(pages, 99))
    return other


@pytest.mark.parametrize("huge", [False, True])
@pytest.mark.parametrize("copy", ["clone", "snapshot", "clone of clone"])
def test_a_pinned_page_stays_pinned_and_in_place_through_copies(copy, huge):
    host = host_of(swap="64MiB", provisioning="thin-huge" if huge else "thin")
    parent = host.create_vm("p", "4MiB")
    parent.write(0, noise(600))
    assert parent.pin(3, 5) == 5 and parent.pin(580, 2) == 2
    pinned = [*range(3, 8), 580, 581]
    frames = [frame_of(parent, page) for page in pinned]
    child = parent.clone("c") if copy != "snapshot" else parent.snapshot()
    host.check()
    if copy == "clone of clone":
        child = child.clone("d")
    assert host.counters()["clone_pinned_copied"] == 7
    parent.write(0, noise(600, 1))
    host.check()
    pressure(host)
    assert [frame_of(parent, page) for page in pinned] == frames
    host.check()
    if copy != "snapshot":
        assert child.read(0, 600 * PAGE) == noise(600)
        assert locate(host.engine, child.engine_vm, 3) is not None
        assert child.unpin(0, 1024) == 1024
        pressure_again = host.vms[-1]
        pressure_again.write(0, noise(2000, 5))
        assert [frame_of(parent, page) for page in pinned] == frames, "the clone's unpin is not its parent's"
    assert parent.read(0, 600 * PAGE) == noise(600, 1)
    host.check()


def test_a_pin_that_is_asked_for_again_stands_whatever_comes_of_the_question():
    """The first page of a reservation takes tables beside it, so what is set aside is not quite there any more. That is a
    reason to pin nothing more, and none to let go what is pinned."""
    host = host_of(memory=512 * PAGE)
    reserved, vm = host.create_vm("r", "4MiB", reservation=200 * PAGE), host.create_vm("a", "2MiB")
    vm.write(0, noise(512))
    assert vm.outcome == "no_frame" and vm.pin(0, 8) == 8
    assert fill(reserved, 1, 512).reason == "done"
    assert vm.pin(8, 1) == 0 and vm.outcome == "no_frame"
    assert vm.pin(0, 8) == 8 and vm.outcome == "done"
    assert [page for page in range(260) if is_pinned(host.engine, vm.engine_vm, page)] == list(range(8))
    host.check()


def test_a_pin_that_would_take_what_is_reserved_evicts_nobody():
    """What cannot be pinned is known before anything goes for it."""
    host = host_of(memory=512 * PAGE, swap=100 * PAGE)
    reserved, vm = host.create_vm("r", "1MiB", reservation=200 * PAGE), host.create_vm("a", "2MiB")
    vm.write(0, noise(330))
    assert vm.pin(0, 330) == 264 and vm.outcome == "no_frame"
    assert host.counters()["evicted"] == 0 and charged(vm) == 330
    assert fill(reserved, 200).reason == "done"
    host.check()


def test_a_vm_with_pinned_pages_is_not_reverted():
    host = host_of(swap="64MiB")
    vm = host.create_vm("a", MIB)
    vm.write(0, b"old")
    saved = vm.snapshot()
    vm.write(0, b"new")
    vm.pin(0, 2)
    with pytest.raises(ConfigError, match="2 of its pages are pinned; unpin them first"):
        vm.revert(saved)
    assert vm.read(0, 3) == b"new"
    vm.unpin(0, 2)
    vm.revert(saved)
    assert vm.read(0, 3) == b"old"
    host.check()


@pytest.mark.parametrize("sharing", ["hash", "ksm", "esx", "inline", "zero-only"])
def test_pinned_pages_are_merged_by_nobody_and_into_nobody(sharing):
    host = host_of(swap="16MiB", sharing=sharing)
    vms = [host.create_vm(name, MIB) for name in "ab"]
    for vm in vms:
        vm.write(0, b"\7" * 64 * PAGE)
        vm.write(64 * PAGE, bytes(16 * PAGE))
    host.scan(50)
    vms[0].pin(0, 80)
    frames = [frame_of(vms[0], page) for page in range(80)]
    for _ in range(3):
        host.scan()
        host.check()
    assert [frame_of(vms[0], page) for page in range(80)] == frames
    assert len(set(frames)) == 80
    for vm in vms:
        assert vm.read(0, 80 * PAGE) == b"\7" * 64 * PAGE + bytes(16 * PAGE)


def test_a_guest_keeps_a_pinned_page_where_it_is():
    """Neither its own swap-out nor its page cache's eviction moves it; unpinned, it goes like any other."""
    host = host_of(memory="16MiB")
    vm = host.create_vm("a", MIB, guest={"swap": "4MiB", "cache_percent": 50, "kernel": "512KiB"})
    probe = vm.engine_vm.guest
    fill(vm, 20)
    vm.access(np.arange(200, 210), np.zeros(10))
    assert vm.pin(5, 3) == 3 and vm.pin(201, 2) == 2
    held = vm.read(5 * PAGE, 3 * PAGE)
    for _ in range(4):
        fill(vm, 256)
        host.check()
    assert vm.counters()["guest_swap_out"] > 100
    assert probe.memory.nr_locked == 5
    faults = vm.counters()["guest_faults"]
    assert vm.read(5 * PAGE, 3 * PAGE) != held and vm.read(201 * PAGE, PAGE)
    assert vm.counters()["guest_faults"] == faults, "they are where they were"
    twin = vm.clone("b")
    assert twin.engine_vm.guest.memory.nr_locked == 0, "it asked for nothing"
    host.check()
    assert vm.unpin(5, 3) == 3 and vm.unpin(201, 2) == 2
    for _ in range(4):
        fill(vm, 256)
        fill(twin, 256)
    host.check()
    vm.read(5 * PAGE, 3 * PAGE)
    assert vm.counters()["guest_faults"] > faults


def test_a_frame_that_a_device_may_write_to_is_not_given_up_by_a_balloon():
    host = host_of(memory="64MiB", content="fingerprint")
    vm = host.create_vm("a", "16MiB", guest=True)
    fill(vm, 4096)
    assert vm.pin(0, 4096) == 4096 and charged(vm) == 4096
    vm.access(np.arange(2048), np.full(2048, 3))
    assert vm.balloon("8MiB") == 8 * MIB
    assert host.counters()["balloon_pages_released"] == 0 and charged(vm) == 4096
    host.check()
    vm.balloon(0)
    fill(vm, 2048)
    assert host.counters()["fault_zero"] == 4096
    vm.access(np.arange(100), np.full(100, 3))
    assert vm.unpin(0, 4096) == 4096
    vm.access(np.arange(2048), np.full(2048, 3))
    vm.balloon("8MiB")
    assert host.counters()["balloon_pages_released"] == 2048, "unpinned as a whole, none is left behind"
    host.check()


# -- admission --------------------------------------------------------------------------------------------------------


def test_under_strict_a_snapshot_is_promised_what_it_may_cost():
    host = host_of(memory=6656 * PAGE, commit="strict", content="fingerprint")
    vm = host.create_vm("a", 4096 * PAGE)
    fill(vm, 4096)
    for more in (lambda: vm.clone("copy"), vm.snapshot):
        with pytest.raises(AdmissionError, match="8192 pages would be promised; beside what that costs, memory has 64"):
            more()
    assert fill(vm, 4096).reason == "done"
    roomy = host_of(memory="64MiB", commit="strict", content="fingerprint")
    vm = roomy.create_vm("a", "24MiB")
    fill(vm, 4096)
    saved = vm.snapshot()
    assert fill(vm, 4096).reason == "done"
    with pytest.raises(AdmissionError):
        roomy.create_vm("b", "24MiB")
    saved.drop()
    roomy.create_vm("b", "24MiB")
    roomy.check()


@pytest.mark.parametrize("order", ["clock", "fifo", "lru", "mglru", "random"])
def test_thick_provisioning_evicts_others_and_not_what_it_brings_in(order):
    host = host_of(memory="64MiB", swap="128MiB", provisioning="thick", content="fingerprint", replacement=order)
    first = host.create_vm("a", "40MiB")
    fill(first, 10240)
    second = host.create_vm("b", "40MiB")
    assert charged(second) == 10240
    assert host.counters()["evicted_same"] == 0 and 4000 < host.counters()["evicted_swap"] < 6000
    host.check()


@pytest.mark.parametrize("what", ["too many tables", "thick", "clone", "reservation"])
def test_a_vm_that_cannot_fit_is_refused_without_anybody_losing_a_page(what):
    host = host_of(swap=300 * PAGE, provisioning="thick" if what == "thick" else "thin")
    vm = host.create_vm("a", "6MiB", reservation=1000 * PAGE)
    vm.write(0, noise(1536))
    if what == "clone":
        host.create_vm("b", "2MiB").write(0, noise(256, 3))
    twin = memvirt.Host(memory="8MiB", seed=1)  # of equal seed: whose VMs have the tags that ours should
    tags = [twin.create_vm(name, MIB).tag_base for name in "abc"]
    before = host.counters(), host.usage(), host.sim_ns, [charged(each) for each in host.vms]
    with pytest.raises(AdmissionError):
        if what == "too many tables":
            host.create_vm("x", "64GiB")
        elif what == "clone":
            host.create_vm("x", "3GiB")
        elif what == "reservation":
            host.create_vm("x", "4MiB", reservation=900 * PAGE)
        else:
            host.create_vm("x", "7MiB")
    after = host.counters(), host.usage(), host.sim_ns, [charged(each) for each in host.vms]
    assert after == before
    host.check()
    assert host.create_vm("next", 16 * PAGE).tag_base == tags[len(host.vms) - 1], "nor did it take a number"


def test_room_for_a_vm_is_made_on_the_background_reclaimers_time():
    host = host_of(swap="64MiB")
    vm = host.create_vm("a", "7MiB")
    vm.write(0, noise(1500))
    before = vm.sim_ns, vm.stall_ns
    new = host.create_vm("b", "4GiB")
    assert host.counters()["evicted"] > 0
    assert (vm.sim_ns, vm.stall_ns) == before and new.sim_ns >= vm.sim_ns
    host.check()


# -- balloons ---------------------------------------------------------------------------------------------------------


def test_a_balloon_does_not_take_back_what_the_guest_had_to_have():
    host = host_of(memory="64MiB", content="fingerprint")
    vm = host.create_vm("a", "32MiB", guest={"cache_percent": 0})
    other = host.create_vm("b", "8MiB")
    fill(vm, 1000)
    fill(other, 1000)
    vm.balloon("24MiB")

    def hits(ms):
        return [(np.tile(np.arange(1000), ms * 10), np.zeros(ms * 10000, np.uint8))]

    before = vm.counters()
    host.run({vm: [(np.arange(1000, 5096), np.ones(4096, np.uint8))], other: hits(5)})
    after = vm.counters()
    assert after["oom_deflated"] - before["oom_deflated"] == 3072
    assert after["balloon_pages"] == 3072 and after["oom"] == before["oom"]
    vm.access(np.arange(1000, 5096), np.full(4096, 3))
    host.run({vm: hits(300), other: hits(300)})
    assert vm.counters()["balloon_pages"] == 3072
    vm.engine_vm.guest.set_target(6144)  # the host asks again
    host.run({vm: hits(300), other: hits(300)})
    assert vm.counters()["balloon_pages"] == 6144


def test_a_balloon_that_never_got_there_goes_on_trying():
    host = host_of(memory="64MiB", content="fingerprint")
    vm = host.create_vm("a", "8MiB", guest={"cache_percent": 0})
    fill(vm, 2000)
    assert vm.balloon("4MiB") == 48 * PAGE
    fill(vm, 48, 2000)
    assert vm.counters()["oom_deflated"] == 48 and vm.engine_vm.guest.balloon_target == 1024
