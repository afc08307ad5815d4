"""Partitions of a guest's memory, one for each instance: whose pages lie where, what is unplugged, what an instance plugs."""

import random

import pytest

from memvirt.engine.testing import guests as probe
from memvirt.errors import ConfigError, StoreError

OK, NO_FRAME, IO_FAILED, EMPTY = 0, 1, 5, 9
BLOCK = 512
MESSAGE, UNPLUG, PLUG = 0, 8, 9


def made(pages=4 * BLOCK, partition=BLOCK, **options):
    options = {"vpns": pages, "pages": pages, "elastic": "squeezy", "partition": partition, **options}
    return probe.make(**options)


def first_vpn(guest):
    """Of the first instance, of a guest with as much address space as memory."""
    return guest.memory.cache_border - guest.partitions * guest.partition


def instance(guest, number):
    begin = first_vpn(guest) + number * guest.partition
    return range(begin, begin + guest.partition)


def fill(guest, machine, vpns):
    for vpn in vpns:
        assert probe.write(guest, machine, vpn, 1000 + vpn) == OK, vpn
    return {vpn: 1000 + vpn for vpn in vpns}


def same(guest, machine, content):
    guest.check()
    for vpn, tag in content.items():
        assert probe.read(guest, machine, vpn) == tag, vpn


def drop(guest, vpns):
    for vpn in vpns:
        assert probe.discard(guest, vpn) == OK


def give(guest, pages, units=256):
    guest.set_target(pages)
    return probe.balloon_step(guest, units)


# ---- where pages lie


def test_an_instance_has_its_pages_in_its_partition_and_what_is_beside_has_none_there():
    guest, machine = made(pages=4 * BLOCK + 100, kernel_pages=7, cache_border=4 * BLOCK, vpns=4 * BLOCK + 300)
    first = guest.memory.nr_pages - 100 - guest.partitions * BLOCK
    assert (guest.partition, guest.partitions) == (BLOCK, 3), "kernel, and a page cache of 100 pages, are beside them"
    for step in range(BLOCK // 4):  # all of them by turns
        for number in range(guest.partitions):
            fill(guest, machine, instance(guest, number)[step : step + 1])
    fill(guest, machine, range(200))
    fill(guest, machine, range(4 * BLOCK, 4 * BLOCK + 300))
    guest.check()
    for number in range(guest.partitions):
        held = {probe.lookup(guest, vpn) for vpn in instance(guest, number)} - {None}
        begin = first + number * BLOCK
        assert held == set(range(begin, begin + BLOCK // 4))
    beside = {probe.lookup(guest, vpn) for vpn in (*range(200), *range(4 * BLOCK, 4 * BLOCK + 300))} - {None}
    assert not beside & set(range(first, first + guest.partitions * BLOCK))


def test_an_instance_that_wants_more_than_its_partition_is_out_of_memory_and_takes_no_other_s():
    guest, machine = made(pages=2 * BLOCK, vpns=4 * BLOCK)  # twice as much address space as memory
    content = fill(guest, machine, range(BLOCK))
    assert probe.write(guest, machine, BLOCK, 1) == EMPTY
    assert (guest.counters()["oom"], guest.memory.buddy.nr_free) == (1, BLOCK)
    content |= fill(guest, machine, range(2 * BLOCK, 2 * BLOCK + 9))
    probe.discard(guest, 3)
    del content[3]
    content |= fill(guest, machine, [BLOCK])
    same(guest, machine, content)


def test_what_is_shared_is_reclaimed_for_what_is_shared_alone():
    guest, machine = made(
        pages=3 * BLOCK, vpns=4 * BLOCK, cache_border=2 * BLOCK + 12, low_pages=3, high_pages=20, base=BLOCK
    )
    assert guest.partitions == 2
    content = fill(guest, machine, (*instance(guest, 0), *range(first_vpn(guest))))
    for vpn in range(2 * BLOCK + 12, 4 * BLOCK):  # more page cache than there is room for
        assert probe.resolve(guest, vpn)[0] == OK
    assert guest.counters()["cache_dropped"] > BLOCK and guest.memory.buddy.nr_free >= BLOCK
    same(guest, machine, content)
    assert guest.counters()["oom"] == 0


def test_page_cache_that_finds_no_page_beside_partitions_is_out_of_memory():
    guest, machine = made(pages=2 * BLOCK, vpns=2 * BLOCK + 10, cache_border=2 * BLOCK)
    assert guest.partitions == 2
    assert probe.resolve(guest, 2 * BLOCK)[0] == EMPTY
    guest.check()
    assert machine.log == []


# ---- unplugging and plugging


def test_partitions_that_are_free_go_whole_and_nothing_moves():
    guest, machine = made(pages=8 * BLOCK, partition=2 * BLOCK)
    contents = [fill(guest, machine, instance(guest, number)) for number in range(4)]
    assert give(guest, 8 * BLOCK) == (EMPTY, 0)
    drop(guest, instance(guest, 1))
    drop(guest, instance(guest, 3)[1:])
    assert give(guest, 8 * BLOCK) == (EMPTY, 2 * BLOCK), "the other has a page in use"
    assert [released[0] for released in machine.released] == [2 * BLOCK, 3 * BLOCK]
    assert (machine.paid[MESSAGE], machine.paid[UNPLUG]) == (1, 2)
    counters = guest.counters()
    assert (counters["unplug_moved"], counters["given_freed"], counters["messages"]) == (0, 2 * BLOCK, 1)
    drop(guest, instance(guest, 3)[:1])
    assert give(guest, 8 * BLOCK) == (EMPTY, 2 * BLOCK)
    same(guest, machine, contents[0] | contents[2])


def test_targets_are_rounded_down_to_partitions_and_end_with_the_last():
    guest, _ = made(pages=5 * BLOCK, partition=2 * BLOCK)
    assert guest.partitions == 2
    assert give(guest, 4 * BLOCK - 1) == (OK, 2 * BLOCK)
    assert guest.balloon_target == 2 * BLOCK
    assert give(guest, 5 * BLOCK) == (OK, 2 * BLOCK)
    assert guest.balloon_target == 4 * BLOCK, "what is in no partition is not unplugged"
    assert give(guest, 2 * BLOCK + 1) == (OK, 2 * BLOCK)
    guest.check()


def test_an_instance_that_begins_plugs_its_partition_whichever_it_is_and_the_target_stays():
    guest, machine = made(pages=6 * BLOCK)
    assert give(guest, 6 * BLOCK) == (OK, 6 * BLOCK)
    for number, left in ((2, 5), (5, 4), (0, 3)):
        content = fill(guest, machine, instance(guest, number)[:3])
        assert (guest.memory.nr_balloon, guest.balloon_target) == (left * BLOCK, 6 * BLOCK)
        same(guest, machine, content)
    assert (machine.paid[PLUG], guest.counters()["plugged_on_demand"], guest.counters()["deflated"]) == (
        3,
        3,
        3 * BLOCK,
    )
    assert machine.paid[MESSAGE] == guest.counters()["messages"] == 9
    assert give(guest, 6 * BLOCK) == (EMPTY, 0)
    drop(guest, instance(guest, 2)[:3])
    assert give(guest, 6 * BLOCK) == (EMPTY, BLOCK), "what has ended goes again"
    assert give(guest, 3 * BLOCK) == (OK, BLOCK)
    assert give(guest, 0) == (OK, 3 * BLOCK)
    assert (guest.memory.buddy.nr_free, guest.counters()["plugged_on_demand"]) == (6 * BLOCK - 6, 3)
    guest.check()


def test_a_locked_page_keeps_its_partition():
    guest, machine = made(pages=2 * BLOCK)
    fill(guest, machine, instance(guest, 0)[:2])
    probe.lock(guest, instance(guest, 0)[0])
    drop(guest, instance(guest, 0)[1:2])
    assert give(guest, 2 * BLOCK) == (EMPTY, BLOCK)
    drop(guest, instance(guest, 0)[:1])
    assert give(guest, 2 * BLOCK) == (OK, BLOCK)
    guest.check()


@pytest.mark.parametrize("failure", [NO_FRAME, IO_FAILED, probe.RAISES])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_hardware_that_fails_half_way_leaves_the_partition_free(nth, failure):
    guest, machine = made(pages=6 * BLOCK, partition=3 * BLOCK, report_order=9)
    content = fill(guest, machine, instance(guest, 1))
    probe.report(guest, 32)
    machine.fail(nth, failure)
    try:
        assert give(guest, 3 * BLOCK) == (failure, 0)
    except StoreError:
        assert failure == probe.RAISES
    assert (guest.memory.nr_balloon, guest.memory.buddy.nr_free) == (0, 3 * BLOCK)
    assert guest.counters()["balloon_refused_machine"] == 1
    same(guest, machine, content)
    assert give(guest, 3 * BLOCK) == (OK, 3 * BLOCK)
    machine.fail(1, failure)
    try:  # the partition is plugged, its first page cannot be filled
        assert probe.write(guest, machine, instance(guest, 0)[0], 5) == failure
    except StoreError:
        assert failure == probe.RAISES
    assert (guest.memory.nr_balloon, guest.memory.buddy.nr_free) == (0, 3 * BLOCK)
    same(guest, machine, content | fill(guest, machine, instance(guest, 0)))


@pytest.mark.parametrize("nth", range(1, 5))
def test_an_allocator_that_refuses_has_given_nothing(nth):
    guest, machine = made(pages=4 * BLOCK, partition=4 * BLOCK)
    guest.memory.buddy.fail_after(nth)
    assert give(guest, 4 * BLOCK) == (EMPTY, 0)
    assert (guest.memory.buddy.nr_free, machine.released, UNPLUG in machine.paid) == (4 * BLOCK, [], False)
    guest.check()
    guest.memory.buddy.fail_after(1)
    assert probe.write(guest, machine, 0, 1) == EMPTY
    guest.check()
    same(guest, machine, fill(guest, machine, range(3)))


def test_copies_go_on_alike_and_apart():
    guest, machine = made(pages=4 * BLOCK)
    content = fill(guest, machine, (*instance(guest, 1), *instance(guest, 3)[:9]))
    give(guest, 4 * BLOCK)
    machines = [machine, machine.copy(), machine.copy()]
    copies = [guest, *(guest.copy_for(each, 3) for each in machines[1:])]
    assert copies[1].partition == BLOCK and copies[1].partitions == 4
    drop(copies[1], instance(guest, 1))
    assert give(copies[1], 4 * BLOCK) == (EMPTY, BLOCK)
    fill(copies[2], machines[2], instance(guest, 0)[:3])
    assert [each.memory.nr_balloon for each in copies] == [2 * BLOCK, 3 * BLOCK, BLOCK]
    assert [each.counters()["plugged_on_demand"] for each in copies] == [0, 0, 1]
    same(guest, machine, content)
    same(copies[2], machines[2], content)
    copies[1].check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": 0}, "partition=0 must be an int in 1"),
        ({"partition": 100}, "partition=100 must be a multiple of 512"),
        ({"partition": 5 * BLOCK}, "partition=2560 must be an int in 1 .. 2048"),
        ({"partition": 4 * BLOCK, "kernel_pages": 1}, "partition=2048 is more than 1 of 2048 pages leave"),
        ({"partition": BLOCK, "base": 4 * BLOCK}, "more than 2048 of 2048"),
        ({"base": -1}, "base=-1"),
        ({"swap_slots": 3}, "swap_slots=3, and pages of partitions are not swapped"),
        ({"vpns": BLOCK - 1}, "partition=512 is more than"),
        ({"cache_border": 0}, "partition=512 is more than 2048 of 2048 pages leave"),
    ],
)
def test_partitions_that_cannot_be_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        made(**options)


# ---- whatever happens


@pytest.mark.parametrize("seed", range(12))
def test_instances_come_and_end_and_a_naive_model_agrees(seed):
    """Who has how many pages of which partition, and which are unplugged, told by sets alone."""
    draw = random.Random(seed)
    size = draw.choice([BLOCK, 2 * BLOCK])
    guest, machine = made(pages=6 * size + draw.choice([0, 77]), partition=size, base=draw.choice([0, size]))
    begin = guest.memory.nr_pages // BLOCK * BLOCK - guest.partitions * size
    used, unplugged, content = [set() for _ in range(guest.partitions)], [], {}
    plugged = 0
    for _ in range(60):
        number = draw.randrange(guest.partitions)
        what = draw.choice(["begin", "begin", "end", "some", "give"])
        vpns = instance(guest, number)
        if what == "begin":
            chosen = draw.sample(vpns, draw.choice([1, 50, size]))
            if number in unplugged:
                unplugged.remove(number)
                plugged += 1
            content |= fill(guest, machine, chosen)
            used[number] |= set(chosen)
        elif what in ("end", "some"):
            gone = sorted(used[number]) if what == "end" else draw.sample(sorted(used[number]), len(used[number]) // 2)
            drop(guest, gone)
            used[number] -= set(gone)
            for vpn in gone:
                del content[vpn]
        else:
            target = draw.randrange(guest.memory.nr_pages + 1)
            give(guest, target)
            most = min(target // size, guest.partitions)
            while len(unplugged) > most:
                unplugged.pop()
            for each in range(guest.partitions):
                if len(unplugged) < most and not used[each] and each not in unplugged:
                    unplugged.append(each)
        guest.check()
        for each in range(guest.partitions):
            pages = {probe.lookup(guest, vpn) for vpn in used[each]}
            assert pages <= set(range(begin + each * size, begin + (each + 1) * size)) and len(pages) == len(used[each])
        assert probe.pages(guest)[3] == [
            gfn for each in unplugged for gfn in range(begin + each * size, begin + (each + 1) * size)
        ]
        assert guest.counters()["plugged_on_demand"] == plugged
    same(guest, machine, content)
