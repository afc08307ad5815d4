"""First touch and COW break beside the kernel's, and the copy of a shared leaf beside a loop."""

from collections.abc import Iterator

from harness import Reference, Row, compare
from limits.build import load
from peers import memory
from peers.worker import Worker

from rows.common import MIB_PAGES, all_pages, host, touch, touched, writes

MIB = 256


def rows(repeats: int) -> Iterator[Row]:
    load("kernel_peer")  # built before the worker needs it
    with Worker() as worker:
        yield from _first_touch(worker, repeats)
        yield from _cow_break(worker, repeats)
    yield from _leaf_copy(repeats)


def first_touch(owner) -> float:
    """Nanoseconds per page of a new VM that writes all its memory; the VM is gone afterwards."""
    vm = owner.create_vm("guest", f"{MIB}MiB")
    try:
        return touch(vm, all_pages(vm.pages), writes(vm.pages))
    finally:
        vm.destroy()


def _first_touch(worker: Worker, repeats: int) -> Iterator[Row]:
    owner = host(MIB)
    pages = MIB * MIB_PAGES
    kernel = Reference(name="kernel", measure=lambda: worker(memory.first_touch_ns, pages), target=8)
    what = "first touch, 4 KiB, the clearing included"
    yield from compare(what, lambda: first_touch(owner), [kernel], unit="ns/page", repeats=repeats)
    huge = host(MIB, provisioning="thin-huge")
    kernel = Reference(
        name="kernel, huge pages", measure=lambda: worker(memory.first_touch_ns, pages, True), target=None
    )
    yield from compare(
        "first touch, 2 MiB at once", lambda: first_touch(huge), [kernel], unit="ns/page", repeats=repeats
    )


def cow_break(parent) -> float:
    """Nanoseconds per page of a clone that writes all its memory, its leaves being its own already."""
    pages = all_pages(parent.pages)
    clone = parent.clone("clone")
    try:
        touch(clone, pages[::512].copy(), writes(len(pages[::512])))
        rest = pages[pages % 512 != 0]
        return touch(clone, rest, writes(len(rest)))
    finally:
        clone.destroy()


def _cow_break(worker: Worker, repeats: int) -> Iterator[Row]:
    limit = load("page_limit")
    owner = host(2 * MIB)
    parent = touched(owner, "parent", MIB)
    pages = MIB * MIB_PAGES
    copy = limit.Copy(pages)
    references = [
        Reference(name="kernel, after fork", measure=lambda: worker(memory.cow_break_ns, pages), target=4.5),
        Reference(name="copy loop", measure=copy.run, target=0.8),
    ]
    yield from compare(
        "COW break, leaf private", lambda: cow_break(parent), references, unit="ns/page", repeats=repeats
    )


def _leaf_copy(repeats: int) -> Iterator[Row]:
    limit = load("page_limit")
    owner = host(1024)
    parent = touched(owner, "parent", 1024)

    def ours() -> float:
        clone = parent.clone("clone")
        try:
            return limit.leaf_copy_ns(owner.engine, clone.engine_vm)
        finally:
            clone.destroy()

    note = "entries, references, and a link to the site that each frame had before"
    loop = Reference(name="loop", measure=lambda: limit.leaf_copy_limit_ns(512), target=0.5, note=note)
    yield from compare("copy of a shared leaf, 512 entries", ours, [loop], unit="ns/leaf", repeats=repeats)
