"""Proxmox VE's automatic ballooning: keep the host at 80 % by moving guests towards their shares.

The rule (PVE/AutoBalloon.pm and pvestatd, read 2026): every 10 s the goal is 80 % of total memory less what is used.
Within 10 MiB of it nothing happens. Otherwise a guest should get its minimum plus its part, by shares, of everything
that is allocated above the minimums once the goal is met; it moves there by at most 100 MiB a round. What guests that
cannot move leave over is divided again among the others until nothing moves. When growing, guests short of free
memory go first; when shrinking, those whose free memory exceeds a quarter of their minimum.

Growing may shrink a guest that has more than its part, and when no guest can take what is left, that guest grows back in
the next round: on a nearly empty host the rule swings by at most one step. That is kept.

The minimum is the VM's reservation; a VM without one, or with no shares, takes no part, as in Proxmox.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Which
from memvirt.policies.base import Bounds, Pages, Percent, Positive, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxmox:
    """Share-proportional sizes around a host target; needs reservations."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 10_000_000_000
    host_used_percent: Percent = 80
    deadband_pages: Pages = 2560  # 10 MiB
    max_step_pages: Annotated[int, Bounds(1, 1 << 40)] = 25600  # 100 MiB a VM and round
    comfortable_percent: Percent = 25  # of the minimum, free inside the guest

    def decide(self, snapshot: Snapshot) -> Targets:
        vms = columns_of(snapshot)
        used = snapshot.total_pages - snapshot.free_pages
        goal = snapshot.total_pages * self.host_used_percent // 100 - used
        everyone = (vms.balloonable > 0) & (vms.reservation_pages > 0) & (vms.shares > 0)
        free_enough = vms.guest_free_pages * 100 > vms.reservation_pages * self.comfortable_percent
        comfortable = free_enough & (vms.size_pages >= vms.reservation_pages)
        sizes = vms.size_pages
        if abs(goal) > self.deadband_pages:
            moved = self._distribute(vms, sizes, everyone & (comfortable ^ (goal > 0)), goal)
            if moved * goal <= 0:  # the preferred ones made no progress
                self._distribute(vms, sizes, everyone, goal - moved)
        return Targets(balloon_pages=vms.changed_balloons(vms.configured_pages - sizes, of=everyone))

    def _distribute(self, vms: Columns, sizes: Numbers, who: Which, goal: int) -> int:
        """Move `sizes` towards the goal, in place; returns the net change in pages."""
        moved_total, moved = 0, 1
        least, size, step = vms.reservation_pages, vms.size_pages, self.max_step_pages
        while who.any() and moved and moved_total != goal:
            above = int((sizes - least)[who].sum()) + goal - moved_total
            part = abs(above) * vms.shares // int(vms.shares[who].sum())
            desired = np.maximum(least, np.minimum(least + (part if above >= 0 else -part), vms.configured_pages))
            grows, shrinks = (desired > size) & (goal > 0), desired < size
            who = who & (grows | shrinks)  # the others have nowhere to go
            reached = np.where(grows, np.minimum(desired, size + step), np.maximum(desired, size - step))
            by = (reached - sizes)[who]
            sizes[who] = reached[who]
            moved, moved_total = int(np.count_nonzero(by)), moved_total + int(by.sum())
        return moved_total
