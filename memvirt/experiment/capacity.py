"""How many VMs a host may take: the search of one column over sizes and seeds, and what it came to.

The same seeds are run at every size (common random numbers): a VM's load depends on seed, group and number, so two sizes
differ by the VMs that one of them has more, and by nothing else. Each seed has an answer of its own: the largest size at
which it meets the objectives, as `bisection` finds it. They are found in three steps:

    pilot       the first seed alone begins with its first guess and a size some way below, which run beside each other,
                then gallops and bisects: most sizes are far from the answer, and one seed says so
    seeds       every seed is run at the pilot's answer and at the next size; where one of them disagrees, all of them
                are run at the sizes that it asks for, until each has an answer
    around      the pilot is run some way below and above its answer, unless sizes there have been asked: the curve on
                both sides, and a second look at whether larger is harder

What is asked next depends on nothing but what is known. So a search that was stopped is gone on with by asking again,
and records alone tell how far it came and what it says.

The answer is the largest size at which all seeds meet the objectives, the least of theirs. Its interval reaches from the
least to the largest answer of a seed. Of n seeds it holds the median over seeds with a probability of 1 - 2**(1 - n),
whatever the distribution (David and Nagaraja 2003, "Order Statistics", 7.1).

N + 1 hosts hold as many VMs each. One fails, and its VMs of the group start on the N others, evenly. A survivor then holds
m + ceil(m / N), which must be no more than the answer a, so m = floor(a * N / (N + 1)). This is arithmetic on the answer:
VMs of the other groups of the failed host are not counted, and neither is what is felt while VMs arrive. Where these count,
the same search is made of a scenario in which they come (memvirt.experiment.sizing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from memvirt.experiment.bisection import Bounds, answer, bracket, next_size, violations

Known = Mapping[int, Mapping[int, bool]]  # seed -> size -> whether it meets
Outcome = Literal["found", "none", "all", "unfinished"]

AROUND = 8  # the pilot is run that part of its answer below and above, at least LEAST_AROUND; so is its first step
LEAST_AROUND = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What a column's search came to."""

    outcome: Outcome  # none: not even the smallest size meets; all: every size does, as far as sizes were allowed
    by_seed: dict[int, int]  # the largest size at which a seed meets; low - 1: at none
    bounds: Bounds
    violations: tuple[tuple[int, int, int], ...]  # (seed, size that fails, larger one that meets)

    @property
    def size(self) -> int:
        """The largest size at which every seed meets; below the lowest there is: none."""
        return min(self.by_seed.values())

    @property
    def interval(self) -> tuple[int, int]:
        """From the least to the largest answer of a seed."""
        return min(self.by_seed.values()), max(self.by_seed.values())

    def with_spare(self, hosts: int) -> int:
        """How many VMs each of so many hosts may hold, if one of them may fail."""
        return max(0, self.size) * (hosts - 1) // hosts


def holds(seeds: int) -> float:
    """The probability that the range over so many seeds holds the median."""
    return 1 - 2.0 ** (1 - seeds)


def wanted(known: Known, seeds: Sequence[int], bounds: Bounds) -> list[tuple[int, int]]:
    """(size, seed) of what is to be asked next, all at once; empty when every seed has its answer."""
    pilot = seeds[0]
    if first := opening(known[pilot], bounds):
        return [(size, pilot) for size in first]
    size = next_size(known[pilot], bounds, reach(bounds.start))
    if size is not None:
        return [(size, pilot)]
    near = answer(known[pilot], bounds)
    asked = [(size, seed) for size in (near, near + 1) for seed in seeds if bounds.low <= size <= bounds.high]
    asked += [(size, pilot) for size in around(known[pilot], near, bounds)]
    asked = [(size, seed) for size, seed in asked if size not in known[seed]]
    if not asked:
        local = replace(bounds, start=min(bounds.high, max(bounds.low, near)))
        sizes = {size for seed in seeds if (size := next_size(known[seed], local)) is not None}
        asked = [(size, seed) for size in sorted(sizes) for seed in seeds if size not in known[seed]]
    return asked


def reach(near: int) -> int:
    """How far from a size the curve around it is looked at."""
    return max(LEAST_AROUND, near // AROUND)


def opening(known: Mapping[int, bool], bounds: Bounds) -> list[int]:
    """What is missing of the first sizes; empty once something else has been asked. The lower one is no size for nothing:
    where the guess meets, it shows the curve below, and where the guess fails, it is the next to ask."""
    first = [size for size in (bounds.start - reach(bounds.start), bounds.start) if size >= bounds.low]
    return [size for size in first if size not in known] if known.keys() <= set(first) else []


def around(known: Mapping[int, bool], near: int, bounds: Bounds) -> list[int]:
    """The sizes below and above an answer that show the curve on both sides; none on a side that has been looked at."""
    far = reach(near)
    found = []
    if bounds.low <= near - far and not any(near - 2 * far <= size <= near - LEAST_AROUND for size in known):
        found.append(near - far)
    if near + far <= bounds.high and not any(near + LEAST_AROUND <= size <= near + 2 * far for size in known):
        found.append(near + far)
    return found


def conclude(known: Known, seeds: Sequence[int], bounds: Bounds) -> Answer:
    """What is known, as an answer; unfinished, with the answers so far, while something is to be asked."""
    by_seed = {seed: answer(known[seed], bounds) for seed in seeds}
    outcome: Outcome = "found"
    if wanted(known, seeds, bounds):
        outcome = "unfinished"
    elif min(by_seed.values()) < bounds.low:
        outcome = "none"
    elif min(by_seed.values()) == bounds.high:
        outcome = "all"
    broken = tuple((seed, fails, meets) for seed in seeds for fails, meets in violations(known[seed]))
    return Answer(outcome, by_seed, bounds, broken)


def first_beyond(known: Known, seeds: Sequence[int]) -> tuple[int, int] | None:
    """(size, seed) of the smallest size that fails, and the first seed that does; None when nothing fails."""
    fails = [(size, index) for index, seed in enumerate(seeds) if (size := bracket(known[seed])[1]) is not None]
    return (min(fails)[0], seeds[min(fails)[1]]) if fails else None
