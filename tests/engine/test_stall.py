"""Stall accounts against plain lists of intervals, and against Linux's averages written down a second time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.engine.stall import Stalls

SECOND = 1_000_000_000
DECAY = {"avg10": 1677, "avg60": 1981, "avg300": 2034}


def averages(stalls, until, began=0):
    """psi's averages of [began, ended) intervals: per period of 2 s the whole per cents, weighed in by 2048ths."""
    load = dict.fromkeys(DECAY, 0)
    for end in range((began // (2 * SECOND) + 1) * 2 * SECOND, until + 1, 2 * SECOND):
        stalled = sum(max(0, min(b, end) - max(a, end - 2 * SECOND)) for a, b in stalls)
        active = stalled * 100 // (2 * SECOND) * 2048
        for name, decay in DECAY.items():
            moved = load[name] * decay + active * (2048 - decay)
            load[name] = (moved + (2047 if active >= load[name] else 0)) // 2048
    return {name: value * 100 // 2048 for name, value in load.items()}


def covered(intervals, at):
    return any(began <= at < ended for began, ended in intervals)


def host_oracle(work, stalls, until):
    """(some, full) by asking at every time."""
    some = full = 0
    for at in range(until):
        stalled = [vm for vm in stalls if covered(stalls[vm], at)]
        working = [vm for vm in work if covered(work[vm], at)]
        some += bool(stalled)
        full += bool(stalled) and len(stalled) == len(working)
    return some, full


def test_a_minute_of_half_stalled_time():
    stalls = Stalls()
    stalls.open(0, 0)
    stalls.start(0, 0)
    intervals = [(2 * i * SECOND, (2 * i + 1) * SECOND) for i in range(30)]
    for began, ended in intervals:
        stalls.stall(0, began, ended)
    stalls.book_until(60 * SECOND)
    report = stalls.of_host()
    # avg10 comes close to 50 % and never above; the values are those of the fixed point.
    expected = averages(intervals, 60 * SECOND)
    assert {name: report[f"stall_some_{name}"] for name in DECAY} == expected
    assert 4900 < expected["avg10"] <= 5000 and 3000 < expected["avg60"] < 3300 and 800 < expected["avg300"] < 1000
    assert report["stall_some_ns"] == report["stall_full_ns"] == 30 * SECOND
    assert stalls.of_vm(0, 60 * SECOND)["stall_some_avg60"] == expected["avg60"]


def test_averages_fall_to_zero_over_a_day_of_silence():
    stalls = Stalls()
    stalls.open(0, 0)
    stalls.stall(0, 0, 30 * SECOND)
    assert stalls.of_vm(0, 30 * SECOND)["stall_some_avg10"] == averages([(0, 30 * SECOND)], 30 * SECOND)["avg10"] > 9000
    day = 86_400 * SECOND + 1
    assert stalls.of_vm(0, day)["stall_some_avg300"] == 0
    stalls.stall(0, day, day + 2 * SECOND)
    expected = averages([(day, day + 2 * SECOND)], day + 2 * SECOND, began=day - SECOND)
    assert stalls.of_vm(0, day + 2 * SECOND)["stall_some_avg10"] == expected["avg10"]


PLANS = st.lists(
    st.tuples(st.integers(0, 30), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=6)),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(PLANS, st.randoms(use_true_random=False))
def test_host_is_union_and_intersection(plans, rng):
    """VMs whose clocks run apart, each settled as far as the one furthest behind: as if asked at every nanosecond."""
    stalls = Stalls()
    work, waits, clock, left = {}, {}, {}, {}
    for vm, (start, steps) in enumerate(plans):
        stalls.open(vm, start)
        clock[vm], left[vm], waits[vm] = start, list(steps), []
        work[vm] = [(start, start + sum(run + wait for run, wait in steps))]
        stalls.start(vm, start)
    while clock:
        vm = min(clock, key=lambda v: (clock[v], v))
        stalls.book_until(clock[vm])
        if not left[vm]:
            stalls.stop(vm, clock.pop(vm))
            continue
        for _ in range(rng.randint(1, 3)):
            if left[vm]:
                run, wait = left[vm].pop(0)
                began = clock[vm] + run
                clock[vm] = began + wait
                stalls.stall(vm, began, began + wait)
                waits[vm].append((began, began + wait))
        stalls.check()
    stalls.drain()
    stalls.check()
    end = max(ended for spans in work.values() for _, ended in spans)
    report = stalls.of_host()
    assert (report["stall_some_ns"], report["stall_full_ns"]) == host_oracle(work, waits, end)
    for vm, spans in waits.items():
        assert stalls.of_vm(vm, end)["stall_some_ns"] == sum(b - a for a, b in spans)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 7 * SECOND), st.integers(0, 7 * SECOND)), max_size=12))
def test_averages_equal_their_mirror(steps):
    stalls, clock, intervals = Stalls(), 0, []
    stalls.open(3, 0)
    stalls.start(3, 0)
    for run, wait in steps:
        intervals.append((clock + run, clock + run + wait))
        stalls.stall(3, *intervals[-1])
        clock = intervals[-1][1]
        stalls.book_until(clock)
    for report in (stalls.of_vm(3, clock), stalls.of_host()):
        assert {name: report[f"stall_some_{name}"] for name in DECAY} == averages(intervals, clock)


def test_what_is_behind_the_settled_time_counts_for_the_vm_alone():
    stalls = Stalls()
    for vm in (0, 1):
        stalls.open(vm, 0)
    stalls.start(0, 0)
    stalls.stall(0, 0, 100)
    stalls.stop(0, 100)
    stalls.drain()
    stalls.start(1, 0)
    stalls.stall(1, 50, 120)
    stalls.stop(1, 120)
    stalls.drain()
    stalls.check()
    assert stalls.of_vm(1, 120)["stall_some_ns"] == 70
    assert stalls.of_host()["stall_some_ns"] == 120


def test_misuse_is_caught():
    stalls = Stalls()
    with pytest.raises(ValueError, match="VM 5000"):
        stalls.open(5000, 0)
    stalls.start(0, 0)
    with pytest.raises(memvirt.InvariantError, match="starts twice"):
        stalls.start(0, 1)
    assert stalls.stop(1, 5) == 0  # had no work: nothing happens
    stalls.check()
