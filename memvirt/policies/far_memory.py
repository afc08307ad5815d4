"""Google's far memory: reclaim what has been cold for longer than an age that keeps the promotion rate within its SLO.

Every minute, and for each VM, the rule finds the lowest age at which promotions (accesses to pages that had been idle
for that long) stayed within 0.2 % of the working set a minute: the best age of that minute. The age used in the next
minute is the K-th percentile of the past best ages, the minute that has just ended included, after S seconds of
warm-up. The method is published; K and S are not, so they are options. Needs the cold-age histogram in the snapshot;
without one a VM is left alone.

What is remembered of a VM is bytes, numbers of 64 bits: when its first minute was, then its best ages, the oldest first. Of
1,000 VMs with 120 ages each, tuples had to be copied every minute and looked at number by number, which took more than half
of a decision.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Table, table_of
from memvirt.policies.base import Percent, Positive, Snapshot, Targets

_MOST = (1 << 63) - 1
_PPM = 1_000_000
_MINUTE_NS = 60_000_000_000
_RATE = _MINUTE_NS * _PPM
_NUMBER = 8  # bytes


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
        table, vms = table_of(snapshot.vms), snapshot.vms
        memo: dict[str, bytes] = {}
        begins, most = _packed(snapshot.now_ns), self.history * _NUMBER
        for vm, best in zip(vms, self._best_ages(table, snapshot), strict=True):
            past = snapshot.memo.get(vm.name, begins) + best
            memo[vm.name] = past if len(past) <= _NUMBER + most else past[:_NUMBER] + past[-most:]
        began_ns, counts, ages_ns = self._percentiles(list(memo.values()))
        cold = _cold_beyond(table, ages_ns)
        reclaim = {}
        for at in np.flatnonzero((began_ns <= snapshot.now_ns - self.warmup_ns) & (counts > 0) & (cold > 0)).tolist():
            pages = min(int(cold[at]), vms[at].held_pages - vms[at].reservation_pages)
            if pages > 0:
                reclaim[vms[at].name] = pages
        return Targets(reclaim_pages=reclaim, memo=memo)

    def _best_ages(self, table: Table, snapshot: Snapshot) -> list[bytes]:
        """Of each VM the lowest age within the SLO; the oldest bucket's when none is; nothing without a histogram."""
        factor = self.slo_ppm * snapshot.interval_ns
        allowed = np.array([min(vm.active_pages * factor // _RATE, _MOST) for vm in snapshot.vms], np.int64)
        old = table.there & (table.age_ns >= self.min_age_ns)
        fine = old & (table.promoted <= allowed[:, np.newaxis])
        oldest = old.shape[1] - 1 - old[:, ::-1].argmax(axis=1)
        best = np.where(fine.any(axis=1), fine.argmax(axis=1), oldest)
        ages = [_packed(age_ns) for age_ns in table.age_ns.tolist()]
        some = np.asarray(old.any(axis=1)).tolist()
        return [ages[at] if any_ else b"" for at, any_ in zip(best.tolist(), some, strict=True)]

    def _percentiles(self, pasts: Sequence[bytes]) -> tuple[Numbers, Numbers, Numbers]:
        """Of each VM when its first minute was, how many best ages there are, and their percentile, by nearest rank; of none
        it is any number."""
        counts = np.array([len(past) for past in pasts], np.int64) // _NUMBER - 1
        most = max(1, int(counts.max(initial=1)))
        packed = b"".join([past.ljust((1 + most) * _NUMBER, b"\0") for past in pasts])
        rows = np.frombuffer(packed, "<i8").reshape(-1, 1 + most)
        ages = np.sort(rows[:, 1:], axis=1)  # zeros of those that are none go first
        ranks = np.maximum(-(-self.percentile * counts // 100), 1)
        return rows[:, 0], counts, ages[np.arange(len(rows)), most - np.maximum(counts - ranks + 1, 1)]


def _cold_beyond(table: Table, ages_ns: Numbers) -> Numbers:
    """Pages of each VM that are at least that old."""
    old = table.there & (table.age_ns >= ages_ns[:, np.newaxis])
    cold: Numbers = np.where(old.any(axis=1), table.cold[np.arange(len(old)), old.argmax(axis=1)], 0)
    return cold


def _packed(number: int) -> bytes:
    return number.to_bytes(_NUMBER, "little", signed=True)
