"""A cost that was measured: a median over batches, and how sure it is.

A batch is as many equal operations as one reading of the clock is nothing beside, and its value their mean. Batches lie
apart in time, so that what disturbs one of them does not disturb all; the median stays where it is when a few are disturbed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_BATCHES = 5
SURE = 0.95
MANY = 200  # values


@dataclass(frozen=True, slots=True)
class Measured:
    """Nanoseconds of one operation. `batches`: a mean each; `each`: operations in a batch."""

    name: str
    what: str  # was done, in words
    batches: tuple[float, ...]
    each: int

    @property
    def median(self) -> int:
        """Nanoseconds, the median of the batches, at least 1."""
        return max(1, round(statistics.median(self.batches)))

    @property
    def interval(self) -> tuple[int, int]:
        """In which the median lies with a probability of 95 % or more."""
        ordered = sorted(self.batches)
        beyond = outside(len(ordered))
        return max(0, round(ordered[beyond])), max(1, round(ordered[-1 - beyond]))


def outside(count: int) -> int:
    """How many of so many sorted values may be left out at either end so that the rest holds the median with a probability
    of 95 %: each lies below the median with one half, so their number is binomial."""
    if count > MANY:  # the binomial is normal
        return math.floor((count - 1.96 * math.sqrt(count)) / 2) - 1
    left, chance = 0, 2.0**-count
    while left < count // 2:
        chance += math.comb(count, left + 1) / 2**count  # that so many or one more lie below
        if 2 * chance > 1 - SURE:
            break
        left += 1
    return left


def measured(name: str, what: str, totals: Sequence[float], each: int) -> Measured:
    """From what whole batches took."""
    return Measured(name, what, tuple(total / each for total in totals), each)
