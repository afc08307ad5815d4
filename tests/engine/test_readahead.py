"""Swap readahead: the window against Linux's rule written down a second time, and what becomes of the pages read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.engine.reclaim.readahead import Window
from memvirt.engine.testing.stores import WindowProbe
from memvirt.settings import orders

READ, WRITE = 0, 1


class Rule:
    """mm/swap_state.c in words: hits + 2, rounded up to a power of two from 4; one page without hits, unless next to the
    last; never less than half the window before, never more than 2^page_cluster."""

    def __init__(self, page_cluster):
        self.most, self.previous, self.hits, self.before = 1 << page_cluster, 0, 4, 0

    def fault(self, slot):
        if self.most == 1:
            return slot, slot
        if self.hits:
            pages = max(4, 1 << (self.hits + 1).bit_length())
        else:
            pages = 2 if abs(slot - self.previous) == 1 else 1
            self.previous = slot
        pages = max(min(pages, self.most), self.before // 2)
        self.hits, self.before = 0, pages
        first = slot // pages * pages
        return first, first + pages - 1


FAULTS = st.lists(st.tuples(st.one_of(st.integers(0, 40), st.integers(0, 1 << 27)), st.integers(0, 12)), max_size=40)


@given(st.integers(0, 5), FAULTS)
def test_window_equals_its_rule(page_cluster, faults):
    window, rule = WindowProbe(Window(page_cluster)), Rule(page_cluster)
    for slot, hits in faults:
        assert window.fault(slot) == rule.fault(slot)
        window.hit(hits)
        rule.hits += hits


def test_a_window_grows_with_hits_and_shrinks_by_halves():
    window = WindowProbe(Window(3))
    assert window.fault(100) == (96, 103)  # the kernel begins with four hits: 8 slots
    window.hit(2)
    assert window.fault(108) == (108, 111)  # 2 + 2 = 4 slots
    assert window.fault(200) == (200, 201)  # none: 1, but no less than half of 4
    assert window.fault(300) == (300, 300)
    assert window.fault(301) == (300, 301)  # next to the one before
    window.hit(7)
    assert window.fault(9) == (8, 15)  # 9 rounds up to 16; 8 is the most


@pytest.mark.parametrize("wrong", [-1, 6, 2.0, True])
def test_page_cluster_out_of_range(wrong):
    with pytest.raises(memvirt.ConfigError, match=r"0 .off. to 5"):
        Window(wrong)


def swapped_host(readahead, content="fingerprint", **options):
    """A VM of 2048 pages whose first 1024 are out on swap, in the order of their addresses."""
    settings_ = {"memory": "8MiB", "swap": "16MiB", "replacement": "fifo", "seed": 3, "harvest_interval": "1h"}
    host = memvirt.Host(readahead=readahead, content=content, **{**settings_, **options})
    vm = host.create_vm("a", "8MiB")
    vm.access(np.arange(2048), np.ones(2048, np.uint8))
    return host, vm


@pytest.mark.parametrize("content", ["fingerprint", "bytes"])
def test_a_sequential_reader_hits_what_was_read_ahead(content):
    host, vm = swapped_host(3, content)
    gone = host.counters()["evicted_swap"]
    host.engine.reclaim_from(vm.engine_vm, 1024)  # room above the low watermark
    before = vm.sim_ns
    plain, plain_vm = swapped_host(0, content)
    plain.engine.reclaim_from(plain_vm.engine_vm, 1024)
    vm.access(np.arange(gone), np.zeros(gone, np.uint8))
    plain_vm.access(np.arange(gone), np.zeros(gone, np.uint8))
    host.check()
    counted = host.counters()
    assert counted["readahead_hits"] == counted["fault_cached"] > 0.7 * gone
    assert (
        counted["readahead_hits"] + counted["readahead_dropped"] + host.usage()["swap_cache"]
        == counted["readahead_pages"]
    )
    assert counted["swap_pages_in"] == counted["fault_swap"] + counted["readahead_pages"]
    assert plain.counters()["readahead_pages"] == plain.usage()["swap_cache"] == 0
    assert vm.sim_ns - before < plain_vm.sim_ns - before
    assert sum(host.usage().values()) == 2048


def test_pages_read_ahead_belong_to_nobody_and_go_first_without_io():
    host, vm = swapped_host(5)
    host.engine.reclaim_from(vm.engine_vm, 600)
    charged = vm.counters()["charged_pages"]
    vm.access([0], [READ])
    cached = host.usage()["swap_cache"]
    assert cached > 0 and vm.counters()["charged_pages"] == charged + 1
    host.check()
    writes = host.counters()["swap_pages_out"]
    vm.access(np.arange(300), np.ones(300, np.uint8))  # hits, then written: the slots go
    host.check()
    vm.destroy()
    host.check()
    assert host.usage()["swap_cache"] == host.usage()["guest"] == 0
    assert host.counters()["swap_pages_out"] >= writes


def test_a_neighbour_that_does_not_come_back_as_it_went_is_left_alone(tmp_path):
    path = tmp_path / "swap"
    host, vm = swapped_host(3, "bytes", swap_path=str(path))
    host.engine.reclaim_from(vm.engine_vm, 600)
    with path.open("r+b") as area:
        area.seek(3 << 12)
        area.write(b"\xff" * 4096)
    vm.access([0], [READ])
    assert host.counters()["readahead_pages"] == 6, "of the window of 8, not the page itself and not the damaged one"
    host.check()
    vm.access([1, 2, 4], [READ] * 3)
    with pytest.raises(memvirt.StoreError, match="VM 'a' page 3: swap slot 3"):
        vm.access([3], [READ])
    host.check()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(list(orders.ORDERS)))
def test_random_hosts_keep_every_page(seed, order):
    """Reads, writes, clones, limits, ends of VMs: every recount agrees, and every byte written is read again."""
    rng = np.random.default_rng(seed)
    host = memvirt.Host(
        memory="1MiB",
        swap="8MiB",
        zpool_percent=int(rng.choice([0, 20])),
        zpool_shrinker=bool(rng.integers(2)),
        replacement=order,
        readahead=int(rng.integers(6)),
        harvest_interval="1ms",
        seed=1,
    )
    wrote = {}
    for step in range(40):
        if len(host.vms) < 2 or (len(host.vms) < 4 and rng.random() < 0.15):
            if host.vms and rng.random() < 0.5:
                parent = host.vms[0]
                vm = parent.clone(f"vm{step}")
                wrote[vm.name] = dict(wrote[parent.name])
            else:
                limit = None if rng.random() < 0.7 else "256KiB"
                vm = host.create_vm(f"vm{step}", "1MiB", limit=limit)
                wrote[vm.name] = {}
        vm = host.vms[int(rng.integers(len(host.vms)))]
        first = int(rng.integers(256))
        for page in range(first, min(256, first + int(rng.integers(1, 60)))):
            if rng.random() < 0.5:
                data = rng.integers(0, 256, 64, dtype=np.uint8).tobytes() * 64
                if vm.write(page << 12, data) == 4096:
                    wrote[vm.name][page] = data
            elif page in wrote[vm.name]:
                assert vm.read(page << 12, 4096) == wrote[vm.name][page]
        if rng.random() < 0.1:
            host.engine.reclaim_from(vm.engine_vm, int(rng.integers(100)))
        if rng.random() < 0.05:
            vm.destroy()
        host.check()
    for vm in host.vms:
        for page, data in wrote[vm.name].items():
            assert vm.read(page << 12, 4096) == data
    host.check()
