"""Google's far memory: reclaim what has been cold for longer than an age that keeps the promotion rate within its SLO.

Every minute, and for each VM, the rule finds the lowest age at which promotions (accesses to pages that had been idle
for that long) stayed within 0.2 % of the working set a minute: the best age of that minute. The age used in the next
minute is the K-th percentile of the past best ages, the minute that has just ended included, after S seconds of
warm-up. The method is published; K and S are not, so they are options. Needs the cold-age histogram in the snapshot;
without one a VM is left alone.

What is remembered is one table of numbers for all VMs. Of 1,000 VMs with 120 ages each, tuples had to be copied every
minute and looked at number by number, which took more than half of a decision.

    vms    names of VMs, with a 0 byte between them
    pasts  a row for each:  first minute, ns | best ages there were | the last `history` of them, in a ring
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Table
from memvirt.policies.base import Bounds, Memo, Percent, Positive, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of, nearest_ranks

_MOST = (1 << 63) - 1
_PPM = 1_000_000
_MINUTE_NS = 60_000_000_000
_RATE = _MINUTE_NS * _PPM
_AT_ONCE = 64  # VMs of which percentiles are found: their pasts are no more than a processor's cache has room for


@dataclass(frozen=True, slots=True, kw_only=True)
class FarMemory:
    """Per-VM cold-age threshold: a percentile of past best ages."""

    weighs_marks: ClassVar[bool] = True
    interval_ns: Positive = _MINUTE_NS
    slo_ppm: int = 2000  # promotions a minute, of the working set: 0.2 %
    percentile: Percent = 98
    warmup_ns: int = 5 * _MINUTE_NS
    min_age_ns: int = 2 * _MINUTE_NS
    history: Annotated[int, Bounds(1, 1 << 20)] = 120  # best ages kept

    def decide(self, snapshot: Snapshot) -> Targets:
        vms, now_ns = columns_of(snapshot), snapshot.now_ns
        rows = _recalled(snapshot.memo, vms.names, now_ns)
        rows = self._with_best_ages(rows, vms, snapshot.interval_ns)
        counts = np.minimum(rows[:, 1], self.history)
        cold = _cold_beyond(vms.ages, self._percentiles(rows[:, 2:], counts))
        cold = np.minimum(cold, vms.held_pages - vms.reservation_pages)
        warm = (rows[:, 0] <= now_ns - self.warmup_ns) & (counts > 0)
        return Targets(reclaim_pages=vms.by_name(cold, warm & (cold > 0)), memo=_remembered(vms.names, rows))

    def _with_best_ages(self, rows: Numbers, vms: Columns, interval_ns: int) -> Numbers:
        """The rows with each VM's lowest age within the SLO added; the oldest bucket's when none is; nothing without a
        histogram."""
        factor, table = self.slo_ppm * interval_ns, vms.ages
        allowed = np.array([min(pages * factor // _RATE, _MOST) for pages in vms.active_pages.tolist()], np.int64)
        young = np.count_nonzero(table.age_ns[:-1] < self.min_age_ns)  # buckets; the last is left, so that there is one
        old, ages_ns = table.there[:, young:] & (table.age_ns[young:] >= self.min_age_ns), table.age_ns[young:]
        fine = old & (table.promoted[:, young:] <= allowed[:, np.newaxis])
        oldest = old.shape[1] - 1 - old[:, ::-1].argmax(axis=1)
        best = ages_ns[np.where(fine.any(axis=1), fine.argmax(axis=1), oldest)]
        has = np.flatnonzero(old.any(axis=1))
        if has.size:
            room = min(self.history, int(rows[has, 1].max()) + 1) - (rows.shape[1] - 2)
            rows = np.pad(rows, ((0, 0), (0, room))) if room > 0 else rows
        rows[has, 2 + rows[has, 1] % self.history] = best[has]
        rows[has, 1] += 1
        return rows

    def _percentiles(self, ages: Numbers, counts: Numbers) -> Numbers:
        """Of each VM, which has so many best ages, their percentile by nearest rank; 0 of none."""
        parts = [slice(first, first + _AT_ONCE) for first in range(0, len(ages) or 1, _AT_ONCE)]
        return np.concatenate([nearest_ranks(ages[part], counts[part], self.percentile) for part in parts])


def _recalled(memo: Memo, names: Sequence[str], now_ns: int) -> Numbers:
    """The rows of these VMs; of one that was not there before that of its first minute."""
    before = memo["vms"].decode().split("\0") if memo else []
    known = np.frombuffer(memo["pasts"], "<i8").reshape(len(before), -1) if memo else np.zeros((0, 3), np.int64)
    if before == names:
        return known.copy()
    place = {name: at for at, name in enumerate(before)}
    found = np.array([place.get(name, -1) for name in names], np.int64)
    rows = np.zeros((len(names), known.shape[1]), np.int64)
    rows[:, 0] = now_ns
    rows[found >= 0] = known[found[found >= 0]]
    return rows


def _remembered(names: Sequence[str], rows: Numbers) -> dict[str, bytes]:
    return {"vms": "\0".join(names).encode(), "pasts": rows.astype("<i8", copy=False).tobytes()} if names else {}


def _cold_beyond(table: Table, ages_ns: Numbers) -> Numbers:
    """Pages of each VM that are at least that old."""
    old = table.there & (table.age_ns >= ages_ns[:, np.newaxis])
    cold: Numbers = np.where(old.any(axis=1), table.cold[np.arange(len(old)), old.argmax(axis=1)], 0)
    return cold
