"""The schedule: what an actor does depends on simulated time, not on how the others' work is cut, nor on others at all."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memvirt
from helpers.world import PAGE
from memvirt.engine.host.accesses import set_balloon_target
from memvirt.errors import ConfigError
from memvirt.policies import Targets
from memvirt.settings import costs

MS, QUANTUM = 1_000_000, 50_000


class Count:
    """A decider that notes when it is asked, and wants nothing."""

    def __init__(self, interval_ns=MS):
        self.interval_ns = interval_ns
        self.asked = []

    def decide(self, snapshot):
        self.asked.append(snapshot.now_ns)
        return Targets()


class Move:
    """Moves balloons up and down, and takes pages from whoever has most."""

    interval_ns = 700_000

    def decide(self, snapshot):
        size = snapshot.now_ns // self.interval_ns % 4 * 40
        most = max(snapshot.vms, key=lambda vm: (vm.held_pages, vm.name), default=None)
        return Targets(
            balloon_pages={vm.name: size for vm in snapshot.vms if vm.balloonable},
            reclaim_pages={most.name: 5} if most else {},
            scan_pages=20 + size,
        )


def writes(pages):
    return np.asarray(pages, np.uint32), np.ones(len(pages), np.uint8)


def reads(pages):
    return np.asarray(pages, np.uint32), np.zeros(len(pages), np.uint8)


def pieces(pages, cut):
    return [reads(pages[i : i + cut]) for i in range(0, len(pages), cut)]


def everything(host):
    return {
        "counters": host.counters(),
        "cpu_ns": host.cpu_ns(),
        "histograms": host.histograms(),
        "usage": host.usage(),
        "sharing": host.sharing(),
        "stall": host.stall(),
        "sim_ns": host.sim_ns,
        "fragmentation": host.fragmentation(),
        "zpool": host.zpool(),
        "vms": {
            vm.name: {**vm.counters(), **vm.stall(), **vm.usage(), "work_ns": vm.work_ns, "requests": vm.requests()}
            for vm in host.vms
        },
    }


# ---- any cut into batches and calls

TEXT = np.frombuffer((b"page sharing and overcommit " * 147)[:PAGE], np.uint8)
NOISE = np.random.Generator(np.random.PCG64(7))
CORPUS = np.stack(
    [np.zeros(PAGE, np.uint8), np.full(PAGE, 0x41, np.uint8), TEXT, TEXT, *(np.roll(TEXT, n) for n in range(1, 9))]
    + [np.frombuffer(NOISE.bytes(PAGE), np.uint8) for _ in range(4)]
)
HOSTS = {
    "swap": {},
    "ksm, zpool": {
        "sharing": "ksm",
        "sharing_options": {"pages_to_scan": 30, "sleep_ns": 300_000},
        "zpool_percent": 20,
    },
    "hash, harvest": {
        "sharing": "hash",
        "sharing_options": {"pages_to_scan": 30, "sleep_ns": 70_000},
        "harvest_interval": 330_000,
        "replacement": "twolist",
        "zpool_percent": 10,
        "zpool_shrinker": True,
    },
    "wait": {"on_exhausted": "wait", "swap": 200 * PAGE, "harvest_interval": 50 * MS},
    "kill": {"on_exhausted": "kill", "swap": 100 * PAGE},
    "huge": {
        "provisioning": "thin-huge",
        "collapse_interval": 400_000,
        "compact_threshold": 100,
        "memory": 3000 * PAGE,
    },
    "esx": {"sharing": "esx", "swap_device": "sata-ssd", "quantum": 300_000},
}


def accesses(seed, vm, n):
    """One VM works after each access, one has due times as well, one has neither."""
    random = np.random.Generator(np.random.PCG64([seed, vm]))
    pages = random.integers(0, 600, n) * random.integers(0, 600, n) // 600
    ops = random.choice(np.array([0, 0, 0, 1, 1, 2, 3], np.uint8), n)
    due = np.cumsum(random.integers(0, 4, n) ** 6) * 20
    given = pages.astype(np.uint32), ops, random.integers(0, len(CORPUS), n).astype(np.uint32)
    return (*given, 700 * vm, due if vm == 2 else None)


def part_of(batch, a, b):
    pages, ops, sources, work_ns, due_ns = batch
    return pages[a:b], ops[a:b], sources[a:b], work_ns, due_ns if due_ns is None or a == b else due_ns[a:b]


def make(name):
    host = memvirt.Host(corpus=CORPUS, seed=3, **{"memory": 600 * PAGE, "swap": 1200 * PAGE, **HOSTS[name]})
    vms = [host.create_vm(f"vm{i}", 600 * PAGE, guest={"swap": 100 * PAGE} if i == 2 else False) for i in range(3)]
    return host, vms


def run_whole(name, seed, n, decider):
    host, vms = make(name)
    outcomes = host.run({vm: [accesses(seed, i, n)] for i, vm in enumerate(vms)}, decider=decider)
    return {vm.name: tuple(outcome) for vm, outcome in outcomes.items()}, everything(host)


def run_cut(name, seed, n, decider, cuts, stops):
    """The same accesses, batches cut at random places, calls at random times."""
    host, vms = make(name)
    random = np.random.Generator(np.random.PCG64([seed, 99]))
    left, found = {}, dict.fromkeys(vms, (0, ""))
    for i, vm in enumerate(vms):
        batch = accesses(seed, i, n)
        at = [0, *sorted(random.integers(0, n, cuts).tolist()), n]
        left[vm] = iter([part_of(batch, a, b) for a, b in pairwise(at)])
    while left:
        until = host.sim_ns + int(random.integers(1, 5 * MS)) if stops else None
        stops -= stops > 0
        for vm, (done, reason) in host.run(left, until_ns=until, decider=decider).items():
            found[vm] = (found[vm][0] + done, reason)
            if reason != "until":
                del left[vm]
        host.check()
    return {vm.name: outcome for vm, outcome in found.items()}, everything(host)


@pytest.mark.parametrize("name", HOSTS)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**20), cuts=st.integers(0, 40), stops=st.integers(0, 30), decides=st.booleans())
def test_any_cut_into_batches_and_calls_gives_the_same(name, seed, cuts, stops, decides):
    decider = Move() if decides and name != "wait" else None  # ten simulated seconds of decisions take too long
    assert run_cut(name, seed, 1500, decider, cuts, stops) == run_whole(name, seed, 1500, decider)


# ---- intervals


@pytest.mark.parametrize("cut", [100, 1000, 65536])
def test_a_lone_vm_s_decider_is_asked_at_its_interval_however_its_stream_is_cut(cut):
    host = memvirt.Host(memory="64MiB")
    vm = host.create_vm("a", "16MiB")
    vm.access(*writes(np.arange(1000)))
    rule, start = Count(), host.sim_ns
    host.run({vm: pieces(np.tile(np.arange(1000), 650), cut)}, decider=rule)
    assert vm.sim_ns - start == 65 * MS
    assert rule.asked == [start + i * MS for i in range(1, 65)]


def test_a_vm_that_swaps_does_not_put_the_decider_off():
    host = memvirt.Host(memory="16MiB", swap="64MiB")
    vm = host.create_vm("a", "32MiB")
    rule = Count()
    host.run({vm: [writes(np.tile(np.arange(8192), 5))]}, decider=rule)
    assert vm.sim_ns > 500 * MS
    assert rule.asked == [i * MS for i in range(1, len(rule.asked) + 1)]
    assert vm.sim_ns - 2 * MS < rule.asked[-1] <= vm.sim_ns


def test_intervals_go_on_across_calls():
    """20 runs of 5 ms, and an interval of 10 ms."""
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    vm.access(*writes([0]))
    rule, start = Count(10 * MS), host.sim_ns
    for _ in range(20):
        host.run({vm: [reads(np.zeros(50_000))]}, decider=rule)
    assert 0 <= vm.sim_ns - start - 100 * MS < 1000  # a harvest, and with it a refill
    assert rule.asked == [start + i * 10 * MS for i in range(1, 10)]
    host.run({vm: [reads([0])]}, decider=rule)
    assert len(rule.asked) == 10, "one that is due at the end of a run is made at the beginning of the next"


def test_another_decider_begins_anew_and_time_without_one_is_not_made_up():
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    vm.access(*writes([0]))
    first, second, start = Count(), Count(), host.sim_ns
    host.run({vm: [reads(np.zeros(25_000))]}, decider=first)
    host.run({vm: [reads(np.zeros(25_000))]})
    host.run({vm: [reads(np.zeros(25_000))]}, decider=first)
    host.run({vm: [reads(np.zeros(25_000))]}, decider=second)
    assert first.asked == [start + ns for ns in (MS, 2 * MS, 5 * MS, 6 * MS, 7 * MS)]
    assert second.asked == [start + int(ns * MS) for ns in (8.5, 9.5)]


def test_others_make_no_difference_to_when_actors_work():
    """The scanner, the harvest and the decider do the same beside one VM and beside twenty that are idle."""

    def look(idle):
        options = {"pages_to_scan": 10, "sleep_ns": 300_000}
        host = memvirt.Host(memory="4MiB", sharing="hash", sharing_options=options, harvest_interval=2 * MS)
        vm, rule = host.create_vm("a", "256KiB"), Count()
        for i in range(idle):
            host.create_vm(f"idle{i}", "256KiB")
        host.run({vm: [reads(np.tile(np.arange(64), 3000))]}, decider=rule)
        return rule.asked, host.counters()["harvests"], host.sharing()["pages_scanned"]

    assert look(0) == look(20) and look(0)[1] == 9


@pytest.mark.parametrize("interval", [0, -1, 2**63 - 1])
def test_an_interval_that_is_none_is_refused(interval):
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    with pytest.raises(ConfigError, match="interval_ns"):
        host.run({vm: [reads([0])]}, decider=Count(interval))
    assert host.sim_ns == 0 and host.run({vm: [reads([0])]}) == {vm: (1, "done")}


# ---- balloons


def test_balloons_move_by_time_and_not_by_turns():
    """A VM without a stream gives its pages while another computes; a message of 256 pages takes 64 us."""
    unsplit = {**costs.load("default").model_dump(), "giving": None}
    host = memvirt.Host(memory="64MiB", costs=unsplit)
    vm, other = host.create_vm("a", "16MiB", guest=True), host.create_vm("b", "1MiB")
    set_balloon_target(host.engine, vm.engine_vm, 4000)
    host.run({other: [reads(np.zeros(5000))]})
    assert vm.counters()["balloon_pages"] in (7 * 256, 8 * 256)
    host.run({other: [reads(np.zeros(10_000))]})
    assert vm.counters()["balloon_pages"] == 4000
    host.check()


def test_a_balloon_that_is_refused_tries_again_after_its_rest():
    host = memvirt.Host(memory="64MiB")
    vm, other = host.create_vm("a", "4MiB", guest={"swap": 0}), host.create_vm("b", "1MiB")
    vm.access(*writes(np.arange(900)))
    set_balloon_target(host.engine, vm.engine_vm, 500)
    host.run({}, until_ns=1000 * MS)
    refused = vm.counters()["balloon_refused_pages"]
    assert refused in (5, 6), "every 200 ms"
    vm.access(np.arange(900), np.full(900, 3))
    host.run({other: [reads([0])]}, until_ns=1300 * MS)
    host.run({}, until_ns=1300 * MS)
    assert vm.counters()["balloon_pages"] == 500
    host.check()


# ---- time


def test_without_streams_time_passes_and_actors_work():
    options = {"pages_to_scan": 10, "sleep_ns": MS}
    host = memvirt.Host(memory="4MiB", sharing="hash", sharing_options=options, harvest_interval=5 * MS)
    vm, rule = host.create_vm("a", "256KiB"), Count(10 * MS)
    vm.access(*writes(np.arange(64)))
    start = host.sim_ns
    host.run({}, until_ns=100 * MS, decider=rule)
    assert host.sim_ns == 100 * MS and rule.asked == [start + i * 10 * MS for i in range(1, 10)]
    assert host.counters()["harvests"] == 19 and host.sharing()["pages_scanned"] > 500
    assert vm.sim_ns < MS and host.stall()["stall_some_ns"] == 0
    host.run({vm: [reads([0])]})
    assert 100 * MS < vm.sim_ns < 101 * MS, "it has been idle until now"
    assert host.run({}) == {} and host.sim_ns == vm.sim_ns
    host.check()


def test_until_is_rounded_up_to_a_whole_quantum():
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    vm.access(*writes([0]))
    assert host.run({vm: [reads(np.zeros(100_000))]}, until_ns=MS + 1)[vm].reason == "until"
    assert MS + QUANTUM <= vm.sim_ns < MS + QUANTUM + 100 and host.sim_ns == MS + QUANTUM


@pytest.mark.parametrize("until", [-1, 2**62 + 1, 2**70])
def test_times_beyond_all_times_are_refused(until):
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    with pytest.raises(ConfigError, match="until_ns"):
        host.run({vm: [reads([0])]}, until_ns=until)


def test_an_iterator_that_a_run_stopped_in_goes_on_where_it_was():
    host = memvirt.Host(memory="4MiB")
    a, b = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    streams = {vm: iter([writes(np.arange(200)), reads(np.zeros(30_000))]) for vm in (a, b)}
    first = host.run(streams, until_ns=MS)
    alone = host.run({a: streams[a]})  # b's place is kept meanwhile
    last = host.run({b: streams[b]})
    assert first[a].reason == first[b].reason == "until"
    assert (first[a].done + alone[a].done, alone[a].reason) == (30_200, "done")
    assert (first[b].done + last[b].done, last[b].reason) == (30_200, "done")
    listed = [reads(np.zeros(30_000))]
    for _ in range(2):  # a list is no iterator: it begins anew
        assert host.run({a: listed}, until_ns=host.sim_ns + MS)[a].reason == "until"
    assert host.run({a: listed})[a] == (30_000, "done")
    host.check()


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (([1, 2, 3], [1, 1, 1], None, 0, [5, 6]), "cannot be due at 2 times"),
        (([1, 2, 3], [1, 1, 1], None, 0, [7, 6, 8]), "do not go back"),
        (([1, 2, 3], [1, 1, 1], None, 10**12 + 1), "work of 1000000000001 ns"),
        (([1, 2, 999], [1, 1, 1]), "access 2 names page 999"),
        (([1, 2, 3], [1, 1, 2]), "fills from corpus source None"),
        (([1, 2, 3], [1, 1]), "3 pages but 2 ops"),
        (([1.5], [1]), "one of integers"),
        (([1],), "a batch of 1 parts"),
        (7, "a batch of 1 parts, of type int"),
    ],
)
def test_a_batch_that_is_refused_is_never_served_and_the_one_after_it_is(batch, said):
    host = memvirt.Host(memory="4MiB")
    vm = host.create_vm("a", "1MiB")
    stream = iter([writes([0]), batch, writes([4, 5])])
    with pytest.raises(ConfigError, match=said):
        host.run({vm: stream})
    assert vm.writes_done == 1
    assert host.run({vm: stream})[vm] == (2, "done")
    assert (vm.writes_done, vm.usage()["present_pages"]) == (3, 3) and vm.requests() is None
    host.check()


def test_an_iterator_that_has_raised_is_asked_again():
    host = memvirt.Host(memory="4MiB")
    a, b = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")

    class Stumbles:
        asked = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.asked += 1
            if self.asked == 2:
                raise RuntimeError("once")
            if self.asked >= 5:
                raise StopIteration
            return writes([1, 2, 3])

    def ends():
        yield writes([1])
        raise RuntimeError("for good")

    streams = {a: Stumbles(), b: ends()}
    for said in ("once", "for good"):
        with pytest.raises(RuntimeError, match=said):
            host.run(streams)
    assert host.run(streams) == dict.fromkeys((a, b), (0, "done")), "a generator that has raised is over"
    assert (a.writes_done, b.writes_done) == (9, 1)
    host.check()


def test_what_one_vm_is_refused_for_no_other_has_run_before():
    host, elsewhere = memvirt.Host(memory="4MiB"), memvirt.Host(memory="4MiB")
    a, frozen, ended = (host.create_vm(name, "1MiB") for name in "abc")
    frozen.freeze()
    ended.destroy()
    stopped = iter([writes(np.arange(200)), reads(np.zeros(30_000))])
    done = host.run({a: stopped}, until_ns=MS)[a].done
    batches = [writes([0])]
    for streams, until_ns, said in (
        ({a: batches, frozen: batches}, None, "'b' is a frozen template"),
        ({a: batches, ended: batches}, None, "'c' has been destroyed"),
        ({a: batches, elsewhere.create_vm("d", "1MiB"): batches}, None, "another host"),
        ({a: 5}, None, "VM 'a': an object of type int is no stream"),
        ({a: batches}, 2**62 + 1, "until_ns"),
        ([a], None, "of type list does not say which VM does what"),
    ):
        with pytest.raises(ConfigError, match=said):
            host.run(streams, until_ns=until_ns)
    assert a.writes_done == 200
    assert host.run({a: stopped})[a] == (30_200 - done, "done"), "it goes on where it was"
    host.check()


# ---- the end of time


@pytest.mark.parametrize("quantum", ["50us", "1000s"])
def test_simulated_time_ends_in_words(quantum):
    """Next quanta lay beyond 64 bits, and a run went on for ever."""
    end = 2**62
    host = memvirt.Host(memory="4MiB", harvest_interval=10**17, quantum=quantum)
    a, b = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    host.run({}, until_ns=end - 5 * 10**12)
    long = [(*writes(np.zeros(100)), None, 10**12)]
    with pytest.raises(ConfigError, match="simulated time is at its end"):
        host.run({a: long, b: long})
    assert 0 < a.writes_done < 100 and end <= host.sim_ns < end + 2 * 10**12
    with pytest.raises(ConfigError, match="simulated time is at its end"):
        host.run({a: [writes([0])]}, decider=Count(end))
    with pytest.raises(ConfigError, match="VM 'b': simulated time is at its end, .* 0 of 2 accesses"):
        b.access([1, 2], [1, 1])
    assert host.run({b: [writes([0])]}, until_ns=end)[b] == (0, "until")
    assert a.write(0, b"still there") == 11 and a.read(0, 5) == b"still", "what memory holds is not lost"
    host.check()


def test_a_run_to_the_end_of_time_ends_there():
    host = memvirt.Host(memory="4MiB", harvest_interval=10**17, quantum=10**12 - 1)
    vm = host.create_vm("a", "1MiB")
    outcome = host.run({vm: [(*writes(np.zeros(9)), None, 10**12)]}, until_ns=2**62)[vm]
    assert (outcome, host.sim_ns) == ((9, "done"), vm.sim_ns)
    host.run({}, until_ns=2**62)
    assert host.sim_ns == 2**62
    host.check()


def test_who_has_stopped_is_idle_until_the_others_have_come_as_far():
    host = memvirt.Host(memory="4MiB")
    a, b = host.create_vm("a", "1MiB"), host.create_vm("b", "1MiB")
    host.run({a: [reads([0])], b: [reads(np.zeros(50_000))]})
    assert a.sim_ns < MS < 5 * MS <= b.sim_ns == host.sim_ns
    host.run({a: [reads([0])]})
    assert b.sim_ns < a.sim_ns < b.sim_ns + 1000
    assert host.stall()["stall_some_ns"] == 0


def test_a_full_house_takes_turns():
    """As many VMs as a host can have."""
    host = memvirt.Host(memory="256MiB", content="fingerprint")
    vms = [host.create_vm(f"vm{i}", 4 * PAGE) for i in range(4095)]
    outcomes = host.run({vm: [writes([0, 1]), reads(np.zeros(20))] for vm in vms})
    assert set(outcomes.values()) == {(22, "done")}
    clocks = {vm.sim_ns for vm in vms}
    assert max(clocks) - min(clocks) < QUANTUM + 100_000
    host.check()
