"""DAMON_RECLAIM, Linux's proactive reclaimer: what was not used for two minutes goes, within a quota (mm/damon, read 2026).

It works while between 20 and 50 % of the host are free, once less than 40 % have been; above and below it rests (below,
ordinary reclaim has the work), and looks again every 5 s. In each second it takes at most what the quota allows, oldest
first, of the pages that nobody used for at least 120 s. The quota is the least of three: 128 MiB; what 10 ms are enough
for at the speed seen so far (4 MiB a ms before anything was seen); and, with a target of stall, a size that is tuned. Each
second the tuned size grows or shrinks by (target - stall) / target of itself, at most to twice, at least to a page's
fraction: damon_feed_loop_next_input, with stall that of the host ("some") in the second.

Ages here are those of the engine's accessed marks, page by page; DAMON's are of regions, which it samples every 5 ms. The
presets collect marks every 30 s, so ages go in steps of that. Time is the processor time that reclaim took.
"""

from dataclasses import dataclass

import numpy as np

from memvirt.policies.base import Positive, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of
from memvirt.units import PAGE_SIZE

_MEMO = "damon"
_GOAL = 10_000  # of a score, and the quota's parts of a byte
_UNSEEN_PAGES_PER_MS = 1024  # damos_set_effective_quota: PAGE_SIZE * 1024 bytes a ms
_MS = 1_000_000
_MOST = (1 << 63) - 1  # of the tuned quota: what a memo holds; the kernel's stops at ULONG_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class DamonReclaim:
    """Reclaim what is cold, oldest first, between two watermarks and within a quota of time, size and stall."""

    interval_ns: Positive = 1_000_000_000
    min_age_ns: int = 120_000_000_000
    quota_time_ns: int = 10_000_000
    quota_pages: int = 32_768  # 128 MiB
    stall_target_us: int = 0  # per interval; 0: the quota is not tuned
    high_permille: int = 500  # of the host free: above it rests
    mid_permille: int = 400  # below it begins
    low_permille: int = 200  # below it rests
    look_ns: Positive = 5_000_000_000  # between two looks at free memory, while it rests

    def __post_init__(self) -> None:
        if not self.low_permille <= self.mid_permille <= self.high_permille:
            marks = f"{self.low_permille} <= {self.mid_permille} <= {self.high_permille}"
            raise ValueError(f"low_permille <= mid_permille <= high_permille must hold, and {marks} does not")

    def decide(self, snapshot: Snapshot) -> Targets:
        active, look_ns, tuned = snapshot.memo.get(_MEMO, (0, snapshot.now_ns, 0))
        if active or snapshot.now_ns >= look_ns:
            active = self._activated(active, snapshot.free_pages * 1000 // snapshot.total_pages)
            look_ns = snapshot.now_ns if active else snapshot.now_ns + self.look_ns
        if not active:
            return Targets(memo={_MEMO: (0, look_ns, tuned)})
        tuned = self._tuned(tuned, snapshot.stall_some_ns // 1000)
        quota = self._quota(snapshot, tuned)
        return Targets(reclaim_pages=self._oldest(columns_of(snapshot), quota), memo={_MEMO: (1, look_ns, tuned)})

    def _activated(self, active: int, free_permille: int) -> int:
        if free_permille > self.high_permille or free_permille < self.low_permille:
            return 0
        return int(bool(active) or free_permille < self.mid_permille)

    def _tuned(self, last: int, stall_us: int) -> int:
        """The tuned quota in ten-thousandths of a byte."""
        if not self.stall_target_us:
            return 0
        last, score = max(last, _GOAL), stall_us * _GOAL // self.stall_target_us
        if score >= 2 * _GOAL:
            return _GOAL
        change = last * abs(score - _GOAL) // _GOAL
        return max(last - change, _GOAL) if score > _GOAL else min(last + change, _MOST)

    def _quota(self, snapshot: Snapshot, tuned: int) -> int:
        """Pages that may go now."""
        pages = tuned // _GOAL // PAGE_SIZE if self.stall_target_us else snapshot.total_pages
        if self.quota_time_ns:
            taken, took_ns = snapshot.reclaimed_pages, snapshot.reclaim_ns
            within = (
                taken * self.quota_time_ns // took_ns if took_ns else _UNSEEN_PAGES_PER_MS * self.quota_time_ns // _MS
            )
            pages = min(pages, within)
        return min(pages, self.quota_pages) if self.quota_pages else pages

    def _oldest(self, vms: Columns, quota: int) -> dict[str, int]:
        """Pages of each VM: of the greatest age that there is first, of VMs with equal ages the first one's."""
        table, room = vms.ages, np.maximum(0, vms.held_pages - vms.reservation_pages)
        old = table.cold[:, table.age_ns >= self.min_age_ns][:, ::-1]  # a column for each age, falling
        old = np.maximum.accumulate(np.clip(old, 0, room[:, np.newaxis]), axis=1)
        whole = int(np.searchsorted(old.sum(axis=0), quota, side="right"))  # ages of which the quota has room for all
        taken = old[:, whole - 1] if whole else np.zeros_like(room)
        if whole < old.shape[1]:
            more = old[:, whole] - taken
            left = quota - taken.sum() - (more.cumsum() - more)  # of the quota, when a VM's turn comes
            taken = taken + np.clip(left, 0, more)
        return vms.by_name(taken, taken > 0)
