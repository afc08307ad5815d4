"""Google's far memory: reclaim what has been cold for longer than an age that keeps the promotion rate within its SLO.

Every minute, and for each VM, the rule finds the lowest age at which promotions (accesses to pages that had been idle
for that long) stayed within 0.2 % of the working set a minute: the best age of that minute. The age used in the next
minute is the K-th percentile of the past best ages, the minute that has just ended included, after S seconds of
warm-up. The method is published; K and S are not, so they are options. Needs the cold-age histogram in the snapshot;
without one a VM is left alone.
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, VmView

_PPM = 1_000_000
_MINUTE_NS = 60_000_000_000
_RATE = _MINUTE_NS * _PPM


@dataclass(frozen=True, slots=True, kw_only=True)
class FarMemory:
    """Per-VM cold-age threshold: a percentile of past best ages."""

    weighs_marks: ClassVar[bool] = True
    interval_ns: Positive = _MINUTE_NS
    slo_ppm: int = 2000  # promotions a minute, of the working set: 0.2 %
    percentile: Percent = 98
    warmup_ns: int = 5 * _MINUTE_NS
    min_age_ns: int = 2 * _MINUTE_NS
    history: Positive = 120  # best ages kept

    def decide(self, snapshot: Snapshot) -> Targets:
        reclaim: dict[str, int] = {}
        memo: dict[str, tuple[int, ...]] = {}
        for vm in snapshot.vms:
            started, *past = snapshot.memo.get(vm.name, (snapshot.now_ns,))
            best = self._best_age(vm, snapshot.interval_ns)
            ages = (past if best is None else [*past, best])[-self.history :]
            if ages and snapshot.now_ns - started >= self.warmup_ns:
                pages = self._cold_beyond(vm, self._percentile(ages))
                if pages > 0:
                    reclaim[vm.name] = pages
            memo[vm.name] = (started, *ages)
        return Targets(reclaim_pages=reclaim, memo=memo)

    def _best_age(self, vm: VmView, interval_ns: int) -> int | None:
        """The lowest age within the SLO; the oldest bucket's when none is; None without a histogram."""
        allowed, oldest = vm.active_pages * self.slo_ppm * interval_ns, None
        for bucket in vm.cold_ages:
            age = bucket.age_ns
            if age >= self.min_age_ns:
                if bucket.promoted_pages * _RATE <= allowed:
                    return age
                oldest = age
        return oldest

    def _percentile(self, past: list[int]) -> int:
        """Nearest rank."""
        rank = -(-self.percentile * len(past) // 100)
        return sorted(past)[max(rank, 1) - 1]

    def _cold_beyond(self, vm: VmView, age_ns: int) -> int:
        cold = next((bucket.cold_pages for bucket in vm.cold_ages if bucket.age_ns >= age_ns), 0)
        return min(cold, vm.held_pages - vm.reservation_pages)
