"""What a host shows of its VMs is what one would make by hand: as equal, as frozen, and with every field set."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memvirt
from memvirt import policies
from memvirt.engine.host import views
from memvirt.errors import ConfigError
from memvirt.names import DECIDERS
from memvirt.policies import ColdAge, Snapshot, VmView, drafts
from memvirt.policies.ages import by_bucket, by_interval
from memvirt.policies.asking import Asked
from memvirt.policies.columns import FIELDS, columns_of
from memvirt.policies.drafts import NO_LIMIT

NUMBERS = (50, 40, 3, 5, 700, 6, NO_LIMIT, 8, 9, 600, 12, 13, 0)
AGES = (ColdAge(age_ns=20, cold_pages=7, promoted_pages=2), ColdAge(age_ns=40, cold_pages=1, promoted_pages=0))


def shown(*pairs, of=1, interval_ns=20):
    """Views of so many VMs with the same histogram, as a host makes them."""
    columns = np.array(pairs, np.int64).reshape(len(pairs), 2).T
    table = by_interval(interval_ns, np.full(of, len(pairs)), *(np.tile(column, (of, 1)) for column in columns))
    return drafts.views([f"vm{number}" for number in range(of)], [NUMBERS] * of, table.rows())


def test_the_engine_and_the_views_mean_the_same_numbers():
    assert FIELDS == views.FIELDS and views.NO_LIMIT == NO_LIMIT
    with memvirt.Host(memory="16MiB") as host:
        vms = [host.create_vm("a", "4MiB").engine_vm]
        for table in (np.zeros((13, 2), np.int64), np.zeros((12, 1), np.int64)):
            with pytest.raises(ValueError, match="a table of 13 x 1 is needed"):
                views.see(vms, table)
        host.vms[0].destroy()
        for asked in (lambda: views.see(vms, np.zeros((13, 1), np.int64)), lambda: views.see_ages(vms),
                      lambda: views.mark(vms, True)):  # fmt: skip
            with pytest.raises(ConfigError, match="VM 'a' has been destroyed"):
                asked()


def test_a_view_has_every_field_where_it_belongs():
    made = VmView(
        name="vm0", configured_pages=50, held_pages=40, balloon_pages=3, active_pages=5, shares=700, reservation_pages=6,
        limit_pages=None, guest_free_pages=8, guest_cache_pages=9, stall_some_ns=600, stall_full_ns=600, stall_avg10=12,
        stall_avg60=13, balloonable=False, cold_ages=AGES,
    )  # fmt: skip
    assert shown() == (replace(made, cold_ages=()),) and shown()[0].cold_ages == ()
    assert shown((7, 2), (1, 0)) == (made,)


def test_a_host_s_view_is_one_like_any_other():
    with memvirt.Host(memory="16MiB", swap="4MiB", content="fingerprint", harvest_interval="1h") as host:
        vm = host.create_vm("a", "4MiB", guest=True, limit="3MiB", reservation="100KiB", shares=300)
        vm.access(np.arange(200), np.ones(200, np.uint8))
        host.harvest()
        host.harvest()
        seen = host.snapshot().vms[0]
        account, stall = vm.engine_vm.account(), vm.stall()
        assert vm.view(ages=False) == replace(seen, cold_ages=())
    assert type(seen) is VmView and all(type(each) is ColdAge for each in seen.cold_ages) and seen.cold_ages
    again = VmView(**{field.name: getattr(seen, field.name) for field in fields(seen)})
    assert (again, hash(again), repr(again)) == (seen, hash(seen), repr(seen))
    assert asdict(again) == asdict(seen)
    assert (seen.held_pages, seen.active_pages, seen.limit_pages) == (account["charged"], account["active"], 768)
    assert (seen.stall_avg10, seen.stall_avg60) == (stall["stall_some_avg10"], stall["stall_some_avg60"])
    for made in (seen, seen.cold_ages[0]):
        with pytest.raises(FrozenInstanceError):
            setattr(made, fields(made)[0].name, "other")


def test_a_snapshot_is_the_same_to_a_rule_whoever_made_it():
    """A host's has columns, and one that is made by hand the views: each rule answers both alike, and views are made when
    they are looked at, once."""
    with memvirt.Host(memory="24MiB", swap="8MiB", content="fingerprint", harvest_interval="30s", seed=4) as host:
        rng = np.random.default_rng(3)
        for number in range(9):
            limit = None if number % 3 else "3MiB"
            vm = host.create_vm(f"vm{number}", "4MiB", guest=number % 4 > 0, reservation="100KiB", limit=limit)
            for _ in range(6):
                pages = rng.integers(0, 600, rng.integers(1, 300))
                vm.access(pages, np.ones(len(pages), np.uint8))
                host.harvest()
        shot = host.snapshot(now_ns=10**12)
        by_hand = replace(shot, vms=tuple(replace(view) for view in shot.vms))
        assert shot == by_hand and shot.vms is shot.vms and not hasattr(by_hand, "columns")
        again, hand = columns_of(host.snapshot()), columns_of(by_hand)
        for name in FIELDS:
            assert getattr(again, name).tolist() == getattr(hand, name).tolist(), name
        assert again.names == hand.names and again.limit_pages.max() == NO_LIMIT
        for cap in (0, 30, 100):
            bounds = [view.balloon_bounds(cap) for view in shot.vms]
            assert list(zip(*(each.tolist() for each in again.balloon_bounds(cap)), strict=True)) == bounds
        table, wanted = again.ages, hand.ages
        assert all(np.array_equal(*pair) for pair in zip(table, wanted, strict=True)) and table.there.any()
        for name in DECIDERS:
            rule = policies.build(name, {})
            free = shot.total_pages // 100
            assert rule.decide(replace(by_hand, free_pages=free)) == rule.decide(
                Snapshot(**{field.name: getattr(shot, field.name) for field in fields(shot)} | {"free_pages": free})
            )


def test_views_and_ages_are_made_when_they_are_looked_at_and_then_there():
    """In whatever way: the view is what it was made from by hand, and a copy of it is."""
    (made,) = (replace(view, cold_ages=AGES[:1]) for view in shown())
    for look in (repr, hash, asdict, copy.copy, copy.deepcopy, lambda view: pickle.loads(pickle.dumps(view))):
        (view,) = shown((7, 2))
        assert look(view) == look(made)
        assert view == made and view.cold_ages is view.cold_ages
    with pytest.raises(AttributeError, match="'VmView' object has no attribute 'cold'"):
        _ = view.cold


@given(st.lists(st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 2**62)), max_size=6), max_size=5))
def test_a_table_is_that_of_the_views_made_by_hand(histograms):
    """Of VMs with as many buckets or not: the numbers of those that are not there are 0."""
    width = max(map(len, histograms), default=0)
    cold, promoted = (
        np.array([[pair[at] for pair in rows] + [0] * (width - len(rows)) for rows in histograms], np.int64)
        for at in (0, 1)
    )
    oldest = np.array([len(rows) for rows in histograms], np.int64)
    table = by_interval(30, oldest, cold.reshape(len(histograms), width), promoted.reshape(len(histograms), width))
    vms = drafts.views(map(str, range(len(histograms))), [NUMBERS] * len(histograms), table.rows())
    wanted = by_bucket([replace(view) for view in vms])
    assert table.there.any() == wanted.there.any()
    assert all(np.array_equal(*pair) for pair in zip(table, wanted, strict=True))


def test_promotions_are_those_since_the_last_decision():
    rng, hour, before = np.random.default_rng(1), 3_600_000_000_000, {}
    with memvirt.Host(memory="16MiB", swap="4MiB", content="fingerprint", harvest_interval="1h") as host:
        vm = host.create_vm("a", "4MiB")
        for _ in range(200):
            pages = rng.integers(0, 200, rng.integers(1, 9))
            vm.access(pages, np.ones(len(pages), np.uint8))
            host.engine.reclaim_from(vm.engine_vm, int(rng.integers(3)))
            for _ in range(rng.integers(4)):
                host.harvest()
            rows = vm._ages()
            assert vm.view().cold_ages == tuple(
                ColdAge(age_ns=age * hour, cold_pages=cold, promoted_pages=promoted - before.get(age, 0))
                for age, cold, promoted in rows
            )
            wanted = bool(rng.integers(2))
            views.mark([vm.engine_vm], wanted)
            before = {age: promoted for age, _, promoted in rows} if wanted else before
    assert len(rows) == 127 and any(before.values())


def test_ages_may_be_more_than_64_bits_have_room_for():
    """A host whose harvests are called by hand may say that there is one in thirty years."""
    with memvirt.Host(memory="16MiB", harvest_interval=10**18) as host:
        vm = host.create_vm("a", "1MiB")
        vm.access(np.arange(20), np.ones(20, np.uint8))
        for _ in range(12):
            host.harvest()
        ages = [age.age_ns for age in host.snapshot().vms[0].cold_ages]
        assert ages == [age * 10**18 for age in range(1, len(ages) + 1)] and len(ages) > 9
        assert columns_of(host.snapshot()).ages.age_ns.tolist() == [min(age, 2**63 - 1) for age in ages]
        assert columns_of(replace(host.snapshot(), vms=host.snapshot().vms)).ages.age_ns.tolist()[-1] == 2**63 - 1


def test_a_decider_that_follows_another_begins_without_its_memo():
    """All pairs, on one host: whatever the one remembers, the other answers as it would by itself."""
    shown = []

    class Looks:
        interval_ns = 10**6

        def decide(self, snapshot):
            shown.append(dict(snapshot.memo))
            return policies.Targets(memo={"mine": (len(shown),)})

    def asked_once(host, decider, now_ns):
        asked = Asked(decider)
        host._decisions.make(asked, host.engine, host._named(), now_ns)
        return dict(host.snapshot().memo)

    def host_of():
        host = memvirt.Host(memory="24MiB", swap="8MiB", content="fingerprint", seed=4)
        for number in range(3):
            vm = host.create_vm(f"vm{number}", "4MiB", guest=True, reservation="100KiB")
            vm.access(np.arange(300), np.ones(300, np.uint8))
        return host

    alone = {}
    for name in DECIDERS:
        with host_of() as host:
            alone[name] = asked_once(host, policies.build(name, {}), 10**10)
    for first in DECIDERS:
        with host_of() as host:
            asked_once(host, policies.build(first, {}), 10**9)
            for at, name in enumerate(DECIDERS):
                memo = asked_once(host, policies.build(name, {}), 10**10 + at)
                assert memo.keys() == alone[name].keys(), (first, name)
    with host_of() as host:
        looks = Looks()
        for decider in (looks, looks, Looks(), policies.build("esx", {}), looks):
            asked_once(host, decider, 10**9)
        assert shown == [{}, {"mine": (1,)}, {"mine": (2,)}, {}], "one class of a user's, and then another rule between"
        counts = []
        for history in (3, 3, 12, 12):
            rule = policies.build("far-memory", {"history": history, "min_age_ns": 0})
            host.harvest()
            memo = asked_once(host, rule, 10**9)
            counts.append(np.frombuffer(memo["pasts"], np.int64).reshape(3, -1)[0, 1])
        assert counts == [0, 1, 1, 2], "another history is another rule: its first age, not the second"


def test_mom_remembers_guests_alone():
    """What a VM without one was is nothing to a VM of its name that has one."""
    rule = policies.build("mom", {"tune_ksm": False})
    view = VmView(name="a", configured_pages=100_000, held_pages=95_000, balloon_pages=5_000, balloonable=False)
    shot, memo = Snapshot(now_ns=0, interval_ns=1, total_pages=10**6, free_pages=10**5, low_pages=0, high_pages=0), {}
    for _ in range(4):
        memo = rule.decide(replace(shot, vms=(view,), memo=memo)).memo
    guest = replace(view, balloonable=True, guest_free_pages=60_000)
    fresh = rule.decide(replace(shot, vms=(guest,), memo={"host": memo["host"]}))
    assert rule.decide(replace(shot, vms=(guest,), memo=memo)) == fresh and "vm:a" not in memo


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("mom", "min_step_ppm", 1_000_001),
        ("hyperv", "buffer_percent", 2001),
        ("proxmox", "max_step_pages", 2**40 + 1),
        ("squeezed", "inaccuracy_pages", 2**40 + 1),
        ("far-memory", "history", 2**20 + 1),
    ],
)
def test_options_that_numbers_of_64_bits_have_no_room_for_are_refused(name, option, value):
    with pytest.raises(ConfigError, match=f"option '{option}' of decider '{name}': {value} is above {value - 1}"):
        policies.build(name, {option: value})
    policies.build(name, {option: value - 1})


def test_none_is_no_vm():
    for asked in (lambda: views.see([None], np.zeros((13, 1), np.int64)), lambda: views.see_ages([None]),
                  lambda: views.mark([None], True)):  # fmt: skip
        with pytest.raises(TypeError, match="None is no VM"):
            asked()
