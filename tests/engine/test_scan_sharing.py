"""Every scanner: contents stay intact whatever happens, and what is found equal is what a dictionary of bytes finds."""

import random
import time
from collections import defaultdict

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing.host import narrow_hash
from memvirt.errors import ConfigError
from memvirt.metrics import registry
from memvirt.names import SCANNERS as NAMED
from memvirt.policies import Targets

PAGE = 4096
CORPUS = np.zeros((40, PAGE), np.uint8)
CORPUS[1:] = np.random.Generator(np.random.PCG64(7)).integers(0, 256, (39, PAGE), np.uint8)
SCANNERS = {
    "hash": {},
    "hash with hints": {"hints": True},
    "ksm": {"smart_scan": False},
    "ksm with hints": {"smart_scan": False, "hints": True},
    "ksm with zero pages": {"smart_scan": False, "use_zero_pages": True, "max_page_sharing": 3},
    "esx": {"salting": "global", "scan_time_ns": 1, "pages_per_s": 10**9, "vm_pages_per_s": 10**9},
    "zero-only": {},
    "inline": {},
}
FILL, WRITE = 2, 1


def make_host(name, memory=2048, **settings):
    options = SCANNERS[name] | settings.pop("options", {})
    return memvirt.Host(
        memory=memory * PAGE, sharing=name.split()[0], sharing_options=options, corpus=CORPUS, seed=2, **settings
    )


class Oracle:
    """VMs of a host and, for every page, the bytes it must have."""

    def __init__(self, host, seed, pages=96):
        self.host, self.pages, self.rng = host, pages, random.Random(seed)
        self.vms, self.bytes = {}, {}
        for name in "abc":
            self.create(name)

    def create(self, name):
        self.vms[name] = self.host.create_vm(name, memory=self.pages * PAGE)

    def step(self):
        rng = self.rng
        name, gfn = rng.choice(sorted(self.vms)), rng.randrange(self.pages)
        kind = rng.choice(("fill", "fill", "bytes", "bytes", "zero", "end", "clone"))
        if kind == "fill":
            source = rng.randrange(12)
            if self.vms[name].access([gfn], [FILL], [source]).done:
                self.bytes[name, gfn] = bytes(CORPUS[source])
        elif kind in ("bytes", "zero"):
            offset, data = (
                rng.choice((0, 8, PAGE - 4)),
                b"\0\0\0\0" if kind == "zero" else rng.choice((b"abcd", b"efgh")),
            )
            self.write(name, gfn, offset, data)
        elif rng.random() < 0.05:
            self.replace(name, clone=kind == "clone")

    def write(self, name, gfn, offset, data):
        if self.vms[name].write(gfn * PAGE + offset, data) == len(data):
            old = self.bytes.get((name, gfn), bytes(PAGE))
            self.bytes[name, gfn] = old[:offset] + data + old[offset + len(data) :]

    def replace(self, name, clone):
        """One VM ends; another of its name begins, empty or as a clone."""
        self.vms.pop(name).destroy()
        self.bytes = {where: data for where, data in self.bytes.items() if where[0] != name}
        if not clone:
            return self.create(name)
        parent = self.rng.choice(sorted(self.vms))
        self.vms[name] = self.vms[parent].clone(name)
        copied = {(name, gfn): data for (vm, gfn), data in self.bytes.items() if vm == parent}
        self.bytes |= copied
        return None

    def check(self):
        self.host.check()
        for (name, gfn), data in self.bytes.items():
            assert self.vms[name].read(gfn * PAGE, PAGE) == data, (name, gfn)


@pytest.mark.parametrize("pressure", [False, True])
@pytest.mark.parametrize("name", SCANNERS)
def test_contents_stay_intact(name, pressure):
    """Random writes, clones and ends between slices of scanning; under pressure pages go out and return."""
    settings = {"memory": 320, "swap": 2048 * PAGE, "zpool_percent": 10} if pressure else {}
    host = make_host(name, **settings)
    oracle = Oracle(host, seed=f"{name} {pressure}", pages=256 if pressure else 96)
    for vm in "abc":
        for gfn in range(0, oracle.pages, 2):  # half of the pages are unique
            oracle.write(vm, gfn, 8, vm.encode() + gfn.to_bytes(3, "big"))
    for step in range(900):
        oracle.step()
        if step % 7 == 0:
            host.scan(oracle.rng.randrange(1, 200))
        if step % 90 == 0:
            oracle.check()
    oracle.check()
    assert host.sharing()["merges"] > 0
    if pressure:
        assert host.counters()["evicted"] > 0


def exact(oracle, domain_of):
    """Frames that exact sharing would need: different contents per domain; and pages of zeros."""
    contents = defaultdict(set)
    for (name, _), data in oracle.bytes.items():
        if any(data):
            contents[domain_of(name)].add(data)
    return sum(map(len, contents.values()))


@pytest.mark.parametrize("bits", [64, 6, 0])
@pytest.mark.parametrize("salting", ["global", "tenant", "vm"])
@pytest.mark.parametrize("name", ["hash", "ksm with zero pages", "esx"])
def test_settled_sharing_is_exact(name, salting, bits):
    """However bad the hash, and whoever may share with whom."""
    host = make_host(name, options={"salting": salting, **({"max_page_sharing": 256} if "ksm" in name else {})})
    narrow_hash(host.engine.index, bits)
    oracle = Oracle(host, seed=salting)
    host.set_domains({"a": 1, "b": 2, "c": 1})
    for _ in range(700):
        name_, gfn = oracle.rng.choice("abc"), oracle.rng.randrange(96)
        source = oracle.rng.randrange(20)
        oracle.vms[name_].access([gfn], [FILL], [source])
        oracle.bytes[name_, gfn] = bytes(CORPUS[source])
    for _ in range(4):
        host.scan()
    domain = {"global": lambda _: 0, "tenant": {"a": 1, "b": 2, "c": 1}.get, "vm": lambda vm: vm}[salting]
    state = host.sharing()
    assert host.usage()["guest"] == exact(oracle, domain)
    assert state["zero_pages"] == sum(not any(data) for data in oracle.bytes.values())
    assert state["saved_gross_frames"] == len(oracle.bytes) - host.usage()["guest"]
    assert (state["saved_inter_pages"] == 0) == (salting == "vm")
    if bits == 0 and "ksm" not in name:
        assert state["false_matches"] > 0
    oracle.check()


def test_zero_only_merges_zeros_and_nothing_else():
    host = make_host("zero-only")
    vm = host.create_vm("a", memory=64 * PAGE)
    vm.access(np.arange(64), np.full(64, FILL), np.array([0, 1, 1, 2] * 16))
    assert host.scan() == 16
    assert host.usage()["guest"] == 48
    assert vm.read(0, PAGE) == bytes(PAGE)
    host.check()


def test_inline_shares_on_arrival():
    host = make_host("inline", memory=256, swap=1024 * PAGE)
    vms = [host.create_vm(name, memory=400 * PAGE) for name in "ab"]
    for vm in vms:
        vm.access(np.arange(40), np.full(40, FILL), np.arange(40))
    state = host.sharing()
    assert (host.usage()["guest"], state["zero_pages"], state["arrival_merges"]) == (39, 2, 41)
    assert host.scan() == 0
    host.check()
    for vm in vms:  # all of it goes out to swap ...
        pages = np.arange(40, 400)
        vm.access(pages, np.ones(360, bool))
    assert host.counters()["evicted_swap"] > 0
    for vm in vms:  # ... and comes back as it was
        assert np.array_equal(vm.read_pages(np.arange(40)), CORPUS)
    host.check()


@pytest.mark.parametrize("name", ["hash with hints", "ksm with hints"])
def test_hints_are_followed_before_the_pass_goes_on(name):
    host = make_host(name)
    vm = host.create_vm("a", memory=512 * PAGE)
    vm.access(np.arange(300), np.ones(300, bool))  # unique pages, in the way of an ordinary pass
    host.scan()
    before = host.sharing()["pages_scanned"]
    vm.access(np.arange(400, 420), np.full(20, FILL), np.full(20, 5))
    assert host.scan(20) == 9  # half of the slice; the other half goes to the pass
    assert host.sharing()["hints_followed"] == 10
    assert host.scan(40) == 10
    state = host.sharing()
    assert (state["hints_followed"], state["pages_scanned"] - before) == (20, 60)
    assert state["time_to_merge_ns.count"] == 19
    host.check()


@pytest.mark.parametrize("name", ["hash", "ksm", "esx", "zero-only"])
def test_after_settling_the_scanner_goes_on_at_its_pace(name):
    """It used to be ahead of the VMs by the time its passes had taken, and asleep for as long as they measured."""
    host = make_host(name, options={} if name == "esx" else {"pages_to_scan": 50, "sleep_ns": 100_000})
    vms = [host.create_vm(vm, memory=512 * PAGE) for vm in "ab"]
    vms[0].access(np.arange(400), np.ones(400, bool))
    host.settle(5)
    scanned, began = host.sharing()["pages_scanned"], host.sim_ns
    assert {vm.sim_ns for vm in vms} == {began}
    host.run({vm: [(np.arange(400, dtype=np.uint32), np.zeros(400, np.uint8))] * 20 for vm in vms})
    assert host.sharing()["pages_scanned"] - scanned >= 50 * ((host.sim_ns - began) // 200_000) > 0
    assert all(vm.stall_ns == 0 for vm in vms)
    host.check()


@pytest.mark.parametrize("name", ["hash with hints", "ksm with hints"])
def test_a_hint_may_be_out_of_date(name):
    """Frames freed, pinned or written to since their content arrived, and more arrivals than are remembered."""
    host = make_host(name, memory=8192)
    gone = host.create_vm("gone", memory=64 * PAGE)
    vm = host.create_vm("a", memory=5000 * PAGE)
    gone.access(np.arange(64), np.full(64, FILL), np.full(64, 5))
    gone.destroy()
    vm.access(np.arange(8), np.full(8, FILL), np.full(8, 5))
    vm.pin(0, 2)
    vm.write(2 * PAGE, b"changed")
    assert host.scan(400) == 4  # of the five that are left
    before = host.sharing()["hints_followed"]
    vm.access(np.arange(8, 5000), np.full(4992, FILL), np.full(4992, 6))
    host.scan()
    assert host.sharing()["hints_followed"] == before + 4096
    for gfn, source in ((0, 5), (1, 5), (3, 5), (7, 5), (8, 6), (4999, 6)):
        assert vm.read(gfn * PAGE, PAGE) == bytes(CORPUS[source])
    assert vm.read(2 * PAGE, PAGE) == b"changed" + bytes(CORPUS[5])[7:]
    host.check()


def test_pages_read_ahead_from_swap_arrive_when_they_are_mapped():
    host = make_host("inline", memory=256, swap=2048 * PAGE, readahead=3)
    vm = host.create_vm("a", memory=512 * PAGE)
    vm.access(np.arange(400), np.ones(400, bool))
    same = np.arange(16)
    vm.access(same, np.ones(16, bool))
    for gfn in same:
        vm.write(int(gfn) * PAGE, bytes(CORPUS[7]))
    vm.access(np.arange(100, 400), np.ones(300, bool))  # all sixteen go out as they are, nobody has compared them
    assert host.sharing()["arrival_merges"] == 0
    vm.access(same, np.zeros(16, bool))
    assert host.counters()["readahead_hits"] > 0
    assert host.sharing()["arrival_merges"] == 15
    host.check()


@pytest.mark.parametrize("name", ["hash", "hash with hints", "esx", "inline"])
def test_a_bound_on_sharing_costs_a_frame_for_each_time_it_is_reached(name):
    """n equal pages take n / bound frames, rounded up; pages that break make room, and it is used again."""
    host = make_host(name, options={"max_page_sharing": 8})
    vm = host.create_vm("a", memory=256 * PAGE)
    vm.access(np.arange(100), np.full(100, FILL), np.full(100, 5))
    vm.access(np.arange(100, 110), np.full(10, FILL), np.zeros(10, int))  # zeros have no reverse map, and no bound
    host.scan()
    state = host.sharing()
    assert (state["pages_shared"], state["pages_sharing"], state["zero_pages"]) == (13, 87, 10)
    for gfn in range(0, 100, 2):
        vm.write(gfn * PAGE, b"own")
    vm.access(np.arange(0, 100, 2), np.full(50, FILL), np.full(50, 5))
    host.scan()
    host.check()
    state = host.sharing()
    assert state["pages_shared"] + state["pages_sharing"] == 100
    assert 13 <= state["pages_shared"] <= 14  # those that were left half empty fill up again, as long as they are found
    for gfn in range(110):
        assert vm.read(gfn * PAGE, PAGE) == bytes(CORPUS[5 if gfn < 100 else 0])


def test_esx_finds_stale_hints_by_hashing_again():
    host = make_host("esx")
    vm = host.create_vm("a", memory=64 * PAGE)
    vm.access(np.arange(8), np.full(8, FILL), np.arange(1, 9))
    host.scan()  # eight hints
    for gfn in range(8):
        vm.write(gfn * PAGE, b"changed")
    vm.access(np.arange(8, 16), np.full(8, FILL), np.arange(1, 9))
    assert host.scan() == 0
    assert host.sharing()["stale_hints"] == 8
    host.check()


def test_esx_keeps_its_rates():
    """50 pages a second in a VM, 200 in all: 50 a second of one VM's 400 pages, 40 each of five VMs'."""
    for vms, per_second in ((1, 50), (5, 200)):
        host = make_host("esx", memory=4096, options={"pages_per_s": 200, "vm_pages_per_s": 50})
        streams = {}
        for number in range(vms):
            vm = host.create_vm(f"vm{number}", memory=400 * PAGE)
            vm.access(np.arange(400), np.full(400, FILL), np.arange(400) % 39 + 1)
            pages = np.zeros(1 << 16, np.uint32)
            streams[vm] = [(pages, np.zeros(len(pages), np.uint8))] * 1000
        host.run(streams, until_ns=2_000_000_000)
        assert 2 * per_second * 0.95 <= host.sharing()["pages_scanned"] <= 2 * per_second * 1.05


def test_esx_shares_before_it_swaps():
    host = make_host("esx", swap=1024 * PAGE)
    a, b = (host.create_vm(name, memory=200 * PAGE) for name in "ab")
    a.access(np.arange(39), np.full(39, FILL), np.arange(1, 40))
    host.scan()  # a hint of each page
    b.access(np.arange(50), np.full(50, FILL), np.arange(50) % 39 + 1)
    host.harvest()
    assert host.engine.reclaim_from(b.engine_vm, 50) == 50
    assert host.sharing()["last_chance_merges"] == 50
    assert host.counters()["evicted"] == 0
    host.check()
    assert np.array_equal(b.read_pages(np.arange(50)), CORPUS[np.arange(50) % 39 + 1])


@pytest.mark.parametrize("after", range(1, 11))
@pytest.mark.parametrize("name", ["hash", "ksm", "esx", "inline"])
def test_no_frame_in_the_middle(name, after):
    """The allocator refuses in the middle of merging: put off, counted, nothing lost, and made up for later."""
    host = make_host(name)
    oracle = Oracle(host, seed=4)
    buddy = host.engine.frames.buddy
    for vm in "abc":
        for gfn in range(96):
            oracle.vms[vm].access([gfn], [WRITE])
            oracle.bytes[vm, gfn] = oracle.vms[vm].read(gfn * PAGE, PAGE)
    host.scan()
    buddy.fail_after(after)
    for vm in "abc":
        source = [gfn % 30 + 1 for gfn in range(96)]
        oracle.vms[vm].access(np.arange(96), np.full(96, FILL), source)
        oracle.bytes |= {(vm, gfn): bytes(CORPUS[source[gfn]]) for gfn in range(96)}
    host.scan()
    host.scan()
    buddy.fail_after(0)
    oracle.check()
    if name != "inline":
        for _ in range(3):
            host.scan()
        assert host.usage()["guest"] == 30
    oracle.check()


def test_savings_by_kind():
    host = make_host("hash")
    a, b = (host.create_vm(name, memory=64 * PAGE) for name in "ab")
    a.access(np.arange(7), np.full(7, FILL), [0, 0, 1, 1, 1, 2, 3])
    b.access(np.arange(4), np.full(4, FILL), [0, 1, 1, 2])
    host.scan()
    state = host.sharing()
    assert state["saved_zero_pages"] == 3  # all three name the zero frame
    assert state["saved_intra_pages"] == 2 + 1  # content 1: three in a, two in b
    assert state["saved_inter_pages"] == 1 + 1  # contents 1 and 2
    assert state["saved_gross_frames"] == state["sharing_debt_frames"] == 8
    metadata = sum(state[f"metadata_{part}_frames"] for part in ("index", "scanner"))
    assert state["saved_net_frames"] == 8 - metadata
    assert metadata >= 2048 * 16 // PAGE  # the index alone


def test_times_to_merge_and_of_sharing():
    host = make_host("hash")
    vm = host.create_vm("a", memory=64 * PAGE)
    vm.access([0, 1], [FILL, FILL], [1, 1])
    filled = vm.sim_ns
    host.scan()
    state = host.sharing()
    assert state["time_to_merge_ns.count"] == 1
    assert 0 < state["time_to_merge_ns.max"] < filled + 10_000_000
    assert state["time_to_merge_ns.p50"] <= state["time_to_merge_ns.max"] == state["time_to_merge_ns.sum"]
    assert state["share_lifetime_ns.count"] == 0
    vm.write(0, b"x")  # copied; the frame is still merged, of one page
    vm.write(PAGE, b"y")
    state = host.sharing()
    assert (state["breaks"], state["share_lifetime_ns.count"]) == (1, 1)
    assert host.sharing_histograms()["share_lifetime_ns"]["sum_ns"] == state["share_lifetime_ns.sum"] > 0


@pytest.mark.parametrize("name", SCANNERS)
def test_every_number_is_registered_and_an_integer(name):
    host = make_host(name)
    Oracle(host, seed=1)
    host.scan()
    state = host.sharing()
    assert registry.unregistered(state) == []
    assert {key for key, value in state.items() if type(value) is not int} == set()


@pytest.mark.parametrize("name", SCANNERS)
def test_same_seed_same_counters(name):
    def once():
        host = make_host(name, memory=400, swap=1024 * PAGE)
        oracle = Oracle(host, seed=9)
        for step in range(300):
            oracle.step()
            if step % 5 == 0:
                host.scan(50)
        return host.counters(), host.sharing(), host.sim_ns

    assert once() == once()


@pytest.mark.parametrize("name", ["hash", "ksm", "esx"])
def test_fingerprints_share_as_bytes_do(name):
    def shared(content):
        host = make_host(name, content=content)
        for vm in "ab":
            host.create_vm(vm, memory=96 * PAGE).access(np.arange(96), np.full(96, FILL), np.arange(96) % 30)
        for _ in range(4):
            host.scan()
        host.check()
        return {key: host.sharing()[key] for key in ("pages_shared", "pages_sharing", "zero_pages")}

    assert shared("bytes") == shared("fingerprint")


def test_pinned_pages_are_left_alone():
    for name in ("hash", "ksm", "esx"):
        host = make_host(name)
        vm = host.create_vm("a", memory=64 * PAGE)
        vm.access(np.arange(4), np.full(4, FILL), [1, 1, 1, 1])
        vm.pin(0, 2)
        for _ in range(3):
            host.scan()
        assert host.usage()["guest"] == 3
        host.check()


def test_domains_that_name_no_vm():
    host = make_host("hash")
    host.create_vm("web", memory="1MiB")
    with pytest.raises(ConfigError, match="no VM 'wbe'; did you mean 'web'"):
        host.set_domains({"web": 1, "wbe": 2})
    with pytest.raises(ConfigError, match="-1 of VM 'web'"):
        host.set_domains({"web": -1})
    with pytest.raises(ConfigError, match="domain"):
        host.create_vm("db", memory="1MiB", domain=-1)
    assert host.vms[0].engine_vm.account()["domain"] == 0  # all or nothing


@pytest.mark.parametrize("name", ["hash", "ksm", "esx", "inline"])
def test_merged_frames_may_be_split_out_of_huge_leaves_and_moved(name):
    """Thick VMs in 2 MiB blocks; sharing splits them, compaction moves what is left, sharing goes on from there."""
    host = make_host(name, memory=4096, provisioning="thick")
    vms = [host.create_vm(vm, memory=1024 * PAGE) for vm in "ab"]
    for vm in vms:
        vm.access(np.arange(1024), np.full(1024, FILL), np.arange(1024) % 39 + 1)
    for _ in range(3):
        host.scan()
    assert host.usage()["guest"] == 39
    for page in range(0, 1024, 7):
        vms[0].write(page * PAGE, page.to_bytes(4, "big"))
    host.compact()
    assert host.counters()["compact_moved"] > 0
    host.check()
    for _ in range(3):
        host.scan()
    host.check()
    expected = CORPUS[np.arange(1024) % 39 + 1].copy()
    assert np.array_equal(vms[1].read_pages(np.arange(1024)), expected)
    for page in range(0, 1024, 7):
        expected[page, :4] = np.frombuffer(page.to_bytes(4, "big"), np.uint8)
    assert np.array_equal(vms[0].read_pages(np.arange(1024)), expected)


@pytest.mark.parametrize(
    ("scanner", "option"),
    [
        (name, key)
        for name, scanner in NAMED.items()
        for key, option in scanner.options.items()
        if type(option.default) is int
    ],
)
def test_every_number_a_scanner_may_be_told_it_can_be_told(scanner, option):
    """From the smallest to the largest that the configuration lets through; beyond, words and not a traceback."""
    refused = 0
    for value in (0, 1, 2, 2**31 - 1, 2**31, 2**32, 10**18, 10**18 + 1, 2**63):
        options = {option: value, **({"advisor": True} if option.startswith("advisor") else {})}
        try:
            host = memvirt.Host(memory="2MiB", sharing=scanner, sharing_options=options)
        except ConfigError as error:
            assert f"sharing_options.{option}: {value} " in str(error)
            refused += 1
            continue
        vm = host.create_vm("a", memory="1MiB")
        host.run({vm: [(np.arange(256, dtype=np.uint32), np.ones(256, np.uint8))] * 3})
        host.scan()
        host.check()
    assert 3 <= refused <= 7


@pytest.mark.parametrize("scanner", ["hash", "ksm", "zero-only", "esx", "inline"])
def test_a_scanner_with_nothing_to_look_at_waits_for_something_to_change(scanner):
    """However short a pause it, or a decider, has set: a walk over memory that takes no time must not be made for ever."""
    pace = {"sleep_ns": 1} if scanner in ("hash", "ksm", "zero-only") else {}
    host = memvirt.Host(memory="64MiB", sharing=scanner, sharing_options=pace, seed=1)
    vm = host.create_vm("a", "1MiB")

    class Hasty:
        interval_ns = 1_000_000

        def decide(self, snapshot):
            return Targets(scan_pages=5, scan_sleep_ns=0)

    begins = time.process_time()
    host.run({vm: [(np.zeros(200_000, np.uint32), np.zeros(200_000, np.uint8))]}, decider=Hasty())
    assert host.sharing()["full_scans"] < 1000
    assert time.process_time() - begins < 10
