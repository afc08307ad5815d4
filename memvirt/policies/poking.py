"""oomd's senpai_poking: a VM that does not stall is poked for a hundredth, as long as swap bears it (oomd, read 2026).

Every six ticks at the earliest: if neither the last ten nor the last sixty seconds had stalls for 0.1 % of the time, the VM
gives a hundredth of what it holds above its least size, and the limit that made it do so is gone at once. Above that it is
asked again at every tick. So it never limits a VM that grows; Senpai's own controller (see `senpai`) does.

Writes are regulated: what is asked for shrinks with the rate of swapping out (the larger of its averages over 60 and 300
s; nothing from 3 MiB/s on) and with the swap in use (nothing from 80 % on). In the program this factor makes the kernel
swap less and its file pages go instead (modulate_swappiness, off unless asked for). A VM's pages are all alike to a host,
so here it makes less go. The program looks at the stall of disks too: memory's has it here, as waiting for swap is in it.

Averages of the rate are exponential; a tick of t weighs t / (t + 60 s), which differs from the program's 1 - e^(-t / 60 s)
by less than a hundredth of it at a tick of a second. With swap that does not exist, nothing is held back by its size.
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Positive, PositivePercent, Snapshot, Targets
from memvirt.policies.columns import rows_of

_MEMO = "swapout"
_PPM = 1_000_000
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SenpaiPoking:
    """Take one per cent of every VM that does not stall, less as swap is written faster and fills."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = _SECOND_NS  # a tick
    ticks: Positive = 6  # between two pokes
    pressure: int = 10  # 0.1 %, in 1/100 % of time
    probe_ppm: int = 10_000  # 1 %
    min_limit_pages: int = 100 << 8  # 100 MiB
    swapout_pages_per_s: Positive = 768  # 3 MiB/s
    swap_percent: PositivePercent = 80

    def decide(self, snapshot: Snapshot) -> Targets:
        before, *rates = snapshot.memo.get(_MEMO, (snapshot.swapped_out_pages, 0, 0))
        rates = self._rates(rates, snapshot.swapped_out_pages - before, snapshot.interval_ns)
        memo: dict[str, tuple[int, ...]] = {_MEMO: (snapshot.swapped_out_pages, *rates)}
        factor = self._factor(max(rates), snapshot.swap_used_pages, snapshot.swap_pages)
        reclaim: dict[str, int] = {}
        wanted = ("held_pages", "reservation_pages", "stall_avg10", "stall_avg60")
        for name, held, reserved, avg10, avg60 in rows_of(snapshot, *wanted):
            key = f"vm:{name}"
            (ticks,) = snapshot.memo.get(key, (0,))
            ticks += 1
            if ticks >= self.ticks and avg10 < self.pressure and avg60 < self.pressure:
                pages = min((held - self.min_limit_pages) * self.probe_ppm * factor // _PPM // _PPM, held - reserved)
                if held > self.min_limit_pages:
                    ticks = 0
                if pages > 0:
                    reclaim[name] = pages
            memo[key] = (ticks,)
        return Targets(reclaim_pages=reclaim, memo=memo)

    def _rates(self, rates: list[int], pages: int, interval_ns: int) -> list[int]:
        """The averages over 60 and 300 s, in millionths of a page a second."""
        if not interval_ns:
            return rates
        now = pages * _PPM * _SECOND_NS // interval_ns
        return [
            rate + (now - rate) * interval_ns // (interval_ns + seconds * _SECOND_NS)
            for rate, seconds in zip(rates, (60, 300), strict=True)
        ]

    def _factor(self, rate: int, used: int, slots: int) -> int:
        """How much of a poke is asked for, ppm."""
        by_rate = _PPM - rate // self.swapout_pages_per_s
        by_size = _PPM - (used * _PPM * 100 // (slots * self.swap_percent) if slots else 0)
        return max(0, min(by_rate, by_size))
