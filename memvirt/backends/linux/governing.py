"""The engine's own policies on real frames, without a right of root: what the kernel tells of, and what memory holds.

Every event of the kernel must be a fault of the engine, of the same kind and at the same access, and every fault an event;
the frames that are held and the bytes in them must be the engine's. See memvirt.backends.linux.userfault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memvirt.backends.linux.pair import contents
from memvirt.backends.linux.swap import PATTERNS
from memvirt.backends.linux.userfault import ABSENT_FAULTS, STORE_FAULTS, Governed
from memvirt.backends.rows import Row
from memvirt.inputs.bits import Bits
from memvirt.inputs.corpus import Corpus
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import FILL, WRITE

MOST_PAGES = 1024  # of a story: at each event the engine is asked, and all entries are looked at
ROUNDS = 4  # accesses to a page, in the mean
SPARE_FRAMES = 64  # for tables and records of the engine, beyond pages


def _sources(bits: Bits, corpus: Corpus, kind: str, pages: int) -> NDArray[np.uint32]:
    """Pages of the corpus: of all kinds, or of the class of this name."""
    part = next((each.part for each in corpus.classes if each.name == kind), slice(0, len(corpus)))
    return (part.start + bits.below(part.stop - part.start, pages)).astype(np.uint32)


def _filled(governed: Governed, name: str, sources: NDArray[np.uint32]) -> None:
    pages = np.arange(len(sources), dtype=np.uint32)
    governed.create(name, len(pages))
    governed.replay(name, pages, np.full(len(pages), FILL, np.uint8), sources)


def _rows(mechanism: str, governed: Governed, names: tuple[str, ...], pages: int) -> Iterator[Row]:
    """What every story ends with."""
    events = governed.events
    for what, kinds, key in (
        ("events on pages that are absent", ABSENT_FAULTS, "absent"),
        ("events on stores to protected pages", STORE_FAULTS, "store"),
    ):
        yield Row(mechanism=mechanism, what=what, engine=governed.faults(kinds), kernel=events[key])
    yield Row(mechanism=mechanism, what="accesses that were an event for one side", engine=0, kernel=governed.apart)
    ours, theirs = governed.frames()
    yield Row(mechanism=mechanism, what="frames held in the end", engine=ours, kernel=theirs)
    stored = governed.host.counters()["evicted_zpool"]
    yield Row(mechanism=mechanism, what="pages compressed", engine=stored, kernel=governed.counted["compressed"])
    wrong = sum(governed.read_back(name) for name in names)
    total = pages * len(names)
    yield Row(mechanism=mechanism, what="pages read back equal", engine=total, kernel=total - wrong)


def evicted(
    name: str, pattern: str, kind: str, settings: dict[str, Any], pages: int, seed: int
) -> Iterator[Row]:  # fmt: skip
    """A VM with more pages than there are frames."""
    pages = min(pages, MOST_PAGES)
    corpus, bits = contents(seed), Bits("validate", seed, name)
    count = ROUNDS * pages
    with Governed(pages * 5 // 8 + SPARE_FRAMES, corpus, swap=2 * pages * PAGE_SIZE, **settings) as governed:
        _filled(governed, "vm", _sources(bits, corpus, kind, pages))
        ops = (bits.below(4, count) == 0).astype(np.uint8)
        governed.replay("vm", PATTERNS[pattern](bits, pages, count), ops)
        yield from _rows(name, governed, ("vm",), pages)


def shared(name: str, pages: int, seed: int) -> Iterator[Row]:
    """Two VMs whose equal pages are merged into one frame, and copied when they are written."""
    pages = min(pages // 2, MOST_PAGES // 2)
    corpus, bits = contents(seed), Bits("validate", seed, name)
    options = {"smart_scan": False, "max_page_sharing": 256}
    with Governed(3 * pages + 512, corpus, sharing="ksm", sharing_options=options) as governed:
        for vm in ("one", "two"):
            _filled(governed, vm, _sources(bits, corpus, "", pages) % np.uint32(pages // 4 + 1))
        for _ in range(3):
            governed.scan()
        ours, theirs = governed.frames()
        yield Row(mechanism=name, what=f"frames of {2 * pages} pages when all is merged", engine=ours, kernel=theirs)
        yield Row(
            mechanism=name, what="merged pages that were not equal", engine=0, kernel=governed.unequal_merges
        )  # fmt: skip
        for vm in ("one", "two"):
            written = bits.below(pages, pages // 2)
            governed.replay(vm, written, np.full(len(written), WRITE, np.uint8))
        yield from _rows(name, governed, ("one", "two"), pages)


def cloned(name: str, pages: int, seed: int) -> Iterator[Row]:
    """A VM and a clone of it that do not fit together once both have written."""
    pages = min(pages // 2, MOST_PAGES // 2)
    corpus, bits = contents(seed), Bits("validate", seed, name)
    frames = pages * 3 // 2 + SPARE_FRAMES
    with Governed(frames, corpus, swap=4 * pages * PAGE_SIZE, zpool_percent=20) as governed:
        _filled(governed, "parent", _sources(bits, corpus, "", pages))
        governed.clone("parent", "clone")
        ours, theirs = governed.frames()
        yield Row(mechanism=name, what="frames of both, just cloned", engine=ours, kernel=theirs)
        for _ in range(ROUNDS // 2):
            for vm in ("parent", "clone"):
                governed.replay(vm, bits.below(pages, pages), bits.below(2, pages).astype(np.uint8))
        yield from _rows(name, governed, ("parent", "clone"), pages)


_CACHE = {"zpool_percent": 30}
_STORIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "clock over swap": ("zipf", "", {"replacement": "clock"}),
    "twolist over a compressed cache": ("hot and scan", "heap", {"replacement": "twolist", **_CACHE}),
    "lru over a compressed cache": ("uniform", "source", {"replacement": "lru", **_CACHE}),
    "sieve over swap": ("loop", "libraries", {"replacement": "sieve"}),
}
MECHANISMS: dict[str, Callable[[int, int], Iterator[Row]]] = {
    **{
        f"userfaultfd: {story}": partial(evicted, f"userfaultfd: {story}", pattern, kind, settings)
        for story, (pattern, kind, settings) in _STORIES.items()
    },
    "userfaultfd: page sharing": partial(shared, "userfaultfd: page sharing"),
    "userfaultfd: clones under pressure": partial(cloned, "userfaultfd: clones under pressure"),
}
