"""The same workload on real bytes and on fingerprints: counters agree exactly wherever content does not matter, what is
shared agrees exactly, and the compressed length of a page within 1 %."""

import numpy as np
import pytest

import memvirt
from memvirt.inputs import synthetic

CORPUS = synthetic(512, 1)


def run(content, **settings):
    host = memvirt.Host(memory="8MiB", swap="32MiB", corpus=CORPUS, content=content, seed=1, readahead=0, **settings)
    bits = np.random.PCG64(7)
    vms = [host.create_vm(name, "6MiB") for name in ("a", "b")]
    for vm in vms:
        sources = (bits.random_raw(vm.pages) % len(CORPUS.pages)).astype(np.uint32)
        vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
        pages = (bits.random_raw(20_000) % vm.pages).astype(np.uint32)
        vm.access(pages, bits.random_raw(20_000) % 5 == 0)
    twin = vms[0].clone("twin")
    twin.access((bits.random_raw(2_000) % twin.pages).astype(np.uint32), bits.random_raw(2_000) % 2)
    if settings.get("sharing"):
        host.scan()
    host.check()
    return host


@pytest.mark.parametrize("settings", [{}, {"sharing": "hash"}, {"sharing": "ksm"}], ids=["swap", "hash", "ksm"])
def test_counters_agree_exactly(settings):
    real, ids = run("bytes", **settings), run("fingerprint", **settings)
    assert real.counters()["evicted"] > 1000
    assert real.counters() == ids.counters()
    assert real.usage() == ids.usage()
    assert real.sharing() == ids.sharing()
    assert real.cpu_ns() == ids.cpu_ns()


def test_compressed_totals_agree_within_a_percent():
    """Where the same pages go: those of a VM that was filled and written to, all evicted into a pool with room. Even which
    of them are refused as incompressible agrees."""

    def compressed(content):
        host = memvirt.Host(memory="32MiB", corpus=CORPUS, content=content, seed=1, zpool_percent=80, swap="8MiB")
        vm = host.create_vm("a", "12MiB")
        bits = np.random.PCG64(7)
        sources = (bits.random_raw(vm.pages) % len(CORPUS.pages)).astype(np.uint32)
        vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
        vm.access((bits.random_raw(20_000) % vm.pages).astype(np.uint32), bits.random_raw(20_000) % 5 == 0)
        host.harvest()
        host.engine.reclaim_from(vm.engine_vm, vm.pages)
        assert host.usage()["guest"] == 0
        return host

    real, ids = compressed("bytes"), compressed("fingerprint")
    assert real.counters() == ids.counters()
    assert real.zpool()["objects"] == ids.zpool()["objects"] > 2000
    assert real.zpool()["stored_bytes"] == pytest.approx(ids.zpool()["stored_bytes"], rel=0.01)


def test_compressed_pages_agree_within_a_percent_under_pressure():
    """Of the lengths. How many pages are compressed differs by a little more: a pool that fills a moment later sends
    other pages to swap, and from there on the two runs are not the same run."""
    real, ids = run("bytes", zpool_percent=50), run("fingerprint", zpool_percent=50)
    lengths = [host.zpool()["stored_bytes"] / host.zpool()["objects"] for host in (real, ids)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.01)
    evicted = [host.counters()["evicted_zpool"] for host in (real, ids)]
    assert evicted[0] == pytest.approx(evicted[1], rel=0.05)
    assert real.zpool()["objects"] > 500
