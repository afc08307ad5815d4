"""Clones beside fork(): leaf tables shared, with an idle parent, a busy one, and one with a guest."""

import time
from collections.abc import Iterator

import numpy as np
from harness import Reference, Row, compare, unjudged
from limits.build import load
from peers import memory
from peers.worker import Worker

from memvirt.engine.host import admission, ending
from memvirt.workloads.base import DISCARD
from rows.common import MIB_PAGES, all_pages, host, touch, touched, writes

GIB = 4


def clone_ns(parent) -> float:
    """Nanoseconds of one clone, everything included; the clone is gone afterwards."""
    start = time.perf_counter_ns()
    clone = parent.clone("clone")
    spent = time.perf_counter_ns() - start
    clone.destroy()
    return spent


def first_change_ns(parent) -> float:
    """Nanoseconds in which a new clone frees one page: its guest changes for the first time."""
    clone = parent.clone("clone")
    page = all_pages(1)
    spent = touch(clone, page, np.full_like(page, DISCARD, np.uint8))
    clone.destroy()
    return spent


def rows(repeats: int) -> Iterator[Row]:
    load("kernel_peer")
    with Worker() as worker:
        for busy in (False, True):
            yield from _rows(worker, repeats, busy, guest=False)
        yield from _rows(worker, repeats, True, guest=True)


def _rows(worker: Worker, repeats: int, busy: bool, guest: bool) -> Iterator[Row]:
    owner = host(GIB * 1024, content="fingerprint", spare_percent=20)
    parent = touched(owner, "parent", GIB * 1024, **({"guest": True} if guest else {}))
    pages = all_pages(parent.pages)
    clone_ns(parent)

    def ours() -> float:
        """The best of three, as of fork()."""
        spent = []
        for _ in range(3):
            if busy:
                touch(parent, pages, writes(len(pages)))
            spent.append(clone_ns(parent))
        return min(spent) / GIB / 1e3

    def fork(huge: bool) -> float:
        return worker(memory.fork_ns, GIB * 1024 * MIB_PAGES, huge) / GIB / 1e3

    references = [Reference(name="fork()", measure=lambda: fork(False), target=100 if guest else 1000)]
    if not guest:
        references.append(Reference(name="fork() of huge pages", measure=lambda: fork(True), target=15))
    what = f"clone of {GIB} GiB, {'busy' if busy else 'idle'} parent{', with a guest' if guest else ''}"
    yield from compare(what, ours, references, unit="us/GiB", repeats=repeats)
    if guest:
        spent = min(first_change_ns(parent) for _ in range(3)) / GIB / 1e3
        note = "what the clone put off: the tables of its guest are copied whole when either side's guest changes something"
        yield unjudged(f"first change of a guest after {what}", spent, "us/GiB", note)
        return
    limit = load("page_limit")

    def tables() -> float:
        """The leaves alone: as fork's own, whose fixed cost is taken off, without that of a new VM."""
        spent = []
        for _ in range(3):
            child = admission.create_vm(owner.engine, "child", parent.pages)
            if busy:
                touch(parent, pages, writes(len(pages)))
            spent.append(limit.clone_share_ns(owner.engine, parent.engine_vm, child))
            ending.destroy_vm(owner.engine, child)
        return min(spent) / GIB / 1e3

    yield from compare(f"{what}, leaf tables alone", tables, references, unit="us/GiB", repeats=repeats)
