"""Guests on a machine of tags: what a guest reads back is what it wrote, whatever moved and whatever failed."""

import pytest

from memvirt.engine.guests.guest import Guest
from memvirt.engine.guests.hardware import Hardware
from memvirt.engine.testing import guests as probe
from memvirt.errors import ConfigError, InvariantError

OK, EMPTY = 0, 9
NONE = 0xFFFFFFFF
MAPPED, NEW_ZERO, NEW_CACHE, SWAPPED_IN = 0, 1, 2, 3
FREE, CLEAN, DIRTY, BALLOON, KERNEL = range(5)


# -- faults -----------------------------------------------------------------------------------------------------------


def test_first_touches_take_the_lowest_pages_above_the_kernel():
    guest, machine = probe.make(kernel_pages=3)
    assert [probe.resolve(guest, vpn) for vpn in (9, 4)] == [(OK, 3, NEW_ZERO, True), (OK, 4, NEW_ZERO, True)]
    assert probe.resolve(guest, 9) == (OK, 3, MAPPED, True)
    assert (probe.lookup(guest, 4), probe.lookup(guest, 5)) == (4, None)
    assert machine.load(3) == 0
    assert guest.counters()["guest_faults"] == guest.counters()["guest_zeroed"] == 2
    guest.check()


def test_a_discarded_page_is_zero_again_and_its_page_is_used_first():
    guest, machine = probe.make()
    for vpn in range(4):
        probe.write(guest, machine, vpn, vpn + 100)
    machine.log.clear()
    assert probe.discard(guest, 1) == OK
    assert machine.log == ["flush"], "the host must not learn that the guest freed a page"
    assert probe.discard(guest, 1) == OK, "nothing there any more"
    assert machine.log == ["flush"]
    assert probe.resolve(guest, 20) == (OK, 1, NEW_ZERO, True)
    assert probe.read(guest, machine, 1) == 0
    assert guest.counters()["discarded"] == 1


def test_a_clean_cache_page_is_dropped_without_io_and_a_written_one_is_not_lost():
    guest, machine = probe.make(vpns=20, pages=4, cache_border=10)
    assert probe.read(guest, machine, 10) == probe.FILE_TAG + 10
    assert probe.resolve(guest, 11)[2:] == (NEW_CACHE, False)
    probe.write(guest, machine, 11, 77)
    for vpn in range(4):
        assert probe.write(guest, machine, vpn, vpn + 1) == (OK if vpn < 4 else EMPTY)
    counters = guest.counters()
    assert (counters["cache_dropped"], counters["cache_written"], counters["cache_read"]) == (1, 1, 2)
    assert machine.log.count("read_out") == 1
    assert probe.discard(guest, 0) == OK
    assert probe.read(guest, machine, 11) == 77
    assert probe.resolve(guest, 11)[3] is False, "it equals its block of the file again"
    assert probe.discard(guest, 1) == OK
    assert probe.read(guest, machine, 10) == probe.FILE_TAG + 10
    assert guest.counters()["cache_reread"] == 2
    assert probe.discard(guest, 11) == OK
    assert probe.read(guest, machine, 11) == probe.FILE_TAG + 11, "a discarded file page falls back to its original"
    guest.check()


def test_page_cache_goes_before_anonymous_pages():
    guest, _ = probe.make(vpns=20, pages=6, cache_border=10, swap_slots=10)
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
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=10, replacement=replacement)
    for vpn in range(4):
        probe.resolve(guest, vpn)
    machine.load(probe.lookup(guest, 0))
    machine.load(probe.lookup(guest, 1))
    probe.resolve(guest, 10)
    assert probe.lookup(guest, 2) is None, "the oldest page without an accessed mark goes"
    assert not machine.accessed(probe.lookup(guest, 0))
    guest.check()


def test_everything_accessed_still_evicts():
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=10)
    for vpn in range(20):
        assert probe.write(guest, machine, vpn, vpn) == (OK if vpn < 14 else EMPTY)
    for vpn in range(20):
        if vpn < 4 or probe.lookup(guest, vpn) is not None:
            assert probe.discard(guest, vpn) == OK
    kept = [vpn for vpn in range(4, 14) if probe.pages(guest)[2][vpn] != NONE]
    assert len(kept) >= 6
    assert [probe.read(guest, machine, vpn) for vpn in kept] == kept


def test_an_unchanged_page_goes_out_again_without_io():
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=16)
    for vpn in range(8):
        probe.write(guest, machine, vpn, vpn + 1)
    swapped = [vpn for vpn in range(8) if probe.lookup(guest, vpn) is None]
    assert probe.resolve(guest, swapped[0])[2:] == (SWAPPED_IN, False)
    assert guest.memory.nr_clean_anon == 1
    machine.log.clear()
    for vpn in range(10, 14):
        probe.resolve(guest, vpn)
    assert probe.lookup(guest, swapped[0]) is None
    assert guest.counters()["guest_swap_dropped"] == 1
    assert probe.read(guest, machine, swapped[0]) == swapped[0] + 1
    guest.check()


def test_the_first_store_to_a_swapped_in_page_frees_its_slot():
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=16)
    for vpn in range(6):
        probe.write(guest, machine, vpn, vpn + 1)
    first, second = [vpn for vpn in range(6) if probe.lookup(guest, vpn) is None]
    assert probe.read(guest, machine, first) == first + 1
    before = len(machine.slots_in_use())
    assert probe.resolve(guest, first, True)[2:] == (MAPPED, True)
    assert len(machine.slots_in_use()) == before - 1
    assert probe.resolve(guest, second, True)[2:] == (SWAPPED_IN, True), "a store frees the slot at once"
    assert guest.memory.nr_clean_anon == 0
    guest.check()


def test_slots_are_not_kept_when_swap_is_more_than_half_full():
    guest, machine = probe.make(vpns=12, pages=4, swap_slots=8)
    for vpn in range(12):
        probe.write(guest, machine, vpn, vpn)
    gone = [vpn for vpn in range(12) if probe.lookup(guest, vpn) is None]
    assert len(gone) == 8
    assert probe.discard(guest, gone[0]) == OK
    assert probe.read(guest, machine, gone[1]) == gone[1]
    assert guest.memory.nr_clean_anon == 0
    guest.check()


def test_a_full_swap_still_lets_clean_pages_go():
    guest, machine = probe.make(vpns=20, pages=4, swap_slots=4)
    for vpn in range(6):
        probe.write(guest, machine, vpn, vpn + 1)
    gone = [vpn for vpn in range(6) if probe.lookup(guest, vpn) is None]
    assert probe.discard(guest, gone[0]) == OK  # swap is now less than half full: a slot survives swap-in
    assert probe.discard(guest, next(v for v in range(6) if probe.lookup(guest, v) is not None)) == OK
    assert probe.read(guest, machine, gone[1]) == gone[1] + 1
    assert guest.memory.nr_clean_anon == 1
    machine.load(probe.lookup(guest, gone[1]))  # the clean page is the last choice of the order
    for vpn in range(10, 14):
        assert probe.resolve(guest, vpn)[0] == OK
    assert probe.resolve(guest, 14)[0] == EMPTY
    assert read_all_or_empty(guest, machine)
    guest.check()


def read_all_or_empty(guest, machine):
    """Nothing is lost: whatever cannot come in now is still in a slot."""
    return all(
        probe.lookup(guest, vpn) is not None or probe.resolve(guest, vpn)[0] in (OK, EMPTY)
        for vpn in range(guest.memory.nr_vpns)
    )


def test_out_of_memory_is_a_value_and_is_counted():
    guest, machine = probe.make(pages=4)
    for vpn in range(4):
        probe.write(guest, machine, vpn, 5)
    assert probe.resolve(guest, 9) == (EMPTY, None, None, None)
    counters = guest.counters()
    assert (counters["oom"], counters["evict_failed_slot"], counters["guest_faults_failed"]) == (1, 1, 1)
    assert probe.discard(guest, 2) == OK
    assert probe.resolve(guest, 9)[0] == OK


def test_watermarks_reclaim_a_batch_and_leave_pages_free():
    guest, _ = probe.make(vpns=64, pages=20, swap_slots=64, low_pages=2, high_pages=6)
    for vpn in range(18):
        probe.resolve(guest, vpn)
    assert guest.memory.buddy.nr_free == 2
    probe.resolve(guest, 18)
    assert guest.memory.buddy.nr_free == 6, "7 were free, the fault took one"
    assert guest.counters()["guest_swap_out"] == 5


def test_a_fault_reclaims_at_most_one_batch():
    guest, _ = probe.make(vpns=200, pages=100, swap_slots=200, low_pages=10, high_pages=99)
    for vpn in range(90):
        probe.resolve(guest, vpn)
    probe.resolve(guest, 90)
    assert guest.counters()["guest_swap_out"] == 32


# -- cloning, check, the border ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("replacement", ["clock", "fifo", "lru"])
def test_a_copy_is_equal_then_independent(replacement):
    guest, machine = probe.make(
        vpns=24,
        pages=8,
        cache_border=16,
        swap_slots=20,
        kernel_pages=1,
        report_order=0,
        replacement=replacement,
        low_pages=1,
        high_pages=2,
    )
    guest.set_target(2)
    probe.balloon_step(guest, 2)
    content = {}
    for vpn in (0, 1, 2, 16, 17, 3, 4, 5, 6, 18):
        content[vpn] = vpn + 50
        assert probe.write(guest, machine, vpn, content[vpn]) == OK
    assert probe.read(guest, machine, 1) == content[1]
    twin_machine = machine.copy()
    twin = guest.copy_for(twin_machine, 0)
    twin.check()
    guest.check()
    assert probe.pages(twin) == probe.pages(guest)
    assert (twin.balloon_target, twin.memory.nr_balloon, twin.memory.nr_clean_anon) == (
        2,
        2,
        guest.memory.nr_clean_anon,
    )
    assert not any(twin.counters().values())
    for vpn in (9, 10, 0, 19, 2):  # both go on alike
        assert probe.resolve(twin, vpn) == probe.resolve(guest, vpn)
    assert probe.pages(twin) == probe.pages(guest)
    for vpn in content:
        probe.write(twin, twin_machine, vpn, 9)
    assert {vpn: probe.read(guest, machine, vpn) for vpn in content} == content
    twin.check()
    guest.check()


def full_guest():
    """One page in the balloon, all others mapped, vpn 19 among them; vpn 0 in swap, 17 and 18 on file."""
    guest, machine = probe.make(vpns=20, pages=8, cache_border=14, swap_slots=8, report_order=0, oom_deflate_pages=0)
    guest.set_target(1)
    probe.balloon_step(guest, 1)
    for vpn in (17, 18, 19, 0, 1, 2, 3, 4, 5, 6, 7):
        assert probe.write(guest, machine, vpn, vpn + 1) == OK
    assert probe.read(guest, machine, 19) == 20
    return guest


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("gfn", 0, 5),
        ("gfn", 2, 5),
        ("gfn", 12, 3),
        ("gfn", 12, 99),
        ("vpn", 1, 3),
        ("vpn", 0, 9),
        ("vpn", 6, NONE),
        ("state", 0, FREE),
        ("state", 5, BALLOON),
        ("state", 1, KERNEL),
        ("state", 6, CLEAN),
        ("copy", 9, 3),
        ("copy", 0, NONE),
        ("copy", 5, 0),
        ("copy", 19, NONE),
        ("copy", 17, 2),
        ("copy", 17, 12),
        ("balloon", 0, 1),
        ("reported", 1, 1),
        ("nr_balloon", 0, 0),
        ("nr_clean_anon", 0, 3),
    ],
)
def test_check_finds_any_damage(what, at, value):
    guest = full_guest()
    guest.check()
    probe.corrupt(guest, what, at, value)
    with pytest.raises(InvariantError, match="guest: "):
        guest.check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vpns": 0}, "vpns=0 must be an int in 1"),
        ({"pages": 0}, "pages=0"),
        ({"pages": 2**32}, "pages=4294967296"),
        ({"vpns": "8"}, "vpns='8'"),
        ({"pages": True}, "pages=True"),
        ({"cache_border": 33}, r"in 0 \.\. 32"),
        ({"swap_slots": -1}, "swap_slots=-1"),
        ({"swap_slots": 0xFFFFFFFF}, r"in 0 \.\. 4294967294"),
        ({"kernel_pages": 16}, r"kernel_pages=16 must be an int in 0 \.\. 15"),
        ({"low_pages": 1}, r"low_pages=1 must be an int in 0 \.\. 0"),
        ({"kernel_pages": 4, "high_pages": 12}, r"high_pages=12 must be an int in 0 \.\. 11"),
        ({"balloon_floor": 17}, "balloon_floor=17"),
        ({"oom_deflate_pages": -1}, "oom_deflate_pages=-1"),
        ({"report_order": 11}, r"report_order=11 must be an int in 0 \.\. 10"),
        ({"replacement": "clok"}, "clok"),
    ],
)
def test_bad_numbers_are_refused_by_name_and_bound(options, message):
    arguments = {"vpns": 32, "pages": 16, **options}
    with pytest.raises(ConfigError, match=message):
        Guest(probe.ArrayHardware(16), arguments.pop("vpns"), arguments.pop("pages"), **arguments)


def test_bad_calls_are_refused():
    guest, _ = probe.make()
    for target in (-1, 17, 1.5, None):
        with pytest.raises(ConfigError, match="balloon_target"):
            guest.set_target(target)
    with pytest.raises(TypeError):
        Guest(None, 8, 8)
    with pytest.raises(TypeError):
        Guest(probe.ArrayHardware(8), 8, 8, swap=3)
    with pytest.raises(InvariantError, match="Hardware does not define"):
        probe.resolve(Guest(Hardware(), 8, 8), 0)


def test_metadata_counts_every_table():
    small, _ = probe.make(vpns=1000, pages=1000)
    large, _ = probe.make(vpns=2000, pages=1000)
    assert large.metadata_bytes() - small.metadata_bytes() == 8 * 1000
    cached, _ = probe.make(vpns=1000, pages=1000, cache_border=500)
    assert cached.metadata_bytes() - small.metadata_bytes() == 5 * 1000 + 4 * (1000 + 1000 // 16 + 16)  # a clock
    swapping, _ = probe.make(vpns=1000, pages=1000, swap_slots=640)
    assert swapping.metadata_bytes() >= small.metadata_bytes() + 640 // 8
    assert small.metadata_bytes() >= 1000 * (8 + 9 + 9) + 1000 // 8


# -- swappiness -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("swappiness", "share"), [(0, 0.0), (60, 0.3), (100, 0.5), (140, 0.7), (200, 1.0)])
def test_swappiness_divides_reclaim_between_anonymous_pages_and_cache(swappiness, share):
    """Equal numbers of both: of each page evicted, swappiness / 200 is anonymous. Kept equal by bringing back what went."""
    guest, machine = probe.make(
        vpns=400, pages=100, cache_border=200, swap_slots=400, swappiness=swappiness, replacement="fifo"
    )
    for i in range(50):
        probe.write(guest, machine, i, i)
        probe.read(guest, machine, 200 + i)
    for i in range(40):
        probe.write(guest, machine, 50 + i, 1)
    counters = guest.counters()
    anonymous, cache = counters["guest_swap_out"] + counters["guest_swap_dropped"], counters["cache_dropped"]
    assert anonymous + cache == 40
    # the mixture shifts by up to 40 of 100 pages on the way: the share of anonymous pages only grows
    assert share * 40 - 1 <= anonymous <= min(40, share * 40 + 9)
    guest.check()


def test_without_room_in_guest_swap_cache_goes_whatever_the_swappiness():
    guest, machine = probe.make(vpns=40, pages=10, cache_border=20, swap_slots=0, swappiness=200)
    for i in range(5):
        probe.write(guest, machine, i, i)
        probe.read(guest, machine, 20 + i)
    for i in range(5, 10):
        assert probe.write(guest, machine, i, i) == OK
    assert guest.counters()["cache_dropped"] == 5 and guest.counters()["oom"] == 0
    with pytest.raises(ConfigError, match="swappiness=201"):
        probe.make(swappiness=201)
