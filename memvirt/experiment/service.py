"""What is noted of groups with an objective (`slowdown_at_most`), window by window, while a fleet lives.

    windows, broken    of a level: VM-windows in which a VM had work, and those in which it was slower than its objective
    waited_ns          of a level: how long its VMs have waited for memory
    held, due          of a VM at the end of a window: pages it holds, and those it is due by its shares of all that VMs
                       with an objective hold then, no more than its size (memvirt.metrics.fairness)

Who waited for whom is no fact of a host: a frame that is missing has no name on it. What there is: how long each level
waited, and how much others held beyond what their shares say meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memvirt.experiment.life_spec import Group
from memvirt.metrics.fairness import due, share_error


@dataclass(slots=True)
class OfLevel:
    """Sums over the VMs of a level."""

    windows: int = 0
    broken: int = 0
    waited_ns: int = 0
    beyond_pages: int = 0  # held beyond what is due, summed over windows


@dataclass(slots=True)
class Service:
    """Of a phase; empty while no group has an objective."""

    levels: dict[str, OfLevel] = field(default_factory=dict)
    held_for_shares: dict[str, list[int]] = field(
        default_factory=dict
    )  # VM -> pages held, summed over windows; windows; shares
    error: list[int] = field(default_factory=lambda: [0, 0])  # numerator and denominator, summed over windows
    _now: dict[str, tuple[Group, int]] = field(
        default_factory=dict
    )  # VM -> its group, pages held at the end of the window

    def note(self, group: Group, vm: str, held_pages: int, slowdown: int | None, stalled_ns: int) -> None:
        """What a VM did in a window; `slowdown` in thousandths, None: it had no work."""
        if group.slowdown_at_most is None:
            return
        level = self.levels.setdefault(group.level, OfLevel())
        level.waited_ns += stalled_ns
        if slowdown is not None:
            level.windows += 1
            level.broken += slowdown > 10 * group.slowdown_at_most
        self._now[vm] = (group, held_pages)

    def end_window(self) -> None:
        """All VMs have been noted."""
        held = {vm: pages for vm, (_, pages) in self._now.items()}
        owed = due(
            sum(held.values()),
            {vm: group.shares for vm, (group, _) in self._now.items()},
            {vm: group.memory for vm, (group, _) in self._now.items()},
        )
        for at, part in enumerate(share_error(held, owed)):
            self.error[at] += part
        for vm, (group, pages) in self._now.items():
            self.levels[group.level].beyond_pages += max(0, pages - owed[vm])
            known = self.held_for_shares.setdefault(vm, [0, 0, group.shares])
            known[0] += pages
            known[1] += 1
        self._now = {}
