"""The hash scanner beside KSM and beside a loop that hashes and looks up; the page hash beside XXH3."""

import ctypes
import importlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Absent, Measure, Reference, Row, compare
from limits.build import load
from peers.guard import Busy, Guard
from peers.ksm import Ksm
from peers.worker import Worker

from memvirt.engine.content.content import Bytes
from rows.common import MIB_PAGES, host, random_bytes

MIB = 128


def rows(repeats: int) -> Iterator[Row]:
    limit = load("page_limit")
    load("kernel_peer")
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        ksm, guard, why = _ksm(worker)
        try:
            yield from _unique(limit, ksm, why, Path(folder), repeats)
            yield from _merging(ksm, why, Path(folder), repeats)
        finally:
            if guard is not None:
                guard.close()
    yield from _hash(limit, repeats)


def _ksm(worker: Worker) -> tuple[Ksm | None, Guard | None, str]:
    guard = None
    try:
        guard = Guard()
        return Ksm(guard, worker), guard, ""
    except (Absent, Busy, OSError) as error:
        if guard is not None:
            guard.close()
        return None, None, str(error)


def filled(pages: Any, **settings: Any) -> Any:
    """A host whose one VM holds these pages."""
    owner = host(len(pages) // MIB_PAGES, sharing="hash", **settings)
    vm = owner.create_vm("guest", f"{len(pages) // MIB_PAGES}MiB")
    vm.write(0, pages.tobytes())
    return owner


def scan_ns(owner: Any) -> float:
    """Nanoseconds per page of one full pass."""
    before = owner.sharing()["pages_scanned"]
    start = time.perf_counter_ns()
    owner.scan()
    spent = time.perf_counter_ns() - start
    return spent / (owner.sharing()["pages_scanned"] - before)


def _unique(limit: Any, ksm: Ksm | None, why: str, folder: Path, repeats: int) -> Iterator[Row]:
    pages = random_bytes(MIB * MIB_PAGES)
    path = folder / "unique.npy"
    np.save(path, pages)
    owner = filled(pages)
    scan_ns(owner)
    measure: Measure | None = None if ksm is None else lambda: ksm.scan_ns(str(path))
    references = [
        Reference(name="KSM", measure=measure, target=20, note=why),
        Reference(name="hash and look up, frame order", measure=lambda: limit.scan_ns(owner.engine), target=0.75),
        Reference(
            name="hash and look up, random order", measure=lambda: limit.scan_ns(owner.engine, True), target=None
        ),
    ]
    yield from compare(
        "sharing scan, unique pages, steady", lambda: scan_ns(owner), references, unit="ns/page", repeats=repeats
    )


def _merging(ksm: Ksm | None, why: str, folder: Path, repeats: int) -> Iterator[Row]:
    half = random_bytes(MIB * MIB_PAGES // 2, seed=2)
    pages = np.concatenate([half, half])
    path = folder / "pairs.npy"
    np.save(path, pages)

    def ours() -> float:
        owner = filled(pages)
        start = time.perf_counter_ns()
        merged = owner.scan()
        spent = time.perf_counter_ns() - start
        if merged != len(half):
            raise RuntimeError(f"{merged} pages merged; {len(half)} have a twin")
        return spent / merged

    measure: Measure | None = None if ksm is None else lambda: ksm.merge_ns(str(path), len(half))
    note = why or "the same set: every page with its twin"
    reference = Reference(name="KSM", measure=measure, target=12, note=note)
    yield from compare("time to merge a page", ours, [reference], unit="ns/page", repeats=repeats)


def xxh3() -> Any:
    """XXH3_64bits of the xxhash wheel, called as C."""
    try:
        module = importlib.import_module("xxhash._xxhash")
        return ctypes.CDLL(module.__file__).XXH3_64bits
    except ImportError:
        raise Absent("the xxhash wheel is not installed") from None
    except (OSError, AttributeError):
        raise Absent("the xxhash wheel does not export XXH3_64bits") from None


def _hash(limit: Any, repeats: int) -> Iterator[Row]:
    content = Bytes(MIB * MIB_PAGES)
    measure: Measure | None = None
    try:
        function = xxh3()
        measure, note = (lambda: limit.foreign_hash_ns(content, function)), "as the wheel builds it"
    except Absent as error:
        note = str(error)
    reference = Reference(name="XXH3-64", measure=measure, target=None, note=note)
    yield from compare(
        "hash of a page, cold, in order", lambda: limit.hash_ns(content), [reference], unit="ns/page", repeats=repeats
    )
