"""How fast to scan for equal pages: ksmtuned's rule, which oVirt's MOM took over as ksm.rules.

Short of free memory the scanner gets 300 pages more per wake-up, otherwise 50 less, between 64 and 1250; the pause
between wake-ups shrinks as the host grows (10 ms at 16 GiB). The scanner stops when the guests' committed memory plus
the threshold fits in the host and there is that much free. The threshold is 20 % of the host, at least 2048 MiB.
"""

from dataclasses import dataclass

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, clamp

_MEMO = "ksm_pages"
_SIXTEEN_GIB_PAGES = 16 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmTuned:
    """Scan rate from host pressure; moves no balloon."""

    interval_ns: Positive = 60_000_000_000
    threshold_percent: Percent = 20
    threshold_pages: int = 2048 << 8  # 2048 MiB
    boost: int = 300  # pages per wake-up
    decay: int = 50
    slowest: int = 64
    fastest: int = 1250
    base_sleep_ns: int = 10_000_000  # at 16 GiB of host memory

    def decide(self, snapshot: Snapshot) -> Targets:
        pages = self._pages_to_scan(snapshot)
        sleep = self.base_sleep_ns * _SIXTEEN_GIB_PAGES // snapshot.total_pages
        active = self._wants_scanning(snapshot)
        return Targets(scan_pages=pages if active else 0, scan_sleep_ns=sleep, memo={_MEMO: (pages,)})

    def _threshold(self, snapshot: Snapshot) -> int:
        return max(snapshot.total_pages * self.threshold_percent // 100, self.threshold_pages)

    def _wants_scanning(self, snapshot: Snapshot) -> bool:
        """Not while everything that is committed fits and the threshold is free."""
        committed = sum(vm.size_pages for vm in snapshot.vms)
        threshold = self._threshold(snapshot)
        return not (threshold + committed < snapshot.total_pages and snapshot.free_pages > threshold)

    def _pages_to_scan(self, snapshot: Snapshot) -> int:
        (before,) = snapshot.memo.get(_MEMO, (self.slowest,))
        pressed = snapshot.free_pages < self._threshold(snapshot)
        return clamp(before + (self.boost if pressed else -self.decay), self.slowest, self.fastest)
