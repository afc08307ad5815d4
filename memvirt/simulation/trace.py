"""What simulate takes for a trace and for a capacity: everything that is wrong with them is found here."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from memvirt.errors import ConfigError
from memvirt.units import shown

LAST_PAGE = 0xFFFFFFEE  # the engine keeps the few 32-bit numbers above it for itself
SPARSE_PAGES = 1 << 20  # page numbers below this are taken as they are, however few requests there are
SPARSE_FACTOR = 16  # above it, at most this many page numbers per request

Pages = npt.NDArray[np.uint32]


def checked_pages(pages: npt.ArrayLike) -> tuple[Pages, int]:
    """Pages as contiguous uint32 that nobody else has, and one more than the largest (1 for an empty trace). Raises
    ConfigError.

    The engine indexes its tables by them without the interpreter's lock, while another thread may write to the array that
    was given. So it is copied, and what is said of pages holds of the copy.
    """
    array = np.asarray(pages)
    if array.ndim != 1:
        raise ConfigError(f"pages: has {array.ndim} dimensions, must have 1; flatten it with .ravel()")
    if array.size == 0:
        return np.empty(0, np.uint32), 1
    if array.dtype.kind not in "iu":
        raise ConfigError(f"pages: has dtype {array.dtype}, must be integers; convert with .astype(numpy.uint32)")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise ConfigError(f"pages[{int(array.argmin())}] is {array.min()}; page numbers are not negative")
    if array.dtype != np.uint32:  # before they are cut to 32 bits
        _largest(array)
    own = np.array(array, dtype=np.uint32, order="C")
    high = _largest(own)
    if high >= max(SPARSE_PAGES, SPARSE_FACTOR * own.size):
        raise ConfigError(
            f"pages[{int(own.argmax())}] is {high} in a trace of {own.size} requests: page numbers must be dense; "
            "renumber with numpy.unique(pages, return_inverse=True)[1]"
        )
    return own, high + 1


def _largest(array: npt.NDArray[Any]) -> int:
    """The largest page; ConfigError for one that the engine has no number for."""
    high = int(array.max())
    if high > LAST_PAGE:
        raise ConfigError(
            f"pages[{int(array.argmax())}] is {high}, above {LAST_PAGE}; renumber with "
            "numpy.unique(pages, return_inverse=True)[1]"
        )
    return high


def checked_capacity(capacity: object, name: str = "capacity") -> int:
    """A whole number of pages that an order can plan with. Raises ConfigError."""
    if isinstance(capacity, bool) or not isinstance(capacity, (int, np.integer)) or not 1 <= capacity <= LAST_PAGE:
        raise ConfigError(f"{name}={shown(capacity)}: must be a whole number of pages in 1 .. {LAST_PAGE}")
    return int(capacity)


def checked_capacities(capacities: object) -> tuple[int, ...]:
    """The sizes of a curve, in the order given. Raises ConfigError."""
    if isinstance(capacities, (str, bytes)) or not isinstance(capacities, Iterable):
        raise ConfigError(f"capacities={capacities!r}: must be a list of page counts; for one size say capacity=")
    found = tuple(checked_capacity(size, f"capacities[{i}]") for i, size in enumerate(capacities))
    if not found:
        raise ConfigError("capacities: is empty; name at least one size")
    return found


def distinct_pages(pages: Pages) -> int:
    """How many different pages a trace requests."""
    return int(np.count_nonzero(np.bincount(pages, minlength=1))) if pages.size else 0
