"""Which pages are nearly alike, from their sketches.

Two pages resemble each other as much as the sets of their 64-byte blocks overlap (Jaccard: common blocks over all
blocks); the share of equal bins of two sketches estimates it. Comparing all pairs is out of the question, so pages that
agree in a band of two neighbouring bins are candidates (locality-sensitive hashing, Indyk and Motwani, STOC 1998), and
among those each is compared with its neighbours in the order of their whole sketches. Pairs are missed (of pages with a
resemblance of 0.5 about one in three, of 0.8 one in fifty), none is made up beyond what eight bins can tell: what is
found is a lower bound, and an estimate.
"""

import numpy as np
from numpy.typing import NDArray

from .measure import BINS, EMPTY

BAND = 2  # bins that candidates agree in
NEAR = 0.5  # resemblance from which on pages count as nearly alike: two thirds of the blocks of each are in the other


def resemblance(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.float64]:
    """The estimate for each pair of rows: equal bins over bins that either has; 0 where neither has any."""
    held = (one != EMPTY) | (other != EMPTY)
    equal = (one == other) & held
    counted: NDArray[np.float64] = equal.sum(axis=1) / np.maximum(1, held.sum(axis=1))
    return counted


def nearest(sketches: NDArray[np.uint32], least: float = NEAR) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each row the row that resembles it most and how much; -1 and 0 where none was found from `least` on.

    Rows are taken as different pages: leave copies out.
    """
    best = np.zeros(len(sketches))
    which = np.full(len(sketches), -1, np.int64)
    for first in range(0, BINS, BAND):
        band = sketches[:, first : first + BAND]
        rows = np.flatnonzero((band != EMPTY).any(axis=1))
        keys = [sketches[rows, column] for column in reversed(range(BINS)) if not first <= column < first + BAND]
        order = rows[np.lexsort([*keys, *(band[rows, column] for column in range(BAND))])]
        one, other = order[:-1], order[1:]
        together = (band[one] == band[other]).all(axis=1)
        one, other = one[together], other[together]
        found = resemblance(sketches[one], sketches[other])
        for mine, theirs in ((one, other), (other, one)):
            # A row is in at most two pairs, once on each side: no index repeats within one assignment.
            better = (found >= least) & (found > best[mine])
            best[mine[better]], which[mine[better]] = found[better], theirs[better]
    return which, best


def changed_blocks(resembles: NDArray[np.float64], blocks: int) -> NDArray[np.float64]:
    """Blocks that differ between two pages of b = `blocks` blocks each: J = (b - d) / (b + d)."""
    return blocks * (1 - resembles) / (1 + resembles)
