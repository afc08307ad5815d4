"""A signal while the engine works: answered within 100 ms of processor time, and everything is whole afterwards.

The timers are those of the process's own processor time, so a busy machine makes no difference.
"""

import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

import memvirt
from helpers.world import PAGE

MIB, GIB = 1 << 20, 1 << 30
ANSWERED_S = 0.1


class Rang(Exception):
    """What the handler raises."""


@contextmanager
def bell(after_s, every_s=0.0):
    """SIGPROF after so much processor time raises Rang in the main thread."""

    def ring(*_):
        raise Rang

    before = signal.signal(signal.SIGPROF, ring)
    try:
        signal.setitimer(signal.ITIMER_PROF, after_s, every_s)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def interrupted(call, after_s):
    """Whether the call was ended by the bell. Asserts that it was soon after that rang, at least once in three times: the
    kernel may be late with its timer."""
    for _ in range(3):
        began = time.process_time()
        try:
            with bell(after_s):
                call()
        except Rang:
            if time.process_time() - began < after_s + ANSWERED_S:
                return True
        else:
            return False
    raise AssertionError(f"not answered within {ANSWERED_S} s")


def writes(pages):
    return np.asarray(pages, np.uint32), np.ones(len(pages), np.uint8)


def thrash(seed, pages, n):
    random = np.random.Generator(np.random.PCG64(seed))
    return writes(random.integers(0, pages, n))


def swapping(**settings):
    host = memvirt.Host(memory="8MiB", swap="64MiB", seed=1, **settings)
    return host, [host.create_vm(name, "16MiB") for name in "ab"]


def zeros(size, **settings):
    """A host all of whose VM's pages are resident, by identity only."""
    host = memvirt.Host(memory=size, content="fingerprint", seed=1, **settings)
    vm = host.create_vm("a", size * 15 // 16)
    vm.access(*writes(np.arange(vm.pages)))
    return host, vm


def test_access():
    host, (vm, _) = swapping()
    assert interrupted(lambda: vm.access(*thrash(1, vm.pages, 400_000)), 0.1)
    host.check()
    assert 0 < vm.writes_done < 400_000
    assert vm.access([1], [0]) == (1, "done")


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_run(content):
    """One batch a VM, which nothing cuts."""
    host, vms = swapping(content=content, zpool_percent=20)
    streams = {vm: [thrash(i, vm.pages, 1_000_000)] for i, vm in enumerate(vms)}
    assert interrupted(lambda: host.run(streams), 0.1)
    host.check()
    assert all(vm.writes_done for vm in vms)
    assert host.run({vm: [([1], [0])] for vm in vms}) == dict.fromkeys(vms, (1, "done"))


def test_a_vm_that_has_a_guest():
    host = memvirt.Host(memory="8MiB", swap="64MiB", seed=1)
    vm = host.create_vm("a", "16MiB", guest={"swap": "4MiB"})
    for seed in range(8):
        assert interrupted(lambda seed=seed: vm.access(*thrash(seed, vm.pages, 400_000)), 0.05)
        host.check()
    assert interrupted(lambda: [vm.balloon(size) for _ in range(10_000) for size in ("12MiB", 0)], 0.05)
    host.check()


def test_wait():
    """One VM finds no memory, and each time the other has done anything it looks at everything again."""
    host, vm = zeros(GIB, on_exhausted="wait")
    other = host.create_vm("b", "1GiB")
    streams = {vm: [writes(np.arange(4096))] * 200_000, other: [writes(np.arange(other.pages))]}
    assert interrupted(lambda: host.run(streams), 0.5)
    host.check()


def test_waiting_does_not_try_again_while_nothing_has_changed():
    """Ten thousand sleeps, and memory is looked at twice, not twenty thousand times."""
    host, _ = zeros(256 * MIB, on_exhausted="wait")
    other = host.create_vm("b", "64MiB")
    began = time.process_time()
    outcome = host.run({other: [writes(np.arange(other.pages))]})[other]
    assert outcome.reason == "no_frame" and host.counters()["waits"] == 10_000
    assert host.counters()["reclaim_scanned"] < 8 * host.config.memory
    assert other.stall_ns >= 10_000 * host.engine.clock.table["wait_quantum"]
    assert time.process_time() - began < 2
    host.check()


@pytest.mark.parametrize("scanner", ["hash", "ksm", "esx", "zero-only"])
def test_scan(scanner):
    host, vm = zeros(2 * GIB, sharing=scanner)
    assert interrupted(lambda: [host.scan() for _ in range(100)], 0.05)
    host.check()
    host.scan(100)
    host.run({vm: [([1], [0])]})
    host.check()


def test_populate():
    host = memvirt.Host(memory="16GiB", provisioning="thick", content="fingerprint", seed=1)
    kept = host.create_vm("kept", "64MiB")
    assert interrupted(lambda: host.create_vm("a", "15GiB"), 0.01)
    assert host.vms == [kept] and list(host.engine.vms) == ["kept"]
    host.check()
    assert host.create_vm("a", "64MiB") in host.vms


@pytest.mark.parametrize("what", ["harvest", "compact", "collapse"])
def test_upkeep(what):
    host, _ = zeros(2 * GIB, provisioning="thin")
    interrupted(lambda: [getattr(host, what)() for _ in range(100)], 0.05)
    host.check()


@pytest.mark.parametrize("settings", [{}, {"replacement": "mglru"}, {"sharing": "ksm"}], ids=str)
def test_check(settings):
    """It changes nothing, so it may stop anywhere."""
    host, vm = zeros(3 * GIB, **settings)
    for after_s in (0.005, 0.05, 0.1):
        assert interrupted(lambda: [host.check() for _ in range(20)], after_s)
    host.check()
    assert vm.access([1], [0]) == (1, "done")


def test_reading_writing_and_pinning():
    host, (vm, _) = swapping()
    data = bytes(range(256)) * (vm.pages * PAGE // 256)
    for call in (
        lambda: [vm.write(0, data) for _ in range(200)],
        lambda: [vm.read(0, len(data)) for _ in range(200)],
        lambda: [vm.read_pages(np.arange(vm.pages)) for _ in range(200)],
        lambda: [vm.pin(0, 1000) + vm.unpin(0, 1000) for _ in range(10_000)],
    ):
        assert interrupted(call, 0.05)
        host.check()


def test_a_storm_loses_nothing():
    """Interrupted every few milliseconds: what a VM wrote before is there, whatever was cut short after it."""
    host = memvirt.Host(memory="4MiB", swap="32MiB", zpool_percent=20, sharing="ksm", harvest_interval="1ms", seed=1)
    vms = [host.create_vm(name, "6MiB", guest={"swap": "2MiB"} if name == "c" else False) for name in "abc"]
    words = {}
    for vm in vms:
        for page in range(0, vm.pages, 3):
            words[vm, page] = (vm.name.encode() + page.to_bytes(4, "little")) * 3
            assert vm.write(page * PAGE + 2048, words[vm, page]) == 15
    rang = 0
    for turn in range(60):
        streams = {vm: [(np.arange(vm.pages), np.zeros(vm.pages))] * 20 for vm in vms}
        rang += interrupted(lambda streams=streams: host.run(streams), 0.002 + turn % 7 * 0.003)
        rang += interrupted(lambda: host.scan(), 0.003)
        host.check()
    assert rang > 30
    for (vm, page), word in words.items():
        assert vm.read(page * PAGE + 2048, len(word)) == word


def test_what_a_handler_raises_comes_out_whatever_it_is():
    _host, (vm, _) = swapping()
    before = signal.signal(signal.SIGPROF, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)
        assert vm.access(*thrash(1, vm.pages, 20_000)) == (20_000, "done"), (
            "a handler that raises nothing stops nothing"
        )
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
