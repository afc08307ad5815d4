"""How fast to scan for equal pages: the rule of ksmtuned, the script of oVirt and of distributions' qemu packages.

Short of free memory the scanner gets 300 pages more per wake-up, otherwise 50 less, between 64 and 1250, from 0 on; it
stops, and the number stays, when what the guests were promised plus the threshold fits in the host and there is more than
that free. The pause between wake-ups shrinks as the host grows, whole milliseconds, 10 ms at 16 GiB, and is never
shorter.

The threshold is 20 % of the host, at least 2048. The script works in kB throughout, so that is 2 MiB, whatever is written
about it elsewhere. oVirt's MOM took the rule over without that number and without the shortest pause, and goes on from
what the kernel looks at (see `mom`).
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, clamp
from memvirt.policies.columns import columns_of

_MEMO = "ksm_pages"
_SIXTEEN_GIB_PAGES = 16 << 18
_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KsmTuned:
    """Scan rate from host pressure; moves no balloon."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 60_000_000_000
    threshold_percent: Percent = 20
    threshold_pages: int = 512  # 2048 kB
    boost: int = 300  # pages per wake-up
    decay: int = 50
    slowest: int = 64
    fastest: int = 1250
    base_sleep_ns: int = 10_000_000  # at 16 GiB of host memory
    least_sleep_ns: int = 10_000_000
    first_pages: int = 0  # what the first boost or decay starts from

    def decide(self, snapshot: Snapshot) -> Targets:
        (before,) = snapshot.memo.get(_MEMO, (self.first_pages,))
        if not self._wants_scanning(snapshot):
            return Targets(scan_pages=0, scan_sleep_ns=self._sleep(snapshot), memo={_MEMO: (before,)})
        pressed = snapshot.free_pages < self._threshold(snapshot)
        pages = clamp(before + (self.boost if pressed else -self.decay), self.slowest, self.fastest)
        return Targets(scan_pages=pages, scan_sleep_ns=self._sleep(snapshot), memo={_MEMO: (pages,)})

    def _sleep(self, snapshot: Snapshot) -> int:
        sleep = self.base_sleep_ns * _SIXTEEN_GIB_PAGES // snapshot.total_pages // _MS * _MS
        return max(sleep, self.least_sleep_ns)

    def _threshold(self, snapshot: Snapshot) -> int:
        return max(snapshot.total_pages * self.threshold_percent // 100, self.threshold_pages)

    def _wants_scanning(self, snapshot: Snapshot) -> bool:
        """Not while everything that is committed fits and more than the threshold is free."""
        committed = int(columns_of(snapshot).size_pages.sum())
        threshold = self._threshold(snapshot)
        return not (threshold + committed < snapshot.total_pages and snapshot.free_pages > threshold)
