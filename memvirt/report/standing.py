"""Who is best, who is as good, and whom the seeds do not tell from the best: the one rule of lines, tables and pages.

    alike      within a hundredth of the best mean
    unsure     farther away, and not told apart from the best: its paired differences over seeds may be chance
               (`statistics.told_apart`; below five seeds nothing is asked of seeds, and all that are not alike are beaten)
    beaten     the others

Where nobody is beaten there is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memvirt.report.statistics import told_apart

TIE = 0.01  # of the larger one


@dataclass(frozen=True, slots=True)
class Standing:
    """Where members stand, by their places in the list that was asked about: the best one first."""

    alike: tuple[int, ...]  # the best one among them
    unsure: tuple[int, ...]
    beaten: tuple[int, ...]

    @property
    def best(self) -> tuple[int, ...]:
        """All that nothing says is worse than the best."""
        return tuple(sorted((*self.alike, *self.unsure)))


def near(one: float, other: float) -> bool:
    """Whether two means are a tie."""
    return abs(one - other) <= TIE * max(abs(one), abs(other))


def standing(means: Sequence[float], seeds: Sequence[Sequence[float]]) -> Standing:
    """Where each stands: means, the best first, and of each the value under every seed."""
    apart = [True, *told_apart(seeds[0], seeds[1:])]
    close = [near(means[0], mean) for mean in means]
    places = range(len(means))
    return Standing(
        tuple(at for at in places if close[at]),
        tuple(at for at in places if not close[at] and not apart[at]),
        tuple(at for at in places if not close[at] and apart[at]),
    )
