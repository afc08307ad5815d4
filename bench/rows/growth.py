"""What should not grow with how much there is: an operation among very many, beside the same among few.

The ratio is few / many: 1 is flat. Targets leave room for caches, which the many do not fit in, and for a logarithm.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
from harness import Reference, Row, compare

import memvirt
from rows.common import PAGE, all_pages, random_bytes, reads, shuffled, touch, writes

KIB = 1 << 10


def merged(pages: int) -> memvirt.Vm:
    """A VM whose pages all name one frame."""
    corpus = np.concatenate([np.zeros((1, PAGE), np.uint8), random_bytes(1)])
    owner = memvirt.Host(memory=(pages * 9 // 8 + 4096) * PAGE, content="fingerprint", corpus=corpus, sharing="hash")
    vm = owner.create_vm("vm", pages * PAGE)
    vm.access(all_pages(pages), np.full(pages, 2, np.uint8), np.ones(pages, np.uint32))
    for _ in range(3):
        owner.scan()
    return vm


def oldest_first_ns(pages: int) -> float:
    """Nanoseconds of a write to a merged page, in the order in which they were merged."""
    vm = merged(pages)
    touch(vm, all_pages(pages // 4), writes(pages // 4))  # the first ones pay for what the rest needs
    return touch(vm, all_pages(pages // 2)[pages // 4 :], writes(pages // 4))


def reclaim_ns(pages: int) -> float:
    """Nanoseconds a page of a round over merged pages that cannot go, for there is no swap."""
    vm = merged(pages)
    start = time.perf_counter_ns()
    vm.host.engine.reclaim_from(vm.engine_vm, 100)
    return (time.perf_counter_ns() - start) / pages


def end_ns(clones: int) -> float:
    """Nanoseconds in which one of so many clones ends, in the order they were made."""
    owner = memvirt.Host(memory="512MiB", content="fingerprint")
    parent = owner.create_vm("parent", "16MiB")
    touch(parent, all_pages(parent.pages), writes(parent.pages))
    vms = [parent, *(parent.clone(f"clone{i}") for i in range(clones))]
    start = time.perf_counter_ns()
    for vm in vms[:-1]:
        vm.destroy()
    return (time.perf_counter_ns() - start) / clones


def clone_ns(pages: int) -> float:
    """Nanoseconds of a clone of a guest that has so many pages out on its own disk of 64 Ki slots."""
    owner = memvirt.Host(memory="1GiB", content="fingerprint")
    options = {"swap": 64 * KIB * PAGE, "cache_percent": 0, "kernel": 64 * KIB * PAGE}
    vm = owner.create_vm("vm", 128 * KIB * PAGE, guest=options)
    touch(vm, all_pages(64 * KIB + pages), writes(64 * KIB + pages))
    vm.clone("first").destroy()  # what grows by it has grown
    start, rounds = time.perf_counter_ns(), 50
    for i in range(rounds):
        vm.clone(f"clone{i}").destroy()
    return (time.perf_counter_ns() - start) / rounds


def run_ns(vms: int) -> float:
    """Nanoseconds of a hit in run() with so many VMs."""
    owner = memvirt.Host(memory=(vms * 40 + 5000) * PAGE, content="fingerprint")
    all_vms = [owner.create_vm(f"vm{i}", 16 * PAGE) for i in range(vms)]
    pages = np.tile(all_pages(16), 256_000 // vms)
    batch = (pages, reads(len(pages)))
    owner.run({vm: [batch] for vm in all_vms})
    start = time.perf_counter_ns()
    owner.run({vm: [batch] for vm in all_vms})
    return (time.perf_counter_ns() - start) / len(pages) / vms


def chain_ns(depth: int) -> float:
    """Nanoseconds of the next clone in a chain of clones so deep, each of the one before, and of 64 writes to it."""
    owner = memvirt.Host(memory="512MiB", content="fingerprint")
    vm = owner.create_vm("clone0", "16MiB")
    touch(vm, all_pages(vm.pages), writes(vm.pages))
    pages, spent = all_pages(vm.pages), 0
    for i in range(1, depth + 1):
        start = time.perf_counter_ns()
        vm = vm.clone(f"clone{i}")
        touch(vm, pages[i % 64 * 64 :][:64], writes(64))
        spent = spent + time.perf_counter_ns() - start if i > depth // 2 else 0
    return spent / (depth - depth // 2)


def areas_ns(areas: int) -> float:
    """Nanoseconds of an access where three of four pages are out, on so many swap areas of different priority."""
    size = 62 * KIB // areas * PAGE
    owner = memvirt.Host(
        memory="64MiB", content="fingerprint", swap_areas=[{"size": size, "priority": i} for i in range(areas)]
    )
    vm = owner.create_vm("vm", 60 * KIB * PAGE)
    touch(vm, all_pages(vm.pages), writes(vm.pages))
    return touch(vm, shuffled(vm.pages), writes(vm.pages))


def hosts_ns(hosts: int) -> float:
    """Nanoseconds of the last quarter of so many hosts one after another, each with a VM that swaps."""
    start = 0
    for i in range(hosts):
        if i == hosts * 3 // 4:
            start = time.perf_counter_ns()
        with memvirt.Host(memory="2MiB", swap="4MiB", content="fingerprint") as owner:
            vm = owner.create_vm("vm", "4MiB")
            touch(vm, all_pages(vm.pages), writes(vm.pages))
    return (time.perf_counter_ns() - start) / (hosts - hosts * 3 // 4)


ROWS: tuple[tuple[str, Callable[[int], float], int, int, float], ...] = (
    ("write to a page merged 2^20 times, oldest first", oldest_first_ns, 1 << 20, 4 * KIB, 0.1),
    ("reclaim's round over 64 Ki merged pages", reclaim_ns, 64 * KIB, 4 * KIB, 0.5),
    ("end of each of 1,024 clones", end_ns, 1024, 64, 0.2),
    ("clone, and its end, of a guest with 64 Ki pages on its disk", clone_ns, 64 * KIB, 32 * KIB, 0.35),  # tables only
    ("hit in run() of 4,095 VMs", run_ns, 4095, 40, 0.1),
    ("clone and writes at the end of a chain of 1,000", chain_ns, 1000, 60, 0.35),
    ("access that swaps, on 31 swap areas", areas_ns, 31, 1, 0.5),
    ("host with a VM that swaps, after 2,000 others", hosts_ns, 2_000, 100, 0.5),
)


def rows(repeats: int) -> Iterator[Row]:
    for what, measure, many, few, target in ROWS:
        reference = Reference(name=f"of {few}", measure=lambda few=few, measure=measure: measure(few), target=target)
        yield from compare(
            what, lambda many=many, measure=measure: measure(many), [reference], unit="ns", repeats=repeats
        )
