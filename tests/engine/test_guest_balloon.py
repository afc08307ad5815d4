"""Balloon and free page reporting: what a guest gives up, in which order, how far, and why it stops."""

from memvirt.engine.testing import guests as probe

OK, NO_FRAME, IO_FAILED, REFUSED, EMPTY = 0, 1, 5, 8, 9


def test_the_balloon_takes_free_pages_first_and_gives_the_last_back_first():
    guest, machine = probe.make(pages=8)
    probe.write(guest, machine, 0, 7)
    guest.set_target(3)
    assert probe.balloon_step(guest, 2) == (OK, 2)
    assert probe.balloon_step(guest, 256) == (OK, 1)
    assert probe.balloon_step(guest, 256) == (OK, 0)
    assert machine.released == [1, 2, 3]
    guest.set_target(2)
    assert probe.balloon_step(guest, 256) == (OK, 1)
    assert probe.resolve(guest, 1)[1] == 3
    assert probe.read(guest, machine, 0) == 7
    guest.set_target(0)
    assert probe.balloon_step(guest, 1) == (OK, 1)
    assert (guest.memory.nr_balloon, guest.counters()["ballooned"], guest.counters()["deflated"]) == (1, 3, 2)
    guest.check()


def test_the_balloon_drops_cache_then_swaps_and_stops_when_nothing_is_left():
    guest, machine = probe.make(vpns=20, pages=8, cache_border=10, swap_slots=2)
    for vpn in (0, 1, 2, 3, 10, 11):
        probe.write(guest, machine, vpn, vpn) if vpn < 10 else probe.read(guest, machine, vpn)
    guest.set_target(8)
    assert probe.balloon_step(guest, 2) == (OK, 2)
    assert guest.counters()["cache_dropped"] == 0
    assert probe.balloon_step(guest, 2) == (OK, 2)
    assert (guest.counters()["cache_dropped"], guest.counters()["guest_swap_out"]) == (2, 0)
    assert probe.balloon_step(guest, 256) == (EMPTY, 2)
    assert (guest.counters()["guest_swap_out"], guest.counters()["balloon_refused_pages"]) == (2, 1)
    assert guest.memory.nr_balloon == 6
    guest.check()


def test_the_balloon_never_goes_below_the_floor_nor_into_the_low_watermark():
    guest, _ = probe.make(pages=16, balloon_floor=10)
    guest.set_target(16)
    assert probe.balloon_step(guest, 4) == (OK, 4)
    assert probe.balloon_step(guest, 4) == (REFUSED, 2)
    assert probe.balloon_step(guest, 4) == (REFUSED, 0)
    assert (guest.memory.nr_balloon, guest.counters()["balloon_refused_floor"]) == (6, 2)
    guest, _ = probe.make(pages=16, low_pages=5, high_pages=5)
    guest.set_target(16)
    assert probe.balloon_step(guest, 256) == (EMPTY, 11)
    assert guest.memory.buddy.nr_free == 5


def test_an_out_of_memory_guest_gets_balloon_pages_back():
    guest, machine = probe.make(pages=8, oom_deflate_pages=3)
    guest.set_target(4)
    assert probe.balloon_step(guest, 256) == (OK, 4)
    assert [probe.resolve(guest, vpn)[0] for vpn in range(9)] == [OK] * 8 + [EMPTY]
    assert (guest.memory.nr_balloon, guest.counters()["oom_deflated"], guest.counters()["oom"]) == (0, 4, 1)
    assert all(probe.read(guest, machine, vpn) == 0 for vpn in range(8)), "only ballooned pages were lost"


def test_without_deflate_on_oom_the_balloon_stays():
    guest, _ = probe.make(pages=8, oom_deflate_pages=0)
    guest.set_target(4)
    probe.balloon_step(guest, 256)
    assert [probe.resolve(guest, vpn)[0] for vpn in range(5)] == [OK] * 4 + [EMPTY]
    assert guest.memory.nr_balloon == 4


def test_a_machine_failure_is_no_reason_to_deflate():
    guest, machine = probe.make(pages=4, swap_slots=8)
    guest.set_target(1)
    probe.balloon_step(guest, 1)
    for vpn in range(3):
        probe.resolve(guest, vpn)
    machine.fail(2, NO_FRAME)  # flush, then read_out
    assert probe.resolve(guest, 5)[0] == NO_FRAME
    assert guest.memory.nr_balloon == 1
    assert probe.resolve(guest, 5)[0] == OK


def test_free_blocks_are_reported_once_until_used():
    guest, machine = probe.make(vpns=200, pages=128, report_order=1)
    for vpn in range(5):
        probe.resolve(guest, vpn)  # blocks 0, 1 used, 2 half used; 61 blocks are whole
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
    guest, _ = probe.make(pages=64, vpns=64, report_order=1)
    assert probe.report(guest, 1) == (OK, 0), "32 blocks of 2 must stay free"
    guest, _ = probe.make(pages=66, vpns=64, report_order=1)
    assert probe.report(guest, 1) == (OK, 1)
    guest, _ = probe.make(pages=66, vpns=64, report_order=1, low_pages=2, high_pages=2)
    assert probe.report(guest, 1) == (OK, 0)
    guest, _ = probe.make(pages=66)
    assert probe.report(guest, 1) == (OK, 0)


def test_a_failed_report_leaves_the_block_free_and_unreported():
    guest, machine = probe.make(pages=80, report_order=1)
    machine.fail(4, IO_FAILED)  # the second page of the second block
    assert probe.report(guest, 8) == (IO_FAILED, 1)
    assert (guest.memory.buddy.nr_free, guest.counters()["report_failed"]) == (80, 1)
    guest.check()
    assert probe.report(guest, 100) == (OK, 39)
    assert guest.counters()["reported"] == 80
