"""Proxmox VE's automatic ballooning: keep the host at 80 % by moving guests towards their shares.

The rule (PVE/AutoBalloon.pm and pvestatd, read 2026): every 10 s the goal is 80 % of total memory less what is used.
Within 10 MiB of it nothing happens. Otherwise a guest should get its minimum plus its part, by shares, of everything
that is allocated above the minimums once the goal is met; it moves there by at most 100 MiB a round. What guests that
cannot move leave over is divided again among the others until nothing moves. When growing, guests short of free
memory go first; when shrinking, those whose free memory exceeds a quarter of their minimum.

Growing may shrink a guest that has more than its part, and when no guest can take what is left, that guest grows back in
the next round: on a nearly empty host the rule swings by at most one step. That is kept.

The minimum is the VM's reservation; a VM without one, or with no shares, takes no part, as in Proxmox.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, VmView, changed_balloons


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxmox:
    """Share-proportional sizes around a host target; needs reservations."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 10_000_000_000
    host_used_percent: Percent = 80
    deadband_pages: int = 2560  # 10 MiB
    max_step_pages: Positive = 25600  # 100 MiB a VM and round
    comfortable_percent: Percent = 25  # of the minimum, free inside the guest

    def decide(self, snapshot: Snapshot) -> Targets:
        used = snapshot.total_pages - snapshot.free_pages
        goal = snapshot.total_pages * self.host_used_percent // 100 - used
        everyone = [vm for vm in snapshot.vms if vm.balloonable and vm.reservation_pages and vm.shares]
        comfortable = [vm for vm in everyone if self._is_comfortable(vm)]
        pressed = [vm for vm in everyone if not self._is_comfortable(vm)]
        sizes: dict[str, int] = {}
        if abs(goal) > self.deadband_pages:
            moved = self._distribute(sizes, pressed if goal > 0 else comfortable, goal)
            if moved * goal <= 0:  # the preferred ones made no progress
                self._distribute(sizes, everyone, goal - moved)
        wanted = {vm.name: vm.configured_pages - sizes.get(vm.name, vm.size_pages) for vm in everyone}
        return Targets(balloon_pages=changed_balloons(tuple(everyone), wanted))

    def _is_comfortable(self, vm: VmView) -> bool:
        free_enough = vm.guest_free_pages * 100 > vm.reservation_pages * self.comfortable_percent
        return free_enough and vm.size_pages >= vm.reservation_pages

    def _distribute(self, sizes: dict[str, int], vms: Sequence[VmView], goal: int) -> int:
        """Move `sizes` towards the goal, in place; returns the net change in pages."""
        moved_total = 0
        settled: set[str] = set()
        again = True
        while again and moved_total != goal:
            again = False
            open_vms = [vm for vm in vms if vm.name not in settled]
            shares = sum(vm.shares for vm in open_vms)
            above = sum(sizes.get(vm.name, vm.size_pages) - vm.reservation_pages for vm in open_vms)
            above += goal - moved_total
            for vm in open_vms:
                part = abs(above) * vm.shares // shares
                desired = vm.reservation_pages + (part if above >= 0 else -part)
                size = self._step(vm, max(vm.reservation_pages, min(desired, vm.configured_pages)), goal > 0)
                if size is None:
                    settled.add(vm.name)
                    continue
                moved = size - sizes.get(vm.name, vm.size_pages)
                sizes[vm.name] = size
                moved_total += moved
                again = again or moved != 0
        return moved_total

    def _step(self, vm: VmView, desired: int, growing: bool) -> int | None:
        """The size one round may reach on the way to `desired`; None when this VM has nowhere to go."""
        if growing and desired > vm.size_pages:
            return min(desired, vm.size_pages + self.max_step_pages)
        if desired < vm.size_pages:
            return max(desired, vm.size_pages - self.max_step_pages)
        return None
