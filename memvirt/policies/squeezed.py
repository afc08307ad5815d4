"""squeezed, the memory daemon of XCP-ng and XenServer: all VMs are squeezed alike (ocaml/squeezed, read 2026).

A VM has a least and a largest size. What is free on the host, and what would be if every VM shrank to its least size, less
a small fund that stays free, is shared out so that (size - least) / (largest - least) is the same for all. VMs that shrink
go first: while any has to, none may grow. A balloon driver that has not come nearer to its target for five seconds is
taken to be stuck; the others are squeezed the more, until it moves again. Nothing is asked of guests: what they use makes
no difference.

The least size is the VM's reservation, the largest its limit or what it was configured with. In Xen a VM holds all of its
size from the start. Here it holds what it has touched, so what it has not yet had of its least size is taken off what is
shared out. The daemon goes round in a quarter of a second while it works and looks at the balance every 30 s; here it
looks only, so that a VM is found stuck at the first look after 5 s.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Which
from memvirt.policies.base import Pages, Positive, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of, recalled, remembered

_UNKNOWN = -1  # size of a VM that was not there before


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeezed:
    """Every VM between its least and largest size at the same part of the way; stuck balloons are worked around."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 30_000_000_000
    fund_pages: Pages = 2304  # 9 MiB
    inaccuracy_pages: Pages = 1  # 4 KiB: so near to its target a VM has hit it
    stuck_after_ns: Positive = 5_000_000_000

    def decide(self, snapshot: Snapshot) -> Targets:
        vms, now_ns = columns_of(snapshot), snapshot.now_ns
        size, near = vms.size_pages, self.inaccuracy_pages
        target, was, moved_ns = recalled(snapshot.memo, vms.names, (_UNKNOWN, _UNKNOWN, now_ns)).T
        target, was = np.where(target == _UNKNOWN, size, target), np.where(was == _UNKNOWN, size, was)
        away = target - size
        moved_ns = np.where(((size - was) * away > 0) | (abs(away) <= near), now_ns, moved_ns)
        active = (vms.balloonable > 0) & (now_ns - moved_ns <= self.stuck_after_ns)
        sizes = self._sizes(vms, snapshot.free_pages, active)
        shrinking = active & (sizes < size - near)
        chosen = shrinking if shrinking.any() else active
        rows = np.stack((np.where(chosen, sizes, target), size, moved_ns), axis=1)
        balloons = np.where(chosen, vms.configured_pages - sizes, vms.balloon_pages)
        return Targets(balloon_pages=vms.changed_balloons(balloons, of=active), memo=remembered(vms.names, rows))

    def _sizes(self, vms: Columns, free_pages: int, active: Which) -> Numbers:
        """All that are active at the same part of the way from their least to their largest size."""
        above = vms.held_pages - vms.reservation_pages
        # What the host gets if each shrinks to its least size; negative while it has not had that.
        freeable = np.where(above < 0, above, np.maximum(0, above - 2 * self.inaccuracy_pages))
        surplus = max(0, free_pages + int(freeable[active].sum()) - self.fund_pages)
        largest = np.minimum(vms.limit_pages, vms.configured_pages)
        ways = np.maximum(0, largest - vms.reservation_pages)
        whole = int(ways[active].sum())
        sizes: Numbers = vms.reservation_pages + ways * min(surplus, whole) // max(whole, 1)
        return sizes
