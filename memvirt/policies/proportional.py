"""memvirt's own plain rule: below the low watermark, shrink every guest by its share of what is spare."""

from dataclasses import dataclass
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, Snapshot, Targets, changed_balloons, inflation, split_by_weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Proportional:
    """Inflate in proportion to the pages held beyond the active estimate, up to the high watermark; deflate above it.

    Spare is held - max(reservation, active). Between low and high nothing moves, so constant input settles after a few
    steps. `headroom_percent` of total memory is kept free beyond the high watermark, so that the balloon acts before
    the background reclaimer does.
    """

    weighs_marks: ClassVar[bool] = True
    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 1_000_000_000
    headroom_percent: Percent = 2

    def decide(self, snapshot: Snapshot) -> Targets:
        headroom = snapshot.total_pages * self.headroom_percent // 100
        low, high = snapshot.low_pages + headroom, snapshot.high_pages + headroom
        vms = tuple(vm for vm in snapshot.vms if vm.balloonable)
        current = {vm.name: vm.balloon_pages for vm in vms}
        wanted = current
        if snapshot.free_pages < low:
            spare = {vm.name: max(0, vm.held_pages - max(vm.reservation_pages, vm.active_pages)) for vm in vms}
            need = min(high - snapshot.free_pages, sum(spare.values()))
            parts = split_by_weight(need, spare)
            wanted = {vm.name: vm.balloon_pages + inflation(vm, parts[vm.name]) for vm in vms if parts.get(vm.name)}
        elif snapshot.free_pages > high:
            surplus = min(snapshot.free_pages - high, sum(current.values()))
            wanted = {name: current[name] - part for name, part in split_by_weight(surplus, current).items()}
        return Targets(balloon_pages=changed_balloons(vms, wanted))
