"""Bytes of metadata, from what usage() says the host's memory holds: each is held against a bound."""

from collections.abc import Iterator
from typing import Any

from harness import Row, bounded

from rows.common import host, random_bytes, touched
from rows.compress import Ours
from rows.contents import PAGES, pages_of

MIB = 1024
FRAME_BYTES, PAGE_BYTES, OUT_BYTES = 20, 16, 24


def rows(repeats: int) -> Iterator[Row]:
    owner = host(MIB, content="fingerprint")
    before = metadata_bytes(owner)
    yield bounded("metadata per frame", before / owner.engine.frames.nr_frames, FRAME_BYTES, "B", "a host without VMs")
    vm = touched(owner, "guest", MIB)
    yield bounded(
        "metadata per touched page",
        (metadata_bytes(owner) - before) / vm.pages,
        PAGE_BYTES,
        "B",
        "one VM that has touched all of its memory",
    )
    yield from _out()
    yield from _scanner()
    yield from _guest()


def metadata_bytes(owner: Any) -> int:
    """Everything that is neither free nor a guest's nor compressed pages."""
    usage = owner.usage()
    return 4096 * (usage["fixed"] + usage["table"] + usage["backing"])


def _out() -> Iterator[Row]:
    for name, settings in (("compressed", {}), ("on swap", {"zpool_percent": 0, "swap": "256MiB"})):
        ours = Ours(pages_of("heap") if name == "compressed" else random_bytes(PAGES), **settings)
        before = metadata_bytes(ours.host)
        ours.out()
        pool = ours.host.engine.mapping.zpool
        handles = pool.metadata_bytes() if pool is not None else 0
        spent = metadata_bytes(ours.host) - before + handles
        note = "the pool's handles included, tables of the VM not" if handles else "tables of the VM not included"
        tables = 4096 * ours.host.usage()["table"]
        yield bounded(f"metadata per page that is {name}", (spent - tables) / PAGES, OUT_BYTES, "B", note)


def _scanner() -> Iterator[Row]:
    plain, scanned = host(MIB, content="fingerprint"), host(MIB, content="fingerprint", sharing="hash")
    extra = (metadata_bytes(scanned) - metadata_bytes(plain)) / plain.engine.frames.nr_frames
    yield bounded("scanner state per frame", extra, FRAME_BYTES, "B", "the bound is that of a frame's own record")


def _guest() -> Iterator[Row]:
    owner = host(MIB, content="fingerprint", spare_percent=20)
    before = metadata_bytes(owner)
    vm = owner.create_vm("guest", f"{MIB}MiB", guest=True)
    yield bounded(
        "guest model per page, with the translation cache",
        (metadata_bytes(owner) - before) / vm.pages,
        32,
        "B",
        "no target: 32 B is for orientation",
    )
