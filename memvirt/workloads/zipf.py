"""Zipf-distributed page choice, in integers from end to end.

Rank k (from 1) is asked for with a weight proportional to k**-theta. Floating-point powers differ in the last digit
between math libraries, so weights are computed as 2**(-theta * log2 k) in fixed point: log2 digit by digit through
repeated squaring, the power as a product of 2**(-1/2), 2**(-1/4), …, each an exact integer square root.

A draw uses Walker's alias method (Walker 1977): pick one of n equal columns, then either the column's own rank or its
alias. One 64-bit random word and one 8-byte table entry per access, whatever n is. The usual construction (Vose 1991)
moves weight between two stacks, item by item; since our weights come sorted, which heavy column serves which light one
follows from two running sums, so the whole table is built by array operations.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memvirt.inputs.bits import Bits, Pages

from .base import Accesses, Pick, Space, Stream

WEIGHT_BITS = 32  # the weight of rank 1 is 2**32; that of rank 2**20 at theta 1.0 is 4096
FRACTION = 32  # fraction bits of logarithms

_U = np.uint64


def log2_fixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """floor-ish log2 of numbers in [1, 2**31], with 32 fraction bits (about 26 of them exact), computed in integers."""
    whole = np.zeros(len(numbers), dtype=np.uint64)
    for shift in (16, 8, 4, 2, 1):
        whole += _U(shift) * ((numbers >> whole) >= _U(1 << shift))
    mantissa = numbers << (_U(31) - whole)
    result = whole << _U(FRACTION)
    for digit in range(FRACTION - 1, -1, -1):
        mantissa *= mantissa
        mantissa >>= _U(31)
        carry = mantissa >> _U(32)
        mantissa >>= carry
        result |= carry << _U(digit)
    return result


def exp2_fixed(exponents: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """2**(32 - exponent) for exponents with 32 fraction bits: the weight of an item, at most 2**32."""
    power = np.full(len(exponents), 1 << WEIGHT_BITS, dtype=np.uint64)
    root = 1 << 63  # 2**(-1/2**i), scaled by 2**64
    for digit in range(FRACTION - 1, FRACTION - 1 - 30, -1):
        root = math.isqrt(root << 64)
        factor = _U(root >> 33)  # 31 bits, so that the product with a 33-bit power fits
        taken = (exponents >> _U(digit)) & _U(1) == _U(1)
        power[taken] = (power[taken] * factor) >> _U(31)
    power >>= np.minimum(exponents >> _U(FRACTION), _U(63))
    return power


def zipf_weights(count: int, theta_milli: int) -> NDArray[np.uint64]:
    """Weights of ranks 1 to count, largest first: 2**32 * k**(-theta_milli / 1000), at least 1."""
    exponents = log2_fixed(np.arange(1, count + 1, dtype=np.uint64))
    exponents *= _U(theta_milli)
    exponents //= _U(1000)
    # Rounding must not let a later rank outweigh an earlier one: the table below relies on the order.
    weights: NDArray[np.uint64] = np.minimum.accumulate(np.maximum(exp2_fixed(exponents), _U(1)))
    return weights


@lru_cache(maxsize=8)
def alias_table(count: int, theta_milli: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(threshold, alias) per column: a 32-bit draw below the threshold keeps the column, else its alias is taken."""
    weights = zipf_weights(count, theta_milli)
    height = -(-int(weights.sum()) // count)
    missing = height * count - int(weights.sum())
    weights[:missing] += _U(1)
    heavy = int(np.searchsorted(-weights.astype(np.int64), -height, side="left"))  # weights above the mean come first
    surplus = np.cumsum(weights[:heavy] - _U(height))
    deficit = np.cumsum(_U(height) - weights[heavy:])
    kept = weights
    alias = np.arange(count, dtype=np.uint64)
    if heavy:
        # Light item i takes from the first heavy one that is not yet used up by the deficits before i.
        before = np.concatenate((np.zeros(1, dtype=np.uint64), deficit[:-1]))
        alias[heavy:] = np.minimum(np.searchsorted(surplus, before, side="right"), heavy - 1)
        # Heavy item j becomes light at the first deficit that reaches its running surplus; the next heavy fills it up.
        at = np.searchsorted(deficit, surplus, side="left")
        kept[:heavy] = _U(height) - (deficit[at] - surplus)
        alias[: heavy - 1] = np.arange(1, heavy, dtype=np.uint64)
    threshold = (kept << _U(32)) // _U(height)
    return np.minimum(threshold, _U((1 << 32) - 1)), alias


def draw_table(ranks: Pages, theta_milli: int) -> NDArray[np.uint64]:
    """The alias table of `len(ranks)` pages, threshold in the high and alias in the low half; ranks[0] is the hottest.

    Columns stand in page order, so that a draw needs no second look-up to get from a rank to its page.
    """
    threshold, alias = alias_table(len(ranks), theta_milli)
    table = np.empty(len(ranks), dtype=np.uint64)
    table[ranks] = (threshold << _U(32)) | ranks.astype(np.uint64)[alias]
    return table


def draw(table: NDArray[np.uint64], bits: Bits, count: int) -> Pages:
    """`count` draws from an alias table: pages, in proportion to their weights."""
    word = bits.u64(count)
    column = ((word >> _U(32)) * _U(len(table))) >> _U(32)
    entry = table[column.view(np.int64)]
    own = word.astype(np.uint32) < (entry >> _U(32)).astype(np.uint32)
    return np.where(own, column.astype(np.uint32), entry.astype(np.uint32))


class Zipf(Accesses):
    """Skewed: the k-th hottest page is asked for in proportion to k**-(theta_milli/1000); hot pages lie scattered."""

    name = "zipf"
    theta_milli: int = Field(default=990, ge=0, le=4000, description="skew in thousandths; 0 is uniform, 990 is YCSB's")

    def pick(self, space: Space, stream: Stream) -> Pick:
        table = draw_table(stream.layout("zipf").permutation(space.pages), self.theta_milli)
        bits = stream.bits("zipf")
        return lambda done, count: draw(table, bits, count)
