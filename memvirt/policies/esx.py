"""VMware ESX as described at OSDI 2002: shares-per-page with a tax on idle memory.

Memory is taken from the VM that pays least for what it holds: the one with the lowest adjusted ratio
rho = S / (P * (f + k * (1 - f))), S shares, P pages, f the fraction of them in use, k = 1 / (1 - tau). With the idle
tax tau = 75 % an idle page costs as much as four used ones. Free memory names the state: high above 6 % of the host,
soft above 4, hard above 2, low above 1. In soft memory comes from balloons (from paging where a balloon cannot help),
in hard and low the host pages. In every reclaim state the goal is to be above high again. Blocking VMs in the low state
is the host's doing and not expressed here.

In integers: P * (f + k * (1 - f)) = (A * (100 - tau) + (P - A) * 100) / (100 - tau) with A = active pages, so ratios
are compared by cross multiplication and nothing is rounded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, VmView, changed_balloons, inflation

_STEPS = 256  # one decision hands out its pages in at most about this many turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Esx:
    """Lowest adjusted shares-per-page gives; thresholds are per cent of host memory."""

    weighs_marks: ClassVar[bool] = True
    interval_ns: Positive = 15_000_000_000
    idle_tax_percent: Percent = 75
    high_percent: Percent = 6
    soft_percent: Percent = 4
    hard_percent: Percent = 2
    balloon_max_percent: Percent = 65

    def decide(self, snapshot: Snapshot) -> Targets:
        high = snapshot.total_pages * self.high_percent // 100
        soft = snapshot.total_pages * self.soft_percent // 100
        hard = snapshot.total_pages * self.hard_percent // 100
        balloons = {vm.name: vm.balloon_pages for vm in snapshot.vms}
        reclaim: dict[str, int] = {}
        if snapshot.free_pages < soft:
            need = high - snapshot.free_pages
            if snapshot.free_pages >= hard:
                taken = self._take(snapshot, need, self._balloon_room)
                balloons = {vm.name: vm.balloon_pages + inflation(vm, taken[vm.name]) for vm in snapshot.vms}
                need -= sum(taken.values())
                paged = self._take(snapshot, need, lambda vm: 0 if self._balloon_room(vm) else _evictable(vm))
            else:
                paged = self._take(snapshot, need, _evictable)
            reclaim = {name: pages for name, pages in paged.items() if pages}
        elif snapshot.free_pages > high:
            given = self._give(snapshot, snapshot.free_pages - high)
            balloons = {vm.name: vm.balloon_pages - given[vm.name] for vm in snapshot.vms}
        changes = changed_balloons(snapshot.vms, balloons, self.balloon_max_percent)
        return Targets(balloon_pages=changes, reclaim_pages=reclaim)

    def _balloon_room(self, vm: VmView) -> int:
        if not vm.balloonable:
            return 0
        return max(0, min(_evictable(vm), vm.balloon_bounds(self.balloon_max_percent)[1] - vm.balloon_pages))

    def _take(self, snapshot: Snapshot, need: int, room: Callable[[VmView], int]) -> dict[str, int]:
        """Pages to take from each VM, one step at a time from the one with the lowest ratio."""
        taken = {vm.name: 0 for vm in snapshot.vms}
        left = {vm.name: room(vm) for vm in snapshot.vms}
        step = max(1, need // _STEPS)
        while need > 0:
            givers = [vm for vm in snapshot.vms if left[vm.name]]
            if not givers:
                break
            victim = self._lowest(givers, {vm.name: vm.held_pages - taken[vm.name] for vm in givers})
            pages = min(step, need, left[victim.name])
            taken[victim.name] += pages
            left[victim.name] -= pages
            need -= pages
        return taken

    def _give(self, snapshot: Snapshot, surplus: int) -> dict[str, int]:
        """Pages of balloon to return to each VM, one step at a time to the one with the highest ratio."""
        given = {vm.name: 0 for vm in snapshot.vms}
        step = max(1, surplus // _STEPS)
        while surplus > 0:
            takers = [vm for vm in snapshot.vms if vm.balloonable and vm.balloon_pages > given[vm.name]]
            if not takers:
                break
            held = {vm.name: vm.held_pages + given[vm.name] for vm in takers}
            winner = takers[0]
            for vm in takers[1:]:
                if self._pays_less(winner, held[winner.name], vm, held[vm.name]):
                    winner = vm
            pages = min(step, surplus, winner.balloon_pages - given[winner.name])
            given[winner.name] += pages
            surplus -= pages
        return given

    def _lowest(self, vms: list[VmView], held: dict[str, int]) -> VmView:
        victim = vms[0]
        for vm in vms[1:]:
            if self._pays_less(vm, held[vm.name], victim, held[victim.name]):
                victim = vm
        return victim

    def _pays_less(self, one: VmView, one_held: int, other: VmView, other_held: int) -> bool:
        """Whether the first VM's adjusted shares-per-page is strictly the lower."""
        return one.shares * self._charge(other, other_held) < other.shares * self._charge(one, one_held)

    def _charge(self, vm: VmView, held: int) -> int:
        """Pages held, idle ones taxed, times (100 - tax)."""
        active = min(vm.active_pages, held)
        return max(1, active * (100 - self.idle_tax_percent) + (held - active) * 100)


def _evictable(vm: VmView) -> int:
    return max(0, vm.held_pages - vm.reservation_pages)
