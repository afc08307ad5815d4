"""A host on which no frame can be had: what its VMs hold is read back whole, wherever it lies."""

import numpy as np
import pytest

from memvirt.errors import ConfigError
from memvirt.experiment.expected import Shadow
from memvirt.host import Host
from memvirt.inputs import synthetic
from memvirt.workloads import Batch

FILL, WRITE, READ = 2, 1, 0
STORES = {
    "swap": {"swap": "512KiB"},
    "zram": {"zpool_percent": 50},
    "zram and swap": {"zpool_percent": 30, "swap": "256KiB"},
    "merged": {"zpool_percent": 40, "sharing": "hash"},
}
GUESTS = {"no guest": False, "guest": {"cache_percent": 25, "swap": "256KiB", "high_pages": 8, "low_pages": 4}}


@pytest.fixture(scope="module")
def corpus():
    return synthetic(600, seed=1)


def batches(pages, sources, rounds):
    """Fill everything, with same-filled pages among it; then write and read here and there."""
    random = np.random.default_rng(7)
    for first in range(0, pages, 16):
        numbers = np.arange(first, min(first + 16, pages), dtype=np.uint32)
        origin = random.integers(0, sources, len(numbers), dtype=np.uint32)
        origin[::5] = 0
        yield Batch(numbers, np.full(len(numbers), FILL, np.uint8), origin)
    for _ in range(rounds):
        numbers = random.integers(0, pages, 16, dtype=np.uint32)
        yield Batch(numbers, random.integers(READ, WRITE + 1, 16).astype(np.uint8), None)


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
@pytest.mark.parametrize("stores", STORES)
def test_what_a_full_host_holds_is_read_back_without_a_frame(stores, content, guest, corpus):
    with Host(memory="1MiB", corpus=corpus, content=content, swap_direct=False, **STORES[stores]) as host:
        vms = [host.create_vm(f"vm{i}", "2MiB", guest=GUESTS[guest]) for i in range(2)]
        shadows = {vm: Shadow(vm.name, vm.pages, vm.tag_base, vm.writes_done, guest=bool(GUESTS[guest])) for vm in vms}
        outcomes = host.run({vm: shadows[vm].watch(batches(vm.pages, len(corpus), 50)) for vm in vms})
        assert {outcome.reason for outcome in outcomes.values()} == {"no_frame"}
        for vm, outcome in outcomes.items():
            shadows[vm].commit(outcome.done - shadows[vm].operations)
        failed = host.counters()["exhausted_no_frame"]
        for vm in vms:
            assert shadows[vm].verify(vm, corpus.pages, host.ids_of) > 100
            found = vm.read_pages(np.arange(vm.pages))
            assert vm.outcome == "done"
            if host.ids_of:
                assert found.view("<u8")[:, 0].tolist() == vm.read_ids(np.arange(vm.pages)).tolist()
        assert host.counters()["exhausted_no_frame"] > failed  # some had no frame to come to
        host.check()


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("stores", STORES)
def test_ids_are_read_where_they_lie_and_nothing_changes(stores, guest, corpus):
    with Host(memory="1MiB", corpus=corpus, content="fingerprint", swap_direct=False, **STORES[stores]) as host:
        vms = [host.create_vm(f"vm{i}", "2MiB", guest=GUESTS[guest]) for i in range(2)]
        host.run({vm: batches(vm.pages, len(corpus), 50) for vm in vms})
        before = host.counters(), host.usage(), host.stores(), host.cpu_ns(), host.sim_ns, [vm.sim_ns for vm in vms]
        ids = [vm.read_ids(np.arange(vm.pages)) for vm in vms]
        assert [vm.read_ids([7, 0, 7]).tolist() for vm in vms] == [found[[7, 0, 7]].tolist() for found in ids]
        after = host.counters(), host.usage(), host.stores(), host.cpu_ns(), host.sim_ns, [vm.sim_ns for vm in vms]
        assert before == after and len(set(ids[0].tolist())) > 10
        for vm, found in zip(vms, ids, strict=True):
            assert vm.read_pages(np.arange(vm.pages)).view("<u8")[:, 0].tolist() == found.tolist()
        host.check()


def test_ids_are_there_for_fingerprints_and_ones_own_pages_alone(corpus):
    with Host(memory="1MiB", corpus=corpus) as host, pytest.raises(ConfigError, match="content with bytes has no ids"):
        host.create_vm("a", "1MiB").read_ids([0])
    with Host(memory="1MiB", corpus=corpus, content="fingerprint") as host:
        vm = host.create_vm("a", "1MiB")
        assert vm.read_ids([]).tolist() == []
        with pytest.raises(ConfigError, match="access 1 names page 256, beyond its 256 pages"):
            vm.read_ids([0, 256])
        with pytest.raises(ConfigError, match="page numbers"):
            vm.read_ids([-1])
        vm.destroy()
        with pytest.raises(ConfigError, match="destroyed|ended|gone"):
            vm.read_ids([0])


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
@pytest.mark.parametrize("settings", [{"zpool_percent": 20}, {"swap": "1MiB"}], ids=["zpool", "swap"])
def test_on_a_host_so_small_that_tables_lie_in_its_first_frames(settings, content, corpus):
    """Reading borrows the first frame in use: what it holds may be the very record that says what is to be read."""
    for pages in range(14, 40):
        with Host(memory=4096 * pages, corpus=corpus, content=content, swap_direct=False, **settings) as host:
            vm = host.create_vm("a", "256KiB")
            wanted = []
            for page in range(64):
                vm.access([page], [FILL], [1 + page])
                wanted.append(vm.read_pages([page])[0].tobytes())
                host.engine.reclaim_from(vm.engine_vm, 3)
            found = vm.read_pages(np.arange(64))
            kept = [row.tobytes() == page for row, page in zip(found, wanted, strict=True)]
            assert all(kept), f"{pages} frames: pages {[page for page, same in enumerate(kept) if not same]}"
            host.check()
