"""Coach, Azure's way to oversell memory: of each VM a part is guaranteed, the rest is as large as its past says.

A day is cut into windows. Of each window the rule remembers the most that the VM had in use. Its guaranteed part is a
percentile of these (nearest rank), never less than its reservation; the rest of what it holds is oversold: it stands on
what others do not use at the same time. While the host keeps `pool_percent` free for that, nothing is taken. Below it,
VMs give of their oversold part what they are not expected to use in this window, in proportion, until the pool is whole.
What is expected is the most of what they use now and what they used in this window of the day before.

The method is that of Coach (ASPLOS 2025: guaranteed and oversubscribed part, predictions for windows of the day from long
histories, mitigation when the pool runs short). Its window, percentile and pool have not been read at their source and
are parameters. Its placement of VMs that fit together is not the business of one host; what it gives out as guaranteed at
admission is a VM's reservation here, since nobody's past is known then.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memvirt.policies.ages import Numbers
from memvirt.policies.base import Percent, Positive, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of, in_proportion, nearest_ranks, recalled, remembered

_HOUR_NS = 3_600_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Coach:
    """Guarantee a percentile of past peaks; take of the rest what is not expected to be used, when the pool is short."""

    weighs_marks: ClassVar[bool] = True
    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 20_000_000_000
    window_ns: Positive = 4 * _HOUR_NS
    windows: Positive = 6  # of a day
    percentile: Percent = 80
    pool_percent: Percent = 5

    def decide(self, snapshot: Snapshot) -> Targets:
        vms, window = columns_of(snapshot), snapshot.now_ns // self.window_ns
        rows = recalled(snapshot.memo, vms.names, (window, *(0,) * (1 + self.windows)))
        peaks, slot, turned = rows[:, 2:], window % self.windows, rows[:, 0] != window
        before = np.where(turned, peaks[:, slot], rows[:, 1])  # a day ago, unless it was never seen
        peaks[:, slot] = np.maximum(np.where(turned, 0, peaks[:, slot]), vms.active_pages)
        rows[:, 0], rows[:, 1] = window, before
        expected = np.maximum(before, vms.active_pages)
        spare = np.maximum(0, vms.held_pages - np.maximum(self.guaranteed(vms, peaks), expected))
        taken = in_proportion(snapshot.total_pages * self.pool_percent // 100 - snapshot.free_pages, spare)
        return Targets(reclaim_pages=vms.by_name(taken, taken > 0), memo=remembered(vms.names, rows))

    def guaranteed(self, vms: Columns, peaks: Numbers) -> Numbers:
        """Pages of VMs that are never taken."""
        return np.maximum(vms.reservation_pages, nearest_ranks(peaks, np.count_nonzero(peaks, axis=1), self.percentile))
