"""Miss-ratio curves: the misses of one order at many sizes, exactly or from samples of the pages with their error.

Exactly. LRU keeps what a smaller LRU keeps, so one pass of reuse distances gives every size. Of the other orders none
but the optimum has that property: each size is a run of its own, as many at a time as there are processors, for the
engine runs without the interpreter's lock.

From samples (SHARDS: Waldspurger, Park, Garthwaite and Ahmad, FAST 2015; for orders other than LRU, miniature
simulation: Waldspurger, Saemundsson, Ahmad and Park, USENIX ATC 2017). A page is in the sample if a hash of its number
says so, and then all its requests are. The sample at rate R through a cache of R * capacity pages behaves as the whole
trace through the whole cache, in a time that is R of it. Three rules:

- The misses of the sample are divided by R, not the ratio taken as it is: what a sample has too many or too few
  requests is mostly requests of its few most wanted pages, which are hits (the correction of SHARDS-adj).
- REPLICAS samples that share no page are run. Their mean is the estimate. Their spread says how good it is: the error
  is half of Student's 95 % interval of the mean. It covers which pages came into the sample. It does not cover what
  a small cache does differently, such as shares rounded to whole pages; hence the next rule.
- Fewer than FEWEST_PAGES of capacity in a sample are refused.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil, floor, log10, sqrt
from threading import Event

import numpy as np

from memvirt.errors import ConfigError
from memvirt.simulation.reuse import counts_of, lru_misses
from memvirt.simulation.trace import Pages, distinct_pages

REPLICAS = 8  # samples; their spread has seven degrees of freedom
STUDENT_975 = 2.364624  # 97.5 % quantile of Student's t with seven degrees of freedom
FEWEST_PAGES = 100  # of capacity in a sample: one per cent of it is then still a page

Misses = Callable[[Pages, int, int, Event], int]  # of pages, one more than the largest, capacity; ends early when set
AllSizes = Callable[[Pages, int, tuple[int, ...]], list[int]]  # of pages, one more than the largest, capacities


@dataclass(frozen=True, slots=True)
class MissCounter:
    """What counts the misses of one order."""

    name: str
    misses: Misses  # at one size
    at_once: int  # sizes that may run at a time
    all_sizes: AllSizes | None = None  # at every size by one pass, where there is a way


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Misses of one order on one trace, size by size."""

    replacement: str
    requests: int
    distinct: int  # different pages requested: the misses that no order avoids
    capacities: tuple[int, ...]  # pages, in the order asked for
    misses: tuple[int, ...]  # of each capacity; rounded where they are estimates
    errors: tuple[float, ...] | None  # half the 95 % interval of each miss ratio; None: the misses are exact

    def miss_ratios(self) -> tuple[float, ...]:
        """Misses per request, of each capacity; all 0 for an empty trace."""
        return tuple(misses / max(1, self.requests) for misses in self.misses)


def exact(counter: MissCounter, pages: Pages, ids: int, capacities: tuple[int, ...]) -> Curve:
    """The curve of an order."""
    return Curve(
        replacement=counter.name,
        requests=pages.size,
        distinct=distinct_pages(pages),
        capacities=capacities,
        misses=tuple(_all_sizes(counter, pages, ids, capacities)),
        errors=None,
    )


def sampled(
    counter: MissCounter, pages: Pages, ids: int, capacities: tuple[int, ...], *, rate: object, seed: object
) -> Curve:
    """The curve estimated from REPLICAS samples of `rate` of the pages each, with its error. Raises ConfigError."""
    rate, seed = _checked_rate(rate, capacities), _checked_seed(seed)
    small = tuple(round(rate * capacity) for capacity in capacities)
    ratios = np.array(
        [
            np.array(_all_sizes(counter, *sample, small)) / (rate * max(1, pages.size))
            for sample in _samples(pages, ids, rate, seed)
        ]
    )
    means = ratios.mean(axis=0).clip(0, 1)
    errors = STUDENT_975 * ratios.std(axis=0, ddof=1) / sqrt(REPLICAS)
    return Curve(
        replacement=counter.name,
        requests=pages.size,
        distinct=distinct_pages(pages),
        capacities=capacities,
        misses=tuple(round(mean * pages.size) for mean in means),
        errors=tuple(float(error) for error in errors),
    )


def processors() -> int:
    """How many of this machine this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lru_at_all_sizes(pages: Pages, ids: int, capacities: tuple[int, ...]) -> list[int]:
    """The misses of lru at each capacity."""
    return lru_misses(counts_of(pages, ids), capacities)


def _all_sizes(counter: MissCounter, pages: Pages, ids: int, capacities: tuple[int, ...]) -> list[int]:
    if counter.all_sizes is not None:
        return counter.all_sizes(pages, ids, capacities)
    misses = counter.misses
    different, halt = sorted(set(capacities)), Event()
    if counter.at_once == 1 or len(different) == 1:
        found = {capacity: misses(pages, ids, capacity, halt) for capacity in different}
    else:
        pool = ThreadPoolExecutor(min(counter.at_once, len(different)))
        try:
            found = dict(zip(different, pool.map(lambda size: misses(pages, ids, size, halt), different), strict=True))
        finally:  # one has failed, or Ctrl-C has come: those that run end soon, the others never begin
            halt.set()
            pool.shutdown(cancel_futures=True)
    return [found[capacity] for capacity in capacities]


def _samples(pages: Pages, ids: int, rate: float, seed: int) -> Iterator[tuple[Pages, int]]:
    """REPLICAS times the requests of one sample, its pages renumbered from 0, and how many there are (at least 1)."""
    drawn = _hashes(ids, seed) / 2.0**64
    part = np.minimum(drawn / rate, REPLICAS).astype(np.uint8)  # whose sample a page is in; REPLICAS: none
    parts = part[pages]
    for replica in range(REPLICAS):
        members = part == replica
        number = np.cumsum(members, dtype=np.uint32) - np.uint32(1)
        yield number[pages[parts == replica]], max(1, int(members.sum()))


def _hashes(ids: int, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A hash of every page number: splitmix64 (Steele, Lea and Flood, OOPSLA 2014), stepped `page` times from the seed."""
    step = np.uint64(0x9E3779B97F4A7C15)
    z = np.uint64(seed) + (np.arange(1, ids + 1, dtype=np.uint64)) * step
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _checked_rate(rate: object, capacities: tuple[int, ...]) -> float:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1 / REPLICAS:
        raise ConfigError(
            f"sample={rate!r}: must be a share of the pages above 0 and at most {1 / REPLICAS:g}, for {REPLICAS} samples "
            "share none; leave it out for exact counts"
        )
    least = min(capacities)
    if round(rate * least) < FEWEST_PAGES:
        enough = FEWEST_PAGES / least
        digits = 10.0 ** (1 - floor(log10(enough)))  # two of them, rounded up
        advice = f"take sample={ceil(enough * digits) / digits:g} or more"
        if enough > 1 / REPLICAS:
            advice = "leave it out for exact counts"
        raise ConfigError(
            f"sample={rate:g}: leaves {rate * least:.3g} pages of a capacity of {least}, too few to stand for it "
            f"(at least {FEWEST_PAGES}); {advice}, or leave out the smallest sizes"
        )
    return float(rate)


def _checked_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ConfigError(f"sample_seed={seed!r}: must be an int in 0 .. 2**64 - 1")
    return seed
