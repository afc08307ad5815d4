"""Stores to random pages of a set of which half is resident, the rest compressed: ours, a C loop, memcg with zram.

The kernel stands beside without a target: most of its time is the codec's, which the loop has, too.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path

import numpy as np
from harness import Absent, Measure, Reference, Row, compare
from limits.build import load
from peers import memcg
from peers.guard import Busy, Guard
from peers.worker import Worker
from peers.zram import Zram

from memvirt.engine.content.codec import open_codec
from rows.common import host, touch, writes
from rows.contents import PAGES, pages_of

ACCESSES = 60_000
CLASSES = ("source", "heap")


def rows(repeats: int) -> Iterator[Row]:
    load("kernel_peer")
    for name in CLASSES:
        yield from _rows(name, repeats)


def thrashing(name: str):
    """A VM limited to half of its memory, which holds pages of this class."""
    owner = host(PAGES // 256, spare_percent=60, zpool_percent=80)
    vm = owner.create_vm("guest", f"{PAGES // 256}MiB", limit=f"{PAGES // 512}MiB")
    done = vm.write(0, pages_of(name).tobytes())
    if done != vm.pages * 4096:
        raise RuntimeError(f"only {done} bytes could be written: {vm.outcome}")
    return owner, vm


def _rows(name: str, repeats: int) -> Iterator[Row]:
    limit = load("store_limit")
    order = np.random.Generator(np.random.PCG64(5)).integers(0, PAGES, ACCESSES, np.uint32)
    _, vm = thrashing(name)
    loop = limit.Thrash(open_codec("lz4"), pages_of(name), PAGES // 2)
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        kernel, guard, parent, why = _kernel(worker, Path(folder), name, order)
        references = [
            Reference(name="C loop", measure=lambda: loop.run(order), target=0.8),
            Reference(name="memcg with zram", measure=kernel, target=None, note=why),
        ]
        try:
            yield from compare(
                f"thrashing, half resident, {name}",
                lambda: touch(vm, order, writes(ACCESSES)),
                references,
                unit="ns/access",
                repeats=repeats,
            )
        finally:
            if guard is not None:
                _leave(worker, parent)
                guard.close()


def _leave(worker: Worker, parent: str) -> None:
    with suppress(BrokenProcessPool):  # killed for want of memory: it has left
        worker(memcg.leave, parent)


def _kernel(
    worker: Worker, folder: Path, name: str, order: np.ndarray
) -> tuple[Measure | None, Guard | None, str, str]:
    """What measures the kernel, and the guard to close; or why it cannot be."""
    guard = None
    try:
        guard = Guard()
        Zram(guard, 2 * PAGES).swap_on()
        group = memcg.Group(guard, PAGES // 2 * 4096)
    except (Absent, Busy, OSError) as error:
        if guard is not None:
            guard.close()
        return None, None, "", str(error)
    np.save(folder / "pages.npy", pages_of(name))
    np.save(folder / "order.npy", order)
    worker(memcg.join, str(group.path))

    def measure() -> float:
        try:
            return worker(memcg.stores_ns, str(folder / "pages.npy"), str(folder / "order.npy"))
        except BrokenProcessPool:
            raise Absent("the kernel killed it for want of memory") from None

    return measure, guard, str(group.parent), ""
