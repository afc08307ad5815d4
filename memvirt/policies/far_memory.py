"""Google's far memory: reclaim what has been cold for longer than an age that keeps the promotion rate within its SLO.

Every minute, and for each VM, the rule finds the lowest age at which promotions (accesses to pages that had been idle
for that long) stayed within 0.2 % of the working set a minute: the best age of that minute. The age used in the next
minute is the K-th percentile of the past best ages, the minute that has just ended included, after S seconds of
warm-up. The method is published; K and S are not, so they are options. Needs the cold-age histogram in the snapshot;
without one a VM is left alone.

Past best ages are remembered as digits of one large number: of 1,000 VMs with 120 each, a tuple of them had to be copied
every minute, and looked at one by one, which took more than half of a decision.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Table, table_of
from memvirt.policies.base import Bounds, Percent, Positive, Snapshot, Targets

_MOST = (1 << 63) - 1
_PPM = 1_000_000
_MINUTE_NS = 60_000_000_000
_RATE = _MINUTE_NS * _PPM
_AGE_BITS = 64
MOST_AGES = 1000

Remembered = tuple[
    int, int, int
]  # of a VM: when its first minute was, how many best ages, and those, the last one lowest


@dataclass(frozen=True, slots=True, kw_only=True)
class FarMemory:
    """Per-VM cold-age threshold: a percentile of past best ages."""

    weighs_marks: ClassVar[bool] = True
    interval_ns: Positive = _MINUTE_NS
    slo_ppm: int = 2000  # promotions a minute, of the working set: 0.2 %
    percentile: Percent = 98
    warmup_ns: int = 5 * _MINUTE_NS
    min_age_ns: int = 2 * _MINUTE_NS
    history: Annotated[int, Bounds(1, MOST_AGES)] = 120  # best ages kept

    def decide(self, snapshot: Snapshot) -> Targets:
        table, vms = table_of(snapshot.vms), snapshot.vms
        memo: dict[str, Remembered] = {}
        whole = (1 << _AGE_BITS * self.history) - 1
        for vm, best in zip(vms, self._best_ages(table, snapshot), strict=True):
            began_ns, count, ages = snapshot.memo.get(vm.name, (snapshot.now_ns, 0, 0))
            if best is not None:
                count, ages = min(count + 1, self.history), (ages << _AGE_BITS | best) & whole
            memo[vm.name] = (began_ns, count, ages)
        beyond = self._cold_beyond(table, self._percentiles(memo.values()))
        warm_ns, reclaim = snapshot.now_ns - self.warmup_ns, {}
        for vm, (began_ns, count, _), cold in zip(vms, memo.values(), beyond, strict=True):
            if cold > 0 and count and began_ns <= warm_ns:
                pages = min(cold, vm.held_pages - vm.reservation_pages)
                if pages > 0:
                    reclaim[vm.name] = pages
        return Targets(reclaim_pages=reclaim, memo=memo)

    def _best_ages(self, table: Table, snapshot: Snapshot) -> list[int | None]:
        """Of each VM the lowest age within the SLO; the oldest bucket's when none is; None without a histogram."""
        factor = self.slo_ppm * snapshot.interval_ns
        allowed = np.array([min(vm.active_pages * factor // _RATE, _MOST) for vm in snapshot.vms], np.int64)
        old = table.there & (table.age_ns >= self.min_age_ns)
        fine = old & (table.promoted <= allowed[:, np.newaxis])
        oldest = old.shape[1] - 1 - old[:, ::-1].argmax(axis=1)
        best = np.where(fine.any(axis=1), fine.argmax(axis=1), oldest)
        ages: list[int] = table.age_ns.tolist()
        some = np.asarray(old.any(axis=1)).tolist()
        return [ages[at] if any_ else None for at, any_ in zip(best.tolist(), some, strict=True)]

    def _percentiles(self, past: Collection[Remembered]) -> Numbers:
        """Of the ages of each, by nearest rank; of no ages, any number."""
        counts = np.array([count for _, count, _ in past], np.int64)
        most = max(1, int(counts.max(initial=1)))
        packed = b"".join([ages.to_bytes(most * _AGE_BITS // 8, "little") for _, _, ages in past])
        ages = np.sort(np.frombuffer(packed, "<i8").reshape(-1, most), axis=1)  # zeros of those that are none go first
        ranks = -(-self.percentile * counts // 100)
        picked: Numbers = ages[np.arange(len(counts)), most - np.maximum(counts - np.maximum(ranks, 1) + 1, 1)]
        return picked

    def _cold_beyond(self, table: Table, ages_ns: Numbers) -> list[int]:
        """Pages of each VM that are at least that old."""
        old = table.there & (table.age_ns >= ages_ns[:, np.newaxis])
        cold: list[int] = np.where(old.any(axis=1), table.cold[np.arange(len(old)), old.argmax(axis=1)], 0).tolist()
        return cold
