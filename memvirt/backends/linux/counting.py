"""What any user can count of this machine's kernel: faults and frames of first touch, copy-on-write and release.

Counted are minor faults (getrusage) and entries of /proc/self/pagemap; both are exact, and so must the engine's counts
be. Where the two are known to do different things, the row says which.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from memvirt.backends.linux import kernel
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.pair import Pair, contents
from memvirt.backends.linux.tenant import Tenant
from memvirt.backends.rows import Row
from memvirt.inputs.bits import Bits
from memvirt.workloads.base import READ, WRITE

HUGE_PAGES = 512
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
ZERO_FRAME = "the kernel maps its one zero page for a read of untouched memory; the engine gives a frame at once"


def first_touch(pages: int, seed: int) -> Iterator[Row]:
    """Memory is given page by page, at the first access; or all of it beforehand."""
    name = "first touch"
    order = Bits("validate", seed, "first touch").permutation(pages)
    half = pages // 2
    with Pair(pages) as pair:
        engine, minor = pair.drive(order[:half])
        yield Row(mechanism=name, what=f"faults of {half} first writes", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.resident()[0])
        engine, minor = pair.drive(order[:half])
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        engine, minor = pair.drive(order[half:], READ)
        yield Row(mechanism=name, what=f"faults of {pages - half} first reads", engine=engine, kernel=minor)
        read, own = pages - half, pair.resident()[1]
        yield Row(
            mechanism=name, what="pages held after reads", engine=pair.frames(), kernel=own, reason=ZERO_FRAME,
            covered=read / max(own, 1),
        )  # fmt: skip
        engine, minor = pair.drive(order[half:])
        yield Row(
            mechanism=name, what="faults of writing what was read", engine=engine, kernel=minor, reason=ZERO_FRAME,
            covered=read / max(minor, 1),
        )  # fmt: skip
        yield Row(mechanism=name, what="pages held in the end", engine=pair.frames(), kernel=pair.resident()[1])
        yield equal(name, pair)


def populated(pages: int, seed: int) -> Iterator[Row]:
    """All memory is given before the first access."""
    name = "provisioned thick"
    with Pair(pages, provisioning="thick") as pair:
        try:
            pair.tenant.ask("advise", 0, pages, POPULATE_WRITE)
        except OSError as error:
            raise Missing(f"MADV_POPULATE_WRITE is refused ({error.strerror}): Linux has it since 5.14") from error
        yield Row(mechanism=name, what="pages held at once", engine=pair.frames(), kernel=pair.resident()[0])
        engine, minor = pair.drive(Bits("validate", seed, "thick").permutation(pages))
        yield Row(mechanism=name, what=f"faults of {pages} first writes", engine=engine, kernel=minor)
        yield equal(name, pair)


def huge(pages: int, seed: int) -> Iterator[Row]:
    """The first access to a region gives all its 2 MiB."""
    name = "huge pages"
    if kernel.setting(THP) == "never":
        raise Missing(f"transparent huge pages are off ({THP}: never)")
    regions = max(1, pages // HUGE_PAGES)
    touched = np.arange(regions) * HUGE_PAGES + Bits("validate", seed, "huge").below(HUGE_PAGES, regions)
    with Pair(regions * HUGE_PAGES, huge=True, provisioning="thin-huge") as pair:
        before = kernel.table(kernel.VMSTAT).get("thp_fault_fallback", 0)
        engine, minor = pair.drive(touched)
        fallbacks = kernel.table(kernel.VMSTAT).get("thp_fault_fallback", 0) - before
        if fallbacks:
            raise Missing(f"this machine has no free block of 2 MiB: {fallbacks} huge faults fell back to small pages")
        yield Row(mechanism=name, what=f"faults of a write in each of {regions} regions", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.resident()[0])
        engine, minor = pair.drive(np.arange(pair.pages))
        yield Row(mechanism=name, what="faults of writing every page", engine=engine, kernel=minor)
        yield equal(name, pair)


def forked(pages: int, seed: int) -> Iterator[Row]:
    """A clone shares all memory; the first write of either side copies a page."""
    name = "copy-on-write: fork"
    corpus = contents(seed)
    bits = Bits("validate", seed, "fork")
    childs, parents = bits.permutation(pages)[: pages // 3], bits.permutation(pages)[: pages // 2]
    with Pair(pages, corpus, frames=4 * pages + 2048) as pair:
        pair.fill(bits.below(len(corpus), pages).astype(np.uint32))
        pair.fork("child")
        engine, minor = pair.drive(np.arange(pages), READ, twin="child")
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
        engine, minor = pair.drive(np.arange(pages))
        yield Row(mechanism=name, what="faults of the parent's last writes", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="frames then", engine=pair.frames(), kernel=pair.resident()[1])
        yield equal(name, pair)


def template(pages: int, seed: int) -> Iterator[Row]:
    """Private mappings of a file in memory are clones of a template, which a release brings back."""
    name = "copy-on-write: template"
    corpus = contents(seed)
    bits = Bits("validate", seed, "template")
    sources = bits.below(len(corpus), pages).astype(np.uint32)
    written = bits.permutation(pages)[: pages // 4]
    with Pair(pages, corpus, frames=4 * pages + 2048) as pair:
        pair.tenant.ask("make_template", pages)
        engine, minor = pair.fill(sources)
        yield Row(mechanism=name, what="faults of filling the template", engine=engine, kernel=minor)
        pair.clone_template()
        engine, minor = pair.drive(written)
        yield Row(mechanism=name, what=f"breaks by {len(written)} writes of a clone", engine=engine, kernel=minor)
        frames = pair.resident()[1] + pair.tenant.ask("template_pages")
        yield Row(mechanism=name, what="frames of template and clone", engine=pair.frames(), kernel=frames)
        engine, minor = pair.drive(written)
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        yield equal(name, pair)


def balloon(pages: int, seed: int) -> Iterator[Row]:
    """A guest gives memory up through a balloon; a process by MADV_DONTNEED."""
    name = "release: MADV_DONTNEED"
    first = np.arange(pages)
    gone = pages // 3
    with Pair(pages, guest=True) as pair:
        pair.drive(first)
        yield Row(mechanism=name, what="pages held before", engine=pair.frames(), kernel=pair.resident()[0])
        pair.release(gone)
        yield Row(
            mechanism=name,
            what=f"pages held after {gone} were released",
            engine=pair.frames(),
            kernel=pair.resident()[0],
        )
        pair.deflate()
        engine, minor = pair.drive(first[:gone])
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        yield Row(mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.resident()[0])
        yield equal(name, pair)


def hole(pages: int, seed: int) -> Iterator[Row]:
    """The same where a VM's memory is a file: holes are punched into it."""
    name = "release: hole in a file"
    first = np.arange(pages)
    gone = pages // 3
    with Pair(pages, guest=True) as pair:
        pair.tenant.ask("make_template", pages, pair.vm.tag_base)
        engine, minor = pair.drive(first)
        yield Row(mechanism=name, what=f"faults of {pages} first writes", engine=engine, kernel=minor)
        pair.release(gone, punched=True)
        held = pair.tenant.ask("template_pages")
        yield Row(mechanism=name, what=f"pages held after {gone} were released", engine=pair.frames(), kernel=held)
        pair.deflate()
        engine, minor = pair.drive(first[:gone])
        yield Row(mechanism=name, what="faults of writing them again", engine=engine, kernel=minor)
        yield Row(
            mechanism=name, what="pages held then", engine=pair.frames(), kernel=pair.tenant.ask("template_pages")
        )
        yield equal(name, pair)


def lazily(pages: int, seed: int) -> Iterator[Row]:
    """MADV_FREE: what is given up is held until memory is short."""
    with Tenant() as tenant:
        tenant.ask("make", pages)
        tenant.ask("drive", np.arange(pages, dtype=np.uint32), np.full(pages, WRITE, np.uint8), None)
        tenant.ask("advise", 0, pages, getattr(mmap, "MADV_FREE", 8))
        held = tenant.ask("resident")[0]
    reason = "the engine has no memory that is freed lazily"
    yield Row(
        mechanism="release: MADV_FREE", what=f"pages held after {pages} were given up", kernel=held, reason=reason
    )


def equal(name: str, pair: Pair) -> Row:
    """The content of all pages, compared."""
    what = "pages read back equal"
    return Row(mechanism=name, what=what, engine=pair.pages, kernel=pair.pages - pair.unequal())


MECHANISMS: dict[str, Callable[[int, int], Iterator[Row]]] = {
    "first touch": first_touch,
    "provisioned thick": populated,
    "huge pages": huge,
    "copy-on-write: fork": forked,
    "copy-on-write: template": template,
    "release: MADV_DONTNEED": balloon,
    "release: hole in a file": hole,
    "release: MADV_FREE": lazily,
}
