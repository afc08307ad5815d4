"""Writes that are begun before they are waited for: what comes of them is what comes of writes that are not."""

import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import memvirt
from memvirt.engine.stores.swap import Swap
from memvirt.engine.stores.swapset import SwapSet
from memvirt.engine.testing.stores import SwapProbe

PAGE = 4096
RUNS = [range(10), range(20, 50), range(60, 61), range(70, 326)]  # the last one is as long as a call may be


def payload(i, size=PAGE):
    return (i * 2654435761 % 2**64).to_bytes(8, "little") * (size // 8)


def taken(n=400, **options):
    area = SwapProbe(Swap(n, **options))
    area.take_slots(n)
    return area


def lent(area):
    """Whether the kernel takes part on this machine; without, everything below must hold all the same."""
    area.write_slots([0], [payload(0)], begun=True)
    return area.begins_writes()


def rings():
    with open("/proc/self/maps") as lines:
        return sum("[aio]" in line for line in lines)


@pytest.mark.parametrize("options", [{}, {"direct": False}, {"slot_bytes": 8}], ids=["direct", "buffered", "memory"])
def test_what_is_begun_arrives(options):
    area = taken(**options)
    slots = [slot for run in RUNS for slot in run]
    payloads = [payload(slot + 1, area.slot_bytes) for slot in slots]
    assert area.write_slots(slots, payloads, begun=True) == [True] * len(slots)
    assert area.write_calls == len(RUNS)
    assert area.read_slots(slots) == payloads
    assert not area.begins_writes() or area.direct_io
    area.check()


def test_more_runs_than_may_be_under_way():
    area = taken(600)
    slots = list(range(0, 600, 2))
    payloads = [payload(slot + 1) for slot in slots]
    assert area.write_slots(slots, payloads, begun=True) == [True] * 300
    assert area.write_calls == 300
    assert area.read_slots(slots) == payloads


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC])
def test_a_failure_at_every_call_costs_that_run_and_no_other(fault):
    area = taken()
    slots = [slot for run in RUNS for slot in run]
    payloads = [payload(slot + 1) for slot in slots]
    for nth, run in enumerate(RUNS, 1):
        area.inject("write", nth, fault)
        failures = area.write_failures
        done = area.write_slots(slots, payloads, begun=True)
        assert [slot for slot, ok in zip(slots, done, strict=True) if not ok] == list(run)
        assert (area.write_failures - failures, area.last_errno) == (len(run), fault)
        area.check()
    assert area.write_slots(slots, payloads, begun=True) == [True] * len(slots)
    assert area.read_slots(slots) == payloads


@settings(max_examples=40, deadline=None)
@given(
    slots=st.lists(st.integers(0, 399), min_size=1, max_size=300, unique=True).map(sorted),
    nth=st.integers(1, 8),
    times=st.integers(1, 5),
    fault=st.sampled_from([errno.EIO, errno.EINTR, "short"]),
    several=st.booleans(),
)
@example(slots=list(range(256)), nth=1, times=8, fault="short", several=False)
@example(slots=[7], nth=1, times=2, fault="short", several=False)
def test_begun_or_not_the_outcome_is_one(slots, nth, times, fault, several):
    """Of a fault's calls only the first matters for which runs fail: an error ends a run, whatever else is taken up."""
    found = []
    for begun in (False, True):
        areas = [Swap(n, cluster=64) for n in ((200, 72, 128) if several else (400,))]
        space = SwapProbe(SwapSet(areas, [2, 1, 1]) if several else areas[0])
        space.take_slots(400)
        payloads = [payload(slot + 1) for slot in slots]
        for area in areas:
            area.inject("write", nth, fault, 1 if fault == errno.EIO else times)
        done = space.write_slots(slots, payloads, begun=begun)
        bytes_ = space.read_slots(slots)
        assert all(new == read for new, read, ok in zip(payloads, bytes_, done, strict=True) if ok)
        assert fault != errno.EINTR or all(done)
        space.check()
        found.append((done.count(False), space.write_failures, space.write_calls))
    if fault != "short":  # its halves are taken up later, when other runs have had their turn to be cut
        assert found[0] == found[1]


def test_a_signal_in_the_middle_changes_nothing():
    area = taken()
    came = []
    before = signal.signal(signal.SIGALRM, lambda *_: came.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    try:
        for turn in range(60):
            payloads = [payload(turn * 400 + slot) for slot in range(400)]
            assert area.write_slots(range(400), payloads, begun=True) == [True] * 400
            assert area.read_slots(range(400)) == payloads
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came


def test_the_ring_goes_with_its_area():
    before, files = rings(), len(os.listdir("/proc/self/fd"))
    area = taken()
    assert rings() == before, "nothing has been begun"
    held = lent(area)
    assert rings() == before + held
    del area
    assert (rings(), len(os.listdir("/proc/self/fd"))) == (before, files)


def test_a_child_of_fork_writes_without_its_parent_s_ring():
    area = taken()
    held = lent(area)
    child = os.fork()
    if child == 0:
        ok = area.write_slots([1, 2], [payload(5), payload(6)], begun=True) == [True, True]
        ok = ok and area.read_slots([1, 2]) == [payload(5), payload(6)] and not area.begins_writes()
        own = taken(64)  # one made here has its own
        ok = ok and lent(own) == held
        del area, own
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert lent(area) == held
    assert area.read_slots([1, 2]) == [payload(5), payload(6)]


# A filter that answers some system calls with an errno, as container runtimes install: seccomp's struct sock_filter.
LOAD, JUMP_EQUAL, RETURN, ANSWER, ALLOW = 0x20, 0x15, 0x06, 0x00050000, 0x7FFF0000
NAMES = ("io_setup", "io_submit", "io_getevents")
CALLS = dict(zip(NAMES, (206, 209, 208) if os.uname().machine == "x86_64" else (0, 2, 4), strict=True))
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
EVICTS = """
import sys, numpy as np, memvirt
host = memvirt.Host(memory="1MiB", swap="4MiB", zpool_percent=0)
vm = host.create_vm("a", "2MiB")
noise = np.random.Generator(np.random.PCG64(1)).bytes(400 * 4096)
for page in range(400):
    assert vm.write(page * 4096, noise[page * 4096 : page * 4096 + 4096]) == 4096
for page in range(400):
    assert vm.read(page * 4096, 4096) == noise[page * 4096 : page * 4096 + 4096]
host.check()
from memvirt.engine.testing.stores import SwapProbe
swap = SwapProbe(host.engine.mapping.swap)
print(host.counters(), swap.write_calls, swap.begins_writes(), sep="\\n")
"""


def forbid(call, answer):
    steps = [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, CALLS[call]), (RETURN, 0, 0, ANSWER | answer), (RETURN, 0, 0, ALLOW)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(filters)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("io_setup", errno.EPERM),
        ("io_setup", errno.ENOSYS),
        ("io_submit", errno.EPERM),
        ("io_submit", errno.EAGAIN),
        ("io_getevents", errno.EPERM),
    ],
)
def test_a_kernel_that_will_not_is_done_without(call, answer):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def said(**options):
        return subprocess.run(
            [sys.executable, "-c", EVICTS], env=environment, capture_output=True, text=True, check=True, **options
        ).stdout

    try:
        refused = said(preexec_fn=lambda: forbid(call, answer))
    except subprocess.SubprocessError as error:
        if "preexec_fn" in str(error):
            pytest.skip("no seccomp here")
        raise
    counters, calls, begins = refused.splitlines()
    free = said().splitlines()
    assert (counters, begins) == (free[0], "False")
    again = int(calls) - int(free[1])  # what was begun, but nobody can ask for: the first batch is written once more
    assert 0 < again <= 32 if call == "io_getevents" and free[2] == "True" else again == 0


def test_a_host_goes_on_after_a_batch_that_half_failed():
    """A batch in eight runs, the second of which fails: its pages stay, and go when they are tried again."""
    host = memvirt.Host(memory="4MiB", swap="2MiB", zpool_percent=0, readahead=0)
    vms = [host.create_vm(name, "1MiB") for name in "ab"]
    noise = [bytearray(os.urandom(256 * PAGE)) for _ in vms]
    for vm, data in zip(vms, noise, strict=True):
        vm.write(0, bytes(data))
        host.engine.reclaim_from(vm.engine_vm, 256)  # side by side on swap, which is full now
    for page in range(256):
        if page % 32 < 8:
            data = os.urandom(PAGE)
            noise[0][page * PAGE : page * PAGE + PAGE] = data
            vms[0].write(page * PAGE, data)
    host.harvest()
    before, swap = host.counters(), host.engine.mapping.swap
    calls = swap.write_calls
    swap.inject("write", 2, errno.EIO)
    host.engine.reclaim_from(vms[0].engine_vm, 64)
    host.check()
    assert swap.write_calls == calls + 9
    assert host.counters()["swap_write_failed"] - before["swap_write_failed"] == 8
    assert host.counters()["evict_failed"] - before["evict_failed"] == 8
    assert host.counters()["evicted_swap"] - before["evicted_swap"] == 64
    for vm, data in zip(vms, noise, strict=True):
        for page in range(256):
            assert vm.read(page * PAGE, PAGE) == data[page * PAGE : page * PAGE + PAGE]
    host.check()
