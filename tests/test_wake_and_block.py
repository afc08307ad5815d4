"""What a decider may ask of the schedule: to be woken below a level of free memory, and that VMs above a size do not run;
and whose pages go, where shares say so."""

import numpy as np
import pytest

import memvirt
from helpers.world import PAGE
from memvirt.errors import DeciderError
from memvirt.policies import Targets

MS = 1_000_000
QUANTUM = 50_000


class Told:
    """A decider that notes when it is asked, and answers what `rule` says."""

    def __init__(self, rule, interval_ns=10 * MS):
        self.rule, self.interval_ns, self.asked = rule, interval_ns, []

    def decide(self, snapshot):
        self.asked.append((snapshot.now_ns, snapshot.free_pages))
        return self.rule(snapshot)


def writes(pages, work_ns=0):
    return np.asarray(pages, np.uint32), np.ones(len(pages), np.uint8), None, work_ns


def host_of(**settings):
    return memvirt.Host(**{"memory": 1000 * PAGE, "swap": 2000 * PAGE, "readahead": 0} | settings)


def filling(pages, cut=1000, work_ns=20_000):
    return iter([writes(range(first, min(first + cut, pages)), work_ns) for first in range(0, pages, cut)])


def test_a_decider_is_woken_at_the_next_turn_after_free_memory_has_fallen_below_its_level():
    host = host_of()
    vm, free = host.create_vm("a", 900 * PAGE), host.usage()["free"]
    decider = Told(lambda snapshot: Targets(wake_below_pages=free - 600 if snapshot.free_pages > free - 600 else 0))
    host.run({vm: filling(800)}, decider=decider)
    (first, before), (woken, found), *rest = decider.asked
    assert first == 10 * MS and before > free - 600
    assert first < woken < 2 * first and free - 600 - 10 < found < free - 600, "as soon as that is known: in a quantum"
    assert [now for now, _ in rest] == list(range(20 * MS, host.sim_ns + 1, 10 * MS))[: len(rest)], (
        "the interval goes on"
    )


@pytest.mark.parametrize("cut", [1, 7, 1000])
@pytest.mark.parametrize("calls", [1, 5])
def test_when_it_is_woken_does_not_depend_on_batches_or_calls(cut, calls):
    def asked(cut, calls):
        host = host_of(harvest_interval=3 * MS)
        vms = [host.create_vm(name, 900 * PAGE) for name in "ab"]
        decider = Told(lambda snapshot: Targets(wake_below_pages=max(0, snapshot.free_pages - 20)), MS)
        streams = {vm: filling(700, cut, 9_000 + number) for number, vm in enumerate(vms)}
        for call in range(1, calls):
            host.run(streams, until_ns=call * 2 * MS, decider=decider)
        host.run(streams, decider=decider)
        return decider.asked, host.counters(), host.sim_ns

    assert asked(cut, calls) == asked(1000, 1)
    assert len(asked(1000, 1)[0]) > 7, "it was woken often"


def test_a_level_that_is_not_reached_from_above_wakes_nobody_and_one_crossed_over_and_over_not_without_end():
    host = host_of()
    vm = host.create_vm("a", 900 * PAGE)
    always = Told(lambda snapshot: Targets(wake_below_pages=snapshot.total_pages))
    host.run({vm: filling(800)}, decider=always)
    assert all(now % (10 * MS) == 0 for now, _ in always.asked), "free memory was never there: nothing falls"

    host = host_of()
    vm = host.create_vm("a", 900 * PAGE)
    eager = Told(lambda snapshot: Targets(wake_below_pages=snapshot.free_pages))
    host.run({vm: filling(900, work_ns=50_000)}, decider=eager)
    last = 0
    for now in range(0, host.sim_ns, 10 * MS):
        between = [at for at, _ in eager.asked if now < at < now + 10 * MS]
        assert len(between) <= 16
        last = max(last, len(between))
    assert last == 16, "the bound is what stopped it"


def test_a_level_is_forgotten_with_its_decider():
    host = host_of()
    vm, free = host.create_vm("a", 900 * PAGE), host.usage()["free"]
    stream = filling(800)
    first = Told(lambda snapshot: Targets(wake_below_pages=free - 600, block_above_pages={"a": 400}))
    host.run({vm: stream}, until_ns=11 * MS, decider=first)
    second = Told(lambda snapshot: Targets(), interval_ns=1000 * MS)
    host.run({vm: stream}, decider=second)
    assert len(first.asked) == 1 and second.asked == [] and vm.held_pages == 800


def test_a_vm_does_not_run_while_it_holds_more_than_it_is_let_run_with():
    host = host_of()
    vm, other = host.create_vm("a", 900 * PAGE), host.create_vm("b", 900 * PAGE)
    decider = Told(lambda snapshot: Targets(block_above_pages={"a": 300} if snapshot.now_ns < 50 * MS else {}), MS)
    outcome = host.run({vm: filling(600), other: filling(250)}, until_ns=40 * MS, decider=decider)
    assert outcome[vm].done == vm.held_pages and 300 < vm.held_pages <= 300 + QUANTUM // 20_000 + 1
    assert outcome[other].reason == "done"
    blocked = host.counters()["blocked_ns"]
    assert vm.stall_ns == blocked > 25 * MS, "it waits, and that is what it is slowed down by"
    assert vm.stall()["stall_some_ns"] == blocked == host.stall()["stall_some_ns"] + vm.sim_ns - 40 * MS
    assert host.stall()["stall_full_ns"] >= 20 * MS, "nobody else has work then"
    assert host.run({vm: filling(600)}, decider=decider)[vm].reason == "done", "let run again"
    host.check()


def test_what_it_loses_lets_it_run_again():
    host = host_of()
    vm = host.create_vm("a", 900 * PAGE)

    def rule(snapshot):
        held = snapshot.vms[0].held_pages
        return Targets(block_above_pages={"a": 300}, reclaim_pages={"a": held - 300} if held > 300 else {})

    assert host.run({vm: filling(600)}, decider=Told(rule, 5 * MS))[vm].reason == "done"
    assert host.counters()["blocked_ns"] > 100 * MS and vm.held_pages <= 310
    host.check()


def test_nobody_is_kept_from_what_is_reserved_for_it():
    host = host_of()
    vm = host.create_vm("a", 600 * PAGE, reservation=400 * PAGE)
    host.run(
        {vm: filling(600)}, decider=Told(lambda snapshot: Targets(block_above_pages={"a": 10}), MS), until_ns=60 * MS
    )
    assert 400 < vm.held_pages < 410 and host.counters()["targets_clipped"] > 0


def test_a_decider_that_lets_nobody_run_for_ever_is_an_error_and_none_while_somebody_does():
    host = host_of()
    vms = [host.create_vm(name, 900 * PAGE) for name in "ab"]
    never = Told(lambda snapshot: Targets(block_above_pages={"a": 0, "b": 0}), MS)
    with pytest.raises(DeciderError, match="no VM run for 10000 decisions in a row"):
        host.run({vm: filling(600) for vm in vms}, decider=never)
    assert len(never.asked) >= 10_000
    host.check()
    one = Told(lambda snapshot: Targets(block_above_pages={"a": 0}), QUANTUM)
    slow = iter([writes([0] * 200, 5 * MS)])
    host.run({vms[0]: filling(600), vms[1]: slow}, decider=one, until_ns=host.sim_ns + 900 * MS)
    assert len(one.asked) > 10_000


def test_blocks_end_where_nobody_decides():
    host = host_of()
    vm = host.create_vm("a", 900 * PAGE)
    stream = filling(600)
    host.run({vm: stream}, until_ns=5 * MS, decider=Told(lambda snapshot: Targets(block_above_pages={"a": 10}), MS))
    assert vm.held_pages < 100
    assert host.run({vm: stream})[vm].reason == "done"


@pytest.mark.parametrize(
    "targets, said",
    [
        ({"block_above_pages": {"nobody": 1}}, "block_above_pages names 'nobody'; there is no such VM"),
        ({"block_above_pages": {"a": -1}}, "block_above_pages of VM 'a' is -1; 0 to 900 is the range"),
        ({"block_above_pages": {"a": "many"}}, "block_above_pages of VM 'a' is 'many'; a whole number is needed"),
        ({"block_above_pages": ["a"]}, "block_above_pages is a list; a dict from names of VMs to pages is needed"),
        ({"wake_below_pages": -1}, "wake_below_pages is -1; 0 to 1000 is the range"),
        ({"wake_below_pages": 1.5}, "wake_below_pages is 1.5; a whole number is needed"),
        ({"wake_below_pages": None}, "wake_below_pages is None; a whole number is needed"),
    ],
)
def test_what_cannot_be_is_named(targets, said):
    host = host_of()
    vm = host.create_vm("a", 900 * PAGE)
    with pytest.raises(DeciderError, match=said):
        host.run({vm: filling(600)}, decider=Told(lambda snapshot: Targets(**targets), MS))


# ---- victims


def test_pages_go_of_whoever_pays_least_for_a_frame_until_all_pay_alike():
    """Shares 1:2:3, all of them touched over and over: what each holds is as its shares, whatever the order would name."""
    host = host_of(memory=1300 * PAGE, swap=4000 * PAGE, victims="shares")
    vms = {host.create_vm(f"s{n}", 800 * PAGE, shares=n * 1000): n for n in (1, 2, 3)}
    random = np.random.Generator(np.random.PCG64(1))
    for _ in range(3):
        host.run({vm: iter([writes(random.integers(0, 800, 3000))]) for vm in vms})
    held = {n: vm.held_pages for vm, n in vms.items()}
    for n in (2, 3):
        assert held[n] / held[1] == pytest.approx(n, rel=0.12), held
    host.check()


def test_by_shares_nobody_goes_below_its_reservation():
    host = host_of(victims="shares")
    kept = host.create_vm("kept", 400 * PAGE, shares=0, reservation=300 * PAGE)
    other = host.create_vm("other", 1500 * PAGE, shares=100_000)
    host.run({kept: filling(400)})
    host.run({other: filling(1500)})
    assert kept.held_pages == 300 and other.held_pages > 500
    host.check()


def test_by_shares_pages_that_were_read_ahead_go_when_nobody_else_can():
    host = host_of(victims="shares", readahead=5, readahead_kind="cluster")
    vm = host.create_vm("a", 1800 * PAGE)
    host.run({vm: filling(1800)})
    host.run({vm: iter([(np.arange(0, 1800, 7, dtype=np.uint32), np.zeros(258, np.uint8), None, 0)])})
    host.run({vm: filling(1800)})
    host.check()
