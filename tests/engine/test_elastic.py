"""Ways of giving memory in blocks of 2 MiB: what goes, what has to move for it, what stays, and what nothing may lose."""

import contextlib
import random

import pytest

from memvirt.engine.testing import guests as probe
from memvirt.errors import ConfigError, StoreError

OK, NO_FRAME, IO_FAILED, REFUSED, EMPTY = 0, 1, 5, 8, 9
BLOCK = 512
MESSAGE, CLAIM, RESTORE, OFFLINE, ONLINE = 0, 6, 7, 4, 5  # what is paid for, as GuestWork


def made(elastic, blocks=4, **options):
    return probe.make(**{"vpns": blocks * BLOCK + 100, "pages": blocks * BLOCK, "elastic": elastic, **options})


def fill(guest, machine, vpns):
    content = {}
    for vpn in vpns:
        assert probe.write(guest, machine, vpn, 1000 + vpn) == OK
        content[vpn] = 1000 + vpn
    return content


def same(guest, machine, content):
    guest.check()
    for vpn, tag in content.items():
        assert probe.read(guest, machine, vpn) == tag, vpn


def give(guest, pages, units=256):
    guest.set_target(pages)
    return probe.balloon_step(guest, units)


def counted(guest, *names):
    counters = guest.counters()
    return tuple(counters[name] for name in names)


# ---- what is given


@pytest.mark.parametrize("elastic", ["balloon-huge", "virtio-mem", "hyperalloc"])
def test_targets_are_rounded_down_to_blocks_both_ways(elastic):
    guest, _ = made(elastic)
    assert give(guest, 3 * BLOCK - 1) == (OK, 2 * BLOCK)
    assert (guest.balloon_target, guest.memory.nr_balloon) == (2 * BLOCK, 2 * BLOCK)
    assert give(guest, BLOCK + 5) == (OK, BLOCK)
    assert guest.memory.nr_balloon == BLOCK
    assert counted(guest, "ballooned", "deflated") == (2 * BLOCK, BLOCK)
    guest.check()


def test_a_huge_balloon_takes_whole_free_blocks_only_and_one_message_for_all():
    guest, machine = made("balloon-huge")
    content = fill(guest, machine, range(BLOCK + 1))  # the second block has one page in use
    assert give(guest, 4 * BLOCK) == (EMPTY, 2 * BLOCK)
    assert counted(guest, "messages", "balloon_refused_pages", "unplug_moved") == (1, 1, 0)
    assert machine.paid[MESSAGE] == 1
    same(guest, machine, content)


def test_pages_given_and_frames_freed_are_two_numbers():
    guest, machine = made("balloon-huge")
    fill(guest, machine, range(4 * BLOCK))
    for vpn in range(BLOCK, 4 * BLOCK):
        probe.discard(guest, vpn)
    assert give(guest, 2 * BLOCK) == (OK, 2 * BLOCK)
    give(guest, 0)
    assert give(guest, 2 * BLOCK) == (OK, 2 * BLOCK)
    assert counted(guest, "ballooned", "given_freed") == (4 * BLOCK, 2 * BLOCK), "the second time they held nothing"


def test_a_guest_without_memory_has_a_whole_block_of_its_huge_balloon_back():
    guest, machine = made("balloon-huge", blocks=2)
    give(guest, BLOCK)
    content = fill(guest, machine, range(BLOCK + 3))
    assert (guest.memory.nr_balloon, guest.balloon_target) == (0, 0)
    assert counted(guest, "oom_deflated") == (BLOCK,)
    same(guest, machine, content)


@pytest.mark.parametrize("elastic", ["virtio-mem", "hyperalloc"])
def test_what_the_host_has_taken_a_guest_cannot_take_back(elastic):
    guest, machine = made(elastic, blocks=2)
    give(guest, BLOCK)
    assert guest.oom_deflate_pages == 0
    fill(guest, machine, range(BLOCK))
    assert probe.write(guest, machine, BLOCK, 1) == EMPTY
    assert (guest.memory.nr_balloon, guest.counters()["oom"]) == (BLOCK, 1)
    give(guest, 0)
    assert probe.write(guest, machine, BLOCK, 1) == OK


# ---- unplugging


def test_a_block_is_emptied_by_moving_its_pages_and_nothing_of_them_changes():
    guest, machine = made("virtio-mem")
    content = fill(guest, machine, range(4 * BLOCK))
    for vpn in range(0, 4 * BLOCK, 2):
        probe.discard(guest, vpn)
        del content[vpn]
    assert give(guest, 2 * BLOCK) == (OK, 2 * BLOCK)
    assert counted(guest, "unplug_moved", "messages") == (2 * BLOCK // 2, 2)
    assert [released[0] for released in machine.released] == [3 * BLOCK, 2 * BLOCK], "from the end"
    assert (machine.paid[MESSAGE], machine.paid[OFFLINE]) == (2, 2)
    same(guest, machine, content)
    assert probe.write(guest, machine, 0, 5) == EMPTY, "every page that is left is in use"
    assert give(guest, BLOCK) == (OK, BLOCK)
    assert probe.write(guest, machine, 0, 5) == OK
    assert probe.lookup(guest, 0) // BLOCK == 2, "the last block unplugged is plugged first"
    assert machine.paid[ONLINE] == 1


def test_a_moved_page_keeps_its_turn_its_mark_and_its_copy():
    guest, machine = made("virtio-mem", blocks=2, swap_slots=8)
    fill(guest, machine, range(BLOCK, 2 * BLOCK))
    content = fill(guest, machine, range(2))
    for vpn in range(BLOCK, 2 * BLOCK):
        probe.discard(guest, vpn)
    assert {probe.lookup(guest, vpn) // BLOCK for vpn in range(2)} == {1}
    probe.read(guest, machine, 0)
    assert give(guest, BLOCK) == (OK, BLOCK)
    assert {probe.lookup(guest, vpn) // BLOCK for vpn in range(2)} == {0}
    assert machine.flushed >= {0, 1}
    same(guest, machine, content)


@pytest.mark.parametrize("why", ["kernel", "locked"])
def test_a_page_that_cannot_move_keeps_its_block(why):
    guest, machine = made("virtio-mem", blocks=2, kernel_pages=BLOCK + 1 if why == "kernel" else 0)
    if why == "locked":
        fill(guest, machine, range(BLOCK + 1))
        probe.lock(guest, BLOCK)
        for vpn in range(BLOCK):
            probe.discard(guest, vpn)
        assert give(guest, 2 * BLOCK) == (EMPTY, BLOCK)
    else:
        assert give(guest, 2 * BLOCK) == (EMPTY, 0)
    assert guest.counters()["unplug_failed_pinned"] == (2 if why == "kernel" else 1)
    assert counted(guest, "unplug_moved", "unplug_failed_room", "balloon_refused_pages") == (0, 0, 1)
    guest.check()


def test_without_room_for_its_pages_a_block_stays_and_its_free_pages_are_free_again():
    guest, machine = made("virtio-mem", blocks=2)
    content = fill(guest, machine, range(2 * BLOCK - 10))
    assert give(guest, BLOCK) == (EMPTY, 0)
    assert guest.counters()["unplug_failed_room"] == 2
    assert guest.memory.buddy.nr_free == 10
    same(guest, machine, content)


def test_the_guest_reclaims_to_make_room_and_counts_what_went():
    guest, machine = made("virtio-mem", blocks=2, swap_slots=BLOCK)
    content = fill(guest, machine, range(2 * BLOCK - 10))
    assert give(guest, BLOCK) == (OK, BLOCK)
    assert guest.counters()["guest_swap_out"] + guest.counters()["unplug_moved"] >= BLOCK - 10
    assert guest.memory.nr_balloon == BLOCK
    same(guest, machine, content)


# ---- the host in the guest's allocator


def test_blocks_taken_softly_stay_free_and_get_frames_before_they_are_used():
    guest, machine = made("hyperalloc", report_order=9)
    content = fill(guest, machine, range(3))
    assert probe.report(guest, 32) == (OK, 3)
    assert (guest.memory.buddy.nr_free, guest.memory.nr_balloon) == (4 * BLOCK - 3, 0)
    assert (guest.counters()["report_messages"], machine.paid[CLAIM]) == (0, 3)
    content |= fill(guest, machine, range(3, BLOCK + 1))
    assert (machine.installed, guest.counters()["installed"]) == ({BLOCK}, 1)
    same(guest, machine, content)
    assert probe.report(guest, 32) == (OK, 0), "what is taken already is not taken again"


def test_what_is_left_to_the_guest_again_gets_frames_before_its_use_without_any_passes():
    guest, machine = made("hyperalloc", blocks=2)
    assert not guest.reports
    assert probe.report(guest, 32) == (OK, 0)
    assert give(guest, 2 * BLOCK) == (OK, 2 * BLOCK)
    assert MESSAGE not in machine.paid and guest.counters()["messages"] == 0
    assert give(guest, 0) == (OK, 2 * BLOCK)
    assert (guest.memory.nr_reported, machine.paid[RESTORE]) == (2, 2)
    content = fill(guest, machine, range(BLOCK + 1))
    assert guest.counters()["installed"] == 2
    same(guest, machine, content)


def test_an_install_that_fails_is_asked_for_again():
    guest, machine = made("hyperalloc", report_order=9)
    probe.report(guest, 32)
    for failure in (NO_FRAME, probe.RAISES):
        machine.fail(1, failure)
        try:
            assert probe.write(guest, machine, 0, 7) == NO_FRAME
        except StoreError:
            assert failure == probe.RAISES
        guest.check()
        assert (guest.memory.nr_reported, guest.counters()["installed"]) == (4, 0)
    same(guest, machine, fill(guest, machine, range(2)))
    assert guest.counters()["installed"] == 1


def test_counters_are_those_of_before_where_no_way_was_asked_for():
    plain, asked = (probe.make(pages=8, elastic=elastic)[0] for elastic in (None, "balloon"))
    more = set(asked.counters()) - set(plain.counters())
    assert "messages" in more and "ballooned" not in more
    give(asked, 3)
    assert counted(asked, "messages", "ballooned", "given_freed") == (1, 3, 0)


def test_a_way_that_there_is_not_is_named():
    guest, _ = probe.make(pages=8, elastic="teleport")
    with pytest.raises(
        ConfigError, match="'teleport' is none of balloon, balloon-huge, virtio-mem, hyperalloc, squeezy"
    ):
        give(guest, 1)


# ---- whatever happens


class Lives:
    """A guest that is used while it gives memory and has it back, with a shadow of every page."""

    def __init__(self, draw, elastic):
        self.draw = draw
        self.guest, self.machine = made(
            elastic,
            blocks=draw.choice([2, 3]),
            cache_border=2 * BLOCK - 200,
            swap_slots=0 if elastic == "squeezy" else draw.choice([0, 50, 700]),
            kernel_pages=draw.choice([0, 7]),
            partition=BLOCK if elastic == "squeezy" else 0,
            low_pages=draw.choice([0, 3]),
            high_pages=5,
            report_order=draw.choice([None, 9]),
            replacement=draw.choice(["clock", "lru", "twolist"]),
        )
        self.content, self.locked = {}, set()

    def step(self):
        draw, guest, machine = self.draw, self.guest, self.machine
        what = draw.choice(["write", "write", "read", "discard", "give", "give", "report", "lock", "clone"])
        first, count = draw.randrange(guest.memory.nr_vpns), draw.choice([1, 30, 400])
        vpns = range(first, min(first + count, guest.memory.nr_vpns))
        if what == "write":
            for vpn in vpns:
                tag = draw.randrange(1, 1 << 30)
                if probe.write(guest, machine, vpn, tag) == OK:
                    self.content[vpn] = tag
        elif what == "read":
            for vpn in vpns:
                if vpn in self.content and probe.resolve(guest, vpn)[0] == OK:
                    assert probe.read(guest, machine, vpn) == self.content[vpn]
        elif what == "discard":
            for vpn in vpns:
                if probe.discard(guest, vpn) == OK:
                    self.content.pop(vpn, None)
                    self.locked.discard(vpn)
        elif what == "give":
            give(guest, draw.choice([0, 100, BLOCK, 2 * BLOCK, guest.memory.nr_pages]), draw.choice([1, 2, 256]))
        elif what == "report":
            probe.report(guest, draw.choice([1, 32]))
        elif what == "lock":
            for vpn in vpns[:3]:
                if probe.lookup(guest, vpn) is not None:
                    probe.lock(guest, vpn, vpn not in self.locked)
                    self.locked ^= {vpn}
        else:  # the copy goes on, the parent ends; locked pages are so in the parent alone
            self.machine = machine.copy()
            self.guest = guest.copy_for(self.machine, 3)
            self.locked.clear()

    def whole(self):
        self.guest.check()
        used = {probe.lookup(self.guest, vpn) for vpn in range(self.guest.memory.nr_vpns)} - {None}
        if self.guest.installs:
            assert not {gfn - gfn % BLOCK for gfn in used} & self.machine.taken, "used before it had frames"
        for vpn, tag in self.content.items():
            gfn = probe.lookup(self.guest, vpn)
            if gfn is not None:
                assert self.machine.peek(gfn) == tag, vpn


@pytest.mark.parametrize("elastic", ["balloon", "balloon-huge", "virtio-mem", "hyperalloc", "squeezy"])
@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_lost_while_memory_goes_and_comes(elastic, seed):
    draw = random.Random(f"{elastic}{seed}")
    lives = Lives(draw, elastic)
    for _ in range(60):
        if draw.random() < 0.3:
            lives.machine.fail(draw.randint(1, 300), draw.choice([NO_FRAME, IO_FAILED, probe.RAISES]))
        with contextlib.suppress(StoreError):
            lives.step()
        lives.whole()
    lives.machine.fail(0, 0)
    give(lives.guest, 0)
    for vpn, tag in lives.content.items():
        if probe.resolve(lives.guest, vpn)[0] == OK:
            assert probe.read(lives.guest, lives.machine, vpn) == tag
    lives.guest.check()
