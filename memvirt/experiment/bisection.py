"""A search for the largest size at which something does not break. It asks for one size after another, and knows no more.

There are sizes from `low` to `high`. Each meets what is wanted or does not, and asking is dear: an answer may take a minute.
Where small sizes meet and large ones do not, the answer is the largest that meets, and bisection finds it.

    known         size -> whether it meets, of those that were asked
    bracket       the smallest size that fails, and the largest below it that meets; the answer lies between
    gallop        while one of the two is missing: away from the first guess, in steps that grow with the way gone
    bisect        then the middle of the bracket, until its ends are neighbours

Nothing promises that a larger size is the harder one. A size that fails below one that meets is a *violation*. The answer
stays on the safe side of it: every size asked up to the answer meets. The search goes on below the failing size then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """The sizes there are, both ends included, and where a search begins."""

    low: int
    high: int
    start: int

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high:
            raise ValueError(f"{self.start} does not lie in {self.low} to {self.high}")


def bracket(known: Mapping[int, bool]) -> tuple[int | None, int | None]:
    """(largest size that meets below every failing one, smallest that fails); None for what no size has shown yet."""
    fails = min((size for size, meets in known.items() if not meets), default=None)
    meets = max((size for size, met in known.items() if met and (fails is None or size < fails)), default=None)
    return meets, fails


def next_size(known: Mapping[int, bool], bounds: Bounds, step: int = 1) -> int | None:
    """The size to ask next; None when the answer is known. `step` is the first of a gallop."""
    meets, fails = bracket(known)
    if meets is None and fails is None:
        return bounds.start
    if fails is None:
        assert meets is not None
        return None if meets >= bounds.high else min(bounds.high, meets + max(step, meets - bounds.start))
    if meets is None:
        return None if fails <= bounds.low else max(bounds.low, fails - max(step, bounds.start - fails))
    return None if fails - meets == 1 else (meets + fails) // 2


def answer(known: Mapping[int, bool], bounds: Bounds) -> int:
    """The largest size that is known to meet with all below it; `low - 1` for none. Valid when next_size is None."""
    meets, _ = bracket(known)
    return bounds.low - 1 if meets is None else meets


def violations(known: Mapping[int, bool]) -> list[tuple[int, int]]:
    """(a size that fails, the smallest larger one that meets), ascending: where larger was not harder."""
    found = []
    for size in sorted(size for size, meets in known.items() if not meets):
        larger = min((other for other, meets in known.items() if meets and other > size), default=None)
        if larger is not None:
            found.append((size, larger))
    return found
