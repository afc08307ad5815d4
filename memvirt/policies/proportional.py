"""memvirt's own plain rule: below the low watermark, shrink every guest by its share of what is spare."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memvirt.policies.base import Percent, Positive, Snapshot, Targets
from memvirt.policies.columns import columns_of, in_proportion, inflations


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportional:
    """Inflate in proportion to the pages held beyond the active estimate, up to the high watermark; deflate above it.

    Spare is held - max(reservation, active). Between low and high nothing moves, so constant input settles after a few
    steps. `headroom_percent` of total memory is kept free beyond the high watermark, so that the balloon acts before
    the background reclaimer does.
    """

    weighs_marks: ClassVar[bool] = True
    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 1_000_000_000
    headroom_percent: Percent = 2

    def decide(self, snapshot: Snapshot) -> Targets:
        headroom = snapshot.total_pages * self.headroom_percent // 100
        low, high = snapshot.low_pages + headroom, snapshot.high_pages + headroom
        vms = columns_of(snapshot)
        current = vms.balloon_pages * vms.balloonable
        wanted = current
        if snapshot.free_pages < low:
            spare = (
                np.maximum(0, vms.held_pages - np.maximum(vms.reservation_pages, vms.active_pages)) * vms.balloonable
            )
            wanted = current + inflations(vms, in_proportion(high - snapshot.free_pages, spare))
        elif snapshot.free_pages > high:
            wanted = current - in_proportion(snapshot.free_pages - high, current)
        return Targets(balloon_pages=vms.changed_balloons(wanted))
