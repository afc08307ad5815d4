"""Numbers that have no more than so many bits are held at the border, with the number and the bound."""

import numpy as np
import pytest

import memvirt
from memvirt.engine.content.fingerprints import Fingerprints
from memvirt.engine.device import Device
from memvirt.engine.host.engine import Engine
from memvirt.errors import AdmissionError, ConfigError

PAGE = 4096


def noise(pages, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).bytes(pages * PAGE)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"memory": (1 << 40) + PAGE}, "memory: 268435457 frames; the most is 268435456 (1TiB)"),
        ({"memory": "8MiB", "swap": (1 << 40) + PAGE}, "swap: 268435457 slots with all areas; the most is 268435456"),
        (
            {"memory": "8MiB", "swap": "512GiB", "swap_areas": [{"size": "512GiB"}, {"size": "4KiB"}]},
            "swap: 268435457 slots with all areas; the most is 268435456",
        ),
    ],
)
def test_a_host_larger_than_its_numbers_is_refused(settings, said):
    with pytest.raises(ConfigError) as error:
        memvirt.Host(content="fingerprint", **settings)
    assert said in str(error.value)


def test_the_engine_itself_refuses_more_frames_than_entries_can_name():
    with pytest.raises(ConfigError, match="268435457 frames; the most is 268435456: entries have 28 bits for one"):
        Engine(
            Fingerprints((1 << 28) + 1),
            Device("nvme"),
            order="lru",
            order_options={},
            min_pages=0,
            low_pages=0,
            high_pages=0,
            zpool=None,
            sharing=None,
            sharing_options={},
            provisioning=0,
            readahead=0,
            readahead_by_address=False,
            psi_linux=False,
            zpool_shrinker=False,
            zeros_only=False,
            victims_by_shares=False,
            harvest_interval_ns=1,
            compact_threshold=None,
            collapse_interval_ns=0,
            quantum_ns=1,
            costs={},
            giving={},
            seed=0,
        )


def test_a_host_without_a_frame_for_the_scanner_s_zeros_is_refused():
    with pytest.raises(
        AdmissionError, match="'ksm' keeps a frame of zeros, and the host has no frame for it; give it more"
    ):
        memvirt.Host(
            memory="16KiB", swap=700 * PAGE, replacement="lirs", sharing="ksm", sharing_options={"use_zero_pages": True}
        )


def test_a_vm_of_more_pages_than_its_numbers_is_refused():
    host = memvirt.Host(memory="64MiB", content="fingerprint")
    with pytest.raises(ConfigError, match="memory: 2147483649 pages; the most of a VM is 2147483648"):
        host.create_vm("a", (1 << 43) + PAGE)
    assert host.vms == []


def limited(part, spare, memory="2MiB"):
    """A host whose records of this kind can be no more than there are, and a few."""
    host = memvirt.Host(memory=memory, swap="32MiB", seed=1, readahead=0)
    vm = host.create_vm("a", "64MiB")
    vm.write(0, noise(100))
    slab = {
        "records": host.engine.mapping.backings.records,
        "leaves": host.engine.mapping.leaves.records,
        "directories": host.engine.mapping.leaves.pages,
    }[part]
    slab.most = slab.nr_used + spare
    return host, vm, slab


def test_no_more_records_of_what_is_out_than_entries_can_name():
    """Pages stay in memory, then; the rest goes on."""
    host, vm, slab = limited("records", 150)
    wrote = vm.write(0, noise(1000))
    assert 500 * PAGE < wrote < 700 * PAGE and vm.outcome == "no_frame"
    assert slab.nr_used <= slab.most
    assert host.counters()["reject_backing_frame"] > 0
    host.check()
    assert vm.read_pages(np.arange(100)).tobytes() == noise(1000)[: 100 * PAGE]
    slab.most = 2**28
    assert vm.write(0, noise(1000)) == 1000 * PAGE
    assert vm.read(0, 1000 * PAGE) == noise(1000)
    host.check()


@pytest.mark.parametrize("part", ["leaves", "directories"])
def test_no_more_tables_than_sites_and_slots_can_be_numbered(part):
    host, vm, slab = limited(part, 2, "8MiB")
    evicted = host.counters()["evicted"]
    step = 512 if part == "leaves" else 1 << 17
    others = [host.create_vm(f"o{i}", "600MiB") for i in range(4)] if part == "directories" else [vm]
    done = 0
    for other in others:
        for page in range(step if other is vm else 0, min(other.pages, 4 * step), step):
            done += other.access([page], [1]).done
    assert done == 2 and others[-1].outcome == "no_frame"
    assert slab.nr_used <= slab.most
    assert host.counters()["evicted"] == evicted, "nobody's pages go for what cannot be"
    host.check()
    if part == "leaves":
        twin = vm.clone("c")
        assert twin.access([0], [1]) == (0, "no_frame"), "a leaf of its own"
        assert twin.access([0], [0]).done == 1
        host.check()
    slab.most = 2**23
    assert others[-1].access([step], [1]).done == 1
    host.check()


def test_huge_blocks_keep_to_the_same_bound():
    host = memvirt.Host(memory="16MiB", content="fingerprint", provisioning="thin-huge")
    vm = host.create_vm("a", "64MiB")
    leaves = host.engine.mapping.leaves.records
    leaves.most = leaves.nr_used + 1
    assert [vm.access([page], [1]).done for page in (0, 512, 1024)] == [1, 0, 0]
    host.check()
