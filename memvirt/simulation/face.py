"""Misses of a replacement order alone: every hit is seen, no host, no bytes.

In a Host an order learns of references only when accessed marks are harvested. Here it sees each one, as a simulator
of caches does, so that its miss counts can be held against other implementations and against the optimum.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Literal, overload

import numpy.typing as npt

from memvirt.engine.replacement.belady import belady_misses
from memvirt.engine.replacement.registry import ORDERS, make_order
from memvirt.engine.replacement.replay import replay_order
from memvirt.errors import ConfigError
from memvirt.simulation import curve
from memvirt.simulation.own import Maker, is_own, load_order, own_misses
from memvirt.simulation.trace import Pages, checked_capacities, checked_capacity, checked_pages, distinct_pages

Replacement = str | Maker
REQUESTS_A_TIME = 1 << 20  # of one call of the engine, which sees no signal

# What no host can have, because it needs the whole trace: (pages, ids, capacity) -> misses.
OFFLINE: Mapping[str, Callable[[Pages, int, int], int]] = {"belady": belady_misses}
# Orders of which one pass over a trace counts the misses at every size.
ONE_PASS: Mapping[str, curve.AllSizes] = {"lru": curve.lru_at_all_sizes}


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
    replacement: Replacement,
    pages: npt.ArrayLike,
    capacity: int,
    *,
    capacities: None = None,
    detail: Literal[False] = False,
    sample: None = None,
    sample_seed: int = 0,
    **options: object,
) -> int: ...
@overload
def simulate(
    replacement: Replacement,
    pages: npt.ArrayLike,
    capacity: int,
    *,
    capacities: None = None,
    detail: Literal[True],
    sample: None = None,
    sample_seed: int = 0,
    **options: object,
) -> Simulation: ...
@overload
def simulate(
    replacement: Replacement,
    pages: npt.ArrayLike,
    capacity: None = None,
    *,
    capacities: Iterable[int],
    detail: Literal[False] = False,
    sample: float | None = None,
    sample_seed: int = 0,
    **options: object,
) -> curve.Curve: ...
def simulate(
    replacement: Replacement,
    pages: npt.ArrayLike,
    capacity: int | None = None,
    *,
    capacities: Iterable[int] | None = None,
    detail: bool = False,
    sample: float | None = None,
    sample_seed: int = 0,
    **options: object,
) -> int | Simulation | curve.Curve:
    """Misses of demand paging of `pages` through `capacity` frames in the order named `replacement`.

    pages: dense page numbers, one per request, 1-D, integers. replacement: a name of `order_names()`; "belady" is the
    offline optimum; or an order written in Python, as a class or "file.py:Class" (see memvirt.simulation.own). options
    go to the order (s3fifo and 2q: variant="libcachesim" or "paper"; random: seed). With detail=True the result is a
    Simulation instead of an int. The GIL is released while it runs.

    With capacities=[…] instead of capacity the result is a Curve, the misses at every one of them: of lru by one pass,
    whatever their number, of other orders by a run each, side by side on this machine's processors. sample=0.01
    estimates it from eight samples of one per cent of the pages each, with the error of every size; sample_seed draws
    others.

    fifo, lru, clock, sieve, lfu, arc, s3fifo, 2q and mq have the miss counts of the PyPI package libcachesim, slru and
    w-tinylfu where its segments fill the capacity (see their modules). Raises ConfigError, which says what is wrong
    with which argument and what to do.
    """
    if (capacity is None) == (capacities is None):
        raise ConfigError("simulate takes either capacity=, for one size, or capacities=, for a curve")
    if capacities is None:
        if sample is not None:
            raise ConfigError("sample= goes with capacities=; for one size say capacities=[size]")
        size = checked_capacity(capacity)
    elif detail:
        raise ConfigError("detail=True goes with capacity=; a curve always says it all")
    else:
        sizes = checked_capacities(capacities)
    array, ids = checked_pages(pages)
    counter = _counter(replacement, options)
    if capacities is not None:
        if sample is None:
            return curve.exact(counter, array, ids, sizes)
        return curve.sampled(counter, array, ids, sizes, rate=sample, seed=sample_seed)
    found = counter.misses(array, ids, size, Event())
    if not detail:
        return found
    return Simulation(
        replacement=counter.name, capacity=size, requests=array.size, distinct=distinct_pages(array), misses=found
    )


def order_names() -> tuple[str, ...]:
    """The names that simulate knows."""
    return (*ORDERS, *OFFLINE)


def _counter(replacement: object, options: dict[str, object]) -> curve.MissCounter:
    """What counts the misses of an order, of the name or of one's own."""
    if is_own(replacement):
        name, make = load_order(replacement)
        return curve.MissCounter(
            name, lambda pages, ids, capacity, halt: own_misses(name, make, pages, capacity, options), 1
        )
    name = str(replacement)
    if name in OFFLINE:
        if options:
            raise ConfigError(f"replacement '{name}' takes no options, got {', '.join(options)}")
        count = OFFLINE[name]
        return curve.MissCounter(
            name, lambda pages, ids, capacity, halt: count(pages, ids, capacity), curve.processors()
        )

    own = dict(options)
    seed = own.pop("seed", 0) if name in ORDERS and ORDERS[name].draws else 0
    make_order(name, 1, 1, 0, own, seed)  # says what is wrong with name and options before anything runs

    def misses(pages: Pages, ids: int, capacity: int, halt: Event) -> int:
        order = make_order(name, ids, capacity, ids, own, seed, bounded=True)
        found = 0
        for start in range(0, pages.size, REQUESTS_A_TIME):  # between two of them Ctrl-C is answered
            found += replay_order(order, pages[start : start + REQUESTS_A_TIME], checked=True, more=True)
            if halt.is_set():
                break
        return found

    return curve.MissCounter(name, misses, curve.processors(), ONE_PASS.get(name))
