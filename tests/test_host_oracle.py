"""The host against the oracle of tests/oracle: random operations on both, and everything compared after each one.

On hosts whose every counter the oracle knows, both must agree digit for digit; see there for what it leaves out.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import memvirt
from memvirt.engine.testing.contents import PageProbe
from memvirt.engine.testing.host import is_pinned, locate
from memvirt.engine.testing.stores import SwapProbe, ZpoolProbe
from memvirt.errors import AdmissionError
from oracle import host as reference
from oracle import parts

PAGE = 4096
EXAMPLES = int(os.environ.get("MEMVIRT_EXAMPLES", "0"))  # more of them for a long search; 0: the few of every run


def make_corpus():
    """Twelve pages: some of one word, some of text that compresses, some of noise, one twice."""
    random = np.random.Generator(np.random.PCG64(7))
    text = np.frombuffer((b"page sharing and overcommit " * 147)[:PAGE], np.uint8)
    pages = [np.full(PAGE, 0, np.uint8), np.full(PAGE, 0x41, np.uint8), text, text]
    pages += [np.frombuffer(random.bytes(PAGE), np.uint8) for _ in range(5)]
    pages += [np.roll(text, shift) for shift in (1, 2)]
    pages.append(np.concatenate([text[:2048], np.frombuffer(random.bytes(2048), np.uint8)]))
    return np.stack(pages)


CORPUS = make_corpus()


def profile(examples, steps=40):
    """Always the same examples; not shrunk, which takes minutes, unless they are searched for by hand."""
    phases = tuple(Phase) if EXAMPLES else (Phase.generate,)
    return settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def page_bytes(host, vm, page):
    """What a page holds wherever it lies, without touching it; None if it was never touched."""
    where = locate(host.engine, vm.engine_vm, page)
    if where is None:
        return None
    kind, number = where
    if kind == "frame":
        return PageProbe(host.engine.content).frame_raw(number)
    if kind == "same":
        return number.to_bytes(8, "little") * 512
    if kind == "swap":
        return SwapProbe(host.engine.mapping.swap).read_slots([number])[0]
    return expand(ZpoolProbe(host.engine.mapping.zpool).get(number))


def expand(payload):
    import lz4.block

    return payload if len(payload) == PAGE else lz4.block.decompress(payload, uncompressed_size=PAGE)


def disagreement(left, right):
    """The entries in which two dicts differ."""
    return {
        key: (left.get(key), right.get(key)) for key in left.keys() | right.keys() if left.get(key) != right.get(key)
    }


class HostMachine(RuleBasedStateMachine):
    """Drives a host and the oracle; subclasses name the settings."""

    vm_pages = (40, 200, 700)

    @initialize()
    def make_host(self):
        self.host = memvirt.Host(corpus=CORPUS, readahead=0, **self.settings_of_host)
        self.oracle = reference.Oracle(self.host, CORPUS[1:])
        self.pairs, self.names, self.pins = [], 0, {}

    def pair(self, number):
        return self.pairs[number % len(self.pairs)]

    def new_name(self):
        self.names += 1
        return f"vm{self.names}"

    def some(self):
        return bool(self.pairs)

    # A batch: a stretch of pages or pages drawn from a seed, most often within a small part of the VM.
    def batch(self, pages, n, seed, mix):
        random = np.random.Generator(np.random.PCG64(seed))
        spread = (8, 64, pages)[seed % 3]
        first = int(random.integers(0, pages))
        numbers = (first + random.integers(0, min(spread, pages), n)) % pages
        if seed % 5 == 0:
            numbers = (first + np.arange(n)) % pages
        ops = np.array(mix, np.uint8)[random.integers(0, len(mix), n)]
        return numbers.astype(np.uint32), ops, random.integers(0, len(CORPUS), n).astype(np.uint32)

    mixes = st.sampled_from([(0,), (1,), (0, 1), (2,), (0, 1, 2), (0, 1, 2, 3), (0, 1, 4), (0, 4), (4,)])
    seeds = st.integers(0, 2**16)
    lengths = st.sampled_from([1, 3, 40, 300])
    numbers = st.integers(0, 7)

    @rule(
        pages=st.sampled_from([0, 1, 2]),
        limit=st.sampled_from([None, None, 30, 100]),
        reservation=st.sampled_from([0, 0, 20]),
        domain=st.sampled_from([0, 0, 1]),
    )
    @precondition(lambda self: len(self.pairs) < 5)
    def create(self, pages, limit, reservation, domain):
        name, pages = self.new_name(), self.vm_pages[pages]
        shares = (1000, 0, 3000)[self.names % 3]
        try:
            vm = self.host.create_vm(
                name,
                pages * PAGE,
                limit=limit and limit * PAGE,
                reservation=reservation * PAGE,
                domain=domain,
                shares=shares,
            )
        except AdmissionError:
            vm = None
        try:
            twin = self.oracle.create_vm(
                name, pages, vm and vm.tag_base, limit=limit, reservation=reservation, domain=domain, shares=shares
            )
        except reference.Refused:
            twin = None
        assert (vm is None) == (twin is None), "both refuse or neither does"
        if vm is not None:
            self.pairs.append((vm, twin))

    @rule(number=numbers, n=lengths, seed=seeds, mix=mixes)
    @precondition(some)
    def access(self, number, n, seed, mix):
        vm, twin = self.pair(number)
        numbers, ops, sources = self.batch(vm.pages, n, seed, mix)
        outcome = vm.access(numbers, ops, sources)
        assert tuple(outcome) == self.oracle.access(twin, numbers.tolist(), ops.tolist(), sources.tolist())

    @rule(
        number=numbers,
        address=st.integers(0, 2**30),
        data=st.binary(min_size=0, max_size=40),
        times=st.integers(1, 200),
    )
    @precondition(some)
    def write(self, number, address, data, times):
        vm, twin = self.pair(number)
        data = data * times
        address %= vm.pages * PAGE - len(data)
        assert vm.write(address, data) == self.oracle.write(twin, address, data)
        assert vm.outcome == twin.outcome

    @rule(number=numbers)
    @precondition(lambda self: self.pairs and len(self.pairs) < 6)
    def clone(self, number):
        vm, twin = self.pair(number)
        name = self.new_name()
        try:
            child = vm.clone(name)
        except AdmissionError:
            child = None
        try:
            other = self.oracle.clone(twin, name, child and child.tag_base)
        except reference.Refused:
            other = None
        assert (child is None) == (other is None), "both refuse or neither does"
        if child is not None:
            self.pairs.append((child, other))

    @rule(number=numbers)
    @precondition(some)
    def destroy(self, number):
        vm, twin = self.pair(number)
        vm.destroy()
        self.oracle.destroy(twin)
        self.pairs.remove((vm, twin))

    @rule(number=numbers, first=st.integers(0, 700), pages=st.integers(1, 12), pinned=st.booleans())
    @precondition(some)
    def pin(self, number, first, pages, pinned):
        vm, twin = self.pair(number)
        pages = min(pages, vm.pages)
        first = min(first, vm.pages - pages)
        done = vm.pin(first, pages) if pinned else vm.unpin(first, pages)
        assert done == self.oracle.pin(twin, first, pages, pinned)
        for page in range(first, first + done):
            self.pins.pop((vm, page), None)
            if pinned:
                self.pins[vm, page] = locate(self.host.engine, vm.engine_vm, page)

    @rule(pages=st.sampled_from([None, None, 1, 30, 500]))
    @precondition(lambda self: self.oracle.sharing)
    def scan(self, pages):
        assert self.host.scan(pages) == self.oracle.sharing.scan_now(*() if pages is None else (pages,))

    @rule()
    def harvest(self):
        self.host.harvest()
        self.oracle.harvest_now()

    @rule(number=numbers, pages=st.sampled_from([0, 1, 40, 300]))
    @precondition(some)
    def reclaim_from(self, number, pages):
        vm, twin = self.pair(number)
        assert self.host.engine.reclaim_from(vm.engine_vm, pages) == self.oracle.reclaim_from(twin, pages)

    @rule(number=numbers, limit=st.sampled_from([None, 25, 30, 60, 100, 2000]))
    @precondition(some)
    def set_limit(self, number, limit):
        vm, twin = self.pair(number)
        if limit is None or limit >= twin.reservation:
            try:
                went = vm.set_limit(limit and limit * PAGE)
            except AdmissionError:  # under strict alone, and then nothing has changed, as all that follows shows
                return
            assert went == PAGE * self.oracle.lower(twin, limit)

    @rule(
        seed=seeds,
        n=lengths,
        mix=mixes,
        until=st.sampled_from([None, 30_000, 2_000_000]),
        work=st.sampled_from([0, 0, 70, 90_000]),
        gap=st.sampled_from([None, None, 0, 400, 60_000]),
    )
    @precondition(some)
    def run(self, seed, n, mix, until, work, gap):
        chosen = [pair for i, pair in enumerate(self.pairs) if not seed >> i & 1] or self.pairs[:1]
        batches = {vm.name: [self.batch(vm.pages, n, seed + i, mix) for i in range(2)] for vm, _ in chosen}
        requests = n // 5 if n > 40 else n
        for k, timed in enumerate(batches.values() if gap is not None else ()):
            due = self.host.sim_ns + 1000 * k + gap * np.arange(requests)
            timed[0] += (work, due)
            timed[1] += (0, due[-1:] + 70_000)
        end = until and self.host.sim_ns + until
        outcome = self.host.run({vm: batches[vm.name] for vm, _ in chosen}, until_ns=end)
        streams = {twin: [plain(batch) for batch in batches[twin.name]] for _, twin in chosen}
        expected = self.oracle.run(streams, *() if end is None else (end,))
        assert {vm.name: tuple(value) for vm, value in outcome.items()} == {
            twin.name: value for twin, value in expected.items()
        }
        self.pairs = [(vm, twin) for vm, twin in self.pairs if twin.alive]

    @invariant()
    def recounts(self):
        self.host.check()

    @invariant()
    def pinned_pages_are_where_they_were(self):
        """Held against what was asked for, and not against the oracle, which could let go as the host does."""
        alive = {vm for vm, _ in self.pairs}
        self.pins = {(vm, page): place for (vm, page), place in self.pins.items() if vm in alive}
        for (vm, page), place in self.pins.items():
            assert locate(self.host.engine, vm.engine_vm, page) == place, f"{vm.name} page {page}"
            assert is_pinned(self.host.engine, vm.engine_vm, page), f"{vm.name} page {page}"

    @invariant()
    def same_memory(self):
        for vm, twin in self.pairs:
            for page in range(vm.pages):
                expected = self.oracle.bytes_of(twin, page)
                assert page_bytes(self.host, vm, page) == expected, f"{vm.name} page {page}"

    @invariant()
    def same_numbers(self):
        host, oracle = self.host, self.oracle
        if oracle.slots:
            swap = host.engine.mapping.swap
            assert {slot for slot in range(swap.nr_slots) if SwapProbe(swap).slot_in_use(slot)} == oracle.slots.taken
        assert not disagreement(host.usage(), oracle.usage())
        assert not disagreement(host.counters(), {**oracle.count, **oracle.device.count, **oracle.lazy_events()})
        assert not disagreement(host.cpu_ns(), oracle.cpu)
        shared = oracle.sharing_state()  # savings have a test of their own
        assert not disagreement({name: value for name, value in host.sharing().items() if name in shared}, shared)
        faults = {kind: value for kind, value in host.histograms().items() if kind != "request"}
        histograms = {kind: [value["count"], value["sum_ns"]] for kind, value in faults.items()}
        assert not disagreement(histograms, oracle.faults)
        assert [vm.name for vm in host.vms] == list(oracle.vms)
        for vm, twin in self.pairs:
            found = (vm.engine_vm.charged, vm.sim_ns, vm.stall_ns, vm.writes_done, vm.view().active_pages)
            assert found == (twin.charged, twin.now, twin.stall, twin.sequence, twin.active), vm.name
            latency = (vm.requests() or {"latency": {"count": 0, "sum_ns": 0}})["latency"]
            found = (vm.work_ns, latency["count"], latency["sum_ns"])
            assert found == (twin.busy - twin.stall, len(twin.latencies), sum(twin.latencies)), vm.name


def plain(batch):
    return [part.tolist() if hasattr(part, "tolist") else part for part in batch]


SMALL = {"memory": 256 * PAGE, "swap": 500 * PAGE}
HOSTS = {
    "clock": SMALL,
    "lru": {**SMALL, "swap": 1300 * PAGE, "replacement": "lru", "harvest_interval": 100_000},
    "fifo": {**SMALL, "replacement": "fifo", "on_exhausted": "kill", "swap": 100 * PAGE, "swap_device": "hdd"},
    "random": {**SMALL, "replacement": "random", "sharing": "hash"},
    "no swap": {"memory": 256 * PAGE, "sharing": "zero-only"},
    "two clusters": {**SMALL, "swap": 600 * PAGE, "replacement": "twolist"},
    "no watermarks": {**SMALL, "watermarks": {"min": 0, "low": 0, "high": 0}},
    "no watermarks thin-huge": {
        "memory": 2048 * PAGE,
        "swap": 500 * PAGE,
        "provisioning": "thin-huge",
        "watermarks": {"min": 0, "low": 0, "high": 0},
    },
    "sharing": {**SMALL, "sharing": "hash", "sharing_options": {"pages_to_scan": 20, "sleep_ns": 100_000}},
    "sharing bounded": {**SMALL, "sharing": "hash", "sharing_options": {"max_page_sharing": 3, "pages_to_scan": 50}},
    "sharing lru": {"memory": 300 * PAGE, "swap": 64 * PAGE, "replacement": "lru", "sharing": "hash"},
    "on write": {**SMALL, "provisioning": "on-write", "sharing": "hash"},
    "on write, no swap": {"memory": 256 * PAGE, "provisioning": "on-write", "on_exhausted": "kill"},
    "on write twolist": {**SMALL, "provisioning": "on-write", "replacement": "twolist", "harvest_interval": 100_000},
    "by shares": {**SMALL, "victims": "shares", "sharing": "hash", "harvest_interval": 100_000},
    "by shares, few slots": {**SMALL, "victims": "shares", "swap": 100 * PAGE, "on_exhausted": "kill"},
    "by shares thin-huge": {
        "memory": 2048 * PAGE,
        "swap": 500 * PAGE,
        "provisioning": "thin-huge",
        "victims": "shares",
    },
    "zeros alone": {**SMALL, "same_filled": "zero"},
    "zeros alone, nowhere to write": {"memory": 256 * PAGE, "same_filled": "zero"},
    "old statistics": {**SMALL, "replacement": "twolist", "replacement_options": {"stats_ns": 300_000}},
    "twolist thin-huge": {
        "memory": 2048 * PAGE,
        "swap": 500 * PAGE,
        "provisioning": "thin-huge",
        "replacement": "twolist",
    },
    "thin-huge": {"memory": 2048 * PAGE, "swap": 1500 * PAGE, "provisioning": "thin-huge", "sharing": "hash"},
    "strict": {**SMALL, "memory": 300 * PAGE, "commit": "strict", "on_exhausted": "kill"},
    "strict thin-huge": {"memory": 2048 * PAGE, "swap": 500 * PAGE, "provisioning": "thin-huge", "commit": "strict"},
    "thick": {"memory": 1500 * PAGE, "swap": 500 * PAGE, "provisioning": "thick", "on_exhausted": "kill"},
}
LARGE = (
    "thin-huge",
    "by shares thin-huge",
    "no watermarks thin-huge",
    "twolist thin-huge",
    "strict thin-huge",
    "thick",
)
ORDERS = tuple(name for name in parts.ORDERS if name not in HOSTS)
HOSTS |= {name: {**SMALL, "replacement": name, "harvest_interval": 100_000} for name in ORDERS}


@pytest.mark.parametrize("name", HOSTS)
def test_host_and_oracle_agree(name):
    members = {"settings_of_host": HOSTS[name]}
    if name in LARGE:
        members["vm_pages"] = (40, 700, 1100)
    machine = type("Machine", (HostMachine,), members)
    run_state_machine_as_test(machine, settings=profile(6 if name in (*LARGE, *ORDERS) else 15))
