"""Rules of systems, computed by hand from the program or paper: ESX, squeezed, Hyper-V, DAMON, oomd, KubeVirt, Coach."""

from dataclasses import replace

import numpy as np
import pytest

from memvirt import policies
from memvirt.errors import ConfigError
from memvirt.policies import ColdAge, Snapshot, Targets, VmView
from memvirt.policies.columns import columns_of
from memvirt.policies.esx import Esx, min_free
from memvirt.policies.hyperv import committed, floor_pages

MB = 256  # pages
S = 10**9


def snapshot(free, *vms, total=10_000, memo=None, now_s=0, **more):
    fields = {"interval_ns": S, "low_pages": 0, "high_pages": 0} | more
    return Snapshot(now_ns=now_s * S, total_pages=total, free_pages=free, vms=vms, memo=memo or {}, **fields)


def decide(name, shot, **options):
    return policies.build(name, options).decide(shot)


def vm(name="a", configured=5000, held=4000, **more):
    return VmView(name=name, configured_pages=configured, held_pages=held, **more)


# -- ESX ---------------------------------------------------------------------------------------------------------------


def columns(*vms):
    return columns_of(snapshot(0, *vms))


PLAIN = {"hysteresis_percent": 0, "idle_tax_percent": 0}  # nothing but shares, free memory up to high


def known(shot, **parts):
    """The same with a memo in which VMs have been watched: the part of each in use, in per cent."""
    watched = {f"vm:{name}": (1, part * 10_000, part * 10_000, part * 10_000) for name, part in parts.items()}
    return replace(shot, memo={"esx": (0, 0, 0, shot.now_ns, 0), **watched})


def esx_pair(shares_a=1000, shares_b=1000, **b):
    return (vm("a", shares=shares_a), vm("b", shares=shares_b, **b))


@pytest.mark.parametrize(
    ("free", "vms", "balloons", "reclaim"),
    [
        (400, esx_pair(), {}, {}),  # not below soft
        # soft: 600 must be free; what both may have is 7,798, 3,899 each: each gives 101 of the 201 that are needed
        (399, esx_pair(), {"a": 100, "b": 100}, {}),
        (200, esx_pair(), {"a": 200, "b": 200}, {}),  # 400
        (199, esx_pair(), {}, {"a": 200, "b": 200}),  # hard: the host pages, 401 of 7,599
        (300, esx_pair(balloonable=False), {"a": 150}, {"b": 150}),  # soft, but no balloon to be had
        # 7,700 at 1:3 are 1,925:5,775, but b has no more than 5,000; a is due 2,700 and gives what is needed, b nothing
        (300, esx_pair(shares_b=3000), {"a": 300}, {}),
        # 7,700 with 3,900 reserved for b: a price of 3,800 for a, and b is at its reservation
        (300, esx_pair(reservation_pages=3900), {"a": 200, "b": 100}, {}),
    ],
)
def test_esx_takes_what_is_above_the_allocation_by_shares(free, vms, balloons, reclaim):
    targets = decide("esx", snapshot(free, *vms), **PLAIN)
    assert (targets.balloon_pages, targets.reclaim_pages) == (balloons, reclaim)


@pytest.mark.parametrize(
    ("tax", "idle_shares", "idle", "busy"),
    [
        (0, 1000, 3000, 3000),  # equal shares, no tax: equal parts, whatever is used
        # rho = S / (P * (f + 4 (1 - f))): an idle page costs 4. 6,000 at 1:4
        (75, 1000, 1200, 4800),
        (75, 4000, 3000, 3000),  # four times the shares make up for it
        (50, 1000, 2000, 4000),  # k = 2
        (75, 2000, 2000, 4000),
    ],
)
def test_esx_allocations_are_those_of_the_adjusted_ratio(tax, idle_shares, idle, busy):
    rule = Esx(idle_tax_percent=tax)
    pair = (vm("idle", 6000, shares=idle_shares), vm("busy", 6000, shares=1000))
    found = rule._allocations(columns(*pair), np.array([0, 6000]), 6000).tolist()
    assert found == pytest.approx([idle, busy], abs=8)


def test_esx_taxes_what_is_idle_within_a_vm():
    """Half of 4,000 in use: charge 2,000 + 4 * (P - 2,000). 6,000 for two that pay alike: P and 6,000 - P in use, so
    2,000 + 4 (P - 2,000) = 6,000 - P, P = 2,400."""
    found = Esx()._allocations(columns(vm("half", 6000), vm("busy", 6000)), np.array([2000, 6000]), 6000).tolist()
    assert found == pytest.approx([2400, 3600], abs=8)


def test_esx_keeps_to_reservation_and_limit():
    pair = (vm("a", 6000, shares=1, reservation_pages=2500), vm("b", 6000, limit_pages=3000))
    assert Esx()._allocations(columns(*pair), np.array([6000, 6000]), 5000).tolist() == pytest.approx(
        [2500, 2500], abs=8
    )
    assert Esx()._allocations(columns(*pair), np.array([6000, 6000]), 9000).tolist() == [6000, 3000]


def test_esx_gives_back_what_is_due_in_every_state_as_far_as_soft_is_from_free():
    full = vm("full", 5000, 2000, balloon_pages=3000)
    assert decide("esx", snapshot(7000, full, total=10_000), **PLAIN).balloon_pages == {"full": 0}
    # 500 free of 10,000: soft begins at 400, so 100 of what it is due
    near = snapshot(500, full, vm("other", 8000, 7500), total=10_000)
    assert decide("esx", near, **PLAIN).balloon_pages["full"] == 2900
    rich = replace(full, guest_free_pages=500)  # its guest does not use what it has: it asks for nothing
    assert decide("esx", replace(near, vms=(rich, near.vms[1])), **PLAIN).balloon_pages == {}


def test_esx_states_are_left_one_at_a_time_and_well_above_their_threshold():
    marks = Esx().thresholds(10_000)
    assert marks == (600, 400, 200, 100)
    step = Esx()._state
    assert [step(0, free, marks) for free in (600, 400, 399, 199, 99)] == [0, 0, 1, 2, 3]
    assert [step(1, free, marks) for free in (400, 600, 659, 660)] == [1, 1, 1, 0]
    assert [step(2, free, marks) for free in (200, 439, 440, 9999)] == [2, 2, 1, 1]
    assert [step(3, free, marks) for free in (100, 219, 220)] == [3, 3, 2]


def test_esx_says_what_it_calls_the_state():
    """Of 10,000 pages: 600, 400, 200 and 100. Of a host of 1 GiB minFree is 61 MiB, 15,616 pages: 9,994, 4,997, 2,498."""
    told = {free: decide("esx", snapshot(free)).state for free in (599, 400, 399, 199, 99)}
    assert told == {599: "high", 400: "high", 399: "soft", 199: "hard", 99: "low"}
    lines = {"of_min_free": True, "high_percent": 100, "soft_percent": 64, "hard_percent": 32, "low_percent": 16}
    found = {free: decide("esx", snapshot(free, total=1 << 18), **lines).state for free in (15616, 15615, 9994, 9993)}
    assert found == {15616: "high", 15615: "clear", 9994: "clear", 9993: "soft"}
    assert decide("proxmox", snapshot(99)).state is None


@pytest.mark.parametrize(("gib", "mib"), [(4, 245), (12, 572), (28, 899), (64, 899 + 368), (1, 61)])
def test_esx_min_free_is_the_published_scale(gib, mib):
    assert min_free(gib * 1024 * MB) == mib * MB
    marks = Esx(of_min_free=True, high_percent=100, soft_percent=64, hard_percent=32, low_percent=16)
    assert marks.thresholds(gib * 1024 * MB) == tuple(mib * MB * part // 100 for part in (100, 64, 32, 16))


def test_esx_rises_fast_and_falls_slowly():
    """Samples of all or nothing are exact. Gains 50 and 10 %: from 100 % the fast average falls to 50, 25, 12; the slow
    one to 90, 81, 72; and one busy period brings the fast one up by half of the way."""
    idle, busy = vm("a", active_pages=0), vm("a", active_pages=4000)
    rule, memo, seen = Esx(), {}, []
    for turn, view in enumerate([busy, idle, idle, idle, busy]):
        shot = snapshot(9000, view, memo=memo, now_s=30 * (turn + 1))
        memo = rule.decide(shot).memo
        seen.append(tuple(part // 10_000 for part in memo["vm:a"][1:3]))
    assert seen == [(100, 100), (90, 50), (81, 25), (72, 12), (75, 56)]
    # half a period later: the touched pages of the unfinished one count at once
    _, active = rule._estimate(columns(busy), snapshot(9000, busy, memo=memo, now_s=165), 150 * S, 5)
    assert active.tolist() == [1_000_000 - (1_000_000 - memo["vm:a"][2]) + (1_000_000 - memo["vm:a"][2]) * 50 // 100]


def test_esx_draws_a_hundred_pages_and_the_same_ones_whoever_else_is_there():
    rule = Esx()
    third = vm("third", active_pages=1333)
    (alone,) = rule._sampled(columns(third), 7).tolist()
    assert alone in rule._sampled(columns(vm("x"), third, vm("y", active_pages=77)), 7).tolist()
    samples = [rule._sampled(columns(third), period).tolist()[0] // 10_000 for period in range(400)]
    mean = sum(samples) / len(samples)
    assert 32 < mean < 34.5 and len(set(samples)) > 12  # n f = 33, its deviation 4.7, that of the mean 0.24
    assert rule._sampled(columns(vm("none"), vm("all", active_pages=4000)), 3).tolist() == [0, 1_000_000]


def test_esx_acts_every_15_s_when_states_change_and_at_each_look_while_it_pages():
    pair = esx_pair()
    first = decide("esx", snapshot(300, *pair))
    assert first.balloon_pages
    memo = first.memo
    again = decide("esx", snapshot(300, *pair, memo=memo, now_s=1))
    assert not again.balloon_pages
    worse = decide("esx", snapshot(150, *pair, memo=again.memo, now_s=2))
    assert worse.reclaim_pages
    assert decide("esx", snapshot(150, *pair, memo=worse.memo, now_s=3)).reclaim_pages, "hard: at each look"
    assert decide("esx", snapshot(300, *pair, memo=memo, now_s=15)).balloon_pages
    assert decide("esx", snapshot(300, *pair, vm("new"), memo=memo, now_s=1)).balloon_pages, "a VM has come"


def test_esx_asks_to_be_woken_below_the_next_threshold():
    """Of 10,000 pages: 400, 200 and 100. Whether it acts or not."""
    pair = esx_pair()
    for free, below in ((9000, 400), (400, 400), (399, 200), (200, 200), (199, 100), (99, 0), (0, 0)):
        first = decide("esx", snapshot(free, *pair))
        assert first.wake_below_pages == below
        again = decide("esx", snapshot(free, *pair, memo=first.memo, now_s=1))
        assert again.wake_below_pages == below
    assert decide("esx", snapshot(9000)).wake_below_pages == 400, "without VMs, too"


def test_esx_keeps_vms_that_hold_more_than_their_allocation_from_running_in_the_low_state_alone():
    """660 of 10,000 are to be free (600 and a tenth): of 8,000 held and 99 free 7,439 are left, 3,719 each; with 3,900
    reserved for b, 3,539 for a. Without hysteresis 7,499: 3,749."""
    assert decide("esx", snapshot(99, *esx_pair()), **PLAIN).block_above_pages == {"a": 3749, "b": 3749}
    low = decide("esx", snapshot(99, *esx_pair(reservation_pages=3900)), idle_tax_percent=0)
    assert low.block_above_pages == {"a": 3539, "b": 3900}
    assert low.state == "low" and low.reclaim_pages == {"a": 461, "b": 100}
    for free in (100, 200, 399, 9000):
        assert decide("esx", snapshot(free, *esx_pair())).block_above_pages == {}


def test_esx_asks_balloons_for_a_vm_that_waits_to_be_admitted_in_every_state():
    """High: 300 wanted of two that hold 4,000 of 9,000 each in all; what is free stays as it is."""
    pair = esx_pair()
    waits = snapshot(500, *pair, total=10_000, wanted_pages=300)
    targets = decide("esx", waits, **PLAIN)
    assert targets.balloon_pages == {"a": 150, "b": 150} and targets.reclaim_pages == {} and targets.state == "high"
    again = decide("esx", replace(waits, memo=targets.memo, now_ns=S), **PLAIN)
    assert again.balloon_pages == {"a": 150, "b": 150}, "as long as it waits, at each look"
    # soft: 201 to be free of again, and 100 more
    assert decide("esx", snapshot(399, *pair, wanted_pages=100), **PLAIN).balloon_pages == {"a": 150, "b": 150}
    given = vm("c", 3000, 2000, balloon_pages=1000)
    back = decide("esx", snapshot(9000, given, total=12_000, wanted_pages=8300), **PLAIN)
    assert back.balloon_pages["c"] > 700, (
        "no balloon gets smaller by what is wanted: 9,000 less 480 and 8,300 are spare"
    )


def test_esx_refuses_thresholds_that_contradict_each_other():
    with pytest.raises(ConfigError, match="hard_percent is 5, above soft_percent, 4"):
        policies.build("esx", {"hard_percent": 5})


# -- squeezed ----------------------------------------------------------------------------------------------------------


def xen(name, least, size, most, held=None, **more):
    return VmView(name=name, configured_pages=most, balloon_pages=most - size, held_pages=size if held is None else held,
                  reservation_pages=least, **more)  # fmt: skip


EXACT = {"fund_pages": 0, "inaccuracy_pages": 0}


@pytest.mark.parametrize(
    ("free", "vms", "sizes"),
    [
        # 400 + 600 above the minimums of 200 in all are 1,000 of the 1,600 there is on the way: 5/8 of each one's
        (400, [xen("a", 100, 300, 900), xen("b", 100, 500, 900)], {"a": 600, "b": 600}),
        # by their ranges, 300 and 900: 800 of 1,200
        (200, [xen("a", 100, 400, 400), xen("b", 100, 400, 1000)], {"a": 300}),  # b grows when a has shrunk
        (500, [xen("a", 100, 300, 400), xen("b", 100, 400, 1000)], {"a": 350, "b": 850}),  # 1,000 of 1,200
        (9000, [xen("a", 100, 300, 400)], {"a": 400}),  # no more than the largest
        (0, [xen("a", 100, 100, 400), xen("b", 100, 100, 400)], {}),  # nothing to give: all at their least
        # it has touched 50 of the 100 it is due, so of 150 free only 100 are to give: a third of 300
        (150, [xen("a", 100, 400, 400, held=50)], {"a": 200}),
    ],
)
def test_squeezed_vectors(free, vms, sizes):
    targets = decide("squeezed", snapshot(free, *vms), **EXACT).balloon_pages
    by_name = {each.name: each for each in vms}
    assert {name: by_name[name].configured_pages - pages for name, pages in targets.items()} == sizes


def test_squeezed_keeps_its_fund_and_its_inaccuracy():
    """300 free, 200 - 2 * 1 freeable, 2,304 in the fund: nothing is left; without the fund 498."""
    one = xen("a", 100, 300, 2000)
    assert decide("squeezed", snapshot(300, one)).balloon_pages == {"a": 1900}
    assert decide("squeezed", snapshot(300, one), fund_pages=0).balloon_pages == {"a": 2000 - 598}


def test_squeezed_works_around_a_stuck_balloon():
    stuck, good = xen("stuck", 100, 500, 900), xen("good", 100, 500, 900)
    pressed = decide("squeezed", snapshot(0, stuck, good), fund_pages=200, inaccuracy_pages=0)
    assert pressed.balloon_pages == {"stuck": 500, "good": 500}  # 600 of 1,600 on the way: 400 each
    later = snapshot(100, stuck, xen("good", 100, 400, 900), memo=pressed.memo, now_s=30)
    # 100 free + 300 freeable of the good one - 200: 200 of its 800
    assert decide("squeezed", later, fund_pages=200, inaccuracy_pages=0).balloon_pages == {"good": 600}
    moving = replace(later, vms=(xen("stuck", 100, 450, 900), later.vms[1]))
    assert "stuck" in decide("squeezed", moving, fund_pages=200, inaccuracy_pages=0).balloon_pages


# -- Hyper-V -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mib", "floor"), [(64, 40), (128, 72), (512, 168), (2048, 360), (8192, 744), (32768, 1512)])
def test_hyperv_floors_are_the_drivers(mib, floor):
    assert floor_pages(mib * MB) == floor * MB


def windows(name, size, used, most=2048, least=512, **more):
    """A guest of so many MiB, of which that many are used."""
    return VmView(name=name, configured_pages=most * MB, balloon_pages=(most - size) * MB, held_pages=size * MB,
                  reservation_pages=least * MB, guest_free_pages=(size - used) * MB, **more)  # fmt: skip


def hyperv(free, *vms, now_s=45, **options):
    memo = {each.name: (0,) for each in vms}
    shot = snapshot(free * MB, *vms, total=100_000 * MB, memo=memo, now_s=now_s)
    targets = decide("hyperv", shot, host_percent=0, **options).balloon_pages
    by_name = {each.name: each for each in vms}
    return {name: (by_name[name].configured_pages - pages) / MB for name, pages in targets.items()}


@pytest.mark.parametrize(
    ("free", "vms", "sizes"),
    [
        # 2,048 MiB: floor 360; 640 used: 1,000 committed, 1,200 wanted
        (9000, [windows("a", 1100, 640)], {"a": 1200}),  # less than the buffer is left
        (9000, [windows("a", 1240, 640)], {}),  # pressure 81 %: between the bands
        # 77 %: 1,200 wanted, 660 available of which 360 stay: 100 given
        (9000, [windows("a", 1300, 640)], {"a": 1200}),
        # 1,000 given would leave 200 available, below the floor: 840 are given
        (9000, [windows("a", 2048, 848, least=0)], {"a": 1449.6}),
        (9000, [windows("a", 2048, 100)], {"a": 552}),  # 460 * 1.2
        (9000, [windows("a", 600, 580, most=600)], {}),  # at its maximum
        (9000, [windows("a", 600, 100, most=600)], {"a": 512}),  # no less than its minimum
        (9000, [windows("a", 400, 380, most=512)], {"a": 512}),  # no more than that
    ],
)
def test_hyperv_vectors(free, vms, sizes):
    found = hyperv(free, *vms)
    assert found == pytest.approx(sizes, abs=2)
    assert all(vms[0].size_pages < size * MB or (vms[0].size_pages - size * MB) % 512 == 0 for size in found.values())


def test_hyperv_gives_by_weight_what_is_not_enough_for_all():
    """Two of 1,000 MiB with 940 used want 1,560 each. 2,300 are to be had: 1,560 for the heavier, whose wish comes first,
    and what is left for the other, 740; it gives the 60 that it has free less its floor, which is nothing."""
    low, high = windows("low", 1000, 940, shares=1000), windows("high", 1000, 940, shares=2000)
    assert hyperv(300, low, high) == pytest.approx({"high": 1560}, abs=2)
    equal = hyperv(300, low, replace(high, shares=1000))
    assert equal == pytest.approx({"low": 1150, "high": 1150}, abs=2)


def test_hyperv_starts_with_startup_memory_until_it_reports():
    fresh = windows("a", 2048, 100)
    assert hyperv(9000, fresh, now_s=44) == {"a": 1024}
    assert committed(columns(fresh)).tolist() == [460 * MB]


# -- DAMON -------------------------------------------------------------------------------------------------------------


def aged(name="a", held=4000, **pages):
    """A VM with so many pages of at least that age, in seconds."""
    ages = tuple(ColdAge(age_ns=int(age[1:]) * S, cold_pages=cold, promoted_pages=0) for age, cold in pages.items())
    return VmView(name=name, configured_pages=5000, held_pages=held, cold_ages=ages)


def damon(free, *vms, memo=None, now_s=0, **options):
    more = {key: options.pop(key) for key in ("stall_some_ns", "reclaimed_pages", "reclaim_ns") if key in options}
    return decide("damon-reclaim", snapshot(free, *vms, memo=memo, now_s=now_s, **more), **options)


def test_damon_works_between_its_watermarks():
    old = aged(s120=50)
    took = [bool(damon(free, old).reclaim_pages) for free in (5010, 5000, 4000, 3999, 2000, 1999)]
    assert took == [False, False, False, True, True, False]
    active = {"damon": (1, 0, 0)}
    took = [bool(damon(free, old, memo=active).reclaim_pages) for free in (5010, 5000, 4000, 2000, 1999)]
    assert took == [False, True, True, True, False]
    rests = damon(1000, old).memo
    assert not damon(3000, old, memo=rests, now_s=4).reclaim_pages, "it looks again after 5 s"
    assert damon(3000, old, memo=rests, now_s=5).reclaim_pages


def test_damon_takes_the_oldest_first_within_its_quota():
    one, other = aged("a", s90=900, s120=300, s150=100), aged("b", s120=500, s150=50)
    assert damon(3000, one, other).reclaim_pages == {"a": 300, "b": 500}
    assert damon(3000, one, other, quota_pages=150).reclaim_pages == {"a": 100, "b": 50}
    assert damon(3000, one, other, quota_pages=200).reclaim_pages == {"a": 150, "b": 50}
    assert damon(3000, replace(one, reservation_pages=3950)).reclaim_pages == {"a": 50}
    assert damon(3000, aged(s90=900)).reclaim_pages == {}


@pytest.mark.parametrize(
    ("taken", "took_ns", "pages"),
    [
        (0, 0, 3000),  # 4 MiB a ms for 10 ms would be 10,240
        (1000, 10_000_000, 1000),  # 1,000 pages in 10 ms, so 1,000 in the next
        (1000, 100_000_000, 100),
    ],
)
def test_damon_s_quota_of_time_follows_the_speed_seen(taken, took_ns, pages):
    old = aged(s120=3000)
    assert damon(3000, old, reclaimed_pages=taken, reclaim_ns=took_ns).reclaim_pages == {"a": pages}


def test_damon_s_tuned_quota_grows_to_a_bound_while_nobody_stalls():
    """It doubles each second: after fifty it was more than a memo holds, and the cell ended."""
    old, memo = aged(s120=900), {"damon": (1, 0, 0)}
    for _ in range(70):
        targets = damon(3000, old, memo=memo, stall_target_us=1000)
        memo = targets.memo
    assert memo["damon"][2] == 2**63 - 1 and targets.reclaim_pages == {"a": 900}


@pytest.mark.parametrize(
    ("last", "stall_us", "tuned"),
    [
        (9_000_000, 1000, 9_000_000),  # on target
        (9_000_000, 0, 18_000_000),  # twice
        (9_000_000, 500, 13_500_000),
        (9_000_000, 1500, 4_500_000),
        (9_000_000, 2000, 10_000),  # the least there is
        (0, 0, 20_000),
    ],
)
def test_damon_s_feedback_is_the_kernel_s(last, stall_us, tuned):
    """damon_feed_loop_next_input: next = max(last * ((goal - score) / goal + 1), the least), target 1,000 us."""
    targets = damon(
        3000, aged(s120=9), memo={"damon": (1, 0, last)}, stall_target_us=1000, stall_some_ns=stall_us * 1000
    )
    assert targets.memo["damon"][2] == tuned


def test_damon_refuses_watermarks_out_of_order():
    with pytest.raises(ConfigError, match="low_permille <= mid_permille <= high_permille must hold"):
        policies.build("damon-reclaim", {"low_permille": 450})


# -- oomd, KubeVirt, Coach ---------------------------------------------------------------------------------------------


def poke(view, ticks=5, memo=None, **shot):
    fields = {"swap_pages": 10_000} | shot
    return decide("senpai-poking", snapshot(0, view, memo={"vm:a": (ticks,)} | (memo or {}), **fields))


def test_senpai_poking_vectors():
    held = 1100 * MB
    calm = VmView(name="a", configured_pages=held, held_pages=held)
    assert poke(calm).reclaim_pages == {"a": 10 * MB}  # 1 % of what is above 100 MiB
    assert poke(calm).memo["vm:a"] == (0,)
    assert poke(calm, ticks=4).reclaim_pages == {} and poke(calm, ticks=4).memo["vm:a"] == (5,)
    stalled = replace(calm, stall_avg60=10)  # 0.10 %
    assert poke(stalled).reclaim_pages == {} and poke(stalled).memo["vm:a"] == (6,), "asked again at the next tick"
    assert poke(replace(calm, stall_avg10=9)).reclaim_pages == {"a": 10 * MB}
    assert poke(replace(calm, held_pages=100 * MB)).reclaim_pages == {}
    assert poke(replace(calm, reservation_pages=held - 7)).reclaim_pages == {"a": 7}
    # half of the 80 % that swap may be used to: half as much; at 80 % nothing
    assert poke(calm, swap_used_pages=4000).reclaim_pages == {"a": 5 * MB}
    assert poke(calm, swap_used_pages=8000).reclaim_pages == {}
    # swapping out at half of 3 MiB/s over a minute
    half = {"swapout": (0, 384_000_000, 0)}
    fraction = poke(calm, memo=half, swapped_out_pages=384).reclaim_pages["a"]
    assert fraction == 5 * MB
    assert poke(calm, memo={"swapout": (0, 0, 768_000_000)}, swapped_out_pages=768).reclaim_pages == {}


def test_senpai_poking_averages_the_rate_of_swapping_out():
    one = VmView(name="a", configured_pages=9 * MB, held_pages=9 * MB)
    first = poke(one, swapped_out_pages=500)
    assert first.memo["swapout"] == (500, 0, 0), "what was written before it was asked first is no rate"
    after = poke(one, memo=first.memo, swapped_out_pages=500 + 610)
    assert after.memo["swapout"] == (1110, 10_000_000, 610_000_000 // 301)  # 610 a second: a 61st, a 301st


def test_kubevirt_starts_quickens_slows_down_and_stops():
    total = 16 << 18
    memo, seen = {}, []
    for free in [25, 20, 20, 20, 20, 20, 20, *[21] * 24]:
        targets = decide("kubevirt-ksm", snapshot(total * free // 100 + (free > 20), total=total, memo=memo))
        memo = targets.memo
        seen.append(targets.scan_pages)
    assert seen[:8] == [0, 100, 400, 700, 1000, 1250, 1250, 1200]
    assert seen[-2:] == [100, 0]  # 50 is below 64: it stops
    assert memo["kubevirt-ksm"] == (0, 64)
    again = decide("kubevirt-ksm", snapshot(0, total=total, memo=memo))
    assert (again.scan_pages, again.scan_sleep_ns) == (100, 100_000_000)


@pytest.mark.parametrize(("gib", "free_percent", "ms"), [(16, 20, 124), (16, 0, 100), (64, 0, 25), (512, 10, 10)])
def test_kubevirt_sleeps_by_what_is_in_use(gib, free_percent, ms):
    total = gib << 18
    targets = decide("kubevirt-ksm", snapshot(total * free_percent // 100, total=total))
    assert targets.scan_sleep_ns == ms * 1_000_000


def test_coach_takes_what_is_neither_guaranteed_nor_expected():
    window = 4 * 3600
    options = {"percentile": 50}
    past = {"a": (5, 900, 100, 200, 300, 900, 500, 600)}  # now in the sixth window; yesterday it peaked at 900
    one = vm("a", held=4000, active_pages=650)
    # sorted 100 200 300 500 650 900, the third: 300; but 900 are expected now. 500 of 10,000 are to be free
    shot = snapshot(100, one, memo=past, now_s=5 * window)
    assert decide("coach", shot, **options).reclaim_pages == {"a": 400}
    assert decide("coach", replace(shot, vms=(replace(one, held_pages=1000),)), **options).reclaim_pages == {"a": 100}
    assert decide("coach", replace(shot, free_pages=500), **options) == Targets(
        memo={"a": (5, 900, 100, 200, 300, 900, 500, 650)}
    )
    # a window later the slot is a day old: its peak is what is expected, and begins anew
    later = decide("coach", replace(shot, now_ns=6 * window * S), **options)
    assert later.memo["a"] == (6, 100, 650, 200, 300, 900, 500, 600)
    new = decide("coach", snapshot(100, replace(one, reservation_pages=3800)), **options)
    assert new.reclaim_pages == {"a": 200}, "without a past its reservation is what is guaranteed"
