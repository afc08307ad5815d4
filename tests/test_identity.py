"""Whose is it: VMs, snapshots and hosts are told apart by what they are, not by their numbers; and none outlives its host."""

import gc
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import memvirt
from memvirt.engine.host import accesses, admission, cloning, contiguity, ending
from memvirt.engine.testing.contents import PageProbe
from memvirt.errors import ConfigError, DeciderError, InvariantError
from memvirt.policies.base import Targets

PAGE = 4096
MIB = 1 << 20
GUEST = {"cache_percent": 25, "swap": "1MiB", "kernel": "64KiB"}


def host_of(**settings):
    return memvirt.Host(**{"memory": "8MiB", "swap": "16MiB", "seed": 1, **settings})


# -- another host's, another kind's -----------------------------------------------------------------------------------


def test_vms_of_another_host_are_refused_whatever_they_are_for():
    here, there = host_of(), host_of()
    mine, other = here.create_vm("a", MIB), there.create_vm("a", MIB)
    mine.write(0, b"mine")
    other.write(0, b"theirs")
    saved = other.snapshot()
    before = here.counters(), there.counters()
    calls = {
        "clone": lambda: here.clone_vm(other, "b"),
        "run": lambda: here.run({other: [([0], [1])]}),
        "save": lambda: here.save_vm(other),
        "engine clone": lambda: cloning.clone_vm(here.engine, other.engine_vm, "b"),
        "engine revert": lambda: cloning.revert_vm(here.engine, mine.engine_vm, other.engine_vm),
        "engine revert of it": lambda: cloning.revert_vm(here.engine, other.engine_vm, mine.engine_vm),
        "engine destroy": lambda: ending.destroy_vm(here.engine, other.engine_vm),
        "engine reclaim": lambda: here.engine.reclaim_from(other.engine_vm, 10),
        "engine accesses": lambda: accesses.access(
            here.engine, other.engine_vm, np.zeros(1, np.uint32), np.zeros(1, np.uint8)
        ),
        "engine balloon": lambda: accesses.balloon(here.engine, other.engine_vm, 1),
        "engine usage": lambda: contiguity.usage_of_vm(here.engine, other.engine_vm),
        "revert": lambda: mine.revert(saved),
    }
    for call in calls.values():
        with pytest.raises(ConfigError, match="belongs to another host"):
            call()
    assert (here.counters(), there.counters()) == before
    assert [vm.name for vm in here.vms] == [vm.name for vm in there.vms] == ["a"]
    for host in (here, there):
        host.check()
    assert mine.read(0, 4) == b"mine" and other.read(0, 6) == b"theirs"


@pytest.mark.parametrize("what", ["a", None, 7, object()])
def test_what_is_no_vm_is_refused_in_words(what):
    host = host_of()
    vm = host.create_vm("a", MIB)
    for call in (lambda: host.clone_vm(what, "b"), lambda: host.run({what: []}), lambda: host.save_vm(what)):
        with pytest.raises(ConfigError, match="no VM of this host"):
            call()
    for saved in (what, vm):
        with pytest.raises(ConfigError, match="no snapshot"):
            vm.revert(saved)


KINDS = {
    "none": None,
    "guest": GUEST,
    "no disk": {**GUEST, "cache_percent": 0, "swap": 0},
    "smaller disk": {**GUEST, "swap": "512KiB"},
    "other cache": {**GUEST, "cache_percent": 50},
    "other kernel": {**GUEST, "kernel": "32KiB"},
    "other order": {**GUEST, "replacement": "lru"},
    "other floor": {**GUEST, "balloon_floor": "512KiB"},
    "other swappiness": {**GUEST, "swappiness": 100},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_snapshot_of_another_kind_of_vm_is_refused_and_of_the_same_kind_taken(kind, other):
    host = host_of()
    vms = [host.create_vm(name, MIB, guest=KINDS[which] or False) for name, which in (("a", kind), ("b", other))]
    for vm in vms:
        vm.access(np.arange(250), np.ones(250))
    held = vms[0].read(17 * PAGE, 64), vms[1].read(17 * PAGE, 64)
    saved = vms[1].snapshot()
    if kind == other:
        vms[0].revert(saved)
        assert vms[0].read(17 * PAGE, 64) == held[1]
    else:
        with pytest.raises(ConfigError, match="cannot be reverted to the snapshot of 'b': "):
            vms[0].revert(saved)
        assert vms[0].read(17 * PAGE, 64) == held[0]
    host.check()
    for vm in vms:
        assert vm.access(np.arange(256), np.ones(256)).reason in ("done", "empty")
        host.check()
        vm.destroy()
    saved.drop()
    host.check()
    assert host.usage()["guest"] == 0


def test_a_vm_that_has_ended_says_so_and_shows_nobody_elses_numbers():
    host = host_of()
    ended = host.create_vm("old", MIB, shares=5)
    ended.destroy()
    assert host.create_vm("new", MIB, shares=77).engine_vm.id == ended.engine_vm.id
    for call in (ended.view, ended.usage, ended.destroy, lambda: ended.access([0], [1]), lambda: ended.clone("x")):
        with pytest.raises(ConfigError, match="'old' has been destroyed"):
            call()
    assert ended.outcome == "done" and ended.stall_ns == 0, "what was, can still be asked"


def test_a_vm_without_a_limit_has_none_in_its_view():
    host = host_of()
    assert host.create_vm("a", MIB).view().limit_pages is None
    assert host.create_vm("b", MIB, limit="512KiB").view().limit_pages == 128


# -- the host has ended -----------------------------------------------------------------------------------------------


def resident_kib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


def open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("sharing", [None, "hash", "ksm", "esx", "inline", "zero-only"])
@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_close_gives_everything_back_at_once_whatever_is_kept(content, sharing):
    settings = {"memory": "64MiB", "swap": "64MiB", "content": content, "zpool_percent": 20, "sharing": sharing}
    host_of(**settings).close()
    gc.collect()
    gc.disable()
    try:
        before, files, kept = resident_kib(), open_files(), []
        for _ in range(4):
            host = host_of(**settings)
            vm = host.create_vm("a", "2MiB", guest={"swap": "1MiB"})
            vm.access(np.arange(500), np.ones(500))
            gone = vm.clone("b")
            gone.destroy()
            kept += [host, vm, gone, vm.snapshot(), vm.engine_vm, host.engine, host.engine.content]
            host.close()
            assert open_files() == files
        assert resident_kib() - before < 100_000, "of 256 MiB; what malloc keeps of a heap in pieces is not ours"
    finally:
        gc.enable()


def test_a_closed_host_refuses_everything_in_words():
    host = host_of()
    vm = host.create_vm("a", MIB, guest=True)
    saved, engine, engine_vm = vm.snapshot(), host.engine, vm.engine_vm
    vm.write(0, b"x")
    host.close()
    host.close()
    assert host.vms == host.saved_states == []
    calls = [
        lambda: vm.access([0], [1]),
        lambda: vm.read(0, 1),
        lambda: vm.write(0, b"y"),
        lambda: vm.read_pages([0]),
        lambda: vm.balloon(0),
        lambda: vm.pin(0, 1),
        vm.counters,
        vm.usage,
        vm.view,
        vm.stall,
        vm.freeze,
        vm.snapshot,
        vm.destroy,
        lambda: vm.clone("b"),
        lambda: vm.revert(saved),
        lambda: vm.sim_ns,
        lambda: vm.outcome,
        saved.drop,
        host.check,
        host.counters,
        host.usage,
        host.sharing,
        host.snapshot,
        lambda: host.set_domains({"a": 1}),
        lambda: host.create_vm("c", MIB),
        lambda: host.run({}),
        engine.harvest,
        lambda: admission.create_vm(engine, "c", 10),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="the host is closed"):
            call()
    with pytest.raises(ConfigError, match="'a' has been destroyed"):
        accesses.access(engine, engine_vm, np.zeros(1, np.uint32), np.zeros(1, np.uint8))
    with pytest.raises(ConfigError, match="frame 0"):
        PageProbe(engine.content).frame_raw(0)


def test_closing_in_a_stream_is_refused_and_harms_nothing():
    host = host_of()
    vm = host.create_vm("a", MIB)
    refused = []

    def stream():
        for call in (host.close, vm.freeze, lambda: host.set_domains({"a": 3}), vm.destroy, lambda: vm.clone("b")):
            with pytest.raises(InvariantError, match="in the middle of one"):
                call()
            refused.append(call)
            host.counters(), host.usage(), vm.counters(), host.check()
            yield [0], [1]

    assert host.run({vm: stream()})[vm] == (5, "done")
    assert len(refused) == 5 and vm.read(0, 1)
    host.check()


def test_a_running_vm_has_no_other_accesses_and_others_do():
    host = host_of()
    vm, other = host.create_vm("a", MIB), host.create_vm("b", MIB)
    said = []

    class Meddler:
        interval_ns = 1000

        def decide(self, snapshot):
            assert other.write(0, b"x") == 1
            for call in (lambda: vm.access([0], [1]), lambda: vm.read(0, 1), lambda: vm.pin(0, 1)):
                with pytest.raises(ConfigError, match="VM 'a' is running a stream"):
                    call()
            said.append(snapshot.now_ns)
            return Targets()

    assert host.run({vm: [(np.arange(200), np.ones(200))] * 20}, decider=Meddler())[vm].reason == "done"
    assert said
    host.check()


def test_what_is_about_the_whole_of_a_run_is_refused_to_its_decider():
    """Another run shared the decider with the one that it was in, and ended it: the end was a segmentation fault."""
    host = host_of(sharing="hash")
    a, b = host.create_vm("a", MIB), host.create_vm("b", MIB)
    refused = {
        "run": lambda: host.run({b: [([0], [1])]}),
        "run with a decider": lambda: host.run({}, until_ns=10**9, decider=Meddler()),
        "settle": lambda: host.settle(1),
        "close": host.close,
        "freeze": a.freeze,
    }
    said = []

    class Meddler:
        interval_ns = 20_000

        def decide(self, snapshot):
            for call in refused.values():
                with pytest.raises(ConfigError, match="in the middle of a run|is running a stream") as error:
                    call()
                said.append(str(error.value))
            host.scan()
            return Targets()

    streams = {vm: iter([(np.arange(200), np.ones(200))] * 30) for vm in (a, b)}
    until = host.run(streams, until_ns=200_000, decider=Meddler())
    assert len(said) == 9 * len(refused)
    rest = host.run(streams)
    assert [until[vm].done + rest[vm].done for vm in (a, b)] == [6000, 6000], "the outer run's streams are as they were"
    assert "run: a host runs one call at a time" in said[0]
    host.settle(1)
    host.check()


def test_a_decider_that_runs_its_host_is_named():
    host = host_of()
    vm = host.create_vm("a", MIB)

    def again(snapshot):
        host.run({vm: [([0], [1])]})
        return Targets()

    with pytest.raises(
        DeciderError, match=r"again: ConfigError: run: a host runs one call at a time.*test_identity.py:"
    ):
        host.run({vm: [(np.zeros(100_000, np.uint32), np.ones(100_000))]}, decider=again)
    assert host.run({vm: [([0], [1])]})[vm] == (1, "done")
    host.check()


def test_a_stream_may_not_run_the_host_that_asks_it():
    host = host_of()
    a, b = host.create_vm("a", MIB), host.create_vm("b", MIB)
    other = iter([(np.zeros(30_000, np.uint32), np.ones(30_000))])

    def stream():
        for call in (lambda: host.run({b: other}), lambda: host.run({b: [([0], [1])]}), lambda: host.settle(1)):
            with pytest.raises(InvariantError, match="in the middle of one"):
                call()
            yield [0], [1]

    assert host.run({b: other}, until_ns=200_000)[b].reason == "until"
    before = b.writes_done
    assert host.run({a: stream()})[a] == (3, "done")
    assert host.run({b: other})[b] == (30_000 - before, "done"), "its place was kept"
    host.check()


# -- another thread, another process ----------------------------------------------------------------------------------


def test_a_second_thread_may_not_even_look():
    host = host_of(sharing="hash")
    vm = host.create_vm("a", MIB)
    vm.write(0, b"x")
    calls = [
        vm.usage,
        vm.counters,
        vm.view,
        vm.freeze,
        lambda: vm.read(0, 1),
        host.check,
        host.counters,
        host.usage,
        host.sharing,
        host.fragmentation,
        host.snapshot,
        host.stall,
        host.close,
        lambda: host.set_domains({"a": 1}),
        lambda: host.vms,
    ]
    found = []

    def ask():
        for call in calls:
            try:
                found.append(call())
            except InvariantError as error:
                assert "belongs to the thread that made it" in str(error)
            else:
                found.append(call)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == []
    assert vm.read(0, 1) == b"x"


FORK = """
import os, sys, numpy as np, memvirt
from memvirt.errors import ConfigError
path = sys.argv[1] if len(sys.argv) > 1 else None
host = memvirt.Host(memory="2MiB", swap="7MiB", readahead=0, swap_path=path)
vm = host.create_vm("v", "8MiB", guest={"swap": "1MiB", "cache_percent": 0})
plain = host.create_vm("p", "4MiB")
draws = np.random.default_rng(0)
want = [draws.bytes(4096) for _ in range(900)]
for page, data in enumerate(want):
    assert plain.write(page * 4096, data) == 4096
child = os.fork()
if child == 0:
    refused = 0
    for call in (lambda: plain.write(0, b"x" * 4096), lambda: vm.access([0], [1]), host.counters, host.check,
                 lambda: host.create_vm("w", "1MiB"), plain.destroy, lambda: plain.clone("c")):
        try:
            call()
        except ConfigError as error:
            refused += f"belongs to process {os.getppid()}" in str(error)
    own = memvirt.Host(memory="1MiB", swap="4MiB")
    mine = own.create_vm("m", "2MiB")
    assert mine.write(0, bytes(2 << 20)) == 2 << 20
    own.check()
    host.close()
    try:
        host.counters()
    except ConfigError as error:
        refused += str(error) == "the host is closed"
    sys.exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8
assert path is None or os.path.exists(path), "the child's end removed the parent's file"
for page, data in enumerate(want):
    assert plain.read(page * 4096, 4096) == data
host.check()
host.close()
assert path is None or not os.path.exists(path)
print("well")
"""


@pytest.mark.parametrize("named", [False, True])
def test_a_forked_child_refuses_the_host_and_takes_nothing_of_its_parents(tmp_path, named):
    path = [str(tmp_path / "swap")] if named else []
    done = subprocess.run([sys.executable, "-c", FORK, *path], capture_output=True, text=True, timeout=60)
    assert done.stdout == "well\n", done.stderr
