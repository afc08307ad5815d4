"""Misses of a replacement order alone: every hit is seen, no host, no bytes.

In a Host an order learns of references only when accessed marks are harvested. Here it sees each one, as a simulator
of caches does, so that its miss counts can be held against other implementations and against the optimum.
"""

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from memvirt.engine.replacement.belady import belady_misses
from memvirt.engine.replacement.registry import ORDERS, make_order
from memvirt.engine.replacement.replay import replay_order
from memvirt.errors import ConfigError

LAST_PAGE = 0xFFFFFFEE  # the engine keeps the few 32-bit numbers above it for itself
SPARSE_PAGES = 1 << 20  # page numbers below this are taken as they are, however few requests there are
SPARSE_FACTOR = 16  # above it, at most this many page numbers per request


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What one order did on one trace."""

    replacement: str
    capacity: int  # pages
    requests: int
    distinct: int  # different pages requested: the misses that no order avoids
    misses: int


@overload
def simulate(
    replacement: str, pages: npt.ArrayLike, capacity: int, *, detail: Literal[False] = False, **options: object
) -> int: ...
@overload
def simulate(
    replacement: str, pages: npt.ArrayLike, capacity: int, *, detail: Literal[True], **options: object
) -> Simulation: ...
def simulate(
    replacement: str, pages: npt.ArrayLike, capacity: int, *, detail: bool = False, **options: object
) -> int | Simulation:
    """Misses of demand paging of `pages` through `capacity` frames in the order named `replacement`.

    pages: dense page numbers, one per request, 1-D, integers. replacement: a name of `order_names()`; "belady" is the
    offline optimum. options go to the order (s3fifo and 2q: variant="libcachesim" or "paper"; random: seed). With
    detail=True the result is a Simulation instead of an int. The GIL is released while it runs.

    fifo, lru, clock, sieve, lfu, arc, s3fifo and 2q have the miss counts of the PyPI package libcachesim. Raises
    ConfigError, which says what is wrong with which argument and what to do.
    """
    if isinstance(capacity, bool) or not isinstance(capacity, (int, np.integer)) or not 1 <= capacity <= LAST_PAGE:
        raise ConfigError(f"capacity={capacity!r}: must be a whole number of pages in 1 .. {LAST_PAGE}")
    array, ids = _checked(pages)
    capacity = int(capacity)
    if replacement == "belady":
        if options:
            raise ConfigError(f"replacement 'belady' takes no options, got {', '.join(options)}")
        misses = belady_misses(array, ids, capacity)
    else:
        order = make_order(replacement, ids, capacity, ids, {"bounded": True, **options})
        misses = replay_order(order, array, checked=True)
    if not detail:
        return misses
    return Simulation(
        replacement=replacement,
        capacity=capacity,
        requests=array.size,
        distinct=int(np.count_nonzero(np.bincount(array, minlength=1))) if array.size else 0,
        misses=misses,
    )


def order_names() -> tuple[str, ...]:
    """The names that simulate knows."""
    return (*ORDERS, "belady")


def _checked(pages: npt.ArrayLike) -> tuple[npt.NDArray[np.uint32], int]:
    """Pages as contiguous uint32, and one more than the largest (1 for an empty trace)."""
    array = np.asarray(pages)
    if array.ndim != 1:
        raise ConfigError(f"pages: has {array.ndim} dimensions, must have 1; flatten it with .ravel()")
    if array.size == 0:
        return np.empty(0, np.uint32), 1
    if array.dtype.kind not in "iu":
        raise ConfigError(f"pages: has dtype {array.dtype}, must be integers; convert with .astype(numpy.uint32)")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise ConfigError(f"pages[{int(array.argmin())}] is {array.min()}; page numbers are not negative")
    high = int(array.max())
    if high > LAST_PAGE:
        raise ConfigError(
            f"pages[{int(array.argmax())}] is {high}, above {LAST_PAGE}; renumber with "
            "numpy.unique(pages, return_inverse=True)[1]"
        )
    if high >= max(SPARSE_PAGES, SPARSE_FACTOR * array.size):
        raise ConfigError(
            f"pages[{int(array.argmax())}] is {high} in a trace of {array.size} requests: page numbers must be dense; "
            "renumber with numpy.unique(pages, return_inverse=True)[1]"
        )
    return np.ascontiguousarray(array, dtype=np.uint32), high + 1
