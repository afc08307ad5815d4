"""Trees of clones, snapshots and templates under all that moves pages: every VM keeps its own bytes, whoever ends first."""

import contextlib
import random

import numpy as np
import pytest

import memvirt
from memvirt.errors import AdmissionError, ConfigError

PAGE = 4096
PAGES = 96
STEPS = 1200
FILL = 2
CORPUS = np.zeros((24, PAGE), np.uint8)
CORPUS[1:] = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (23, PAGE), np.uint8)
CORPUS[12:, 512:] = 7  # half of it compresses


class Tree:
    """VMs and snapshots of a host, and what each page of each must read."""

    def __init__(self, host, seed, guest):
        self.host, self.rng, self.guest = host, random.Random(seed), guest
        self.vms, self.saved, self.templates, self.made = {}, [], set(), 0
        self.create()

    def create(self):
        self.made += 1
        name = f"vm{self.made}"
        options = {"cache_percent": 0, "swap": "512KiB"} if self.guest and self.rng.random() < 0.5 else False
        try:
            self.vms[name] = self.host.create_vm(name, memory=PAGES * PAGE, guest=options), {}
        except AdmissionError:
            return None
        return name

    def any(self, running=True):
        names = [name for name in self.vms if not running or name not in self.templates]
        return self.rng.choice(names) if names else self.create()

    def write(self):
        if (name := self.any()) is None:
            return
        vm, pages = self.vms[name]
        for _ in range(self.rng.choice((1, 5, 40))):
            page, source = self.rng.randrange(PAGES), self.rng.randrange(24)
            if self.rng.random() < 0.5:
                if vm.access([page], [FILL], [source]).done:
                    pages[page] = CORPUS[source].tobytes()
            elif vm.write(page * PAGE + 8, bytes([source] * 4)) == 4:
                old = pages.get(page, bytes(PAGE))
                pages[page] = old[:8] + bytes([source] * 4) + old[12:]

    def clone(self):
        parent = self.any(running=False)
        if parent is None or len(self.vms) > 10:
            return
        self.made += 1
        with contextlib.suppress(AdmissionError):
            self.vms[f"vm{self.made}"] = self.vms[parent][0].clone(f"vm{self.made}"), dict(self.vms[parent][1])

    def freeze(self):
        if len(self.templates) < 2 and (name := self.any()) is not None:
            self.vms[name][0].freeze()
            self.templates.add(name)

    def snapshot(self):
        name = self.any()
        if name is None or len(self.saved) > 3:
            return
        with contextlib.suppress(AdmissionError):
            self.saved.append((name, self.vms[name][0].snapshot(), dict(self.vms[name][1])))

    def revert(self):
        found = [saved for saved in self.saved if saved[0] in self.vms and saved[0] not in self.templates]
        if not found:
            return
        name, state, pages = self.rng.choice(found)
        try:
            self.vms[name][0].revert(state)
            self.vms[name] = self.vms[name][0], dict(pages)
        except AdmissionError:
            pass

    def drop(self):
        if self.saved:
            self.saved.pop(self.rng.randrange(len(self.saved)))[1].drop()

    def destroy(self):
        name = self.any(running=False)
        if name is not None:
            self.vms.pop(name)[0].destroy()
            self.templates.discard(name)

    def balloon(self):
        name = self.any()
        if name is not None and self.vms[name][0].engine_vm.guest is not None:
            self.vms[name][0].balloon(self.rng.choice((0, 16, 48)) * PAGE)

    def reclaim(self):
        name = self.any(running=False)
        if name is not None:
            self.host.engine.reclaim_from(self.vms[name][0].engine_vm, self.rng.randrange(60))

    def scan(self):
        if self.host.engine.scanner is not None:
            self.host.scan(self.rng.choice((None, 20, 150)))

    def step(self):
        kinds = [self.write] * 5 + [self.clone] * 3 + [self.scan] * 2 + [self.balloon] * 2
        kinds += [self.reclaim, self.snapshot, self.revert, self.destroy, self.destroy, self.drop, self.freeze]
        self.rng.choice(kinds)()

    def check(self):
        self.host.check()
        for name, (vm, pages) in self.vms.items():
            if name not in self.templates:
                for page, data in pages.items():
                    assert vm.read(page * PAGE, PAGE) == data, (name, page)

    def check_templates(self):
        """A template cannot be read, but a clone of it can."""
        for name in sorted(self.templates):
            self.made += 1
            clone = self.vms[name][0].clone(f"vm{self.made}")
            for page, data in self.vms[name][1].items():
                assert clone.read(page * PAGE, PAGE) == data, (name, page)
            clone.destroy()


@pytest.mark.parametrize("guest", [False, True])
@pytest.mark.parametrize("sharing", [None, "hash", "ksm", "esx", "zero-only", "inline"])
def test_a_tree_of_clones_keeps_every_page(sharing, guest):
    options = {"salting": "global", "scan_time_ns": 1} if sharing == "esx" else {}
    host = memvirt.Host(
        memory=420 * PAGE,
        swap=4000 * PAGE,
        zpool_percent=15,
        sharing=sharing,
        sharing_options=options,
        corpus=CORPUS,
        seed=4,
    )
    tree = Tree(host, f"{sharing} {guest}", guest)
    for step in range(STEPS):
        tree.step()
        host.check()
        if step % 60 == 0:
            tree.check()
    tree.check()
    tree.check_templates()
    counters = host.counters()
    seen = ("clones", "leaf_copies", "fault_cow", "evicted_swap", "evicted_zpool", "merges" if sharing else "clones")
    assert {name: counters[name] for name in seen if not counters[name]} == {}
    while tree.vms:
        tree.vms.pop(tree.rng.choice(sorted(tree.vms)))[0].destroy()
        host.check()
    while tree.saved:
        tree.drop()
    host.check()
    usage = host.usage()
    assert usage["guest"] == usage["zspage"] == 0, usage


@pytest.mark.parametrize("sharing", ["hash", "ksm", "esx", "inline"])
def test_the_debt_is_what_writing_everything_takes(sharing):
    """Merged, cloned, merged under a clone, zeros: write to every page of every VM, and count the frames."""
    options = {"salting": "global"} if sharing == "esx" else {}
    host = memvirt.Host(memory=8192 * PAGE, sharing=sharing, sharing_options=options, corpus=CORPUS)
    vms = [host.create_vm(name, memory=600 * PAGE) for name in "ab"]
    for vm in vms:
        vm.access(np.arange(600), np.full(600, FILL), np.arange(600) % 24)
    for _ in range(3):
        host.scan()
    vms += [vms[0].clone("c"), vms[1].clone("d")]
    vms.append(vms[2].clone("e"))
    vms[3].access(np.arange(20), np.ones(20))
    state, before = host.sharing(), host.usage()
    assert state["sharing_debt_frames"] > state["saved_gross_frames"] > 1000
    for vm in vms:
        assert vm.access(np.arange(600), np.ones(600)).done == 600
    after = host.usage()
    taken = sum(after[kind] - before[kind] for kind in ("guest", "table"))
    assert state["sharing_debt_frames"] == taken
    assert host.sharing()["sharing_debt_frames"] == 0
    host.check()


def test_linked_clones_that_diverge_alike_converge_again():
    """The same update in every clone, then a scan: one frame for each page again."""
    host = memvirt.Host(memory=2048 * PAGE, sharing="hash", corpus=CORPUS)
    parent = host.create_vm("parent", memory=PAGES * PAGE)
    parent.access(np.arange(PAGES), np.full(PAGES, FILL), np.arange(PAGES) % 11 + 1)
    vms = [parent, *(parent.clone(f"clone{number}") for number in range(3))]
    for vm in vms:
        vm.access(np.arange(40), np.full(40, FILL), np.arange(40) % 12 + 12)
    assert host.usage()["guest"] == PAGES - 40 + 4 * 40
    host.scan()
    assert host.usage()["guest"] == 23
    assert host.sharing()["saved_inter_pages"] > 0
    host.check()


def test_snapshots_of_another_host_and_of_other_sizes_are_refused():
    here, there = memvirt.Host(memory="4MiB"), memvirt.Host(memory="4MiB")
    vm, other = here.create_vm("a", "1MiB"), there.create_vm("a", "1MiB")
    vm.write(0, b"mine")
    with pytest.raises(ConfigError, match="snapshot of 'a' belongs to another host"):
        vm.revert(other.snapshot())
    with pytest.raises(ConfigError, match="of a VM of 512 pages, this one has 256"):
        vm.revert(here.create_vm("b", "2MiB").snapshot())
    assert vm.read(0, 4) == b"mine"
    saved = vm.snapshot()
    saved.drop()
    with pytest.raises(ConfigError):
        vm.revert(saved)
    with pytest.raises(ConfigError):
        saved.drop()
    assert vm.read(0, 4) == b"mine"
    here.check()
