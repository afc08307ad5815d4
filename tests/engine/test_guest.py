"""Guests on a machine of tags: what a guest reads back is what it wrote, whatever moved and whatever failed."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memvirt.engine import guest_testing as probe
from memvirt.engine.guest import Guest, Machine
from memvirt.errors import ConfigError, InvariantError

OK, NO_FRAME, IO_FAILED, REFUSED, EMPTY = 0, 1, 5, 8, 9
NONE = 0xFFFFFFFF
MAPPED, NEW_ZERO, NEW_CACHE, SWAPPED_IN = 0, 1, 2, 3
FREE, CLEAN, DIRTY, BALLOON, KERNEL = range(5)


def make(vpns=32, pages=16, **options):
    border = options.get("cache_border", vpns)
    machine = probe.ArrayMachine(pages, options.get("swap_slots", 0) + vpns - border)
    return Guest(machine, vpns, pages, **options), machine


def write(guest, machine, vpn, tag):
    outcome, gfn, _, writable = probe.resolve(guest, vpn, True)
    if outcome == OK:
        assert writable
        machine.store(gfn, tag)
    return outcome


def read(guest, machine, vpn):
    outcome, gfn, _, _ = probe.resolve(guest, vpn)
    assert outcome == OK
    return machine.load(gfn)


# -- faults --------------------------------------------------------------------------------------------------------------


def test_first_touches_take_the_lowest_pages_above_the_kernel():
    guest, machine = make(kernel_pages=3)
    assert [probe.resolve(guest, vpn) for vpn in (9, 4)] == [(OK, 3, NEW_ZERO, True), (OK, 4, NEW_ZERO, True)]
    assert probe.resolve(guest, 9) == (OK, 3, MAPPED, True)
    assert (probe.lookup(guest, 4), probe.lookup(guest, 5)) == (4, None)
    assert machine.load(3) == 0
    assert guest.counters()["guest_faults"] == guest.counters()["guest_zeroed"] == 2
    guest.check()


def test_a_discarded_page_is_zero_again_and_its_page_is_used_first():
    guest, machine = make()
    for vpn in range(4):
        write(guest, machine, vpn, vpn + 100)
    machine.log.clear()
    assert probe.discard(guest, 1) == OK
    assert machine.log == ["flush"], "the host must not learn that the guest freed a page"
    assert probe.discard(guest, 1) == OK, "nothing there any more"
    assert machine.log == ["flush"]
    assert probe.resolve(guest, 20) == (OK, 1, NEW_ZERO, True)
    assert read(guest, machine, 1) == 0
    assert guest.counters()["discarded"] == 1


def test_a_clean_cache_page_is_dropped_without_io_and_a_written_one_is_not_lost():
    guest, machine = make(vpns=20, pages=4, cache_border=10)
    assert read(guest, machine, 10) == probe.FILE_TAG + 10
    assert probe.resolve(guest, 11)[2:] == (NEW_CACHE, False)
    write(guest, machine, 11, 77)
    for vpn in range(4):
        assert write(guest, machine, vpn, vpn + 1) == (OK if vpn < 4 else EMPTY)
    counters = guest.counters()
    assert (counters["cache_dropped"], counters["cache_written"], counters["cache_read"]) == (1, 1, 2)
    assert machine.log.count("read_out") == 1
    assert probe.discard(guest, 0) == OK
    assert read(guest, machine, 11) == 77
    assert probe.resolve(guest, 11)[3] is False, "it equals its block of the file again"
    assert probe.discard(guest, 1) == OK
    assert read(guest, machine, 10) == probe.FILE_TAG + 10
    assert guest.counters()["cache_reread"] == 2
    assert probe.discard(guest, 11) == OK
    assert read(guest, machine, 11) == probe.FILE_TAG + 11, "a discarded file page falls back to its original"
    guest.check()


def test_page_cache_goes_before_anonymous_pages():
    guest, machine = make(vpns=20, pages=6, cache_border=10, swap_slots=10)
    for vpn in (0, 1, 2, 10, 11, 12):
        assert probe.resolve(guest, vpn)[0] == OK
    for vpn in (3, 4, 5):
        assert probe.resolve(guest, vpn)[0] == OK
    counters = guest.counters()
    assert (counters["cache_dropped"], counters["guest_swap_out"]) == (3, 0)
    assert probe.resolve(guest, 6)[0] == OK
    assert guest.counters()["guest_swap_out"] == 1


@pytest.mark.parametrize("replacement", ["clock", "lru"])
def test_accessed_pages_are_spared(replacement):
    guest, machine = make(vpns=20, pages=4, swap_slots=10, replacement=replacement)
    for vpn in range(4):
        probe.resolve(guest, vpn)
    machine.load(probe.lookup(guest, 0))
    machine.load(probe.lookup(guest, 1))
    probe.resolve(guest, 10)
    assert probe.lookup(guest, 2) is None, "the oldest page without an accessed mark goes"
    assert not machine.accessed(probe.lookup(guest, 0))
    guest.check()


def test_everything_accessed_still_evicts():
    guest, machine = make(vpns=20, pages=4, swap_slots=10)
    for vpn in range(20):
        assert write(guest, machine, vpn, vpn) == (OK if vpn < 14 else EMPTY)
    for vpn in range(20):
        if vpn < 4 or probe.lookup(guest, vpn) is not None:
            assert probe.discard(guest, vpn) == OK
    kept = [vpn for vpn in range(4, 14) if probe.pages(guest)[2][vpn] != NONE]
    assert len(kept) >= 6
    assert [read(guest, machine, vpn) for vpn in kept] == kept


def test_an_unchanged_page_goes_out_again_without_io():
    guest, machine = make(vpns=20, pages=4, swap_slots=16)
    for vpn in range(8):
        write(guest, machine, vpn, vpn + 1)
    swapped = [vpn for vpn in range(8) if probe.lookup(guest, vpn) is None]
    assert probe.resolve(guest, swapped[0])[2:] == (SWAPPED_IN, False)
    assert guest.nr_clean_anon == 1
    machine.log.clear()
    for vpn in range(10, 14):
        probe.resolve(guest, vpn)
    assert probe.lookup(guest, swapped[0]) is None
    assert guest.counters()["guest_swap_dropped"] == 1
    assert read(guest, machine, swapped[0]) == swapped[0] + 1
    guest.check()


def test_the_first_store_to_a_swapped_in_page_frees_its_slot():
    guest, machine = make(vpns=20, pages=4, swap_slots=16)
    for vpn in range(6):
        write(guest, machine, vpn, vpn + 1)
    first, second = [vpn for vpn in range(6) if probe.lookup(guest, vpn) is None]
    assert read(guest, machine, first) == first + 1
    before = len(machine.slots_in_use())
    assert probe.resolve(guest, first, True)[2:] == (MAPPED, True)
    assert len(machine.slots_in_use()) == before - 1
    assert probe.resolve(guest, second, True)[2:] == (SWAPPED_IN, True), "a store frees the slot at once"
    assert guest.nr_clean_anon == 0
    guest.check()


def test_slots_are_not_kept_when_swap_is_more_than_half_full():
    guest, machine = make(vpns=12, pages=4, swap_slots=8)
    for vpn in range(12):
        write(guest, machine, vpn, vpn)
    gone = [vpn for vpn in range(12) if probe.lookup(guest, vpn) is None]
    assert len(gone) == 8
    assert probe.discard(guest, gone[0]) == OK
    assert read(guest, machine, gone[1]) == gone[1]
    assert guest.nr_clean_anon == 0
    guest.check()


def test_a_full_swap_still_lets_clean_pages_go():
    guest, machine = make(vpns=20, pages=4, swap_slots=4)
    for vpn in range(6):
        write(guest, machine, vpn, vpn + 1)
    gone = [vpn for vpn in range(6) if probe.lookup(guest, vpn) is None]
    assert probe.discard(guest, gone[0]) == OK          # swap is now less than half full: a slot survives swap-in
    assert probe.discard(guest, next(v for v in range(6) if probe.lookup(guest, v) is not None)) == OK
    assert read(guest, machine, gone[1]) == gone[1] + 1
    assert guest.nr_clean_anon == 1
    machine.load(probe.lookup(guest, gone[1]))          # the clean page is the last choice of the order
    for vpn in range(10, 14):
        assert probe.resolve(guest, vpn)[0] == OK
    assert probe.resolve(guest, 14)[0] == EMPTY
    assert read_all_or_empty(guest, machine)
    guest.check()


def read_all_or_empty(guest, machine):
    """Nothing is lost: whatever cannot come in now is still in a slot."""
    return all(
        probe.lookup(guest, vpn) is not None or probe.resolve(guest, vpn)[0] in (OK, EMPTY)
        for vpn in range(guest.nr_vpns)
    )


def test_out_of_memory_is_a_value_and_is_counted():
    guest, machine = make(pages=4)
    for vpn in range(4):
        write(guest, machine, vpn, 5)
    assert probe.resolve(guest, 9) == (EMPTY, None, None, None)
    counters = guest.counters()
    assert (counters["oom"], counters["evict_failed_slot"], counters["guest_faults_failed"]) == (1, 1, 1)
    assert probe.discard(guest, 2) == OK
    assert probe.resolve(guest, 9)[0] == OK


def test_watermarks_reclaim_a_batch_and_leave_pages_free():
    guest, machine = make(vpns=64, pages=20, swap_slots=64, low_pages=2, high_pages=6)
    for vpn in range(18):
        probe.resolve(guest, vpn)
    assert guest.buddy.nr_free == 2
    probe.resolve(guest, 18)
    assert guest.buddy.nr_free == 6, "7 were free, the fault took one"
    assert guest.counters()["guest_swap_out"] == 5


def test_a_fault_reclaims_at_most_one_batch():
    guest, _ = make(vpns=200, pages=100, swap_slots=200, low_pages=10, high_pages=99)
    for vpn in range(90):
        probe.resolve(guest, vpn)
    probe.resolve(guest, 90)
    assert guest.counters()["guest_swap_out"] == 32


# -- balloon and free page reporting -------------------------------------------------------------------------------------


def test_the_balloon_takes_free_pages_first_and_gives_the_last_back_first():
    guest, machine = make(pages=8)
    write(guest, machine, 0, 7)
    guest.set_balloon_target(3)
    assert probe.balloon_step(guest, 2) == (OK, 2)
    assert probe.balloon_step(guest, 256) == (OK, 1)
    assert probe.balloon_step(guest, 256) == (OK, 0)
    assert machine.released == [1, 2, 3]
    guest.set_balloon_target(2)
    assert probe.balloon_step(guest, 256) == (OK, 1)
    assert probe.resolve(guest, 1)[1] == 3
    assert read(guest, machine, 0) == 7
    guest.set_balloon_target(0)
    assert probe.balloon_step(guest, 1) == (OK, 1)
    assert (guest.nr_balloon, guest.counters()["ballooned"], guest.counters()["deflated"]) == (1, 3, 2)
    guest.check()


def test_the_balloon_drops_cache_then_swaps_and_stops_when_nothing_is_left():
    guest, machine = make(vpns=20, pages=8, cache_border=10, swap_slots=2)
    for vpn in (0, 1, 2, 3, 10, 11):
        write(guest, machine, vpn, vpn) if vpn < 10 else read(guest, machine, vpn)
    guest.set_balloon_target(8)
    assert probe.balloon_step(guest, 2) == (OK, 2)
    assert guest.counters()["cache_dropped"] == 0
    assert probe.balloon_step(guest, 2) == (OK, 2)
    assert (guest.counters()["cache_dropped"], guest.counters()["guest_swap_out"]) == (2, 0)
    assert probe.balloon_step(guest, 256) == (EMPTY, 2)
    assert (guest.counters()["guest_swap_out"], guest.counters()["balloon_refused_pages"]) == (2, 1)
    assert guest.nr_balloon == 6
    guest.check()


def test_the_balloon_never_goes_below_the_floor_nor_into_the_low_watermark():
    guest, _ = make(pages=16, balloon_floor=10)
    guest.set_balloon_target(16)
    assert probe.balloon_step(guest, 4) == (OK, 4)
    assert probe.balloon_step(guest, 4) == (REFUSED, 2)
    assert probe.balloon_step(guest, 4) == (REFUSED, 0)
    assert (guest.nr_balloon, guest.counters()["balloon_refused_floor"]) == (6, 2)
    guest, _ = make(pages=16, low_pages=5, high_pages=5)
    guest.set_balloon_target(16)
    assert probe.balloon_step(guest, 256) == (EMPTY, 11)
    assert guest.buddy.nr_free == 5


def test_an_out_of_memory_guest_gets_balloon_pages_back():
    guest, machine = make(pages=8, oom_deflate_pages=3)
    guest.set_balloon_target(4)
    assert probe.balloon_step(guest, 256) == (OK, 4)
    assert [probe.resolve(guest, vpn)[0] for vpn in range(9)] == [OK] * 8 + [EMPTY]
    assert (guest.nr_balloon, guest.counters()["oom_deflated"], guest.counters()["oom"]) == (0, 4, 1)
    assert all(read(guest, machine, vpn) == 0 for vpn in range(8)), "ballooned pages were lost, not the guest's data"


def test_without_deflate_on_oom_the_balloon_stays():
    guest, _ = make(pages=8, oom_deflate_pages=0)
    guest.set_balloon_target(4)
    probe.balloon_step(guest, 256)
    assert [probe.resolve(guest, vpn)[0] for vpn in range(5)] == [OK] * 4 + [EMPTY]
    assert guest.nr_balloon == 4


def test_a_machine_failure_is_no_reason_to_deflate():
    guest, machine = make(pages=4, swap_slots=8)
    guest.set_balloon_target(1)
    probe.balloon_step(guest, 1)
    for vpn in range(3):
        probe.resolve(guest, vpn)
    machine.fail(2, NO_FRAME)                   # flush, then read_out
    assert probe.resolve(guest, 5)[0] == NO_FRAME
    assert guest.nr_balloon == 1
    assert probe.resolve(guest, 5)[0] == OK


def test_free_blocks_are_reported_once_until_used():
    guest, machine = make(vpns=200, pages=128, report_order=1)
    for vpn in range(5):
        probe.resolve(guest, vpn)               # blocks 0, 1 used, 2 half used; 61 blocks are whole
    assert probe.report(guest, 32) == (OK, 32)
    assert machine.released == list(range(6, 70))
    assert probe.report(guest, 32) == (OK, 29)
    assert probe.report(guest, 32) == (OK, 0)
    assert guest.counters()["reported"] == 122
    guest.check()
    assert probe.resolve(guest, 5)[1] == 5
    assert probe.resolve(guest, 6)[1] == 6
    assert probe.resolve(guest, 7)[1] == 7
    for vpn in (5, 6, 7):
        probe.discard(guest, vpn)
    machine.released.clear()
    assert probe.report(guest, 32) == (OK, 1)
    assert machine.released == [6, 7]
    guest.check()


def test_few_free_pages_are_not_reported_and_reporting_is_off_by_default():
    guest, _ = make(pages=64, vpns=64, report_order=1)
    assert probe.report(guest, 1) == (OK, 0), "32 blocks of 2 must stay free"
    guest, _ = make(pages=66, vpns=64, report_order=1)
    assert probe.report(guest, 1) == (OK, 1)
    guest, _ = make(pages=66, vpns=64, report_order=1, low_pages=2, high_pages=2)
    assert probe.report(guest, 1) == (OK, 0)
    guest, _ = make(pages=66)
    assert probe.report(guest, 1) == (OK, 0)


def test_a_failed_report_leaves_the_block_free_and_unreported():
    guest, machine = make(pages=80, report_order=1)
    machine.fail(4, IO_FAILED)                  # the second page of the second block
    assert probe.report(guest, 8) == (IO_FAILED, 1)
    assert (guest.buddy.nr_free, guest.counters()["report_failed"]) == (80, 1)
    guest.check()
    assert probe.report(guest, 100) == (OK, 39)
    assert guest.counters()["reported"] == 80


# -- failures: every request at every position ----------------------------------------------------------------------------


def busy_guest():
    """Six pages full of dirty, clean, anonymous and cached pages, others in swap and on file, one in the balloon."""
    guest, machine = make(vpns=24, pages=7, cache_border=16, swap_slots=20, oom_deflate_pages=0)
    guest.set_balloon_target(1)
    assert probe.balloon_step(guest, 1) == (OK, 1)
    content = {}
    for vpn in (0, 1, 2, 3, 16, 17, 4, 5, 18, 6, 7):
        content[vpn] = 1000 + vpn
        assert write(guest, machine, vpn, content[vpn]) == OK
    for vpn in (0, 19, 16):                     # one clean page from swap, one from the original, one from its block
        content.setdefault(vpn, probe.FILE_TAG + vpn)
        assert read(guest, machine, vpn) == content[vpn]
    return guest, machine, content


def mapped_anon_clean(guest):
    states = probe.pages(guest)[0]
    return next(v for v in range(16) if probe.lookup(guest, v) is not None and states[probe.lookup(guest, v)] == CLEAN)


def swapped(guest):
    return next(v for v in range(8) if probe.lookup(guest, v) is None)


def grow_balloon(guest):
    guest.set_balloon_target(3)
    outcome, _ = probe.balloon_step(guest, 1)
    return outcome


def first_trouble(outcomes):
    return next((outcome for outcome in outcomes if outcome != OK), OK)


OPERATIONS = {
    "first touch": lambda guest: probe.resolve(guest, 15)[0],
    "swap in": lambda guest: probe.resolve(guest, swapped(guest))[0],
    "swap in to write": lambda guest: probe.resolve(guest, swapped(guest), True)[0],
    "read the file": lambda guest: probe.resolve(guest, 23)[0],
    "write the file": lambda guest: probe.resolve(guest, 23, True)[0],
    "reread a block": lambda guest: probe.resolve(guest, 17)[0],
    "first store": lambda guest: probe.resolve(guest, mapped_anon_clean(guest), True)[0],
    "discard mapped": lambda guest: probe.discard(guest, 7),
    "discard clean": lambda guest: probe.discard(guest, mapped_anon_clean(guest)),
    "discard swapped": lambda guest: probe.discard(guest, swapped(guest)),
    "discard on file": lambda guest: probe.discard(guest, 17),
    "inflate": grow_balloon,
    "many first touches": lambda guest: first_trouble(probe.resolve(guest, vpn)[0] for vpn in range(8, 14)),
    "write cache out": lambda guest: first_trouble(probe.resolve(guest, vpn, True)[0] for vpn in (16, 19, 8, 9, 10)),
}


SEVERAL_CALLS = {"many first touches", "write cache out"}


def requests_of(operation):
    guest, machine, _ = busy_guest()
    before = machine.nr_requests
    assert OPERATIONS[operation](guest) == OK
    return machine.nr_requests - before


def test_the_operations_make_every_request_there_is():
    seen = set()
    for operation in OPERATIONS.values():
        guest, machine, _ = busy_guest()
        machine.log.clear()
        assert operation(guest) == OK
        seen.update(machine.log)
    assert seen == {"clear", "read_file", "read_out", "write_in", "forget_slot", "release", "flush"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_request_may_fail_at_each_position(operation):
    needed = requests_of(operation)
    assert needed > 0
    for position in range(1, needed + 1):
        guest, machine, content = busy_guest()
        before, evictions = probe.pages(guest), evicted(guest)
        machine.fail(position, NO_FRAME)
        assert OPERATIONS[operation](guest) == NO_FRAME
        guest.check()
        if operation not in SEVERAL_CALLS and evicted(guest) == evictions:      # an eviction that went well stays done: it is progress, not damage
            assert probe.pages(guest) == before
        assert OPERATIONS[operation](guest) == OK, "the same call again must succeed"
        guest.check()
        discarded = operation.startswith("discard")
        for vpn, tag in content.items():
            found = read(guest, machine, vpn)
            if not discarded:
                assert found == tag, f"{operation}, request {position} failed: vpn {vpn} reads {found}"
        guest.check()


def evicted(guest):
    counters = guest.counters()
    names = ("cache_dropped", "cache_written", "guest_swap_out", "guest_swap_dropped")
    return sum(counters[name] for name in names)


def test_a_page_that_cannot_be_evicted_is_passed_over_next_time():
    guest, machine = make(vpns=20, pages=4, swap_slots=8, replacement="lru")
    for vpn in range(4):
        probe.resolve(guest, vpn)
    machine.fail(2, IO_FAILED)
    assert probe.resolve(guest, 9)[0] == IO_FAILED
    assert probe.resolve(guest, 9)[0] == OK
    assert probe.lookup(guest, 0) is not None
    assert probe.lookup(guest, 1) is None
    assert guest.counters()["evict_failed_machine"] == 1


def test_a_failed_reclaim_does_not_stop_a_fault_that_finds_a_page():
    guest, machine = make(vpns=20, pages=4, swap_slots=8, low_pages=1, high_pages=1)
    for vpn in range(3):
        probe.resolve(guest, vpn)
    machine.fail(1, IO_FAILED)
    assert probe.resolve(guest, 9)[0] == OK
    assert guest.buddy.nr_free == 0


# -- cloning, check, the border -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("replacement", ["clock", "lru"])
def test_a_copy_is_equal_then_independent(replacement):
    guest, machine = make(vpns=24, pages=8, cache_border=16, swap_slots=20, kernel_pages=1, report_order=0,
                          replacement=replacement, low_pages=1, high_pages=2)
    guest.set_balloon_target(2)
    probe.balloon_step(guest, 2)
    content = {}
    for vpn in (0, 1, 2, 16, 17, 3, 4, 5, 6, 18):
        content[vpn] = vpn + 50
        assert write(guest, machine, vpn, content[vpn]) == OK
    assert read(guest, machine, 1) == content[1]
    twin_machine = machine.copy()
    twin = guest.copy_for(twin_machine)
    twin.check()
    guest.check()
    assert probe.pages(twin) == probe.pages(guest)
    assert (twin.balloon_target, twin.nr_balloon, twin.nr_clean_anon) == (2, 2, guest.nr_clean_anon)
    assert not any(twin.counters().values())
    for vpn in (9, 10, 0, 19, 2):               # both go on alike
        assert probe.resolve(twin, vpn) == probe.resolve(guest, vpn)
    assert probe.pages(twin) == probe.pages(guest)
    for vpn in content:
        write(twin, twin_machine, vpn, 9)
    assert {vpn: read(guest, machine, vpn) for vpn in content} == content
    twin.check()
    guest.check()


def full_guest():
    """One page in the balloon, all others mapped, vpn 19 among them; vpn 0 in swap, 17 and 18 on file."""
    guest, machine = make(vpns=20, pages=8, cache_border=14, swap_slots=8, report_order=0, oom_deflate_pages=0)
    guest.set_balloon_target(1)
    probe.balloon_step(guest, 1)
    for vpn in (17, 18, 19, 0, 1, 2, 3, 4, 5, 6, 7):
        assert write(guest, machine, vpn, vpn + 1) == OK
    assert read(guest, machine, 19) == 20
    return guest


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [("gfn", 0, 5), ("gfn", 2, 5), ("gfn", 12, 3), ("gfn", 12, 99), ("vpn", 1, 3), ("vpn", 0, 9), ("vpn", 6, NONE),
     ("state", 0, FREE), ("state", 5, BALLOON), ("state", 1, KERNEL), ("state", 6, CLEAN), ("copy", 9, 3),
     ("copy", 0, NONE), ("copy", 5, 0), ("copy", 19, NONE), ("copy", 17, 2), ("copy", 17, 12), ("balloon", 0, 1),
     ("reported", 1, 1), ("nr_balloon", 0, 0), ("nr_clean_anon", 0, 3)],
)
def test_check_finds_any_damage(what, at, value):
    guest = full_guest()
    guest.check()
    probe.corrupt(guest, what, at, value)
    with pytest.raises(InvariantError, match="guest: "):
        guest.check()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"vpns": 0}, "vpns=0 must be an int in 1"), ({"pages": 0}, "pages=0"), ({"pages": 2**32}, "pages=4294967296"),
     ({"vpns": "8"}, "vpns='8'"), ({"pages": True}, "pages=True"), ({"cache_border": 33}, r"in 0 \.\. 32"),
     ({"swap_slots": -1}, "swap_slots=-1"), ({"swap_slots": 0xFFFFFFFF}, r"in 0 \.\. 4294967294"),
     ({"kernel_pages": 16}, r"kernel_pages=16 must be an int in 0 \.\. 15"),
     ({"low_pages": 1}, r"low_pages=1 must be an int in 0 \.\. 0"),
     ({"kernel_pages": 4, "high_pages": 12}, r"high_pages=12 must be an int in 0 \.\. 11"),
     ({"balloon_floor": 17}, "balloon_floor=17"), ({"oom_deflate_pages": -1}, "oom_deflate_pages=-1"),
     ({"report_order": 11}, r"report_order=11 must be an int in 0 \.\. 10"),
     ({"replacement": "clok"}, "clok")],
)
def test_bad_numbers_are_refused_by_name_and_bound(options, message):
    arguments = {"vpns": 32, "pages": 16, **options}
    with pytest.raises(ConfigError, match=message):
        Guest(probe.ArrayMachine(16), arguments.pop("vpns"), arguments.pop("pages"), **arguments)


def test_bad_calls_are_refused():
    guest, _ = make()
    for target in (-1, 17, 1.5, None):
        with pytest.raises(ConfigError, match="balloon_target"):
            guest.set_balloon_target(target)
    with pytest.raises(TypeError):
        Guest(None, 8, 8)
    with pytest.raises(TypeError):
        Guest(probe.ArrayMachine(8), 8, 8, swap=3)
    with pytest.raises(InvariantError, match="Machine does not define"):
        probe.resolve(Guest(Machine(), 8, 8), 0)


# -- the oracle -----------------------------------------------------------------------------------------------------------

VPNS, BORDER, PAGES = 40, 28, 18


class GuestOracle(RuleBasedStateMachine):
    """What each vpn must read is a dict; everything else about the guest is check() and conservation."""

    @initialize(slots=st.sampled_from([0, 3, 12, 40]), floor=st.integers(0, 12), kernel=st.integers(0, 2),
                low=st.integers(0, 2), batch=st.integers(0, 3), deflate=st.sampled_from([0, 2, 256]),
                replacement=st.sampled_from(["clock", "lru"]))
    def start(self, slots, floor, kernel, low, batch, deflate, replacement):
        self.floor = floor
        self.guest, self.machine = make(
            vpns=VPNS, pages=PAGES, cache_border=BORDER, swap_slots=slots, kernel_pages=kernel, low_pages=low,
            high_pages=low + batch, balloon_floor=floor, oom_deflate_pages=deflate, report_order=0,
            replacement=replacement)
        self.content = {}
        self.translation = {}                   # vpn -> gfn, as a translation cache would hold it
        self.tag = 0

    def expected(self, vpn):
        return self.content.get(vpn, 0 if vpn < BORDER else probe.FILE_TAG + vpn)

    def outcome_is_honest(self, outcome, asked_to_fail):
        assert outcome in ((OK, EMPTY, NO_FRAME) if asked_to_fail else (OK, EMPTY))

    @rule(vpn=st.integers(0, VPNS - 1), fail=st.integers(0, 4))
    def load(self, vpn, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome, gfn, event, writable = probe.resolve(self.guest, vpn)
        self.machine.fail(0, OK)
        self.outcome_is_honest(outcome, fail)
        if outcome == OK:
            assert self.machine.load(gfn) == self.expected(vpn)
            if event == NEW_ZERO:
                assert vpn not in self.content
            self.translation[vpn] = gfn

    @rule(vpn=st.integers(0, VPNS - 1), fail=st.integers(0, 4))
    def store(self, vpn, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome, gfn, _, writable = probe.resolve(self.guest, vpn, True)
        self.machine.fail(0, OK)
        self.outcome_is_honest(outcome, fail)
        if outcome == OK:
            assert writable
            self.tag += 1
            self.machine.store(gfn, self.tag)
            self.content[vpn] = self.tag
            self.translation[vpn] = gfn

    @rule(vpn=st.integers(0, VPNS - 1), fail=st.integers(0, 2))
    def discard(self, vpn, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome = probe.discard(self.guest, vpn)
        self.machine.fail(0, OK)
        self.outcome_is_honest(outcome, fail)
        if outcome == OK:
            self.content.pop(vpn, None)
            assert probe.lookup(self.guest, vpn) is None

    @rule(goal=st.integers(0, PAGES), pages=st.integers(0, PAGES), fail=st.integers(0, 4))
    def balloon(self, goal, pages, fail):
        self.guest.set_balloon_target(goal)
        before = self.guest.nr_balloon
        self.machine.fail(fail, NO_FRAME)
        outcome, moved = probe.balloon_step(self.guest, pages)
        self.machine.fail(0, OK)
        assert abs(self.guest.nr_balloon - before) == moved <= pages
        assert abs(self.guest.nr_balloon - goal) == abs(before - goal) - moved, "toward the target only"
        if outcome == OK:
            assert moved == min(pages, abs(goal - before))
        else:
            assert goal > before
            assert moved < min(pages, goal - before)
        if outcome == REFUSED:
            assert self.guest.nr_balloon == PAGES - self.floor

    @rule(blocks=st.integers(0, PAGES), fail=st.integers(0, 4))
    def report(self, blocks, fail):
        self.machine.fail(fail, NO_FRAME)
        outcome, reported = probe.report(self.guest, blocks)
        self.machine.fail(0, OK)
        assert reported <= blocks
        assert outcome in (OK, NO_FRAME)

    @precondition(lambda self: self.content)
    @rule()
    def clone_and_go_on_as_the_clone(self):
        self.machine = self.machine.copy()
        self.guest = self.guest.copy_for(self.machine)

    @invariant()
    def consistent(self):
        if not hasattr(self, "guest"):
            return
        self.guest.check()
        assert self.guest.nr_balloon <= PAGES - self.floor
        for vpn in list(self.translation):      # a translation is good until the guest flushes it
            if vpn in self.machine.flushed:
                del self.translation[vpn]
            else:
                assert probe.lookup(self.guest, vpn) == self.translation[vpn]
        self.machine.flushed.clear()
        states, gfns, copies, _ = probe.pages(self.guest)
        held = {copy for copy in copies if copy < 0xFFFFFFFE}
        assert sorted(held) == self.machine.slots_in_use()
        for vpn, gfn in enumerate(gfns):
            if gfn != 0xFFFFFFFF and states[gfn] == CLEAN:
                assert self.machine.peek(gfn) == self.machine.copy_at(copies[vpn], vpn)


TestGuestOracle = GuestOracle.TestCase
TestGuestOracle.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
