"""The reverse map, chained through the links of leaf tables: long chains, chains across VMs, and chains that are wrong."""

import random
import time

import numpy as np
import pytest

import memvirt
from memvirt.engine.testing.host import locate, spoil
from memvirt.errors import InvariantError

PAGE = 4096


def same_page(n: int) -> bytes:
    """A page that is neither zero nor one word over and over."""
    return (n.to_bytes(8, "little") + bytes(range(8))) * (PAGE // 16)


def test_a_page_merged_very_often_costs_no_more_each_time() -> None:
    """Merging and ending walk a chain once, not once for each of its sites: 0.1 s and not 9 s."""
    host = memvirt.Host(memory="192MiB", sharing="hash")
    vm = host.create_vm("a", "128MiB")
    vm.write(0, same_page(7) * vm.pages)
    began = time.process_time()
    assert host.scan() == vm.pages - 1
    vm.destroy()
    assert time.process_time() - began < 4
    host.check()
    assert host.usage()["guest"] == 0


def test_a_page_merged_very_often_is_written_in_the_order_it_was_merged() -> None:
    """Each write takes the site at the far end of the chain: 0.1 s and not half a minute."""
    host = memvirt.Host(memory="192MiB", sharing="hash")
    vm = host.create_vm("a", "128MiB")
    vm.write(0, same_page(7) * vm.pages)
    host.scan()
    began = time.process_time()
    pages = np.arange(vm.pages * 2 // 3, dtype=np.uint32)
    vm.access(pages, np.ones(len(pages), np.uint8))
    assert time.process_time() - began < 4
    host.check()
    assert host.counters()["cow_breaks_shared"] == len(pages)


def test_clones_end_in_the_order_they_were_made() -> None:
    """Each pays for all pages by then, and leaves them to the next: 0.1 s and not 10 s."""
    host = memvirt.Host(memory="64MiB")
    parent = host.create_vm("parent", "16MiB")
    parent.access(np.arange(parent.pages), np.ones(parent.pages))
    clones = [parent.clone(f"clone{i}") for i in range(500)]
    limited = host.create_vm("limited", "1MiB", limit="1MiB")
    limited.access(np.arange(limited.pages), np.ones(limited.pages))
    began = time.process_time()
    for vm in (parent, *clones[:-1]):
        vm.destroy()
    assert time.process_time() - began < 3
    host.check()
    assert clones[-1].engine_vm.charged == parent.pages


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_long_chains_lose_and_gain_sites_in_any_order(content: str) -> None:
    """Chains past the length from which each site knows the one before it: written in order, backwards and anywhere, merged
    again, discarded, evicted, cloned, moved, ended."""
    corpus = np.zeros((3, PAGE), np.uint8)
    corpus[1:] = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (2, PAGE), np.uint8)
    for seed in range(8):
        rng = random.Random(seed)
        host = memvirt.Host(
            memory="24MiB", swap="16MiB", sharing=rng.choice(["hash", "inline"]), content=content, corpus=corpus
        )
        for i in range(3):
            host.create_vm(f"vm{i}", "3MiB")
        for step in range(60):
            vm = rng.choice(host.vms)
            first, count = rng.randrange(vm.pages), rng.choice([1, 5, 100, 700])
            pages = (first + np.arange(count)) % vm.pages
            pages = rng.choice([pages, pages[::-1], np.random.Generator(np.random.PCG64(step)).permutation(pages)])
            kind = rng.choice([1, 2, 2, 2, 3])  # write, overwrite, discard
            vm.access(pages, np.full(count, kind), np.full(count, rng.randrange(1, 3)))
            act = rng.randrange(8)
            if act < 4:
                host.scan()
            elif act == 4:
                host.engine.reclaim_from(vm.engine_vm, rng.choice([1, 60, 500]))
            elif act == 5 and len(host.vms) < 6:
                vm.clone(f"clone{step}")
            elif act == 6:
                host.compact(2)
            elif len(host.vms) > 2:
                vm.destroy()
            host.check()
        for vm in host.vms:
            vm.destroy()
            host.check()
        assert host.usage()["guest"] <= 1


@pytest.mark.parametrize("content", ["bytes", "fingerprint"])
def test_vms_that_share_every_page_end_in_any_order(content: str) -> None:
    """Chains through leaves of one's own, of others, and held together with clones; compaction moves their tables."""
    corpus = np.zeros((5, PAGE), np.uint8)
    corpus[1:] = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (4, PAGE), np.uint8)
    for seed in range(6):
        rng = random.Random(seed)
        host = memvirt.Host(
            memory="24MiB", swap="16MiB", sharing="hash", content=content, corpus=corpus, provisioning="thin-huge"
        )
        for i in range(4):
            vm = host.create_vm(f"vm{i}", "3MiB")
            sources = np.array([rng.randrange(5) for _ in range(vm.pages)], np.uint32)
            vm.access(np.arange(vm.pages), np.full(vm.pages, 2), sources)
            host.scan()
            if rng.randrange(2):
                twin = vm.clone(f"twin{i}")
                twin.access(np.arange(300, 310), np.ones(10))
        assert host.sharing()["pages_sharing"] > 1000
        while host.vms:
            victim = rng.choice(host.vms)
            pages = np.array(sorted(rng.sample(range(victim.pages), 20)), np.uint32)
            victim.access(pages, np.ones(20))
            host.engine.reclaim_from(victim.engine_vm, 30)
            host.compact(1)
            host.check()
            victim.destroy()
            host.check()
        assert host.usage()["guest"] <= 1  # the zero frame


def spoilt(part: str, value: int) -> None:
    host = memvirt.Host(memory="8MiB", sharing="hash")
    vm = host.create_vm("a", "2MiB")
    vm.write(0, same_page(7) * 3 + same_page(8))
    host.scan()
    host.check()
    frame = locate(host.engine, vm.engine_vm, 0)[1]
    spoil(host.engine, part, frame, value)
    host.check()


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("where", 3, "names leaf 0 entry 3, which does not name it"),
        ("where", 1 << 31, "names leaf 4194304 entry 0"),
        ("link", 9 * 512, "names leaf 9 entry 0"),
        ("link", 0xFFFFFFFF, "names leaf 8388607 entry 511"),
        ("link", 2, "comes back to leaf 0 entry 2 after 1 of 3"),
        ("refs", 2, "refs 2, entries 3"),
        ("refs", 4, "refs 4, entries 3"),
    ],
)
def test_check_sees_each_false_chain_and_follows_none(part: str, value: int, message: str) -> None:
    with pytest.raises(InvariantError, match=message):
        spoilt(part, value)


def test_check_sees_a_site_that_does_not_know_the_one_before_it() -> None:
    host = memvirt.Host(memory="8MiB", sharing="hash")
    vm = host.create_vm("a", "2MiB")
    vm.write(0, same_page(7) * 200)
    host.scan()
    frame = locate(host.engine, vm.engine_vm, 100)[1]
    vm.write(0, b"x")  # the far end of the chain, which is indexed by that
    host.check()
    spoil(host.engine, "before", frame, 3)
    with pytest.raises(InvariantError, match="does not know that site"):
        host.check()
