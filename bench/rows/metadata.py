"""Bytes of metadata: what usage() says the host's memory holds, and whether that is all that this process holds."""

import ctypes
from collections.abc import Iterator
from typing import Any

from harness import Row, bounded, unjudged
from peers.worker import Worker

from rows.common import host, random_bytes, touched
from rows.compress import Ours
from rows.contents import PAGES, pages_of
from rows.scale import resident_gib

MIB = 1024
FRAME_BYTES, PAGE_BYTES = 28, 16
OUT_BYTES, ORDERED_BYTES = 24, 34  # of a page that is out; where the exact order of stores is kept, for writeback
FINGERPRINT = 8  # bytes of a frame's content
STRAY = 0.02  # what else a process comes to hold


def rows(repeats: int) -> Iterator[Row]:
    owner = host(MIB, content="fingerprint")
    before = metadata_bytes(owner)
    note = "a host without VMs: 16 B the record, 9.3 B its place in the order (clock), 1 B its age, 0.2 B the free map"
    yield bounded("metadata per frame", before / owner.engine.frames.nr_frames, FRAME_BYTES, "B", note)
    vm = touched(owner, "guest", MIB)
    yield bounded(
        "metadata per touched page",
        (metadata_bytes(owner) - before) / vm.pages,
        PAGE_BYTES,
        "B",
        "one VM that has touched all of its memory: its tables and its translation cache",
    )
    with Worker() as worker:
        held, shown = worker(held_and_shown)
    note = f"the bound is what usage() shows, {shown:.1f} B, and {STRAY:.0%}"
    yield bounded("metadata that this process holds, per frame", held, shown * (1 + STRAY), "B", note)
    yield from _out()
    yield from _scanner()
    yield from _guest()


def held_and_shown() -> tuple[float, float]:
    """Bytes per frame of a host whose frames are nearly all touched, contents not included: resident, and in usage().
    Runs in a process of its own: what an earlier host has left in the heap would not be counted."""
    host(16, content="fingerprint")  # what is loaded and set up once
    before = resident_gib()
    owner = host(8 * MIB, content="fingerprint", spare_percent=2)
    frames = owner.engine.frames.nr_frames
    vm = touched(owner, "guest", 8 * MIB)
    ctypes.CDLL(None).malloc_trim(0)  # the access stream's arrays are freed, but the C library may keep them
    held = (resident_gib() - before) * (1 << 30) - FINGERPRINT * vm.pages
    return held / frames, metadata_bytes(owner) / frames


def metadata_bytes(owner: Any) -> int:
    """Everything that is neither free nor a guest's nor compressed pages."""
    usage = owner.usage()
    return 4096 * (usage["fixed"] + usage["table"] + usage["backing"])


def _out() -> Iterator[Row]:
    heap, swap = pages_of("heap"), f"{PAGES * 4}KiB"
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("compressed", heap, {}),
        ("compressed, in store order", heap, {"swap": swap}),
        ("on swap", random_bytes(PAGES), {"zpool_percent": 0, "swap": swap}),
    ]
    for name, pages, settings in cases:
        ours = Ours(pages, **settings)
        ours.out()
        engine = ours.host.engine
        backing, tables = 4096 * ours.host.usage()["backing"], engine.frames.heap_bytes
        parts = {"its record": backing - tables, "its part of the zspage's record": tables}
        if name == "on swap":
            parts["its slot"] = engine.mapping.swap.metadata_bytes() + 4 * engine.reclaim.readahead.nr_slots
        ordered = name.endswith("store order")
        note = ", ".join(f"{part} {size / PAGES:.1f} B" for part, size in parts.items() if size)
        yield bounded(
            f"metadata per page that is {name}",
            sum(parts.values()) / PAGES,
            ORDERED_BYTES if ordered else OUT_BYTES,
            "B",
            f"{note}; all of it in usage()" + ("; there is a swap to write back to" if ordered else ""),
        )


def _scanner() -> Iterator[Row]:
    plain, scanned = host(MIB, content="fingerprint"), host(MIB, content="fingerprint", sharing="hash")
    extra = (metadata_bytes(scanned) - metadata_bytes(plain)) / plain.engine.frames.nr_frames
    yield unjudged("scanner state per frame", extra, "B", "hash: its table, and since when a page is as it is")


def _guest() -> Iterator[Row]:
    owner = host(MIB, content="fingerprint", spare_percent=20)
    before = metadata_bytes(owner)
    vm = owner.create_vm("guest", f"{MIB}MiB", guest=True)
    extra = (metadata_bytes(owner) - before) / vm.pages
    yield unjudged("guest model per page", extra, "B", "with the VM's translation cache")
