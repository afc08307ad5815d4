"""The ksm scanner against a plain-Python model of ksmd: every counter after every pass."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest

import memvirt
from memvirt.errors import ConfigError

PAGE = 4096
COUNTERS = (
    "pages_shared",
    "pages_sharing",
    "pages_unshared",
    "pages_volatile",
    "pages_skipped",
    "ksm_zero_pages",
    "full_scans",
    "general_profit",
    "stable_node_chains",
    "stable_node_dups",
    "hints_followed",
)


def content(token):
    """Equal but for the last word: the trees must compare to the end."""
    return bytes(PAGE) if token == 0 else b"\x07" * (PAGE - 8) + token.to_bytes(8, "big")


CORPUS = np.frombuffer(b"".join(content(token) for token in range(12)), np.uint8).reshape(12, PAGE)
FILL = 2


def make_host(memory=4096, **options):
    options = {"smart_scan": False, **options}
    return memvirt.Host(memory=memory * PAGE, sharing="ksm", sharing_options=options, corpus=CORPUS)


@dataclass(eq=False)
class Frame:
    token: int
    users: list | None = None  # merged: the items of its stable node


@dataclass(eq=False)
class Item:
    token: int | None = None  # what the checksum was of
    state: str = "neither"
    frame: Frame | None = None
    scan: int = -1
    age: int = 0
    skips: int = 0


@dataclass
class Ksmd:
    """ksmd over pages of whole-page contents. Trees are dictionaries: which tree, and not how, is the semantics."""

    limit: int
    zero_pages: bool
    smart: bool
    pages: dict = field(default_factory=dict)  # (vm, gfn) -> Frame; None: the zero frame
    items: dict = field(default_factory=dict)
    stable: dict = field(default_factory=dict)  # token -> frames, in the order a search asks them
    unstable: dict = field(default_factory=dict)
    arrivals: list | None = None  # frames given a page by a device since the last pass; None: no hints
    scans: int = 0
    skipped: int = 0
    followed: int = 0

    def write(self, where, token):
        old = self.pages.get(where)
        if old is not None and old.users is None:
            old.token = token  # in place
            return
        self.pages[where] = Frame(token)
        self.drop_if_unused(old)

    def arrive(self, where, token):
        self.write(where, token)
        if self.arrivals is not None:
            self.arrivals.append(self.pages[where])

    def follow_hints(self):
        for frame in self.arrivals or ():
            if frame.users is None and frame in self.pages.values():
                where = next(where for where in self.pages if self.pages[where] is frame)
                item = self.items.setdefault(where, Item())
                self.remove(item)
                item.token = frame.token
                self.search(where, frame, item)
                self.followed += 1
        self.arrivals = None if self.arrivals is None else []

    def drop_if_unused(self, frame):
        if frame is None or frame.users is None or frame in self.pages.values():
            return
        for item in list(frame.users):
            self.remove(item)
        self.stable[frame.token].remove(frame)

    def destroy(self, vm):
        for where in [where for where in self.items if where[0] == vm]:
            self.remove(self.items.pop(where))
        for where in [where for where in self.pages if where[0] == vm]:
            self.drop_if_unused(self.pages.pop(where))

    def remove(self, item):
        if item.state == "stable":
            item.frame.users.remove(item)
        self.unstable = {token: where for token, where in self.unstable.items() if self.items.get(where) is not item}
        item.state = "neither"

    def append(self, item, frame):
        item.state, item.frame = "stable", frame
        frame.users.append(item)

    def skip(self, item):
        age, item.age = item.age, min(255, item.age + 1)
        if not self.smart or age < 3:
            return False
        if item.skips == 0:
            item.skips = 1 if age <= 3 else 2 if age <= 5 else 4 if age <= 8 else 8
            return False
        item.skips -= 1
        self.skipped += 1
        self.remove(item)
        return True

    def scan(self):
        self.unstable = {}
        self.follow_hints()
        for where in sorted(self.pages):
            frame = self.pages[where]
            if frame is None:
                if where in self.items:
                    self.remove(self.items.pop(where))
                continue
            item = self.items.setdefault(where, Item())
            if frame.users is None and self.skip(item):
                continue
            self.look(where, frame, item)
        self.scans += 1

    def look(self, where, frame, item):
        if frame.users is not None:
            if item.state != "stable" or item.frame is not frame:
                self.remove(item)
                self.append(item, frame)
            return
        self.remove(item)
        if item.token != frame.token:
            item.token = frame.token
            return
        self.search(where, frame, item)

    def search(self, where, frame, item):
        if self.zero_pages and frame.token == 0:
            self.pages[where] = None
            return
        nodes = self.stable.setdefault(frame.token, [])
        usable = [node for node in nodes if 0 < len(node.users) < self.limit]
        room = max(usable, key=lambda node: len(node.users), default=None)
        if room is not None:
            if len(room.users) + 1 < self.limit:
                nodes.remove(room)
                nodes.insert(0, room)
            self.pages[where] = room
            self.append(item, room)
            return
        if frame.token not in self.unstable:
            self.unstable[frame.token] = where
            item.state, item.scan = "unstable", self.scans
            return
        other = self.unstable.pop(frame.token)
        self.remove(self.items[other])
        self.pages[other] = frame
        frame.users = []
        nodes.insert(0, frame)
        self.append(self.items[other], frame)
        self.append(item, frame)

    def counters(self):
        nodes = [node for chain in self.stable.values() for node in chain]
        shared = sum(bool(node.users) for node in nodes)
        sharing = sum(len(node.users) for node in nodes) - shared
        unshared = sum(item.state == "unstable" for item in self.items.values())
        zero = sum(frame is None for frame in self.pages.values())
        chains = [chain for chain in self.stable.values() if len(chain) > 1]
        values = (
            shared,
            sharing,
            unshared,
            len(self.items) - shared - sharing - unshared,
            self.skipped,
            zero,
            self.scans,
            (sharing + zero) * PAGE - len(self.items) * 64,
            len(chains),
            sum(map(len, chains)),
            self.followed,
        )
        return dict(zip(COUNTERS, values, strict=True))


@pytest.mark.parametrize("hints", [False, True])
@pytest.mark.parametrize("smart", [False, True])
@pytest.mark.parametrize(("limit", "zero_pages"), [(2, False), (3, True), (256, False), (256, True)])
def test_every_counter_after_every_pass(limit, zero_pages, smart, hints):
    rng = random.Random(limit * 4 + zero_pages * 2 + smart)
    host = make_host(max_page_sharing=limit, use_zero_pages=zero_pages, smart_scan=smart, hints=hints)
    model = Ksmd(limit, zero_pages, smart, arrivals=[] if hints else None)
    vms = {number: host.create_vm(f"vm{number}", memory=300 * PAGE) for number in range(3)}
    for step in range(45):
        for _ in range(rng.choice((0, 0, 20, 120))):
            number, gfn, token = rng.choice(list(vms)), rng.randrange(300), min(rng.randrange(12), rng.randrange(40))
            vms[number].write(gfn * PAGE, content(token))
            model.write((number, gfn), token)
        for _ in range(rng.choice((0, 40))):
            number, gfn, token = rng.choice(list(vms)), rng.randrange(300), rng.randrange(12)
            assert vms[number].access([gfn], [FILL], [token]).done
            model.arrive((number, gfn), token)
        if step in (15, 30):
            vms[0].destroy()
            model.destroy(0)
            vms[0] = host.create_vm("vm0", memory=300 * PAGE)
        host.scan()
        model.scan()
        host.check()
        state = host.sharing()
        assert {name: state[name] for name in COUNTERS} == model.counters(), step
    for (number, gfn), frame in model.pages.items():
        assert vms[number].read(gfn * PAGE, PAGE) == content(0 if frame is None else frame.token)
    assert model.counters()["pages_sharing"] > 0 and (smart is False or model.skipped > 0)
    assert bool(model.followed) == hints


def test_a_slice_goes_on_where_the_last_one_ended():
    whole, sliced = make_host(), make_host()
    for host in (whole, sliced):
        vm = host.create_vm("a", memory=200 * PAGE)
        for gfn in range(200):
            vm.write(gfn * PAGE, content(gfn % 30))
    for _ in range(4):
        whole.scan()
    while sliced.sharing()["full_scans"] < 4:
        sliced.scan(7)
        sliced.check()
    same = set(COUNTERS) | {"pages_scanned"}
    assert {k: v for k, v in whole.sharing().items() if k in same} == {
        k: v for k, v in sliced.sharing().items() if k in same
    }


def test_writes_in_the_middle_of_a_pass_lose_nothing():
    """The unstable tree's order is wrong now and then: pairs may be missed, bytes may not change."""
    rng = random.Random(5)
    host = make_host(max_page_sharing=3)
    vms = [host.create_vm(name, memory=128 * PAGE) for name in "abc"]
    expected = {}
    for _ in range(1500):
        index, gfn, token = rng.randrange(3), rng.randrange(128), rng.randrange(20)
        vms[index].write(gfn * PAGE, content(token))
        expected[index, gfn] = token
        if rng.random() < 0.2:
            host.scan(rng.randrange(1, 90))
            host.check()
        if rng.random() < 0.01:
            vms[0].destroy()
            vms[0] = host.create_vm("a", memory=128 * PAGE)
            expected = {where: token for where, token in expected.items() if where[0]}
    for (index, gfn), token in expected.items():
        assert vms[index].read(gfn * PAGE, PAGE) == content(token)


def test_the_last_user_of_a_merged_frame_copies_too():
    host = make_host()
    vm = host.create_vm("a", memory="1MiB")
    for gfn in (0, 1):
        vm.write(gfn * PAGE, content(3))
    for _ in range(3):
        host.scan()
    before = host.counters()
    vm.write(0, b"x")
    vm.write(PAGE, b"y")
    after = host.counters()
    assert after["fault_cow"] - before["fault_cow"] == 2
    assert after["cow_breaks_shared"] - before["cow_breaks_shared"] == 2
    assert after["fault_reuse"] == before["fault_reuse"]
    assert host.sharing()["breaks"] == 1
    host.check()


def test_clones_are_looked_at_once_per_vm():
    """As forked processes in Linux: a page and its clone do not merge, but follow when one of them does."""
    host = make_host()
    parent = host.create_vm("parent", memory="2MiB")
    parent.write(0, content(1))
    parent.write(PAGE, content(2))
    parent.clone("child")
    for _ in range(4):
        host.scan()
    state = host.sharing()
    assert (state["pages_shared"], state["pages_unshared"], state["rmap_items"]) == (0, 2, 4)
    host.create_vm("other", memory="2MiB").write(0, content(1))
    for _ in range(4):
        host.scan()
    host.check()
    state = host.sharing()
    assert (state["pages_shared"], state["pages_sharing"]) == (1, 2)


def test_trees_and_items_are_charged():
    host = make_host()
    vm = host.create_vm("a", memory="4MiB")
    before = host.usage()["fixed"]
    vm.access(np.arange(1024), np.ones(1024, bool))
    host.scan()
    host.scan()
    grown = host.usage()["fixed"] - before
    assert grown == 1024 // 128  # items, 32 bytes each
    assert host.sharing()["metadata_scanner_frames"] >= grown
    vm.destroy()
    host.check()
    assert host.sharing()["rmap_items"] == 0


@pytest.mark.parametrize("after", range(1, 13))
def test_no_frame_for_items_nodes_or_the_reverse_map(after):
    host = make_host(memory=1024)
    vms = [host.create_vm(name, memory=256 * PAGE) for name in "ab"]
    for vm in vms:
        for gfn in range(0, 256, 2):
            vm.write(gfn * PAGE, content(gfn // 3))
    host.scan()
    host.engine.frames.buddy.fail_after(after)
    host.scan()
    host.scan()
    host.engine.frames.buddy.fail_after(0)
    host.check()
    for _ in range(4):
        host.scan()
    host.check()
    assert host.sharing()["pages_shared"] == 85
    for vm in vms:
        assert all(vm.read(gfn * PAGE, PAGE) == content(gfn // 3) for gfn in range(0, 256, 2))


def test_the_advisor_in_its_integer_arithmetic():
    """Two passes over 600 pages: 1 s each to the clock, far below the target, so it slows down to what the processor
    limits allow."""
    host = make_host(advisor=True, advisor_target_ns=10_000_000_000)
    vm = host.create_vm("a", memory=600 * PAGE)
    vm.access(np.arange(600), np.ones(600, bool))
    assert host.sharing()["pages_to_scan"] == 500
    host.scan()
    # scan 1 s, cpu 1 %; change = 30 * 100 / 100 = 30; 500 * 100 / 1000 = 50, * 30 / 100 = 15; per percent 500:
    # min(15, 35000) = 15, max(15, 5000) = 5000
    assert host.sharing()["pages_to_scan"] == 5000
    host.scan()
    # change = (70 * 30 + 30 * 100) / 100 = 51; 5000 * 100 / 1000 * 51 / 100 = 255; max(255, 50000), limit 30000
    assert host.sharing()["pages_to_scan"] == 30000


def test_bad_options_are_refused():
    with pytest.raises(ConfigError, match="max_page_sharing"):
        make_host(max_page_sharing=1)
    with pytest.raises(ConfigError, match="salting"):
        make_host(salting="none")
