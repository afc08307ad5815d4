"""squeezed, the memory daemon of XCP-ng and XenServer: all VMs are squeezed alike (ocaml/squeezed, read 2026).

A VM has a least and a largest size. What is free on the host, and what would be if every VM shrank to its least size, less
a small fund that stays free, is shared out so that (size - least) / (largest - least) is the same for all. VMs that shrink
go first: while any has to, none may grow. A balloon driver that has not come nearer to its target for five seconds is
taken to be stuck; the others are squeezed the more, until it moves again. Nothing is asked of guests: what they use makes
no difference.

The least size is the VM's reservation, the largest its limit or what it was configured with. In Xen a VM holds all of its
size from the start. Here it holds what it has touched, so what it has not yet had of its least size is taken off what is
shared out. The daemon goes round in a quarter of a second while it works and looks at the balance every 30 s; here it
looks only, so that a VM is found stuck at the first look after 5 s.
"""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Positive, Snapshot, Targets, VmView, changed_balloons


@dataclass(frozen=True, slots=True, kw_only=True)
class Squeezed:
    """Every VM between its least and largest size at the same part of the way; stuck balloons are worked around."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 30_000_000_000
    fund_pages: int = 2304  # 9 MiB
    inaccuracy_pages: int = 1  # 4 KiB: so near to its target a VM has hit it
    stuck_after_ns: Positive = 5_000_000_000

    def decide(self, snapshot: Snapshot) -> Targets:
        memo: dict[str, tuple[int, ...]] = {}
        active = []
        for vm in snapshot.vms:
            size = vm.size_pages
            target, was, moved_ns = snapshot.memo.get(vm.name, (size, size, snapshot.now_ns))
            away = target - size
            if (size - was) * away > 0 or abs(away) <= self.inaccuracy_pages:
                moved_ns = snapshot.now_ns
            memo[vm.name] = (target, size, moved_ns)
            if vm.balloonable and snapshot.now_ns - moved_ns <= self.stuck_after_ns:
                active.append(vm)
        sizes = self._sizes(snapshot, active)
        shrinking = {vm.name for vm in active if sizes[vm.name] < vm.size_pages - self.inaccuracy_pages}
        chosen = {name: size for name, size in sizes.items() if not shrinking or name in shrinking}
        for name, size in chosen.items():
            memo[name] = (size, *memo[name][1:])
        wanted = {vm.name: vm.configured_pages - chosen[vm.name] for vm in active if vm.name in chosen}
        return Targets(balloon_pages=changed_balloons(tuple(active), wanted), memo=memo)

    def _sizes(self, snapshot: Snapshot, vms: list[VmView]) -> dict[str, int]:
        """All at the same part of the way from their least to their largest size."""
        freeable = sum(self._freeable(vm) for vm in vms)
        surplus = max(0, snapshot.free_pages + freeable - self.fund_pages)
        ways = {vm.name: max(0, _largest(vm) - vm.reservation_pages) for vm in vms}
        whole = sum(ways.values())
        part = min(surplus, whole)
        return {
            vm.name: vm.reservation_pages + (part * ways[vm.name] // whole if whole else ways[vm.name]) for vm in vms
        }

    def _freeable(self, vm: VmView) -> int:
        """What the host gets if it shrinks to its least size; negative while it has not had that."""
        above = vm.held_pages - vm.reservation_pages
        return above if above < 0 else max(0, above - 2 * self.inaccuracy_pages)


def _largest(vm: VmView) -> int:
    return vm.configured_pages if vm.limit_pages is None else min(vm.limit_pages, vm.configured_pages)
