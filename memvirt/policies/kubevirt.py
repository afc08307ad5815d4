"""KubeVirt's handler of KSM: which nodes merge pages, and how fast (pkg/virt-handler/ksm, read 2026).

Every three minutes: with more than 20 % of the node available, a scanner that runs looks at 50 pages less per wake-up, and
stops below 64; one that stands still stays so. Otherwise it is started at 100 pages, or gets 300 more, up to 1250. It
sleeps for 100 ms * 16 GiB / what is in use, at least for a tenth of the 100 ms: unlike ksmtuned's, which divides by all of
memory. Pages stay where they were while it stands still, and are 100 again when it starts.

What is free here stands for MemAvailable: the host has no page cache of its own.
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, Snapshot, Targets

_MEMO = "kubevirt-ksm"
_SIXTEEN_GIB_PAGES = 16 << 18
_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeVirtKsm:
    """Start, quicken, slow down and stop the sharing scanner by what is free on the node; moves no balloon."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 180_000_000_000
    free_percent: Percent = 20
    first_pages: int = 100
    boost: int = 300
    decay: int = 50
    slowest: int = 64
    fastest: int = 1250
    base_sleep_ns: Positive = 100_000_000  # where 16 GiB are in use

    def decide(self, snapshot: Snapshot) -> Targets:
        running, pages = snapshot.memo.get(_MEMO, (0, 0))
        if snapshot.free_pages * 100 > snapshot.total_pages * self.free_percent:
            pages -= self.decay * running
            if running and pages < self.slowest:
                running, pages = 0, self.slowest
        elif running:
            pages = min(pages + self.boost, self.fastest)
        else:
            running, pages = 1, self.first_pages
        memo = {_MEMO: (running, pages)}
        if not running:
            return Targets(scan_pages=0, memo=memo)
        used = max(1, snapshot.total_pages - snapshot.free_pages)
        sleep_ns = self.base_sleep_ns * _SIXTEEN_GIB_PAGES // used // _MS * _MS
        return Targets(scan_pages=pages, scan_sleep_ns=max(sleep_ns, self.base_sleep_ns // 10), memo=memo)
