"""The engine's own policies on real frames, without a right of root: what the kernel tells of, and what memory holds.

Every event of the kernel must be a fault of the engine, of the same kind and at the same access, and every fault an event.
The frames that are held and the bytes in them must be the engine's. This is shown by every way: three mixes of contents, and
accesses of two patterns. See memvirt.backends.linux.userfault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from memvirt.backends.linux.loads import PATTERNS
from memvirt.backends.linux.userfault import ABSENT_FAULTS, STORE_FAULTS, Governed
from memvirt.backends.linux.ways import Pages, Way, by_all_ways
from memvirt.backends.rows import Row
from memvirt.units import PAGE_SIZE
from memvirt.workloads.base import FILL, WRITE

MOST_PAGES = 1024  # of a way: at each event the engine is asked, and all entries are looked at
PART = 8  # of a way's pages
ROUNDS = 4  # accesses to a page, in the mean
SPARE_FRAMES = 64  # for tables and records of the engine, beyond pages
# A way's order is one of pages that are touched once; here they are touched again and again.
TOUCHED: Mapping[str, tuple[str, str]] = {
    "zipf": ("zipf", "loop"),
    "hot and scan": ("hot and scan", "phases"),
    "uniform": ("uniform", "hot and scan"),
    "loop": ("loop", "zipf"),
}


def _pages(way: Way) -> int:
    return max(64, min(way.pages // PART, MOST_PAGES))


def _touched(way: Way, pattern: str, pages: int, count: int) -> Pages:
    """Accesses of a pattern, or of the other one that goes with it."""
    return PATTERNS[TOUCHED[pattern][way.order != "scattered"]](way.bits, pages, count)


def _filled(governed: Governed, name: str, sources: Pages) -> None:
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
    yield Row(mechanism=mechanism, what="accesses that one side alone found", engine=0, kernel=governed.apart)
    ours, theirs = governed.frames()
    yield Row(mechanism=mechanism, what="frames held in the end", engine=ours, kernel=theirs)
    stored = governed.host.counters()["evicted_zpool"]
    yield Row(mechanism=mechanism, what="pages compressed", engine=stored, kernel=governed.counted["compressed"])
    wrong = sum(governed.read_back(name) for name in names)
    total = pages * len(names)
    yield Row(mechanism=mechanism, what="pages read back equal", engine=total, kernel=total - wrong)


def evicted(pattern: str, settings: dict[str, Any], name: str, way: Way) -> Iterator[Row]:
    """A VM with more pages than there are frames."""
    pages = _pages(way)
    count = ROUNDS * pages
    with Governed(pages * 5 // 8 + SPARE_FRAMES, way.corpus, swap=2 * pages * PAGE_SIZE, **settings) as governed:
        _filled(governed, "vm", way.filled(pages))
        ops = (way.bits.below(4, count) == 0).astype(np.uint8)
        governed.replay("vm", _touched(way, pattern, pages, count), ops)
        yield from _rows(name, governed, ("vm",), pages)


def shared(name: str, way: Way) -> Iterator[Row]:
    """Two VMs whose equal pages are merged into one frame, and copied when they are written."""
    pages = max(64, _pages(way) // 2)
    options = {"smart_scan": False, "max_page_sharing": 256}
    with Governed(3 * pages + 512, way.corpus, sharing="ksm", sharing_options=options) as governed:
        for vm in ("one", "two"):
            _filled(governed, vm, way.filled(pages))
        for _ in range(3):
            governed.scan()
        ours, theirs = governed.frames()
        yield Row(mechanism=name, what=f"frames of {2 * pages} pages when all is merged", engine=ours, kernel=theirs)
        yield Row(
            mechanism=name, what="merged pages that were not equal", engine=0, kernel=governed.unequal_merges
        )  # fmt: skip
        for vm in ("one", "two"):
            written = _touched(way, "uniform", pages, pages // 2)
            governed.replay(vm, written, np.full(len(written), WRITE, np.uint8))
        yield from _rows(name, governed, ("one", "two"), pages)


def cloned(name: str, way: Way) -> Iterator[Row]:
    """A VM and a clone of it that do not fit together once both have written."""
    pages = max(64, _pages(way) // 2)
    frames = pages * 3 // 2 + SPARE_FRAMES
    with Governed(frames, way.corpus, swap=4 * pages * PAGE_SIZE, zpool_percent=20) as governed:
        _filled(governed, "parent", way.filled(pages))
        governed.clone("parent", "clone")
        ours, theirs = governed.frames()
        yield Row(mechanism=name, what="frames of both, just cloned", engine=ours, kernel=theirs)
        for _ in range(ROUNDS // 2):
            for vm in ("parent", "clone"):
                ops = way.bits.below(2, pages).astype(np.uint8)
                governed.replay(vm, _touched(way, "uniform", pages, pages), ops)
        yield from _rows(name, governed, ("parent", "clone"), pages)


_CACHE = {"zpool_percent": 30}
_STORIES: dict[str, tuple[str, dict[str, Any]]] = {
    "clock over swap": ("zipf", {"replacement": "clock"}),
    "twolist over a compressed cache": ("hot and scan", {"replacement": "twolist", **_CACHE}),
    "lru over a compressed cache": ("uniform", {"replacement": "lru", **_CACHE}),
    "sieve over swap": ("loop", {"replacement": "sieve"}),
}
_TOLD = {f"userfaultfd: {name}": partial(evicted, pattern, settings) for name, (pattern, settings) in _STORIES.items()}
_TOLD |= {"userfaultfd: page sharing": shared, "userfaultfd: clones under pressure": cloned}  # type: ignore[dict-item]
MECHANISMS: dict[str, Callable[[int, int], Iterator[Row]]] = {
    name: partial(by_all_ways, name, story) for name, story in _TOLD.items()
}
