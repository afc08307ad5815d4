"""Guards of hot kernels: each must do its work here, and is timed by `pytest tests/test_kernels.py --benchmark-enable`.

pytest-benchmark is off by default (see addopts): then every kernel runs once, and only its result is checked.
"""

import numpy as np
import pytest

import memvirt
from memvirt.engine.content.content import Bytes
from memvirt.engine.host import accesses
from memvirt.engine.memory.buddy import Buddy
from memvirt.engine.testing.contents import PageProbe
from memvirt.engine.testing.memory import BuddyProbe

PAGES = 4096


@pytest.fixture
def random_pages():
    return np.random.Generator(np.random.PCG64(1)).integers(0, 256, (PAGES, 4096), np.uint8)


@pytest.fixture
def all_pages():
    return np.arange(PAGES, dtype=np.uint32)


def touched(pages, **settings):
    owner = memvirt.Host(**({"memory": "48MiB"} | settings))
    vm = owner.create_vm("guest", "16MiB")
    assert vm.access(pages, np.ones(PAGES, np.uint8)).done == PAGES
    return owner, vm


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_hit(benchmark, all_pages, content):
    owner, vm = touched(all_pages, content=content)
    loads = np.zeros(PAGES, np.uint8)
    before = owner.counters()
    result = benchmark(accesses.access, owner.engine, vm.engine_vm, all_pages, loads)
    after = owner.counters()
    assert result == PAGES and after["reads"] > before["reads"]
    assert all(after[name] == before[name] for name in after if name.startswith(("fault", "tcache")))


def test_first_touch(benchmark, all_pages):
    owner = memvirt.Host(memory="48MiB")
    stores = np.ones(PAGES, np.uint8)

    def fresh():
        if owner.vms:
            owner.vms[0].destroy()
        return (owner.create_vm("guest", "16MiB"),), {}

    result = benchmark.pedantic(lambda vm: vm.access(all_pages, stores).done, setup=fresh, rounds=3)
    assert result == PAGES and owner.counters()["fault_zero"] % PAGES == 0


def test_cow_break(benchmark, all_pages):
    owner, parent = touched(all_pages)
    stores = np.ones(PAGES, np.uint8)

    def fresh():
        for vm in owner.vms[1:]:
            vm.destroy()
        return (parent.clone("clone"),), {}

    result = benchmark.pedantic(lambda vm: vm.access(all_pages, stores).done, setup=fresh, rounds=3)
    assert result == PAGES and owner.counters()["fault_cow"] % PAGES == 0
    owner.check()


def test_clone(benchmark, all_pages):
    owner, parent = touched(all_pages)

    def fresh():
        for vm in owner.vms[1:]:
            vm.destroy()
        return (), {}

    benchmark.pedantic(lambda: parent.clone("clone"), setup=fresh, rounds=3)
    assert owner.sharing()["leaves_shared"] == PAGES


def test_scan_of_unique_pages(benchmark, random_pages):
    owner = memvirt.Host(memory="48MiB", sharing="hash")
    vm = owner.create_vm("guest", "16MiB")
    vm.write(0, random_pages.tobytes())
    assert benchmark(owner.scan) == 0
    assert owner.sharing()["pages_scanned"] >= PAGES


def test_evict_and_load(benchmark, random_pages):
    owner = memvirt.Host(memory="48MiB", zpool_percent=60)
    vm = owner.create_vm("guest", "16MiB")
    random_pages[:, 1024:] = 7  # compresses to a quarter
    vm.write(0, random_pages.tobytes())

    def out_and_back():
        owner.harvest()
        owner.engine.reclaim_from(vm.engine_vm, PAGES)
        out = PAGES - vm.counters()["charged_pages"]
        return out, vm.read_pages(np.arange(PAGES, dtype=np.uint32))

    out, pages = benchmark(out_and_back)
    assert out == PAGES
    assert np.array_equal(pages, random_pages)


def test_page_hash(benchmark, random_pages):
    content = PageProbe(Bytes(2, random_pages))
    content.fill_frame(0, 1)
    content.fill_frame(1, 2)
    assert benchmark(content.frame_hash, 0) != content.frame_hash(1)


def test_compress(benchmark, random_pages):
    random_pages[0, 1024:] = 7
    content = PageProbe(Bytes(2, random_pages))
    content.fill_frame(0, 1)
    length, payload = benchmark(content.compress_frame, 0)
    assert 1024 < length < 1200
    assert content.expand_frame(1, payload) and content.compare_frames(0, 1) == 0


def test_buddy(benchmark):
    buddy = BuddyProbe(Buddy(PAGES))

    def take_and_give():
        pages = buddy.take_pages(PAGES)
        buddy.give_pages(pages)
        return len(pages)

    assert benchmark(take_and_give) == PAGES
    assert buddy.nr_free == PAGES and buddy.free_counts()[-1] == PAGES >> 10


def test_simulate(benchmark):
    rng = np.random.Generator(np.random.PCG64(2))
    trace = rng.integers(0, PAGES, 50_000, np.uint32)
    misses = benchmark(memvirt.simulate, "lru", trace, PAGES // 2)
    assert 20_000 < misses < 30_000
