"""Free page hinting: what a guest reports the host may take, and takes when it is short of frames."""

import numpy as np
import pytest

import memvirt
from memvirt.errors import ConfigError
from memvirt.settings.costs import load

PAGE = 4096
MS = 1_000_000
READ, WRITE, _, DISCARD = range(4)


def host_of(**given):
    return memvirt.Host(**{"memory": "64MiB", "content": "fingerprint", "swap_direct": False, "seed": 1, **given})


def guest_of(host, memory="16MiB", name="a", **options):
    return host.create_vm(name, memory, guest={"cache_percent": 0, "report_order": 4, "hinting": True, **options})


def do(vm, op, pages):
    pages = np.asarray(pages, np.uint32)
    return vm.access(pages, np.full(len(pages), op, np.uint8))


def pass_time(host, ns=60_000 * MS):
    host.run({}, until_ns=host.sim_ns + ns)
    host.check()


def lazy(host):
    return host.engine.mapping.recency.lazies.nr


def freed_by(host, vm, pages):
    """The guest uses so many pages, frees them, and has told the host."""
    do(vm, WRITE, np.arange(pages))
    do(vm, DISCARD, np.arange(pages))
    pass_time(host)


def test_what_is_hinted_stays_until_the_host_is_short_and_goes_without_io():
    host = host_of(memory="32MiB", swap="64MiB")
    vm, other = guest_of(host, "24MiB"), host.create_vm("b", "24MiB")
    freed_by(host, vm, 5000)
    counted = vm.counters()
    assert counted["reported"] >= 5000 and counted["report_freed"] == 0
    assert lazy(host) == 5000 and vm.held_pages == 5000, "it is all there"
    assert do(other, WRITE, np.arange(5000)).reason == "done"
    after = host.counters()
    assert after["lazy_freed"] >= 5000 + 5000 - 8192 and after["evicted"] == after["swap_pages_out"] == 0
    host.check()


def test_a_guest_that_uses_it_first_has_it_without_a_frame():
    frames = {}
    for hinting in (False, True):
        host = host_of()
        vm = guest_of(host, hinting=hinting)
        freed_by(host, vm, 3000)
        before = host.counters()
        do(vm, WRITE, np.arange(3000))
        after = host.counters()
        frames[hinting] = after["fault_zero"] - before["fault_zero"]
        if hinting:
            assert after["lazy_kept"] == 3000 and lazy(host) == 0
        pass_time(host)
        do(vm, DISCARD, np.arange(100))
        pass_time(host)
        assert lazy(host) in (range(80, 113) if hinting else [0]), "whole blocks of what is free again"
        host.check()
    assert frames == {False: 3000, True: 0}


def test_a_hint_costs_an_exit_a_message_and_a_mark_a_page():
    host = host_of()
    vm = guest_of(host, report_delay="10ms")
    do(vm, WRITE, np.arange(600))
    do(vm, DISCARD, np.arange(512))
    before, costs = host.cpu_ns()["balloon"], load("default")
    pass_time(host, 100 * MS)
    spent = vm.counters()["report_messages"] * costs.fault + host.counters()["lazy_marked"] * costs.evict
    assert host.cpu_ns()["balloon"] - before == spent and host.counters()["lazy_marked"] == 512


def test_what_is_out_of_memory_is_forgotten_at_once():
    host = host_of(swap="64MiB", readahead=0)
    vm = guest_of(host)
    do(vm, WRITE, np.arange(2000))
    host.engine.reclaim_from(vm.engine_vm, 1000)
    host.engine.reclaim_from(vm.engine_vm, 1000)
    out = host.engine.mapping.swap.nr_used
    assert out > 0
    do(vm, DISCARD, np.arange(2000))
    pass_time(host)
    assert host.engine.mapping.swap.nr_used == 0 and vm.counters()["report_freed"] == out and lazy(host) == 2000 - out


def test_clones_hint_too_and_take_nothing_from_their_parent():
    host = host_of()
    vm = guest_of(host)
    freed_by(host, vm, 2000)
    saved, twin = vm.snapshot(), vm.clone("twin")
    assert lazy(host) == 0, "what two have is nobody's to give up"
    do(twin, WRITE, np.arange(2000))
    do(twin, DISCARD, np.arange(2000))
    pass_time(host)
    assert lazy(host) > 1000
    vm.revert(saved)
    host.check()
    plain = guest_of(host, name="plain", hinting=False)
    with pytest.raises(ConfigError, match="hints: False, True"):
        plain.revert(saved)
    twin.destroy()
    saved.drop()
    host.check()


def test_a_vm_that_waits_for_memory_finds_what_another_hints():
    host = host_of(memory="8MiB", on_exhausted="wait")
    vm, other = guest_of(host, "6MiB", report_order=0, report_delay="1ms"), host.create_vm("b", "4MiB")
    do(vm, WRITE, np.arange(1400))
    mine = (np.arange(1400, dtype=np.uint32), np.full(1400, DISCARD, np.uint8), None, 1000)
    its = (np.arange(900, dtype=np.uint32), np.ones(900, np.uint8))
    outcome = host.run({vm: [mine], other: [its]}, until_ns=host.sim_ns + 500 * MS)
    assert outcome[other] == (900, "done") and host.counters()["lazy_freed"] > 0
    host.check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hinting": True}, r"guest\.hinting: is of blocks that are reported: set report_order"),
        ({"hinting": True, "report_order": 9, "elastic": "hyperalloc"}, "needs no hint"),
        ({"hinting": "yes", "report_order": 9}, "hinting"),
    ],
)
def test_a_hint_that_cannot_be_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        host_of().create_vm("a", "16MiB", guest=options)
