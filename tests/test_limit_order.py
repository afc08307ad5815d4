"""A VM at its limit loses the pages that an order of its own names, of the kind of the host's."""

import gc

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing.host import locate
from memvirt.settings.orders import ORDERS

PAGE = 4096


def host_with(order="fifo", **options):
    return memvirt.Host(memory="8MiB", swap="8MiB", replacement=order, readahead=0, seed=1, **options)


def drawn(pages, n, seed=1):
    """Page numbers, the low ones more often."""
    random = np.random.Generator(np.random.PCG64(seed))
    return np.minimum(random.integers(0, pages, n), random.integers(0, pages, n)).astype(np.uint32)


def test_faults_at_a_limit_are_the_misses_of_the_order():
    """A limit of 8 pages is served a page at a time; fifo asks for no accessed marks. So the host's faults are those of the
    order alone, which a sweep by address would not meet."""
    pages = drawn(40, 3000)
    with host_with() as host:
        vm = host.create_vm("one", "1MiB", limit=8 * PAGE)
        vm.access(pages, np.ones(len(pages), bool))
        counted = host.counters()
        assert counted["fault_zero"] + counted["fault_swap"] == memvirt.simulate("fifo", pages, 8)
        assert counted["reclaim_limit"] == counted["evicted"] > 500
        host.check()


@pytest.mark.parametrize("order", ORDERS)
def test_only_pages_of_the_vm_at_its_limit_go(order):
    with host_with(order) as host:
        other = host.create_vm("other", "1MiB")
        other.access(np.arange(256, dtype=np.uint32), np.ones(256, bool))
        vm = host.create_vm("one", "1MiB", limit=64 * PAGE)
        before = [other.read(page * PAGE, 8) for page in range(256)]
        for seed in range(4):
            vm.access(drawn(256, 700, seed), np.ones(700, bool))
            assert vm.engine_vm.charged <= 64 and other.engine_vm.charged == 256
            host.check()
        assert host.counters()["reclaim_limit"] > 300
        assert [other.read(page * PAGE, 8) for page in range(256)] == before and host.counters()["fault_swap"] > 100


@pytest.mark.parametrize("swap", [0, "8MiB"])
@pytest.mark.parametrize("pages", [1, 7, 300])
def test_a_vm_may_reach_a_limit_of_all_its_pages(pages, swap):
    """It needs a frame more for a moment when it breaks a page that it pays for and a clone has, too."""
    with memvirt.Host(memory="8MiB", swap=swap, seed=1) as host:
        vm = host.create_vm("one", pages * PAGE, limit=pages * PAGE)
        vm.write(0, b"a" * pages * PAGE)
        clone = vm.clone("clone")
        done = vm.write(0, b"b" * pages * PAGE)
        assert (done == pages * PAGE and vm.outcome == "done") or (not swap and vm.outcome == "limited")
        assert vm.read(0, pages * PAGE) == b"b" * done + b"a" * (pages * PAGE - done)
        assert clone.read(0, pages * PAGE) == b"a" * pages * PAGE
        host.check()


def test_who_cannot_reach_a_limit_has_no_order_of_its_own():
    with host_with("twolist") as host:
        recency = host.engine.mapping.recency
        plain, roomy = host.create_vm("plain", "1MiB"), host.create_vm("roomy", "1MiB", limit="1028KiB")
        assert recency.nr_own == 0
        plain.set_limit("512KiB")
        assert recency.nr_own == 1
        plain.set_limit("256KiB")
        roomy.set_limit("128KiB")
        assert recency.nr_own == 2
        twin = plain.clone("twin")
        assert recency.nr_own == 3, "a clone has its parent's limit"
        plain.set_limit(None)
        roomy.set_limit("2MiB")
        assert recency.nr_own == 1
        twin.destroy()
        assert recency.nr_own == 0
        host.check()


def test_a_limit_set_later_takes_the_coldest_first():
    """Two harvests without an access tell pages apart before the VM has an order of its own."""
    with host_with("lru") as host:
        vm = host.create_vm("one", "1MiB")
        vm.access(np.arange(200, dtype=np.uint32), np.ones(200, bool))
        host.harvest()
        vm.access(np.arange(100, 200, dtype=np.uint32), np.zeros(100, bool))
        host.harvest()
        assert vm.set_limit(100 * PAGE) == 100 * PAGE
        assert host.counters()["reclaim_limit"] == 100
        vm.access(np.arange(100, 200, dtype=np.uint32), np.zeros(100, bool))
        assert host.counters()["fault_swap"] == 0, "those that were accessed since the first harvest stayed"


def test_a_revert_begins_without_history():
    with host_with("2q") as host:
        vm = host.create_vm("one", "1MiB", limit=100 * PAGE)
        for turn in range(3):
            vm.access(drawn(256, 900, turn), np.ones(900, bool))
            saved = vm.snapshot()
            vm.access(drawn(256, 900, 7 + turn), np.ones(900, bool))
            word = vm.read(5 * PAGE, 8)
            host.check()
            vm.revert(saved)
            host.check()
            vm.access(drawn(256, 900, 9 + turn), np.zeros(900, bool))
            saved.drop()
            assert len(word) == 8
        host.check()


def test_pages_left_by_a_vm_that_ends_come_into_the_heir_s_order():
    """The clone pays for what its parent leaves, up to its own limit and beyond, until those have gone."""
    with host_with("twolist") as host:
        parent = host.create_vm("parent", "1MiB")
        for page in range(256):
            parent.write(page * PAGE, page.to_bytes(2, "little"))
        child = parent.clone("child")
        child.set_limit(50 * PAGE)
        assert child.engine_vm.charged == 0
        parent.destroy()
        kept = child.engine_vm.charged
        assert 0 < kept <= 50 and host.counters()["evicted"] == 256 - kept, "batches of 32 that have begun are finished"
        host.check()
        assert [int.from_bytes(child.read(page * PAGE, 2), "little") for page in range(256)] == list(range(256))
        host.check()


def test_orders_of_vms_go_with_their_host():
    host = host_with("arc")
    for number in range(20):
        host.create_vm(f"vm{number}", "1MiB", limit="256KiB").access(drawn(256, 300), np.ones(300, bool))
    assert host.engine.mapping.recency.nr_own == 20
    host.close()
    gc.collect()


def test_pressure_of_a_vm_at_its_limit_is_that_of_its_own_pages():
    """psi = "linux": refaults of pages that were active in the VM's own lists count, those of a single pass do not."""
    with host_with("twolist", psi="linux") as host:
        vm = host.create_vm("one", "1MiB", limit=100 * PAGE)
        hot = np.tile(np.arange(120, dtype=np.uint32), 30)
        vm.access(hot, np.ones(len(hot), bool))
        host.check()
        assert host.counters()["fault_swap"] > 1000
        assert vm.stall_ns > 0.3 * vm.engine_vm.waited_ns


@pytest.mark.parametrize("settings", [{}, {"limit": 64 * PAGE}, {"reservation": 205 * PAGE}], ids=str)
@pytest.mark.parametrize("swap", [0, 10 * PAGE, 40 * PAGE])
@pytest.mark.parametrize("order", ORDERS)
def test_a_page_that_can_go_does_whatever_the_order_names(order, swap, settings):
    """Pages of noise have nowhere to go where swap is full, pages of zeros do, and what was read ahead. An order of several
    queues may name those of one queue alone. Whoever is told that there is nothing left finds nothing else resident, but for
    what is reserved."""
    noise = np.random.Generator(np.random.PCG64(1)).bytes(300 * PAGE)
    readahead = 3 if swap > 10 * PAGE else 0
    with memvirt.Host(memory="1MiB", swap=swap, replacement=order, readahead=readahead, seed=1) as host:
        vm, draw = host.create_vm("one", "2MiB", **settings), np.random.Generator(np.random.PCG64(2))
        for turn in range(6000):
            page = int(draw.integers(0, 20) if turn % 3 == 1 else draw.integers(20, 20 + min(300, 1 + turn // 10)))
            data = bytes(PAGE) if page < 20 else noise[(page - 20) * PAGE : (page - 19) * PAGE]
            if vm.write(page * PAGE, data) < PAGE:
                break
        assert vm.outcome == ("limited" if "limit" in settings else "no_frame")
        resident = [page for page in range(20) if (locate(host.engine, vm.engine_vm, page) or "no")[0] == "frame"]
        assert not resident or vm.held_pages <= settings.get("reservation", 0) // PAGE
        assert "limit" in settings or host.usage()["swap_cache"] == 0
        host.check()
