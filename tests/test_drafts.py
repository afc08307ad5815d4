"""What a host shows of its VMs is what one would make by hand: as equal, as frozen, and with every field set."""

from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest

import memvirt
from memvirt.policies import ColdAge, VmView, drafts

SEEN = (40, 3, 5, 700, 6, None, 8, 9, 1000, 12, 13)


def test_a_view_has_every_field_where_it_belongs():
    ages = (ColdAge(age_ns=20, cold_pages=7, promoted_pages=2), ColdAge(age_ns=40, cold_pages=1, promoted_pages=0))
    assert drafts.cold_ages([(1, 7, 5), (2, 1, 0)], [3], 20) == ages
    assert drafts.cold_ages([(1, 7, 5)], [3, 3, 3], 20) == ages[:1], "one that is not that old any more is not shown"
    assert drafts.view("a", 50, SEEN, 400, False, ages) == VmView(
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
