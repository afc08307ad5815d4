"""1 TiB of guests, all touched, on a host of 512 GiB in fingerprint content. Takes minutes and up to 12 GiB.

Of every GiB of a guest two fifths are contents that no other page has, and the rest are 1024 corpus pages over and
over. The scanner runs when the host is nearly full, so that 1 TiB fits; in the end more than 400 GiB are in use.
"""

from collections.abc import Iterator

import numpy as np
from harness import Measure, Reference, Row, bounded, compare

import memvirt
from memvirt.workloads.base import FILL, WRITE
from rows.common import all_pages, random_bytes, reads, touch, touched, zipf

GIB_PAGES = 262144
VMS, VM_GIB, HOST_GIB = 16, 64, 512
ACCESSES = 4_000_000
MEMORY_GIB = 12
TARGET = 1 / 2  # a guest of 64 GiB alone is at most twice as fast
OWN, TABLES_GIB = 0.4, 4


def resident_gib() -> float:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / (1 << 20)


def access_ns(vms: list[memvirt.host.Vm]) -> Measure:
    """Loads, zipf(1.0) within each VM, a batch of one VM after a batch of another: all that the VMs were promised is in
    play. A round has as many batches, however many VMs there are."""
    batches = []
    for turn in range(VMS):
        vm = vms[turn % len(vms)]
        batches.append((vm, zipf(vm.pages, ACCESSES // VMS, seed=1 + turn)))
    ops = reads(ACCESSES // VMS)
    return lambda: sum(touch(vm, pages, ops) for vm, pages in batches) / VMS


def rows(repeats: int) -> Iterator[Row]:
    small = memvirt.Host(memory=f"{VM_GIB + 8}GiB", content="fingerprint")
    alone = Reference(
        name=f"a {VM_GIB} GiB guest", measure=access_ns([touched(small, "guest", VM_GIB * 1024)]), target=TARGET
    )
    before = resident_gib()
    corpus = np.concatenate([np.zeros((1, 4096), np.uint8), random_bytes(1024)])
    owner = memvirt.Host(memory=f"{HOST_GIB}GiB", content="fingerprint", sharing="hash", corpus=corpus)
    ops = np.where(all_pages(GIB_PAGES) < GIB_PAGES * OWN, WRITE, FILL).astype(np.uint8)
    for i in range(VMS):
        if owner.usage()["free"] < (VM_GIB + TABLES_GIB) * GIB_PAGES:
            owner.scan()
        vm = owner.create_vm(f"vm{i}", f"{VM_GIB}GiB")
        for first in range(0, vm.pages, GIB_PAGES):
            pages = all_pages(GIB_PAGES) + np.uint32(first)
            done = vm.access(pages, ops, (pages % 1024 + 1).astype(np.uint32))
            if done.done != GIB_PAGES:
                raise RuntimeError(f"VM {i} stopped at page {first + done.done}: {done.reason}")
    owner.scan()
    used = (HOST_GIB * GIB_PAGES - owner.usage()["free"]) / GIB_PAGES
    note = f"{used:.0f} GiB of the host are in use"
    yield bounded("scale: memory of 1 TiB of guests on 512 GiB", resident_gib() - before, MEMORY_GIB, "GiB", note)
    what = f"scale: cost per access, {VMS} guests by turns"
    yield from compare(what, access_ns(owner.vms), [alone], unit="ns/access", repeats=repeats)
