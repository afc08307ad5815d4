"""Proactive reclaim driven by stall: Senpai's controller, and the rule of Meta's TMO.

Both ask how much a VM has stalled for memory and take pages from it as long as it hardly notices. They move no
balloon: the host reclaims the coldest pages itself.

Senpai (senpai.py, read at its source): every second the stall microseconds I are added up. Above the target of 10 ms
the limit is raised by min((I / target / 20)^2, 1) of itself; otherwise, after 5 seconds of grace, it is lowered by
min((target / max(I, 1) / 10)^2 * 1 %, 1 %). Every change starts I and the grace anew. Limits stay within 100 MiB and
100 GiB.

TMO: reclaim = current * ratio * max(0, 1 - pressure / threshold), pressure being the share of time that some of the VM
stalled. The form is published; the constants 0.0005, 0.1 % and 6 s are only partly confirmed, hence options.
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Positive, Snapshot, Targets, clamp
from memvirt.policies.columns import rows_of

_PPM = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Senpai:
    """Probe each VM's limit down by at most 1 % and back off by the square of its stall."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 1_000_000_000
    target_us: Positive = 10_000  # stall per period
    grace: int = 5  # decisions between two probes
    backoff_divisor: Positive = 20
    probe_divisor: Positive = 10
    max_probe_ppm: int = 10_000  # 1 %
    max_backoff_ppm: int = _PPM
    min_limit_pages: int = 100 << 8  # 100 MiB
    max_limit_pages: int = 100 << 18  # 100 GiB

    def decide(self, snapshot: Snapshot) -> Targets:
        reclaim: dict[str, int] = {}
        memo: dict[str, tuple[int, ...]] = {}
        for name, held, reserved, stall_ns in rows_of(snapshot, "held_pages", "reservation_pages", "stall_ns"):
            limit, stall_us, grace = snapshot.memo.get(name, (held, 0, self.grace))
            limit, stall_us, grace = memo[name] = self._tick(limit, stall_us + stall_ns // 1000, grace)
            pages = held - max(limit, reserved)
            if pages > 0:
                reclaim[name] = pages
        return Targets(reclaim_pages=reclaim, memo=memo)

    def _tick(self, limit: int, stall_us: int, grace: int) -> tuple[int, int, int]:
        """The next limit in pages, stall so far and decisions of grace left."""
        if stall_us > self.target_us:
            step = stall_us * stall_us * _PPM // (self.target_us * self.backoff_divisor) ** 2
            limit += limit * min(step, self.max_backoff_ppm) // _PPM
        elif grace:
            return limit, stall_us, grace - 1
        else:
            step = self.max_probe_ppm * self.target_us**2 // (max(stall_us, 1) * self.probe_divisor) ** 2
            limit -= limit * min(step, self.max_probe_ppm) // _PPM
        return clamp(limit, self.min_limit_pages, self.max_limit_pages), 0, self.grace


@dataclass(frozen=True, slots=True, kw_only=True)
class Tmo:
    """Reclaim a small part of every VM that stalls less than the threshold."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 6_000_000_000
    ratio_ppm: int = 500  # 0.0005
    threshold_ppm: int = 1000  # 0.1 % of time

    def decide(self, snapshot: Snapshot) -> Targets:
        allowed = self.threshold_ppm * snapshot.interval_ns
        reclaim: dict[str, int] = {}
        for name, held, reserved, stall_ns in rows_of(snapshot, "held_pages", "reservation_pages", "stall_ns"):
            unused = max(0, allowed - stall_ns * _PPM)
            pages = held * self.ratio_ppm * unused // (_PPM * allowed) if allowed else 0
            pages = min(pages, held - reserved)
            if pages > 0:
                reclaim[name] = pages
        return Targets(reclaim_pages=reclaim)
