"""Google's far memory: reclaim what has been cold for longer than an age that keeps the promotion rate within its SLO.

Every minute, and for each VM, the rule finds the lowest age at which promotions (accesses to pages that had been idle
for that long) stayed within 0.2 % of the working set a minute: the best age of that minute. The age used in the next
minute is the K-th percentile of the past best ages, the minute that has just ended included, after S seconds of
warm-up. The method is published; K and S are not, so they are options. Needs the cold-age histogram in the snapshot;
without one a VM is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Table, table_of
from memvirt.policies.base import Percent, Positive, Snapshot, Targets

_MOST = (1 << 63) - 1
_PPM = 1_000_000
_MINUTE_NS = 60_000_000_000
_RATE = _MINUTE_NS * _PPM


@dataclass(frozen=True, slots=True, kw_only=True)
class FarMemory:
    """Per-VM cold-age threshold: a percentile of past best ages."""

    weighs_marks: ClassVar[bool] = True
    plain_memo: ClassVar[bool] = True  # whatever the options are
    interval_ns: Positive = _MINUTE_NS
    slo_ppm: int = 2000  # promotions a minute, of the working set: 0.2 %
    percentile: Percent = 98
    warmup_ns: int = 5 * _MINUTE_NS
    min_age_ns: int = 2 * _MINUTE_NS
    history: Positive = 120  # best ages kept

    def decide(self, snapshot: Snapshot) -> Targets:
        table, vms = table_of(snapshot.vms), snapshot.vms
        memo: dict[str, tuple[int, ...]] = {}
        for vm, best in zip(vms, self._best_ages(table, snapshot), strict=True):
            known = snapshot.memo.get(vm.name, (snapshot.now_ns,))
            new = () if best is None else (best,)
            memo[vm.name] = (known[0], *known[max(1, len(known) + len(new) - self.history) :], *new)
        pasts = list(memo.values())
        beyond = self._cold_beyond(table, self._percentiles(pasts))
        warm_ns, reclaim = snapshot.now_ns - self.warmup_ns, {}
        for vm, past, cold in zip(vms, pasts, beyond, strict=True):
            if cold > 0 and len(past) > 1 and past[0] <= warm_ns:
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
        ages: list[int] = table.age_ns.tolist()  # one object for each, however many VMs remember it
        some = np.asarray(old.any(axis=1)).tolist()
        return [ages[at] if any_ else None for at, any_ in zip(best.tolist(), some, strict=True)]

    def _percentiles(self, pasts: Sequence[tuple[int, ...]]) -> Numbers:
        """Of the ages of each, all but the first number: by nearest rank. The most there is, of none."""
        counts = np.array([len(past) for past in pasts], np.int64)
        ages = np.fromiter(chain.from_iterable(pasts), np.int64, int(counts.sum()))
        longest = int(counts.max(initial=1))
        if len(ages) < len(pasts) * longest:
            given, ages = ages, np.full(len(pasts) * longest, _MOST)
            ages[(np.arange(longest) < counts[:, np.newaxis]).ravel()] = given
        ages = ages.reshape(-1, longest)
        ages[:, 0] = _MOST  # the moment it began is no age; at the end it is in nobody's way
        ages.sort(axis=1)
        ranks = np.maximum(-(-self.percentile * (counts - 1) // 100), 1)
        picked: Numbers = ages[np.arange(len(pasts)), ranks - 1]
        return picked

    def _cold_beyond(self, table: Table, ages_ns: Numbers) -> list[int]:
        """Pages of each VM that are at least that old."""
        old = table.there & (table.age_ns >= ages_ns[:, np.newaxis])
        cold: list[int] = np.where(old.any(axis=1), table.cold[np.arange(len(old)), old.argmax(axis=1)], 0).tolist()
        return cold
