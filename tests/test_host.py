"""The facade: what it refuses and in which words, how accesses end, who is admitted."""

import threading

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing import guests as probe
from memvirt.errors import AdmissionError, ConfigError, InvariantError
from memvirt.metrics.registry import unregistered

PAGE = 4096
MIB = 1 << 20


def small(**settings):
    return memvirt.Host(**{"memory": MIB, "swap": MIB, **settings})


def fill(vm, first, pages):
    """Write pages that neither compress nor equal each other."""
    random = np.random.Generator(np.random.PCG64(first + 1))
    for page in range(first, first + pages):
        vm.write(page * PAGE, random.bytes(PAGE))


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"memory": 0}, "memory"),
        ({"memory": -PAGE}, "memory"),
        ({"memory": PAGE + 1}, "memory"),
        ({"memory": "1 MB and a bit"}, "memory"),
        ({"memry": MIB}, "memory"),
        ({"replacement": "clok"}, "clock"),
        ({"zpool_percent": 101}, "zpool_percent"),
        ({"corpus": np.ones((2, PAGE), np.uint8)}, "zero page"),
        ({"corpus": np.zeros((2, 100), np.uint8)}, "corpus"),
        ({"watermarks": {"min": 9, "low": 5, "high": 20}}, "watermarks"),
        ({"watermarks": {"min": 9, "low": 50, "high": 200}}, "half"),
        ({"costs": "cheap"}, "default"),
        ({"memory": 10**5000}, "memory: size: is far too long to be one"),
        ({"swap_path": "a\0b"}, "swap_path: .* is no path"),
    ],
)
def test_a_host_that_cannot_be_is_refused_in_words(settings, words):
    with pytest.raises(ConfigError, match=words):
        small(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"memory": 0}, "memory"),
        ({"name": "a b", "memory": MIB}, "name"),
        ({"memory": MIB, "reservation": 2 * MIB}, "reservation"),
        ({"memory": MIB, "reservation": MIB, "limit": PAGE}, "limit"),
        ({"memory": MIB, "guest": {"swop": "1MiB"}}, "swop"),
        ({"memory": MIB, "guest": {"kernel": "2MiB"}}, "kernel"),
        ({"memory": MIB, "shares": 10**5000}, "shares: .*a number of 16610 bits"),
    ],
)
def test_a_vm_that_cannot_be_is_refused_and_leaves_nothing_behind(settings, words):
    host = small()
    before = host.usage()
    with pytest.raises(ConfigError, match=words):
        host.create_vm(**{"name": "a", **settings})
    assert host.usage() == before
    assert host.vms == []
    host.check()


def test_names_are_unique_also_for_clones():
    host = small()
    vm = host.create_vm("a", MIB)
    with pytest.raises(ConfigError, match="'a'"):
        host.create_vm("a", MIB)
    with pytest.raises(ConfigError, match="'a'"):
        vm.clone("a")
    with pytest.raises(ConfigError, match="name"):
        vm.clone("not a name")
    host.check()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda vm: vm.read(MIB - 2, 3), "beyond"),
        (lambda vm: vm.read(2**64 - 1, 2), "beyond"),
        (lambda vm: vm.read(-1, 1), "-1"),
        (lambda vm: vm.read(0, -1), "-1"),
        (lambda vm: vm.read(10**5000, 1), "address: a number of 16610 bits"),
        (lambda vm: vm.write(MIB, b"x"), "beyond"),
        (lambda vm: vm.write(-5, b"x"), "-5"),
        (lambda vm: vm.read_pages([256]), "beyond"),
        (lambda vm: vm.read_pages([-1]), "-1"),
        (lambda vm: vm.pin(250, 10), "beyond"),
        (lambda vm: vm.pin(-1, 1), "-1"),
        (lambda vm: vm.unpin(0, 257), "beyond"),
        (lambda vm: vm.access([0, 256], [0, 0]), "access 1 names page 256"),
        (lambda vm: vm.access([0, 1], [0]), "2 pages but 1 ops"),
        (lambda vm: vm.access([0], [5]), r"ops\[0\] is 5"),
        (lambda vm: vm.access([0], [2]), "source"),
        (lambda vm: vm.access([0], [2], [1]), "source 1"),
        (lambda vm: vm.access([0], [2], [0, 0]), "2 sources"),
        (lambda vm: vm.access([0.5], [0]), "integers"),
        (lambda vm: vm.access([[0]], [0]), "dimensions"),
        (lambda vm: vm.access([2**32], [0]), "range"),
        (lambda vm: vm.balloon(PAGE), "guest"),
        (lambda vm: vm.host.scan(), "sharing"),
    ],
)
def test_what_a_vm_is_asked_must_make_sense(call, words):
    host = small()
    vm = host.create_vm("a", MIB)
    vm.write(0, b"kept")
    before = host.counters()
    with pytest.raises(ConfigError, match=words):
        call(vm)
    assert host.counters() == before
    assert vm.read(0, 4) == b"kept"
    host.check()


def test_a_slice_of_a_scan_is_a_number_of_pages():
    host = small(sharing="hash")
    with pytest.raises(ConfigError, match="-1"):
        host.scan(-1)
    assert host.scan(0) == 0


def test_balloon_targets_are_within_the_guest():
    host = small()
    vm = host.create_vm("a", MIB, guest=True)
    for target in (MIB + PAGE, 2**50):
        with pytest.raises(ConfigError, match=r"target|size"):
            vm.balloon(target)
    assert vm.balloon(0) == 0
    assert vm.balloon("512KiB") == MIB // 2
    assert vm.balloon(0) == 0
    host.check()


def test_empty_requests_do_nothing():
    host = small()
    vm = host.create_vm("a", MIB)
    assert vm.access([], []) == (0, "done")
    assert vm.write(0, b"") == 0
    assert vm.read(5, 0) == b""
    assert vm.pin(0, 0) == 0
    assert host.run({}) == {}
    assert host.run({vm: []}) == {vm: (0, "done")}
    assert set(host.counters().values()) == {0}


def test_nothing_but_what_is_left_of_it_can_be_asked_of_a_destroyed_vm():
    host = small()
    vm = host.create_vm("a", MIB)
    vm.write(0, b"x")
    before = host.create_vm("b", MIB)
    vm.destroy()
    for call in (
        lambda: vm.read(0, 1),
        lambda: vm.write(0, b"x"),
        lambda: vm.access([0], [0]),
        lambda: vm.pin(0, 1),
        lambda: vm.clone("c"),
        lambda: vm.balloon(0),
        lambda: vm.destroy(),
        lambda: host.run({vm: []}),
    ):
        with pytest.raises(ConfigError, match="destroyed"):
            call()
    assert host.vms == [before]
    host.check()


def test_a_vm_of_another_host_cannot_run_here():
    host, other = small(), small()
    vm = other.create_vm("a", MIB)
    with pytest.raises(ConfigError, match="another host"):
        host.run({vm: []})


def test_fingerprints_have_no_bytes():
    host = small(content="fingerprint")
    vm = host.create_vm("a", MIB)
    with pytest.raises(ConfigError, match="bytes"):
        vm.write(0, b"x")
    with pytest.raises(ConfigError, match="bytes"):
        vm.read(0, 1)
    assert vm.access([1, 1], [1, 0]) == (2, "done")
    host.check()


@pytest.mark.parametrize("call", ["access", "create_vm", "clone", "destroy", "scan"])
def test_a_second_thread_is_turned_away(call):
    host = small(sharing="hash")
    vm = host.create_vm("a", MIB)
    calls = {
        "access": lambda: vm.access([0], [1]),
        "create_vm": lambda: host.create_vm("b", MIB),
        "clone": lambda: vm.clone("b"),
        "destroy": vm.destroy,
        "scan": host.scan,
    }
    raised = []

    def enter():
        try:
            calls[call]()
        except InvariantError as error:
            raised.append(str(error))

    thread = threading.Thread(target=enter)
    before = host.usage()
    thread.start()
    thread.join()
    assert len(raised) == 1
    assert "thread" in raised[0]
    assert (host.usage(), host.vms) == (before, [vm])
    host.check()


def test_a_stream_may_not_use_the_host_that_runs_it():
    host = small()
    vm, other = host.create_vm("a", MIB), host.create_vm("b", MIB)

    def stream():
        yield [1], [1]
        other.write(0, b"x")

    with pytest.raises(InvariantError, match="one call at a time"):
        host.run({vm: stream()})
    assert other.write(0, b"x") == 1, "the host is usable again"
    host.check()


# -- how accesses end -------------------------------------------------------------------------------------------------


def full(**settings):
    """A host without swap whose memory one VM has filled with bytes of its own."""
    host = small(swap=0, **settings)
    vm = host.create_vm("a", 2 * MIB)
    fill(vm, 0, 512)
    assert vm.outcome == "no_frame"
    return host, vm


def test_stop_says_how_far_it_came_and_why():
    host, vm = full()
    held = vm.counters()["charged_pages"]
    outcome = vm.access(np.arange(500, 512), np.ones(12))
    assert outcome == (0, "no_frame")
    assert host.run({vm: [(np.arange(512), np.ones(512))]}) == {vm: (held, "no_frame")}
    counters = host.counters()
    assert counters["stops"] == 1
    assert counters["exhausted_no_frame"] >= 2
    with pytest.raises(ConfigError, match="stopped after 4096"):
        vm.read((held - 1) * PAGE, 2 * PAGE)
    host.check()


def test_wait_goes_on_once_another_vm_has_made_room():
    host = small(swap=0, on_exhausted="wait")
    hog, vm = host.create_vm("hog", MIB, guest=True), host.create_vm("a", MIB)
    fill(hog, 0, 150)
    hog.access(np.arange(150), np.full(150, 3))  # free for the guest, not for the host

    class Relief:
        interval_ns = 5_000_000

        def decide(self, snapshot):
            from memvirt.policies.base import Targets

            return Targets(balloon_pages={"hog": 250}) if snapshot.now_ns > 20_000_000 else Targets()

    outcome = host.run({vm: [(np.arange(150), np.full(150, 1))]}, decider=Relief())
    assert outcome[vm] == (150, "done")
    assert host.counters()["waits"] > 0
    assert vm.stall_ns >= host.counters()["waits"] * host.engine.clock.table["wait_quantum"]
    host.check()


def test_wait_gives_up_when_nothing_moves():
    host, vm = full(on_exhausted="wait")
    assert host.run({vm: [([511], [1])]})[vm] == (0, "no_frame")
    assert host.counters()["waits"] == 10_000
    host.check()


def test_kill_takes_the_vm_that_pays_for_most():
    host, hog = full(on_exhausted="kill")
    vm = host.create_vm("b", MIB) if host.usage()["free"] > 40 else None
    if vm is None:
        hog.destroy()
        vm, hog = host.create_vm("b", MIB), host.create_vm("hog", MIB)
        fill(hog, 0, 256)
    random = np.arange(100)
    outcome = host.run({vm: [(random, np.ones(100))], hog: [(random, np.zeros(100))]})
    assert outcome[vm] == (100, "done")
    assert outcome[hog][1] == "killed"
    assert host.counters()["kills"] == 1
    assert host.vms == [vm]
    host.check()


def test_a_decider_does_not_hear_of_killed_vms():
    from memvirt.policies.base import Targets

    host, hog = full(on_exhausted="kill")
    vms = [host.create_vm("b", MIB // 4)] if host.usage()["free"] > 40 else []
    hog.destroy()
    hog = host.create_vm("hog", 2 * MIB)
    vms = vms or [host.create_vm("b", MIB // 4)]
    heard = []

    class Reclaims:
        interval_ns = 10_000

        def decide(self, snapshot):
            heard.append({vm.name for vm in snapshot.vms})
            return Targets(reclaim_pages=dict.fromkeys(heard[-1], 1))

    random = np.arange(512)
    streams = {hog: [(random, np.ones(512))], vms[0]: [(random[:64], np.ones(64))] * 400}
    assert host.run(streams, decider=Reclaims())[hog].reason == "killed"
    assert {"b", "hog"} in heard
    assert heard[-1] == {"b"}
    host.check()


def test_a_limit_stops_the_vm_and_no_other():
    host = small(swap=0)
    vm, other = host.create_vm("a", MIB, limit=10 * PAGE), host.create_vm("b", MIB)
    fill(vm, 0, 20)
    assert vm.outcome == "limited"
    assert vm.counters()["charged_pages"] == 10
    assert other.access(np.arange(100), np.ones(100)) == (100, "done")
    assert host.counters()["exhausted_limit"] == 10, "each of the ten writes that did not fit"
    host.check()


def test_until_is_a_time_at_which_nothing_begins():
    """Taken up to a whole quantum; here that is a nanosecond."""
    host = small(quantum="1ns")
    vm = host.create_vm("a", MIB)
    vm.access([0], [1])
    hit = host.engine.clock.table["hit"]
    pages = np.zeros(1000, np.uint32)
    for ns, done in ((10 * hit, 10), (10 * hit + 1, 11), (10 * hit - 1, 10), (1, 1)):
        assert host.run({vm: [(pages, pages)]}, until_ns=vm.sim_ns + ns)[vm] == (done, "until")


# -- admission --------------------------------------------------------------------------------------------------------


def test_reservations_must_fit_into_memory():
    host = small()
    vm = host.create_vm("a", MIB, reservation="512KiB")
    with pytest.raises(AdmissionError, match="reservations"):
        host.create_vm("b", MIB, reservation="512KiB")
    with pytest.raises(AdmissionError, match="reservations"):
        vm.clone("b")
    host.create_vm("b", MIB, reservation="256KiB")
    host.check()


@pytest.mark.parametrize(
    ("commit", "sizes"), [("nominal", (1, 1, None)), ("heuristic", (2, 2, 2)), ("always", (9, 9, 9))]
)
def test_commit_rules(commit, sizes):
    """1 MiB of memory and 1 MiB of swap: nominal promises no more than both; heuristic nobody more than both."""
    host = small(commit=commit)
    for i, size in enumerate(sizes):
        if size is None:
            with pytest.raises(AdmissionError, match=commit):
                host.create_vm(f"vm{i}", PAGE)
            with pytest.raises(AdmissionError, match=commit):
                host.vms[0].clone("clone")
        else:
            host.create_vm(f"vm{i}", size * MIB)
    if commit == "heuristic":
        with pytest.raises(AdmissionError, match=commit):
            host.create_vm("more", 2 * MIB + PAGE)


def test_fixed_metadata_must_fit():
    host = small()
    before = host.usage()
    with pytest.raises(AdmissionError, match="VM 'a' needs 257 frames"):
        host.create_vm("a", "1GiB")
    assert host.usage() == before
    host.check()


def test_a_thick_vm_that_does_not_fit_leaves_nothing_behind():
    host = small(provisioning="thick", swap=0)
    before = host.usage()
    with pytest.raises(AdmissionError, match="thick"):
        host.create_vm("a", 4 * MIB, limit="64KiB")
    assert {key: host.usage()[key] for key in ("guest", "fixed")} == {"guest": 0, "fixed": before["fixed"]}
    vm = host.create_vm("b", MIB // 2)
    assert vm.counters()["charged_pages"] == 128
    host.check()


def test_every_vm_writes_tags_of_its_own():
    """Ids are used again, tags are not: equal pages must be equal because the guests made them so."""
    host = small()
    seen = []
    for name in "abcdef":
        vm = host.create_vm(name, MIB)
        seen.append(vm.tag_base)
        if name in "bd":
            host.vms[0].destroy()
    assert len(set(seen)) == len(seen)


# -- pinned pages -----------------------------------------------------------------------------------------------------


def test_pinned_pages_stay_and_can_go_after_unpin():
    host = small(swap=4 * MIB)
    vm = host.create_vm("a", 2 * MIB)
    fill(vm, 0, 20)
    assert vm.pin(0, 20) == 20
    fill(vm, 20, 400)
    before = host.counters()["swap_pages_in"]
    vm.read_pages(np.arange(20))
    assert host.counters()["swap_pages_in"] == before
    for _ in range(2):  # the first round clears accessed marks
        host.engine.reclaim_from(vm.engine_vm, 1000)
    assert vm.counters()["charged_pages"] == 20
    assert vm.unpin(0, 20) == 20
    for _ in range(2):
        host.engine.reclaim_from(vm.engine_vm, 1000)
    assert vm.counters()["charged_pages"] == 0
    host.check()


def test_pinning_ends_where_memory_does():
    host = small(swap=0)
    vm = host.create_vm("a", 2 * MIB)
    pinned = vm.pin(0, 512)
    assert 100 < pinned < 256
    assert vm.outcome == "no_frame"
    assert host.counters()["evicted"] == 0
    host.check()


# -- orders of replacement --------------------------------------------------------------------------------------------


def test_a_host_pages_by_the_variant_of_its_order():
    """A skewed load: what the paper's s3fifo keeps is not what libcachesim's keeps."""
    counters = []
    for variant in ("libcachesim", "paper", "paper"):
        options = {"replacement": "s3fifo", "replacement_options": {"variant": variant}, "harvest_interval": "20us"}
        host = small(swap=4 * MIB, seed=3, **options)
        vm = host.create_vm("a", 3 * MIB)
        pages = np.random.Generator(np.random.PCG64(1)).integers(0, 768, 30_000) ** 2 // 768
        vm.access(pages.astype(np.uint32), np.ones(30_000, bool))
        host.check()
        counters.append(host.counters())
    assert counters[0] != counters[1] == counters[2]


def paged_out(seed, guests, clone=False):
    """What the guests, who draw their victims, page out when balloons press them: vpns without a page, by VM."""
    host = small(memory=8 * MIB, seed=seed)
    options = {"replacement": "random", "swap": "1MiB", "cache_percent": 0}
    vms = [host.create_vm(f"vm{i}", MIB, guest=options) for i in range(guests)]
    for vm in vms:
        vm.access(np.arange(256, dtype=np.uint32), np.ones(256, bool))
    vms += [vms[0].clone("twin")] if clone else []
    for vm in vms:
        assert vm.balloon("256KiB") == 256 * 1024
    host.check()
    return [[page for page in range(256) if probe.lookup(vm.engine_vm.guest, page) is None] for vm in vms]


def test_guests_draw_from_the_host_s_seed_and_each_its_own():
    one, other, twin = paged_out(1, 2, clone=True)
    assert len(one) == len(other) == len(twin) == 64
    assert one != other and one != twin and other != twin
    assert paged_out(1, 2, clone=True) == [one, other, twin]
    assert paged_out(2, 2)[0] != one


def test_what_guests_count_is_summed_and_outlives_them():
    host = small(memory=4 * MIB)
    assert not any(name.startswith("guest.") for name in host.counters())
    vms = [host.create_vm(name, MIB, guest=True) for name in "ab"]
    for vm, pages in zip(vms, (10, 20), strict=True):
        vm.access(np.arange(pages, dtype=np.uint32), np.ones(pages, bool))
    saved = vms[1].snapshot()
    counted = host.counters()
    assert counted["guest.guest_zeroed"] == 30 and unregistered(counted) == []
    vms[0].destroy()
    vms[1].revert(saved)
    assert host.counters()["guest.guest_zeroed"] == 30
    vms[1].access(np.arange(100, 105, dtype=np.uint32), np.ones(5, bool))
    assert host.counters()["guest.guest_zeroed"] == 35
