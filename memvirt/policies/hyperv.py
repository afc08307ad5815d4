"""Hyper-V's Dynamic Memory: a VM has what it has committed and a buffer, between its minimum and its maximum.

A guest reports once a second, from 45 s after it began, what it has committed: what it uses and a floor that depends on
its size (drivers/hv/hv_balloon.c: post_status, compute_balloon_floor). The host wants it to have that and `buffer_percent`
more. Pressure is committed / size, in per cent. A VM whose pressure leaves less than the buffer grows at once; one below
`low_pressure_percent` shrinks; between the two nothing moves. Before its first report a VM has its startup memory.

Where the host has not as much as all want, VMs of higher weight (their shares) come first; of those with equal weight all
get the same part of what they want above their minimum. A guest gives no more than leaves it its floor available, in
whole 2 MiB (balloon_up).

What Hyper-V's host does with reports is published in words only: the bands and the order of weights are readings of those,
and parameters. The minimum is the reservation, the maximum the limit or what was configured. The balloon stands for hot
add as well: a VM that starts small is one that starts with a balloon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from memvirt.policies.base import Percent, Positive, PositivePercent, Snapshot, Targets, VmView, changed_balloons, clamp

_MIB = 256  # pages
_UNIT = 512  # 2 MiB, in which a guest gives
# Below so many MiB of guest memory, so many MiB and a part of it (compute_balloon_floor).
_FLOORS = ((128, 8, 2), (512, 40, 4), (2048, 104, 8), (8192, 232, 16))
_FLOOR_OF_MORE = (488, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperV:
    """Committed memory and a buffer for every guest, by weight where that does not fit."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 1_000_000_000
    buffer_percent: Positive = 20
    low_pressure_percent: PositivePercent = 80
    startup_percent: PositivePercent = 50  # of the largest size, until it reports
    quiet_ns: int = 45_000_000_000  # of a guest before its first report
    host_percent: Percent = 2  # of the host that stays free

    def decide(self, snapshot: Snapshot) -> Targets:
        memo: dict[str, tuple[int, ...]] = {}
        wanted: dict[str, int] = {}
        vms = tuple(vm for vm in snapshot.vms if vm.balloonable)
        for vm in vms:
            (began_ns,) = memo[vm.name] = snapshot.memo.get(vm.name, (snapshot.now_ns,))
            wanted[vm.name] = self._wanted(vm, snapshot.now_ns - began_ns >= self.quiet_ns)
        spare = snapshot.free_pages - snapshot.total_pages * self.host_percent // 100
        sizes = self._assigned(vms, wanted, spare + sum(vm.held_pages for vm in vms))
        balloons = {vm.name: vm.configured_pages - self._given(vm, sizes[vm.name]) for vm in vms}
        return Targets(balloon_pages=changed_balloons(vms, balloons), memo=memo)

    def _wanted(self, vm: VmView, reports: bool) -> int:
        """The size that the host wants it to have."""
        least, most = vm.reservation_pages, largest(vm)
        if not reports:
            return clamp(most * self.startup_percent // 100, least, most)
        used = committed(vm)
        wanted = used * (100 + self.buffer_percent) // 100
        if vm.size_pages < wanted or used * 100 < vm.size_pages * self.low_pressure_percent:
            return clamp(wanted, least, most)
        return clamp(vm.size_pages, least, most)

    def _assigned(self, vms: Sequence[VmView], wanted: dict[str, int], memory: int) -> dict[str, int]:
        """Sizes that fit, of those wanted: minimums for all, then by weight."""
        if sum(wanted.values()) <= memory:
            return dict(wanted)
        left = max(0, memory - sum(vm.reservation_pages for vm in vms))
        sizes: dict[str, int] = {}
        for _, group in groupby(sorted(vms, key=lambda vm: -vm.shares), key=lambda vm: vm.shares):
            above = [(vm, wanted[vm.name] - vm.reservation_pages) for vm in group]
            whole = sum(pages for _, pages in above)
            part = min(left, whole)
            for vm, pages in above:
                sizes[vm.name] = vm.reservation_pages + (pages * part // whole if whole else 0)
            left -= part
        return sizes

    def _given(self, vm: VmView, size: int) -> int:
        """The size that the guest lets the host have: it keeps its floor available, and gives in units."""
        available = vm.guest_free_pages + vm.guest_cache_pages
        gives = min(max(0, vm.size_pages - size), max(0, available - floor_pages(vm.configured_pages)))
        return size if size >= vm.size_pages else vm.size_pages - gives // _UNIT * _UNIT


def floor_pages(pages: int) -> int:
    """What a guest of that many pages keeps available."""
    mib = pages // _MIB
    for below, fixed, part in _FLOORS:
        if mib < below:
            return (fixed + mib // part) * _MIB
    fixed, part = _FLOOR_OF_MORE
    return (fixed + mib // part) * _MIB


def committed(vm: VmView) -> int:
    """What a guest reports, less what its balloon holds: the host adds that to the guest's size as well."""
    used = vm.size_pages - vm.guest_free_pages - vm.guest_cache_pages
    return max(0, used) + floor_pages(vm.configured_pages)


def largest(vm: VmView) -> int:
    """The most that a guest may have."""
    return vm.configured_pages if vm.limit_pages is None else min(vm.limit_pages, vm.configured_pages)
