"""Reuse distances of a trace: how many different pages were requested since a page's last request, itself included.

A request of distance d is a hit in an LRU cache of d pages or more, so the counts of the distances are the misses of
every capacity at once (Mattson and others, 1970). They are exact; the engine measures some tens of millions a second.
"""

import numpy as np
import numpy.typing as npt

from memvirt.engine.replacement import distances as engine
from memvirt.simulation.trace import Pages, checked_pages

FIRST = 2**32 - 1  # in place of a distance: the first request of a page


def reuse_distances(pages: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """The distance of every request in pages, FIRST for the first one of a page. Raises ConfigError."""
    array, ids = checked_pages(pages)
    found = np.empty(array.size, np.uint32)
    engine.reuse_distances(array, ids, found)
    return found


def distance_counts(pages: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """At d the number of requests of distance d, at 0 the number of first requests. Raises ConfigError.

    The last entry is that of the longest distance: its index is the smallest capacity at which LRU misses only what it
    must.
    """
    return counts_of(*checked_pages(pages))


def counts_of(pages: Pages, ids: int) -> npt.NDArray[np.uint64]:
    """distance_counts of pages that were checked."""
    counts = np.zeros(ids + 1, np.uint64)
    engine.reuse_distances(pages, ids, None, counts)
    return counts[: int(np.max(np.nonzero(counts), initial=0)) + 1]


def lru_misses(counts: npt.NDArray[np.uint64], capacities: tuple[int, ...]) -> list[int]:
    """Misses of LRU at each capacity, of a trace with these distance counts."""
    hits = np.cumsum(counts, dtype=np.uint64) - counts[0]
    total, last = int(counts.sum()), len(counts) - 1
    return [total - int(hits[min(capacity, last)]) for capacity in capacities]
