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

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, VmView, split_by_weight

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
        window = snapshot.now_ns // self.window_ns
        memo: dict[str, tuple[int, ...]] = {}
        spare: dict[str, int] = {}
        for vm in snapshot.vms:
            began, before, *peaks = snapshot.memo.get(vm.name, (window, *(0,) * (1 + self.windows)))
            slot = window % self.windows
            if window != began:
                before, peaks[slot] = peaks[slot], 0  # a day ago, unless it was never seen
            peaks[slot] = max(peaks[slot], vm.active_pages)
            memo[vm.name] = (window, before, *peaks)
            spare[vm.name] = max(0, vm.held_pages - max(self.guaranteed(vm, peaks), before, vm.active_pages))
        need = snapshot.total_pages * self.pool_percent // 100 - snapshot.free_pages
        need = min(need, sum(spare.values()))
        taken = split_by_weight(need, spare) if need > 0 else {}
        return Targets(reclaim_pages={name: pages for name, pages in taken.items() if pages}, memo=memo)

    def guaranteed(self, vm: VmView, peaks: list[int]) -> int:
        """Pages of a VM that are never taken."""
        seen = sorted(peak for peak in peaks if peak)
        rank = -(-self.percentile * len(seen) // 100)
        return max(vm.reservation_pages, seen[max(rank, 1) - 1] if seen else 0)
