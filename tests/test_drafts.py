"""What a host shows of its VMs is what one would make by hand: as equal, as frozen, and with every field set."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memvirt
from memvirt.policies import ColdAge, VmView, drafts
from memvirt.policies.ages import Aged, table_of

SEEN = (40, 3, 5, 700, 6, None, 8, 9, 1000, 12, 13)


def column(*numbers):
    return np.array(numbers, np.int64).tobytes()


def test_a_view_has_every_field_where_it_belongs():
    ages = (ColdAge(age_ns=20, cold_pages=7, promoted_pages=2), ColdAge(age_ns=40, cold_pages=1, promoted_pages=0))
    aged = Aged(20, column(7, 1), column(2, 0))
    assert aged.buckets() == ages
    assert drafts.view("a", 50, SEEN, 400, False, None).cold_ages == ()
    assert drafts.view("a", 50, SEEN, 400, False, aged) == VmView(
        name="a", configured_pages=50, held_pages=40, balloon_pages=3, active_pages=5, shares=700, reservation_pages=6,
        limit_pages=None, guest_free_pages=8, guest_cache_pages=9, stall_some_ns=600, stall_full_ns=600, stall_avg10=12,
        stall_avg60=13, balloonable=False, cold_ages=ages,
    )  # fmt: skip


def test_a_host_s_view_is_one_like_any_other():
    with memvirt.Host(memory="16MiB", swap="4MiB", content="fingerprint", harvest_interval="1h") as host:
        vm = host.create_vm("a", "4MiB", guest=True, limit="3MiB", reservation="100KiB", shares=300)
        vm.access(np.arange(200), np.ones(200, np.uint8))
        host.harvest()
        host.harvest()
        shown = host.snapshot().vms[0]
        account, stall = vm.engine_vm.account(), vm.stall()
        assert vm.view(ages=False) == replace(shown, cold_ages=())
    assert type(shown) is VmView and all(type(each) is ColdAge for each in shown.cold_ages) and shown.cold_ages
    again = VmView(**{field.name: getattr(shown, field.name) for field in fields(shown)})
    assert (again, hash(again), repr(again)) == (shown, hash(shown), repr(shown))
    assert asdict(again) == asdict(shown)
    assert (shown.held_pages, shown.active_pages, shown.limit_pages) == (account["charged"], account["active"], 768)
    assert (shown.stall_avg10, shown.stall_avg60) == (stall["stall_some_avg10"], stall["stall_some_avg60"])
    for made in (shown, shown.cold_ages[0]):
        with pytest.raises(FrozenInstanceError):
            setattr(made, fields(made)[0].name, "other")


@st.composite
def histograms(draw):
    pairs = draw(st.lists(st.tuples(st.integers(0, 2**32), st.integers(0, 2**62)), max_size=6))
    return Aged(draw(st.sampled_from([20, 30])), *(column(*(pair[at] for pair in pairs)) for at in (0, 1)))


@given(st.lists(histograms(), max_size=5))
def test_a_table_is_that_of_the_views_made_by_hand(histograms):
    """Whether or not all have one interval, and as many buckets."""
    shown = [drafts.view(str(at), 50, SEEN, 400, True, each) for at, each in enumerate(histograms)]
    found, wanted = table_of(shown), table_of([replace(view) for view in shown])
    assert found.there.any() == wanted.there.any()
    if wanted.there.any():
        assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))


def test_ages_are_made_when_they_are_looked_at_and_then_there():
    """In whatever way: the view is what it was made from by hand, and a copy of it is."""
    ages = (ColdAge(age_ns=20, cold_pages=7, promoted_pages=2),)
    made = replace(drafts.view("a", 50, SEEN, 400, True, None), cold_ages=ages)
    for look in (repr, hash, asdict, copy.copy, copy.deepcopy, lambda view: pickle.loads(pickle.dumps(view))):
        shown = drafts.view("a", 50, SEEN, 400, True, Aged(20, column(7), column(2)))
        assert look(shown) == look(made)
        assert shown == made and shown.cold_ages is shown.cold_ages
    with pytest.raises(AttributeError, match="'VmView' object has no attribute 'cold'"):
        _ = shown.cold


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
            vm.mark(host.engine, ages=wanted)
            before = {age: promoted for age, _, promoted in rows} if wanted else before
    assert len(rows) == 127 and any(before.values())
