"""Hosts, traces and contents that several groups measure with."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import memvirt
from memvirt.engine.host import accesses

Pages = NDArray[np.uint32]
Ops = NDArray[np.uint8]
PAGE = 4096
MIB_PAGES = 256


def writes(n: int) -> Ops:
    return np.ones(n, np.uint8)


def reads(n: int) -> Ops:
    return np.zeros(n, np.uint8)


def half_writes(n: int) -> Ops:
    """Loads and stores mixed evenly, in no order that a branch predictor learns."""
    return (np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(63)).astype(np.uint8)


def all_pages(n: int) -> Pages:
    return np.arange(n, dtype=np.uint32)


def shuffled(n: int, seed: int = 1) -> Pages:
    return np.random.Generator(np.random.PCG64(seed)).permutation(n).astype(np.uint32)


def zipf(pages: int, requests: int, seed: int) -> Pages:
    """Zipf(1.0) requests; the popular pages lie anywhere."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weight = np.cumsum(1.0 / np.arange(1, pages + 1))
    rank = np.searchsorted(weight, rng.random(requests) * weight[-1])
    numbers: Pages = rng.permutation(pages).astype(np.uint32)
    return np.take(numbers, np.minimum(rank, pages - 1))


def random_bytes(pages: int, seed: int = 1) -> NDArray[np.uint8]:
    """Pages that all differ, and from the first word on."""
    words = np.random.Generator(np.random.PCG64(seed)).integers(0, 1 << 64, pages * 512, np.uint64)
    return words.view(np.uint8).reshape(pages, PAGE)


def host(guest_mib: int, spare_percent: int = 12, **settings: Any) -> memvirt.Host:
    """A host with room for so many MiB of guests, its own tables, and a little more."""
    return memvirt.Host(memory=f"{guest_mib * (100 + spare_percent) // 100 + 64}MiB", **settings)


def touch(vm: memvirt.Vm, pages: Pages, ops: Ops) -> float:
    """Nanoseconds per access of one batch; all of it must be served."""
    start = time.perf_counter_ns()
    done = accesses.access(vm.host.engine, vm.engine_vm, pages, ops)
    spent = time.perf_counter_ns() - start
    if done != len(pages):
        raise RuntimeError(f"{done} of {len(pages)} accesses were served: {vm.outcome}")
    return spent / len(pages)


def touched(owner: memvirt.Host, name: str, mib: int, **settings: Any) -> memvirt.Vm:
    """A VM that has written every page of its memory."""
    vm = owner.create_vm(name, f"{mib}MiB", **settings)
    touch(vm, all_pages(vm.pages), writes(vm.pages))
    return vm
