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

from memvirt.policies.base import Percent, Positive, PositivePercent, Snapshot, Targets, VmView, changed_balloons
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
        memo: dict[str, tuple[int, ...]] = {"host": self._remember(snapshot, "host", snapshot.free_pages)}
        for vm in snapshot.vms:
            if vm.balloonable:
                memo[f"size:{vm.name}"] = self._remember(snapshot, f"size:{vm.name}", self._whole(vm))
                memo[f"free:{vm.name}"] = self._remember(snapshot, f"free:{vm.name}", vm.guest_free_pages)
        host_free = _mean(memo["host"]) * _PPM // snapshot.total_pages
        wanted = {}
        for vm in snapshot.vms:
            if vm.balloonable:
                used = _mean(memo[f"size:{vm.name}"]) - _mean(memo[f"free:{vm.name}"])
                size = self._size(vm, used, host_free)
                if abs(size - vm.size_pages) * _PPM > self.min_step_ppm * vm.size_pages:
                    wanted[vm.name] = vm.configured_pages - size
        ksm = _KSM.decide(snapshot) if self.tune_ksm else Targets()
        return Targets(
            balloon_pages=changed_balloons(snapshot.vms, wanted),
            scan_pages=ksm.scan_pages,
            scan_sleep_ns=ksm.scan_sleep_ns,
            memo={**memo, **ksm.memo},
        )

    def _size(self, vm: VmView, used: int, host_free: int) -> int:
        """The size this guest should have; host_free in parts per million of the host."""
        size, whole = vm.size_pages, self._whole(vm)
        if host_free >= self.pressure_percent * 10_000:
            demand = used + whole * self.guest_free_percent // 100
            return min(vm.configured_pages, max(demand, size * (100 + self.max_step_percent) // 100))
        if host_free <= self.critical_percent * 10_000:
            goal = host_free - self.critical_percent * 10_000
        else:
            goal = self.guest_free_percent * host_free // self.pressure_percent
        wanted = max(used + whole * goal // _PPM, size * (100 - self.max_step_percent) // 100)
        return wanted if wanted <= whole else size

    def _whole(self, vm: VmView) -> int:
        """What shares are taken of, and what a guest uses is counted from."""
        return vm.configured_pages if self.of_maximum else vm.size_pages

    def _remember(self, snapshot: Snapshot, key: str, value: int) -> tuple[int, ...]:
        return (*snapshot.memo.get(key, ()), value)[-self.samples :]


def _mean(samples: tuple[int, ...]) -> int:
    return sum(samples) // len(samples)
