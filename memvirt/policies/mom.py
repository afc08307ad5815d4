"""oVirt's Memory Overcommitment Manager: shrink every guest while the host is pressed, let them grow slowly otherwise.

The rule (doc/balloon.rules, read 2026): the host is pressed below 20 % free memory. Then a guest should keep
20 % * host_free / 20 % of its size free, and at or below 5 % host_free it should have host_free - 5 % free, which is
negative and makes the guest swap. It shrinks by at most 5 % of its size a round. Without pressure a ballooned guest
grows by 5 %, or at once to 20 % free. A change of at most 0.25 % is not worth it. Inputs are averages of 10 samples.

The rule is published in three forms. The first (aglitke/mom) reckons with a guest's maximum in place of its size:
`of_maximum`. What its balloon holds counts as used there, so a guest that needs little gives half of what it does not need,
and one that was shrunk further grows while the host is pressed. An older one of oVirt's takes the smaller of the guest's
minimum and its demand, which shrinks busy guests whatever they use, and reads a name that its growth does not define; it is
left out. The last one takes the larger, and is what memvirt does otherwise: the demand is the floor, and the reservation,
which every decider keeps, is the minimum. Samples here are one per decision, every 10 s, not 5 s.

The rule oscillates around its threshold by design: what it takes at 19.9 % it gives back at 20 %.
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, PositivePercent, Snapshot, Targets, changed_balloons
from memvirt.policies.ksmtuned import KsmTuned

_PPM = 1_000_000
# Of ksm.rules: no constant part, no shortest pause, and the kernel's own pages_to_scan to begin with (mm/ksm.c: 100).
_KSM = KsmTuned(threshold_pages=0, least_sleep_ns=1, first_pages=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mom:
    """Uniform pressure on all guests from the host's free memory."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 10_000_000_000
    pressure_percent: PositivePercent = 20
    critical_percent: Percent = 5
    guest_free_percent: Percent = 20
    max_step_percent: Percent = 5
    min_step_ppm: int = 2500  # 0.25 %
    samples: Positive = 10
    of_maximum: bool = False  # the first form: shares of a guest's maximum, not of its size
    tune_ksm: bool = True  # MOM's ksm.rules beside its balloon.rules

    def decide(self, snapshot: Snapshot) -> Targets:
        past = snapshot.memo
        memo: dict[str, tuple[int, ...]] = {"host": self._remembered(past.get("host", ()), snapshot.free_pages)}
        goal = self._goal(_mean(memo["host"]) * _PPM // snapshot.total_pages)
        wanted = {}
        for vm in snapshot.vms:
            if vm.balloonable:
                of_size, of_free, size = f"size:{vm.name}", f"free:{vm.name}", vm.size_pages
                whole = vm.configured_pages if self.of_maximum else size  # shares are of it, and use is counted from it
                sizes = memo[of_size] = self._remembered(past.get(of_size, ()), whole)
                free = memo[of_free] = self._remembered(past.get(of_free, ()), vm.guest_free_pages)
                used = _mean(sizes) - _mean(free)
                if goal is None:
                    aim = min(vm.configured_pages, self._grown(size, used + whole * self.guest_free_percent // 100))
                else:
                    aim = self._shrunk(size, whole, used + whole * goal // _PPM)
                if abs(aim - size) * _PPM > self.min_step_ppm * size:
                    wanted[vm.name] = vm.configured_pages - aim
        ksm = _KSM.decide(snapshot) if self.tune_ksm else Targets()
        return Targets(
            balloon_pages=changed_balloons(snapshot.vms, wanted),
            scan_pages=ksm.scan_pages,
            scan_sleep_ns=ksm.scan_sleep_ns,
            memo={**memo, **ksm.memo},
        )

    def _goal(self, host_free: int) -> int | None:
        """What every guest should have free, ppm of it, where so much of the host is; None: there is no pressure."""
        if host_free >= self.pressure_percent * 10_000:
            return None
        if host_free <= self.critical_percent * 10_000:
            return host_free - self.critical_percent * 10_000
        return self.guest_free_percent * host_free // self.pressure_percent

    def _grown(self, size: int, demand: int) -> int:
        step = size * (100 + self.max_step_percent) // 100
        return demand if demand > step else step

    def _shrunk(self, size: int, whole: int, demand: int) -> int:
        step = size * (100 - self.max_step_percent) // 100
        wanted = demand if demand > step else step
        return wanted if wanted <= whole else size

    def _remembered(self, before: tuple[int, ...], value: int) -> tuple[int, ...]:
        beyond = len(before) + 1 - self.samples
        return (before[beyond:] if beyond > 0 else before) + (value,)


def _mean(samples: tuple[int, ...]) -> int:
    return sum(samples) // len(samples)
