"""Swap readahead by address: windows against Linux's rule written down a second time, and what a reader finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.settings.config import HostConfig

READ, WRITE, FILL = 0, 1, 2
PAGES = 1200  # of a VM: two leaf tables and a piece of a third


class Rule:
    """mm/swap_state.c, swap_vma_ra_win, in words: the mapping remembers where it was read or found last, how large the
    window was, and how many pages that were read ahead were accessed since."""

    def __init__(self, page_cluster):
        self.most, self.last, self.before, self.hits = 1 << page_cluster, 0, 0, 4
        self.out, self.ahead = set(range(PAGES)), set()

    def pages(self, at):
        if self.most == 1:
            return 1
        if self.hits == 0:
            wanted = 2 if at in (self.last - 1, self.last + 1) else 1
        else:
            wanted = max(4, 2 ** (self.hits + 1).bit_length())
        return max(min(wanted, self.most), self.before // 2)

    def access(self, at):
        """Pages that are read ahead for it."""
        if at in self.ahead:
            self.ahead.remove(at)
            self.hits, self.last = min(63, self.hits + 1), at
        if at not in self.out:
            return 0
        size = self.pages(at)
        if at == self.last + 1:
            first = at
        elif at == self.last - 1:
            first = at - size + 1
        else:
            first = at - (size - 1) // 2
        self.last, self.before, self.hits = at, size, 0
        window = {page for page in range(first, first + size) if page // 512 == at // 512} & self.out - {at}
        self.out -= window | {at}
        self.ahead |= window
        return len(window)


def all_out(readahead=3, readahead_kind="vma"):
    """A VM of which nothing is in memory, on a host that has room for all of it twice."""
    host = memvirt.Host(
        memory=(2 * PAGES + 1024) * 4096, swap="16MiB", readahead=readahead, readahead_kind=readahead_kind, seed=3,
        content="fingerprint", harvest_interval="1h",
    )  # fmt: skip
    vm = host.create_vm("a", PAGES * 4096)
    vm.access(np.random.default_rng(5).permutation(PAGES), np.full(PAGES, WRITE, np.uint8))
    while host.usage()["guest"]:
        host.engine.reclaim_from(vm.engine_vm, PAGES)
    return host, vm


@settings(max_examples=60, deadline=None)
@given(
    page_cluster=st.integers(0, 5),
    steps=st.lists(
        st.one_of(
            st.integers(0, PAGES - 1),
            st.tuples(st.integers(0, PAGES - 20), st.integers(1, 20), st.sampled_from([-1, 1])),
            st.sampled_from([0, 511, 512, 1023, 1024, PAGES - 1]),
        ),
        max_size=30,
    ),
)
def test_windows_equal_their_rule(page_cluster, steps):
    host, vm = all_out(page_cluster)
    rule = Rule(page_cluster)
    with host:
        ahead = hits = 0
        for step in steps:
            run = [step] if isinstance(step, int) else [step[0] + i for i in range(step[1])][:: step[2]]
            for at in run:
                hits += at in rule.ahead
                ahead += rule.access(at)
                vm.access(np.array([at], np.uint32), np.zeros(1, np.uint8))
                found = host.counters()
                assert (found["readahead_pages"], found["readahead_hits"]) == (ahead, hits), at
        host.check()
        assert host.usage()["swap_cache"] == len(rule.ahead)
        assert host.usage()["guest"] == PAGES - len(rule.out) - len(rule.ahead)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_loop_is_read_by_eights(backwards):
    """As Linux 6.18 was found to read from a device that does not rotate: one fault in eight."""
    host, vm = all_out()
    with host:
        vm.access(np.arange(PAGES)[:: -1 if backwards else 1].copy(), np.zeros(PAGES, np.uint8))
        host.check()
        found = host.counters()
        assert found["fault_swap"] + found["readahead_hits"] == PAGES
        assert PAGES / 8 <= found["fault_swap"] <= PAGES / 8 + 8


@pytest.mark.parametrize("kind", ["vma", "cluster"])
def test_neighbours_are_found_wherever_they_lie_in_the_area(kind):
    """Each page went out alone, in no order. By its slot a page has no neighbours, by its address it has."""
    host, vm = all_out(readahead_kind=kind)
    with host:
        for at in np.random.default_rng(8).permutation(400):
            vm.access(np.array([at], np.uint32), np.full(1, WRITE, np.uint8))
            while host.usage()["guest"]:
                host.engine.reclaim_from(vm.engine_vm, PAGES)
        before = host.counters()
        vm.access(np.arange(400), np.zeros(400, np.uint8))
        host.check()
        faults = host.counters()["fault_swap"] - before["fault_swap"]
        assert faults <= 400 / 8 + 8 if kind == "vma" else faults > 150


def test_a_page_that_several_addresses_name_is_read_once():
    host = memvirt.Host(memory="8MiB", swap="8MiB", readahead_kind="vma", sharing="hash", content="fingerprint", seed=1)
    with host:
        vm = host.create_vm("a", 512 * 4096)
        vm.access(np.arange(512), np.full(512, WRITE, np.uint8))
        twin = vm.clone("b")
        twin.access(np.arange(0, 512, 2), np.full(256, WRITE, np.uint8))
        for each in (vm, twin):
            host.engine.reclaim_from(each.engine_vm, 512)
            host.engine.reclaim_from(each.engine_vm, 512)
        before = host.counters()
        for each in (vm, twin):
            each.access(np.arange(512), np.zeros(512, np.uint8))
            host.check()
        found = host.counters()
        assert found["swap_pages_in"] - before["swap_pages_in"] <= 512 + 256
        assert host.usage()["swap_cache"] == 0


def test_a_vm_begins_as_the_first_one_did():
    """A number that was another VM's before remembers nothing of it."""
    counts = []
    host, vm = all_out()
    with host:
        for name in ("b", "c"):
            vm.access(np.arange(100, 110), np.zeros(10, np.uint8))
            counts.append(host.counters()["readahead_pages"] - sum(counts))
            vm.destroy()
            vm = host.create_vm(name, PAGES * 4096)
            vm.access(np.arange(PAGES), np.full(PAGES, WRITE, np.uint8))
            while host.usage()["guest"]:
                host.engine.reclaim_from(vm.engine_vm, PAGES)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("kind", ["vma", "cluster"])
def test_windows_are_read_whole_under_pressure(kind):
    """A loop over twice the memory that writes nothing: one fault in eight pages, as Linux 6.18 was found to take."""
    host = memvirt.Host(memory="4MiB", swap="16MiB", readahead_kind=kind, content="fingerprint", seed=2)
    with host:
        vm = host.create_vm("a", "8MiB")
        vm.access(np.arange(2048), np.full(2048, WRITE, np.uint8))
        for _ in range(2):
            before = host.counters()
            vm.access(np.arange(2048), np.zeros(2048, np.uint8))
            host.check()
        found = {name: count - before[name] for name, count in host.counters().items()}
        assert found["fault_swap"] + found["readahead_hits"] == 2048
        assert 2048 / 8 <= found["fault_swap"] <= 2048 / 8 * 1.02
        assert found["readahead_dropped"] <= 16


def test_room_for_a_window_is_made_once_and_what_is_there_is_taken():
    """A host with less room than a window: the fault is served all the same, whatever of the window can be read."""
    host = memvirt.Host(memory=40 * 4096, swap="1MiB", readahead=5, content="fingerprint", seed=2)
    with host:
        vm = host.create_vm("a", 64 * 4096)
        vm.access(np.arange(64), np.full(64, WRITE, np.uint8))
        for _ in range(3):
            outcome = vm.access(np.arange(64), np.zeros(64, np.uint8))
            host.check()
            assert outcome.done == 64
        found = host.counters()
        assert found["readahead_pages"] > found["fault_swap"] > 0


def test_room_for_a_window_leaves_what_is_reserved():
    host = memvirt.Host(memory="1MiB", swap="4MiB", readahead=5, content="fingerprint", seed=2)
    with host:
        kept = host.create_vm("kept", "400KiB", reservation="400KiB")
        kept.access(np.arange(100), np.full(100, WRITE, np.uint8))
        vm = host.create_vm("a", "1MiB")
        vm.access(np.arange(256), np.full(256, WRITE, np.uint8))
        vm.access(np.arange(256), np.zeros(256, np.uint8))
        host.check()
        assert host.counters()["readahead_hits"] > 0
        assert kept.counters()["charged_pages"] == 100


def test_its_kind_is_recorded_whatever_it_is():
    for kind in ("cluster", "vma"):
        config = HostConfig(readahead_kind=kind)
        assert config.resolved()["readahead_kind"] == kind and HostConfig(**config.resolved()) == config
    with pytest.raises(memvirt.ConfigError, match="readahead_kind"):
        memvirt.Host(readahead_kind="both")
