"""Disks of guests: clones, snapshots and VMs that go back share what they hold, and nobody sees what another writes."""

import contextlib
import errno
import itertools
import os
import random
import resource

import numpy as np
import pytest

import memvirt
from memvirt.errors import ConfigError, StoreError

PAGE = 4096
PAGES, KERNEL = 96, 40  # a guest of 56 pages of memory; 24 of its virtual pages are page cache
READ, FILL, DISCARD = 0, 2, 3
SOURCES = 40
CORPUS = np.zeros((SOURCES, PAGE), np.uint8)
CORPUS[1:] = np.random.Generator(np.random.PCG64(5)).integers(0, 256, (SOURCES - 1, PAGE), np.uint8)


class Family:
    """VMs and snapshots that come of one VM, and the source that each page of each was filled from."""

    def __init__(self, content="bytes", swap=100, cache_percent=25, memory=6 << 20):
        self.host = memvirt.Host(memory=memory, swap="8MiB", content=content, corpus=CORPUS, seed=2)
        book = self.host.create_vm("book", SOURCES * PAGE)
        numbers = np.arange(SOURCES, dtype=np.uint32)
        assert book.access(numbers, np.full(SOURCES, FILL), numbers).done == SOURCES
        self.held = [row.tobytes() for row in book.read_pages(numbers)]  # by source; bytes, or a fingerprint
        options = {"swap": swap * PAGE, "cache_percent": cache_percent, "kernel": KERNEL * PAGE}
        self.vms = {"vm0": (self.host.create_vm("vm0", PAGES * PAGE, guest=options), [0] * PAGES)}
        self.saved, self.made = [], 0

    def fill(self, name, page, source):
        """True if it was done; a disk that fails, or a guest without memory, changes nothing."""
        vm, pages = self.vms[name]
        try:
            done = vm.access([page], [FILL], [source]).done
        except StoreError:
            done = 0
        pages[page] = source if done else pages[page]
        return done == 1

    def discard(self, name, page):
        vm, pages = self.vms[name]
        if vm.access([page], [DISCARD]).done:
            pages[page] = 0

    def touch(self, name, page):
        with contextlib.suppress(StoreError):
            self.vms[name][0].access([page], [READ])

    def clone(self, name):
        self.made += 1
        self.vms[f"vm{self.made}"] = self.vms[name][0].clone(f"vm{self.made}"), list(self.vms[name][1])
        return f"vm{self.made}"

    def snapshot(self, name):
        self.saved.append((self.vms[name][0].snapshot(), list(self.vms[name][1])))

    def revert(self, name, which):
        self.vms[name][0].revert(self.saved[which][0])
        self.vms[name] = self.vms[name][0], list(self.saved[which][1])

    def end(self, name):
        self.vms.pop(name)[0].destroy()

    def drop(self, which):
        self.saved.pop(which)[0].drop()

    def disk(self, name):
        return self.vms[name][0].engine_vm.hardware.disk

    def verify(self, most=PAGES):
        """The first pages of every VM, which its guest brings back as far as it must, and the recount."""
        self.host.check()
        for name, (vm, pages) in self.vms.items():
            for page, row in enumerate(vm.read_pages(np.arange(most, dtype=np.uint32))):
                assert row.tobytes() == self.held[pages[page]], (name, page)


def calm(swap):
    for call in ("read", "write"):
        swap.inject(call, 1, errno.EIO, 0)


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
@pytest.mark.parametrize("swap", [16, 100, 600])  # as large as what is out at most; not a whole cluster; more than one
@pytest.mark.parametrize("seed", range(2))
def test_nobody_sees_what_another_writes(content, swap, seed):
    rng = random.Random(f"{swap} {seed}")
    family = Family(content, swap)
    shared = failed = 0
    for step in range(350):
        name = rng.choice(sorted(family.vms))
        area = family.disk(name).file.swap
        draw = rng.random()
        if draw < 0.06 and len(family.vms) < 6:
            family.clone(name)
        elif draw < 0.09 and len(family.vms) > 1:
            family.end(name)
        elif draw < 0.13 and len(family.saved) < 4:
            family.snapshot(name)
        elif draw < 0.18 and family.saved:
            family.revert(name, rng.randrange(len(family.saved)))
        elif draw < 0.20 and family.saved:
            family.drop(rng.randrange(len(family.saved)))
        elif draw < 0.25:
            family.discard(name, rng.randrange(PAGES))
        elif draw < 0.4:
            family.touch(name, rng.randrange(PAGES))
        else:
            faulty = rng.random() < 0.2
            if faulty:
                area.inject(rng.choice(["read", "write"]), rng.randrange(1, 4), rng.choice([errno.EIO, "short"]), 2)
            for _ in range(rng.choice((1, 8, 30))):
                failed += not family.fill(name, rng.randrange(PAGES), rng.randrange(SOURCES)) and faulty
            calm(area)
        family.host.check()
        if step % 5 == 0:
            family.verify()
        disks = {family.disk(each).file for each in family.vms}
        shared += any(disk.nr_disks > 1 and disk.swap.nr_used for disk in disks)
    assert shared > 50 and failed > 5
    while family.saved:
        family.drop(rng.randrange(len(family.saved)))
        family.verify()
    for name in rng.sample(sorted(family.vms), len(family.vms)):
        area = family.disk(name).file.swap
        family.end(name)
        family.verify()
    assert area.nr_used == 0


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_they_end_in_any_order(content):
    """A VM, its clone, a clone of that and a snapshot, all of which have written: 24 orders."""
    for order in itertools.permutations(range(4)):
        family = Family(content)
        for page in range(PAGES):
            assert family.fill("vm0", page, page % SOURCES)
        family.snapshot("vm0")
        family.clone("vm0")
        for page in range(0, 60, 2):
            assert family.fill("vm0", page, (page + 1) % SOURCES)
        family.clone("vm1")
        for page in range(0, 60, 3):
            assert family.fill("vm2", page, (page + 2) % SOURCES)
            assert family.fill("vm1", PAGES - 1 - page, (page + 3) % SOURCES)
        family.verify()
        area = family.disk("vm0").file.swap
        for member in order:
            if member == 3:
                if family.vms:
                    name = family.clone(min(family.vms))
                    family.revert(name, 0)
                    family.verify()
                    family.end(name)
                family.drop(0)
            else:
                family.end(f"vm{member}")
            family.verify()
        assert area.nr_used == 0 and not family.vms


def test_a_chain_of_clones_keeps_what_its_first_wrote():
    family = Family()
    for page in range(PAGES):
        assert family.fill("vm0", page, page % SOURCES)
    name = "vm0"
    for link in range(40):
        parent, name = name, family.clone(name)
        assert family.fill(name, link % PAGES, (link + 7) % SOURCES)
        family.end(parent)
        family.verify()
        disk = family.disk(name)
        assert disk.file.nr_disks == 1 and disk.file.swap.nr_slots < 3 * 512, "one disk's room, in whole clusters"


def test_a_copy_moves_no_byte_and_costs_what_tables_cost():
    family = Family()
    for page in range(PAGES):
        assert family.fill("vm0", page, page % SOURCES)
    area = family.disk("vm0").file.swap
    used, calls = area.nr_used, (area.read_calls, area.write_calls)
    assert used >= 30
    for call in ("read", "write"):
        area.inject(call, 1, errno.EIO, 1000)
    events = family.host.counters()
    before = family.host.cpu_ns()
    family.snapshot("vm0")
    family.clone("vm0")
    family.revert("vm0", 0)
    calm(area)
    assert (area.read_calls, area.write_calls) == calls and area.nr_used == used
    leaves = family.host.counters()["clone_leaves"] - events["clone_leaves"]
    assert family.host.cpu_ns()["clone"] - before["clone"] < 3 * 50_000 and leaves == 3
    assert all(family.disk(name).file.swap is area for name in family.vms)
    family.verify()


def test_each_disk_has_its_whole_capacity_whatever_is_shared():
    """Full disks, cloned, and then every page of every one written anew."""
    family = Family(swap=16, cache_percent=0)
    most = 56 + 15  # one slot less than there are: a page that comes back needs one to take turns with
    for page in range(most):
        assert family.fill("vm0", page, page % SOURCES)
    names = ["vm0", *(family.clone("vm0") for _ in range(3))]
    family.snapshot("vm0")
    disk = family.disk("vm0").file
    assert disk.nr_disks == 5 and disk.swap.nr_slots == 5 * disk.capacity == 80
    assert disk.swap.nr_used <= 16, "they share all of it"
    for turn in range(1, 4):
        for name in names:
            for page in range(most):
                assert family.fill(name, page, (page + turn * 3 + names.index(name)) % SOURCES)
            family.verify(most)
    assert disk.swap.nr_used >= 5 * 15, "nothing is shared now"
    assert not all(family.fill("vm3", page, 1) for page in range(most, 80)), "the guest's own bound"
    family.host.check()


def files_of_swap():
    """Bytes that the files without a name have which this process holds open."""
    found = (
        os.stat(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
    )
    return sum(status.st_size for status in found if status.st_nlink == 0)


def test_room_goes_with_the_disks():
    family = Family(swap=600, cache_percent=0)
    for page in range(PAGES):
        assert family.fill("vm0", page, 1 + page % 30)
    one = files_of_swap()
    names = [family.clone("vm0") for _ in range(5)]
    assert files_of_swap() == one + 5 * 600 * PAGE
    for name in names:
        family.fill(name, 0, 3)
        family.end(name)
        family.verify()
    assert files_of_swap() <= one + 512 * PAGE, "but for what is left of a cluster"
    family.clone("vm0")
    family.end("vm0")
    family.verify()
    family.end("vm6")
    assert files_of_swap() <= one - 600 * PAGE


def test_a_copy_without_room_is_refused_and_a_revert_in_the_same_file_needs_none():
    family = Family()
    for page in range(PAGES):
        assert family.fill("vm0", page, page % SOURCES)
    family.snapshot("vm0")
    disk = family.disk("vm0")
    before, (soft, hard) = family.host.usage(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (disk.file.swap.nr_slots * PAGE, hard))
    try:
        for copy in (family.clone, family.snapshot):
            with pytest.raises(ConfigError, match="swap file .*: needs 507904 bytes, .* are free"):
                copy("vm0")
            assert [vm.name for vm in family.host.vms] == ["book", "vm0"] and len(family.host.saved_states) == 1
            assert family.host.usage() == before
            family.host.check()
        family.verify()
        assert family.fill("vm0", 0, 9)
        family.revert("vm0", 0)
        family.verify()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    family.made = 0
    family.clone("vm0")
    family.verify()


def test_a_revert_to_the_snapshot_of_another_family_takes_its_disk():
    family = Family()
    other = family.host.create_vm(
        "other", PAGES * PAGE, guest={"swap": 100 * PAGE, "cache_percent": 25, "kernel": KERNEL * PAGE}
    )
    family.vms["other"] = other, [0] * PAGES
    for page in range(PAGES):
        assert family.fill("vm0", page, page % SOURCES) and family.fill("other", page, (page + 1) % SOURCES)
    family.snapshot("other")
    left = family.disk("vm0").file
    family.revert("vm0", 0)
    assert family.disk("vm0").file is family.disk("other").file is not left
    assert (left.nr_disks, left.swap.nr_used, family.disk("vm0").file.nr_disks) == (0, 0, 3)
    family.verify()
    family.end("other")
    family.drop(0)
    family.verify()


def test_a_write_to_what_is_shared_that_fails_costs_nobody_anything():
    family = Family()
    for page in range(PAGES):
        assert family.fill("vm0", page, page % SOURCES)
    family.clone("vm0")
    area, refused = family.disk("vm0").file.swap, 0
    for page in range(PAGES):
        used = area.nr_used
        area.inject("write", 1, errno.EIO, 1)
        if not family.fill("vm1", page, 5):
            refused += 1
            assert area.nr_used <= used, "the slot it was to have is free again"
        calm(area)
        family.host.check()
    family.verify()
    assert refused > 20


def test_the_recount_finds_a_slot_that_is_counted_wrong():
    family = Family()
    for page in range(PAGES):
        assert family.fill("vm0", page, page % SOURCES)
    family.clone("vm0")
    file = family.disk("vm0").file
    file.check([family.disk("vm0"), family.disk("vm1")])
    with pytest.raises(memvirt.InvariantError, match="disks have a slot at"):
        file.check([family.disk("vm0")])
