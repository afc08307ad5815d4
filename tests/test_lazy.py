"""Pages that are given up lazily, as by madvise(MADV_FREE): what becomes of them, and what does not."""

import random

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing.host import is_lazy, is_pinned, locate, spoil
from memvirt.errors import AdmissionError, ConfigError, InvariantError
from memvirt.settings.orders import ORDERS

PAGE = 4096
READ, WRITE, FILL, DISCARD, LAZY = range(5)
NAMES = ("lazy_marked", "lazy_kept", "lazy_freed", "lazy_released", "lazy_skipped")


def host_of(frames=256, **given):
    return memvirt.Host(memory=frames * PAGE, swap_direct=False, seed=1, **given)


def do(vm, op, pages):
    pages = np.asarray(pages, np.uint32)
    return vm.access(pages, np.full(len(pages), op, np.uint8))


def bytes_of(page):
    return page.to_bytes(8, "little") * 512


def fill(vm, pages):
    """Content that is not of one word but told by its page."""
    for page in pages:
        assert vm.write(page * PAGE, bytes_of(page + 1)[:-8] + b"the end.") == PAGE


def held(vm, page):
    return vm.read(page * PAGE, PAGE)


def full(page):
    return bytes_of(page + 1)[:-8] + b"the end."


def lazy(host):
    counted = host.counters()
    return tuple(counted.get(name, 0) for name in NAMES)


def nr_lazy(host):
    host.check()
    return host.engine.mapping.recency.lazies.nr


def test_nobody_who_gives_nothing_up_lazily_sees_anything_of_it():
    host = host_of(swap="4MiB")
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(40))
    assert do(vm, DISCARD, range(10)) == (10, "done")
    with pytest.raises(ConfigError, match="VM 'a' has no guest in which these pages could be free.*guest=True.*lazy"):
        vm.discard(range(10))
    assert held(vm, 5) == full(5), "without a guest nobody is told"
    assert not set(NAMES) & host.counters().keys()
    vm.discard([300 - 256 + 200], lazy=True)
    assert not set(NAMES) & host.counters().keys(), "a page that was never touched"


def test_a_lazy_page_is_there_until_a_frame_is_wanted_and_goes_without_io():
    host = host_of(swap="4MiB")
    vm, other = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    fill(vm, range(100))
    before = host.counters()
    assert vm.discard(range(100), lazy=True) == (100, "done")
    assert lazy(host) == (100, 0, 0, 0, 0) and nr_lazy(host) == 100
    assert host.usage()["guest"] == 100 and vm.held_pages == 100, "it keeps its frame"
    assert all(held(vm, page) == full(page) for page in range(100)), "and its bytes"
    assert host.counters()["fault_zero"] == before["fault_zero"], "a read faults nothing"
    do(other, WRITE, range(200))
    after = host.counters()
    assert after["lazy_freed"] >= 60 and after["evicted"] == after["swap_pages_out"] == after["reject_swap_full"] == 0
    gone = [page for page in range(100) if locate(host.engine, vm.engine_vm, page) is None]
    assert len(gone) == after["lazy_freed"] == 100 - nr_lazy(host)
    assert all(held(vm, page) == bytes(PAGE) for page in gone[:10]), "what is touched there is zeros"


def test_they_go_in_the_order_in_which_they_were_given_up_and_a_read_is_another_round():
    host = host_of(swap="4MiB")
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(60))
    vm.discard([7, 3, 5, 1], lazy=True)
    do(vm, READ, [7])
    host.engine.reclaim_from(vm.engine_vm, 2)
    assert [page for page in (7, 3, 5, 1) if locate(host.engine, vm.engine_vm, page) is None] == [3, 5]
    assert host.counters()["reclaim_spared_accessed"] == 1 and lazy(host)[:3] == (4, 0, 2)
    host.engine.reclaim_from(vm.engine_vm, 2)
    assert locate(host.engine, vm.engine_vm, 7) is None, "a read says nothing of what is wanted"
    assert host.counters()["evicted"] == 0


def test_a_write_in_between_keeps_the_page_and_it_goes_to_swap_like_any_other():
    host = host_of(swap="4MiB", harvest_interval="1000s")
    vm, other = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    fill(vm, range(100))
    vm.discard(range(100), lazy=True)
    for page in range(0, 100, 4):
        vm.write(page * PAGE + 8, b"again")
    assert lazy(host) == (100, 25, 0, 0, 0) and nr_lazy(host) == 75
    do(other, WRITE, range(256))
    do(other, WRITE, range(256))
    for page in range(100):
        wanted = full(page)[:8] + b"again" + full(page)[13:] if page % 4 == 0 else bytes(PAGE)
        assert held(vm, page) in ((wanted,) if page % 4 == 0 else (wanted, full(page)))
    assert host.counters()["evicted_swap"] > 0 and lazy(host)[2] == 75


def test_the_write_is_seen_through_whatever_was_cached():
    """A translation that may write is dropped when the page is given up; one that a read then caches may not."""
    host = host_of()
    vm = host.create_vm("a", "1MiB")
    do(vm, WRITE, [9, 9])
    for between in ([], [READ], [READ, READ]):
        vm.discard([9], lazy=True)
        for op in between:
            do(vm, op, [9])
        assert is_lazy(host.engine, vm.engine_vm, 9)
        do(vm, WRITE, [9])
        assert not is_lazy(host.engine, vm.engine_vm, 9)
        host.check()
    assert lazy(host) == (3, 3, 0, 0, 0)
    vm.discard([9], lazy=True)
    vm.discard([9], lazy=True)
    assert lazy(host)[0] == 4, "once is enough"


@pytest.mark.parametrize("swap", [None, "1MiB"])
def test_without_swap_or_with_a_full_one_they_are_what_reclaim_has(swap):
    host = host_of(256, **({} if swap is None else {"swap": 4 * PAGE}))
    vm, other = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    fill(vm, range(150))
    assert do(other, WRITE, range(150)).reason == "no_frame", "there is nowhere to go"
    got = host.usage()["guest"]
    vm.discard(range(100), lazy=True)
    assert do(other, WRITE, range(150)) == (150, "done")
    host.check()
    assert lazy(host)[2] >= 300 - got and host.counters()["swap_pages_out"] <= 4
    assert all(held(vm, page) == full(page) for page in range(100, 150))


def test_an_admission_is_foretold_with_them():
    host = host_of(256)
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(200))
    with pytest.raises(AdmissionError):
        host.create_vm("b", "1MiB", reservation="512KiB")
    assert host.usage()["guest"] == 200
    vm.discard(range(150), lazy=True)
    other = host.create_vm("b", "1MiB", reservation="512KiB")
    assert do(other, WRITE, range(128)) == (128, "done"), "what it was promised is there"
    assert all(held(vm, page) == full(page) for page in range(150, 200))
    host.check()


def test_a_limit_takes_the_vms_own_first_and_a_reservation_keeps_them():
    host = host_of(512, swap="4MiB")
    vm, kept = host.create_vm("a", "1MiB", limit=64 * PAGE), host.create_vm("kept", "1MiB", reservation=100 * PAGE)
    fill(kept, range(100))
    kept.discard(range(100), lazy=True)
    fill(vm, range(60))
    vm.discard(range(30), lazy=True)
    fill(vm, range(100, 120))
    assert host.counters()["evicted"] == 0 and 0 < lazy(host)[2] <= 24, "it has given up enough"
    assert all(held(vm, page) == full(page) for page in [*range(30, 60), *range(100, 120)])
    big = host.create_vm("big", "3MiB")
    do(big, WRITE, range(500))
    assert kept.held_pages == 100 and all(held(kept, page) == full(page) for page in range(100)), (
        "it was promised these"
    )
    assert nr_lazy(host) == 100


def test_what_is_out_is_forgotten_and_a_clean_copy_gives_its_slot_back():
    host = host_of(256, swap="4MiB", readahead=0)
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(50))
    host.engine.reclaim_from(vm.engine_vm, 50)
    host.engine.reclaim_from(vm.engine_vm, 50)
    swap = host.engine.mapping.swap
    assert swap.nr_used == 50
    held(vm, 0)
    assert locate(host.engine, vm.engine_vm, 0)[0] == "frame" and swap.nr_used == 50, "a clean copy keeps its slot"
    vm.discard(range(20), lazy=True)
    assert swap.nr_used == 30 and lazy(host)[0] == 1, "only what is in memory can be lazy"
    assert held(vm, 0) == full(0) and held(vm, 1) == bytes(PAGE) and held(vm, 20) == full(20)
    host.check()


def test_what_others_have_a_part_in_stays_as_it_is():
    host = host_of(512, swap="4MiB", sharing="hash")
    vm, twin = host.create_vm("a", "1MiB"), None
    fill(vm, range(20))
    vm.write(30 * PAGE, bytes_of(77) + bytes_of(77))  # pages 30 and 31 are equal
    host.scan()
    vm.pin(5, 2)
    twin = vm.clone("twin")
    before = host.counters()["leaf_copies"]
    vm.discard(range(32), lazy=True)
    assert lazy(host)[0] == 0 and lazy(host)[4] == 20 and host.counters()["leaf_copies"] == before
    assert is_pinned(host.engine, vm.engine_vm, 5)
    twin.destroy()
    vm.discard(range(20), lazy=True)
    assert lazy(host)[0] > 0 and not is_lazy(host.engine, vm.engine_vm, 5)
    vm.discard([30, 31], lazy=True)
    assert not is_lazy(host.engine, vm.engine_vm, 30), "it is merged"
    assert all(held(vm, page) == full(page) for page in range(20))
    host.check()


@pytest.mark.parametrize("how", ["clone", "snapshot"])
def test_clones_and_snapshots_keep_what_two_rely_on(how):
    host = host_of(512, swap="4MiB")
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(40))
    vm.discard(range(40), lazy=True)
    made = vm.clone("twin") if how == "clone" else vm.snapshot()
    assert lazy(host) == (40, 40, 0, 0, 0) and nr_lazy(host) == 0
    big = host.create_vm("big", "3MiB")
    do(big, WRITE, range(600))
    assert host.counters()["evicted_swap"] > 0
    assert all(held(vm, page) == full(page) for page in range(40))
    if how == "clone":
        assert all(held(made, page) == full(page) for page in range(40))
        return
    for page in range(40):
        vm.write(page * PAGE, b"own")
    vm.discard(range(40), lazy=True)
    assert nr_lazy(host) > 30
    vm.revert(made)
    assert nr_lazy(host) == 0 and all(held(vm, page) == full(page) for page in range(40))
    host.check()


def test_a_merge_keeps_the_page_that_others_come_to_name():
    host = host_of(512, swap="4MiB", sharing="hash")
    one, two = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    one.write(0, full(1))
    one.discard([0], lazy=True)
    two.write(0, full(1))
    host.scan()
    host.scan()
    assert host.counters()["merges"] == 1 and lazy(host) == (1, 1, 0, 0, 0)
    two.discard([0], lazy=True)
    host.check()
    assert held(one, 0) == held(two, 0) == full(1)


def test_a_pin_is_a_write_and_an_end_is_an_end():
    host = host_of(512)
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(40))
    vm.discard(range(40), lazy=True)
    assert vm.pin(0, 10) == 10
    assert lazy(host) == (40, 10, 0, 0, 0)
    vm.destroy()
    host.check()
    assert lazy(host) == (40, 10, 0, 30, 0) and host.usage()["guest"] == 0
    again = host.create_vm("again", "1MiB")  # by the same number
    fill(again, range(40))
    again.discard(range(40), lazy=True)
    assert nr_lazy(host) == 40


def test_a_huge_mapping_is_split_and_stays_so():
    host = host_of(2048, provisioning="thin-huge", watermarks={"min": 0, "low": 0, "high": 0})
    vm = host.create_vm("a", "4MiB")
    do(vm, WRITE, [0])
    assert host.counters()["fault_huge"] == 1
    vm.discard(range(100), lazy=True)
    assert host.counters()["leaf_splits"] == 1 and nr_lazy(host) == 100
    assert host.collapse() == 0, "what may go at any time is not made huge"
    do(vm, WRITE, range(512))
    assert nr_lazy(host) == 0 and host.collapse() == 1
    host.check()


def test_a_split_that_finds_no_frame_leaves_everything_as_it_was():
    host = host_of(1200, provisioning="thin-huge", watermarks={"min": 0, "low": 0, "high": 0})
    vm, other = host.create_vm("a", "2MiB", reservation="2MiB"), host.create_vm("b", "8MiB")
    do(vm, WRITE, range(512))
    do(other, WRITE, range(600))
    while do(other, WRITE, range(600, 2048)).reason == "done":
        pass
    assert vm.discard(range(100), lazy=True) == (0, "no_frame")
    assert nr_lazy(host) == 0 and lazy(host) == (0, 0, 0, 0, 0)
    other.destroy()
    host.engine.frames.buddy.fail_after(1)
    assert vm.discard(range(100), lazy=True) == (0, "no_frame")
    host.engine.frames.buddy.fail_after(0)
    assert nr_lazy(host) == 0 and lazy(host) == (0, 0, 0, 0, 0)
    assert vm.discard(range(100), lazy=True) == (100, "done") and nr_lazy(host) == 100


def test_compaction_moves_them_and_they_keep_their_turn():
    host = host_of(2048, swap="8MiB")
    vm, holes = host.create_vm("a", "4MiB"), host.create_vm("b", "4MiB")
    for first in range(0, 800, 50):
        fill(vm, range(first, first + 50))
        do(holes, WRITE, range(first, first + 50))
    vm.discard(range(0, 800, 100), lazy=True)
    holes.destroy()
    where = [locate(host.engine, vm.engine_vm, page) for page in range(0, 800, 100)]
    assert host.compact() > 0
    assert where != [locate(host.engine, vm.engine_vm, page) for page in range(0, 800, 100)] and nr_lazy(host) == 8
    host.engine.reclaim_from(vm.engine_vm, 3)
    left = [page for page in range(0, 800, 100) if is_lazy(host.engine, vm.engine_vm, page)]
    assert left == [300, 400, 500, 600, 700] and all(held(vm, page) == full(page) for page in left)
    host.check()


def test_a_page_of_one_vm_goes_by_turns():
    """Whose list is asked goes round, so that no VM pays for all."""
    host = host_of(512, swap="4MiB")
    vms = [host.create_vm(name, "1MiB") for name in "abc"]
    for vm in vms:
        fill(vm, range(100))
        vm.discard(range(100), lazy=True)
    do(host.create_vm("big", "2MiB"), WRITE, range(300))
    left = [sum(is_lazy(host.engine, vm.engine_vm, page) for page in range(100)) for vm in vms]
    assert max(left) - min(left) <= 64 and sum(left) < 200, left


def test_a_recount_finds_what_was_falsified():
    host = host_of(256)
    vm = host.create_vm("a", "1MiB")
    fill(vm, range(10))
    vm.discard(range(10), lazy=True)
    host.check()
    number = locate(host.engine, vm.engine_vm, 3)[1]
    spoil(host.engine, "refs", number, 2)
    with pytest.raises(InvariantError):
        host.check()
    spoil(host.engine, "refs", number, 1)
    host.check()


def test_an_op_that_is_none_is_told():
    vm = host_of().create_vm("a", "1MiB")
    for ops in ([5], np.array([5], np.uint8)):
        with pytest.raises(ConfigError, match="4 discard lazily"):
            vm.access([0], ops)
    with pytest.raises(ConfigError, match="beyond its 256 pages"):
        vm.discard([256], lazy=True)


@pytest.mark.parametrize("order", sorted(ORDERS))
def test_every_order_takes_pages_in_and_out_of_it(order):
    """A random host of small VMs; old bytes or zeros, nothing else, and a recount after every step."""
    draw = random.Random(order)
    host = host_of(200, swap=150 * PAGE, replacement=order, readahead=draw.choice([0, 3]), sharing="hash")
    vms = [host.create_vm(name, 120 * PAGE, limit=draw.choice([None, 60 * PAGE])) for name in "ab"]
    known = {vm: {} for vm in vms}  # page -> what it may hold
    for step in range(150):
        vm, page = draw.choice(vms), draw.randrange(110)
        some = range(page, page + 10)
        what = draw.choice(["write", "write", "write", "discard", "discard", "read", "reclaim", "scan", "harvest"])
        if what == "write":
            for each in some:
                data = full(1000 * step + each % draw.choice([2, 1000]))
                if vm.write(each * PAGE, data) == PAGE:
                    known[vm][each] = {data}
        elif what == "discard":
            for each in some[: vm.discard(some, lazy=True).done]:
                known[vm][each] = known[vm].get(each, set()) | {bytes(PAGE)}
        elif what == "read":
            for each in some:
                assert held(vm, each) in known[vm].get(each, {bytes(PAGE)})
        elif what == "reclaim":
            host.engine.reclaim_from(vm.engine_vm, 20)
        elif what == "scan":
            host.scan()
        else:
            host.harvest()
        host.check()
    marked, kept, freed, released, _ = lazy(host)
    assert marked == kept + freed + released + nr_lazy(host) and min(kept, freed) > 0
