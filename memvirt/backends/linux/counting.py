"""What any user can count of this machine's kernel: faults and frames of first touch, copy-on-write and release.

Counted are minor faults (getrusage) and entries of /proc/self/pagemap; both are exact, and so must the engine's counts
be, by every way (memvirt.backends.linux.ways). Where the two are known to do different things, the row says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memvirt.backends.linux import kernel
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.pair import Pair
from memvirt.backends.linux.ways import Pages, Story, Way, by_all_ways
from memvirt.backends.rows import Row
from memvirt.workloads.base import FILL, READ

HUGE_PAGES = 512
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LEAF_PAGES = 512  # of a page table
WHOLE_LEAF = (
    "the engine's clone shares whole page tables: one that neither side wrote to is the parent's alone again when the clone "
    "has ended; the kernel has copied it, and protected each entry"
)
ZERO_FRAME = "the kernel maps its one zero page for a read of untouched memory; the engine gives a frame at once"


def _pair(way: Way, pages: int | None = None, **settings: Any) -> Pair:
    return Pair(pages or way.pages, way.corpus, tenant=way.process(), **settings)


def _filled(pair: Pair, way: Way, pages: Pages) -> tuple[int, int]:
    """Faults of filling these pages, in this order."""
    return pair.drive(pages, FILL, way.sources[pages])


def first_touch(name: str, way: Way) -> Iterator[Row]:
    """Memory is given page by page, at the first access; or all of it beforehand."""
    order = way.some(way.pages)
    half = way.pages // 2
    with _pair(way) as pair:
        engine, minor = _filled(pair, way, order[:half])
        yield Row(mechanism=name, what=f"faults of {half} first writes", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.resident()[0])
        engine, minor = pair.drive(order[:half])
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        engine, minor = pair.drive(order[half:], READ)
        yield Row(mechanism=name, what=f"faults of {way.pages - half} first reads", engine=engine, kernel=minor)
        read, own = way.pages - half, pair.resident()[1]
        yield Row(
            mechanism=name, what="pages held after reads", engine=pair.frames(), kernel=own, reason=ZERO_FRAME,
            covered=read / max(own, 1),
        )  # fmt: skip
        engine, minor = _filled(pair, way, order[half:])
        yield Row(
            mechanism=name, what="faults of writing what was read", engine=engine, kernel=minor, reason=ZERO_FRAME,
            covered=read / max(minor, 1),
        )  # fmt: skip
        yield Row(mechanism=name, what="pages held in the end", engine=pair.frames(), kernel=pair.resident()[1])
        yield equal(name, pair)


def populated(name: str, way: Way) -> Iterator[Row]:
    """All memory is given before the first access."""
    with _pair(way, provisioning="thick") as pair:
        try:
            pair.tenant.ask("advise", 0, way.pages, POPULATE_WRITE)
        except OSError as error:
            raise Missing(f"MADV_POPULATE_WRITE is refused ({error.strerror}): Linux has it since 5.14") from error
        yield Row(mechanism=name, what="pages held at once", engine=pair.frames(), kernel=pair.resident()[0])
        engine, minor = _filled(pair, way, way.some(way.pages))
        yield Row(mechanism=name, what=f"faults of {way.pages} first writes", engine=engine, kernel=minor)
        yield equal(name, pair)


def huge(name: str, way: Way) -> Iterator[Row]:
    """The first access to a region gives all its 2 MiB; where huge pages are refused, a page."""
    if kernel.setting(THP) == "never":
        raise Missing(f"transparent huge pages are off ({THP}: never)")
    regions = max(1, way.pages // HUGE_PAGES)
    pages = regions * HUGE_PAGES
    sources = way.filled(pages)
    touched = way.some(regions, regions) * HUGE_PAGES + way.bits.below(HUGE_PAGES, regions)
    with _pair(way, pages, huge=True, provisioning="thin-huge") as pair:
        before = kernel.table(kernel.VMSTAT).get("thp_fault_fallback", 0)
        engine, minor = pair.drive(touched, FILL, sources[touched])
        fallbacks = kernel.table(kernel.VMSTAT).get("thp_fault_fallback", 0) - before
        if fallbacks:
            raise Missing(f"this machine has no free block of 2 MiB: {fallbacks} huge faults fell back to small pages")
        yield Row(mechanism=name, what=f"faults of a write in each of {regions} regions", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.resident()[0])
        every = way.some(pages, pages)
        engine, minor = pair.drive(every, FILL, sources[every])
        yield Row(mechanism=name, what="faults of writing every page", engine=engine, kernel=minor)
        yield equal(name, pair)
    with _pair(way, pages) as pair:
        engine, minor = pair.drive(touched, FILL, sources[touched])
        yield Row(mechanism=name, what="the same where they are refused", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held there", engine=pair.frames(), kernel=pair.resident()[0])


def forked(name: str, way: Way) -> Iterator[Row]:
    """A clone shares all memory; the first write of either side copies a page."""
    pages = way.pages
    childs, parents = way.some(pages // 3), way.some(pages // 2)
    with _pair(way, frames=4 * pages + 2048) as pair:
        pair.fill(way.sources)
        pair.fork("child")
        engine, minor = pair.drive(way.some(pages), READ, twin="child")
        yield Row(mechanism=name, what="faults of reads by the child", engine=engine, kernel=minor)
        engine, minor = pair.drive(childs, twin="child")
        yield Row(mechanism=name, what=f"breaks by {len(childs)} writes of the child", engine=engine, kernel=minor)
        engine, minor = pair.drive(parents)
        yield Row(mechanism=name, what=f"faults of {len(parents)} writes of the parent", engine=engine, kernel=minor)
        (present, own), (present_too, own_too) = pair.resident(), pair.resident("child")
        shared = present - own
        frames = present + present_too - shared
        if shared != present_too - own_too:
            raise Missing("/proc/self/pagemap does not tell which pages are shared (CONFIG_NO_PAGE_MAPCOUNT)")
        yield Row(mechanism=name, what="frames of both", engine=pair.frames(), kernel=frames)
        unequal = pair.unequal(("", "child"))
        yield Row(mechanism=name, what="pages read back equal, of both", engine=2 * pages, kernel=2 * pages - unequal)
        pair.end("child")
        last = way.some(pages)
        written = np.isin(last // LEAF_PAGES, np.concatenate([childs, parents]) // LEAF_PAGES)
        engine, minor = pair.drive(last[written])
        yield Row(mechanism=name, what="faults of the parent's last writes", engine=engine, kernel=minor)
        engine, minor = pair.drive(last[~written])
        row = Row(mechanism=name, what="the same in 2 MiB nobody wrote to", engine=engine, kernel=minor)
        yield row.unless_within(WHOLE_LEAF, 1.0)
        yield Row(mechanism=name, what="frames then", engine=pair.frames(), kernel=pair.resident()[1])
        yield equal(name, pair)


def template(name: str, way: Way) -> Iterator[Row]:
    """Private mappings of a file in memory are clones of a template, which a release brings back."""
    pages = way.pages
    written = way.some(pages // 4)
    with _pair(way, frames=4 * pages + 2048) as pair:
        pair.tenant.ask("make_template", pages)
        engine, minor = pair.fill(way.sources)
        yield Row(mechanism=name, what="faults of filling the template", engine=engine, kernel=minor)
        pair.clone_template()
        engine, minor = pair.drive(written)
        yield Row(mechanism=name, what=f"breaks by {len(written)} writes of a clone", engine=engine, kernel=minor)
        frames = pair.resident()[1] + pair.tenant.ask("template_pages")
        yield Row(mechanism=name, what="frames of template and clone", engine=pair.frames(), kernel=frames)
        engine, minor = pair.drive(written)
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        yield equal(name, pair)


def balloon(name: str, way: Way) -> Iterator[Row]:
    """A guest gives memory up through a balloon; a process by MADV_DONTNEED."""
    gone = way.pages // 3
    with _pair(way, guest=True) as pair:
        _filled(pair, way, way.some(way.pages))
        yield Row(mechanism=name, what="pages held before", engine=pair.frames(), kernel=pair.resident()[0])
        pair.release(gone)
        held = pair.resident()[0]
        yield Row(mechanism=name, what=f"pages held after {gone} were released", engine=pair.frames(), kernel=held)
        pair.deflate()
        engine, minor = _filled(pair, way, way.some(gone, gone))
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.resident()[0])
        yield equal(name, pair)


def hole(name: str, way: Way) -> Iterator[Row]:
    """The same where a VM's memory is a file: holes are punched into it."""
    gone = way.pages // 3
    with _pair(way, guest=True) as pair:
        pair.tenant.ask("make_template", way.pages, pair.vm.tag_base)
        engine, minor = _filled(pair, way, way.some(way.pages))
        yield Row(mechanism=name, what=f"faults of {way.pages} first writes", engine=engine, kernel=minor)
        pair.release(gone, punched=True)
        held = pair.tenant.ask("template_pages")
        yield Row(mechanism=name, what=f"pages held after {gone} were released", engine=pair.frames(), kernel=held)
        pair.deflate()
        engine, minor = _filled(pair, way, way.some(gone, gone))
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        held = pair.tenant.ask("template_pages")
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=held)
        yield equal(name, pair)


def lazily(name: str, way: Way) -> Iterator[Row]:
    """Pages are given up by MADV_FREE, and some are written again; then the kernel is told to page all of them out."""
    gone = way.pages // 2
    with _pair(way) as pair:
        pair.tenant.ask("stay")  # a processor's last few new pages, and given up ones, have not come into its lists yet
        _filled(pair, way, way.some(way.pages))
        pair.give_up(gone)
        kept = pair.tenant.ask("kept")
        yield Row(mechanism=name, what=f"pages held after {gone} were given up", engine=pair.frames(), kernel=kept)
        engine, minor = pair.drive(way.some(gone, gone), READ)
        yield Row(mechanism=name, what="faults of reading them", engine=engine, kernel=minor)
        engine, minor = pair.drive(way.some(gone // 4, gone))
        yield Row(mechanism=name, what=f"faults of writing {gone // 4} of them", engine=engine, kernel=minor)
        pair.page_out(gone, gone - gone // 4)
        kept = pair.tenant.ask("kept")
        yield Row(mechanism=name, what="pages kept when they are paged out", engine=pair.frames(), kernel=kept)
        yield equal(name, pair)


def equal(name: str, pair: Pair) -> Row:
    """The content of all pages, compared."""
    what = "pages read back equal"
    return Row(mechanism=name, what=what, engine=pair.pages, kernel=pair.pages - pair.unequal())


_STORIES: dict[str, Story] = {
    "first touch": first_touch,
    "provisioned thick": populated,
    "huge pages": huge,
    "copy-on-write: fork": forked,
    "copy-on-write: template": template,
    "release: MADV_DONTNEED": balloon,
    "release: hole in a file": hole,
    "release: MADV_FREE": lazily,
}
MECHANISMS: dict[str, Callable[[int, int], Iterator[Row]]] = {
    name: partial(by_all_ways, name, story) for name, story in _STORIES.items()
}
