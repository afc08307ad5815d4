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

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from memvirt.policies.ages import Numbers, Which
from memvirt.policies.base import Bounds, Percent, Positive, PositivePercent, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of

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
    buffer_percent: Annotated[int, Bounds(1, 2000)] = 20  # as Hyper-V takes them
    low_pressure_percent: PositivePercent = 80
    startup_percent: PositivePercent = 50  # of the largest size, until it reports
    quiet_ns: int = 45_000_000_000  # of a guest before its first report
    host_percent: Percent = 2  # of the host that stays free

    def decide(self, snapshot: Snapshot) -> Targets:
        vms, now_ns = columns_of(snapshot), snapshot.now_ns
        memo = {
            name: snapshot.memo.get(name, (now_ns,))
            for name, balloonable in zip(vms.names, vms.balloonable.tolist(), strict=True)
            if balloonable
        }
        reports = np.array([now_ns - memo.get(name, (now_ns,))[0] >= self.quiet_ns for name in vms.names], np.bool_)
        wanted = np.where(vms.balloonable, self._wanted(vms, reports), 0)
        spare = snapshot.free_pages - snapshot.total_pages * self.host_percent // 100
        sizes = self._assigned(vms, wanted, spare + int((vms.held_pages * vms.balloonable).sum()))
        balloons = vms.configured_pages - self._given(vms, sizes)
        return Targets(balloon_pages=vms.changed_balloons(balloons), memo=memo)

    def _wanted(self, vms: Columns, reports: Which) -> Numbers:
        """The sizes that the host wants VMs to have."""
        size, most = vms.size_pages, np.minimum(vms.limit_pages, vms.configured_pages)
        used = committed(vms)
        wanted = used * (100 + self.buffer_percent) // 100
        moves = (size < wanted) | (used * 100 < size * self.low_pressure_percent)
        wanted = np.where(reports, np.where(moves, wanted, size), most * self.startup_percent // 100)
        return np.clip(wanted, vms.reservation_pages, np.maximum(most, vms.reservation_pages))

    def _assigned(self, vms: Columns, wanted: Numbers, memory: int) -> Numbers:
        """Sizes that fit, of those wanted: minimums for all, then by weight."""
        if int(wanted.sum()) <= memory:
            return wanted
        least = vms.reservation_pages * vms.balloonable
        above, left = np.maximum(0, wanted - least), max(0, memory - int(least.sum()))
        sizes = least.copy()
        for shares in np.unique(vms.shares)[::-1]:
            group = vms.shares == shares
            whole = int(above[group].sum())
            part = min(left, whole)
            sizes[group] += above[group] * part // max(whole, 1)
            left -= part
        return sizes

    def _given(self, vms: Columns, sizes: Numbers) -> Numbers:
        """The sizes that guests let the host have: each keeps its floor available, and gives in units."""
        size, available = vms.size_pages, vms.guest_free_pages + vms.guest_cache_pages
        can = np.maximum(0, available - _floors(vms))
        gives = np.minimum(np.maximum(0, size - sizes), can)
        return np.where(sizes >= size, sizes, size - gives // _UNIT * _UNIT)


def floor_pages(pages: int) -> int:
    """What a guest of that many pages keeps available."""
    mib = pages // _MIB
    for below, fixed, part in _FLOORS:
        if mib < below:
            return (fixed + mib // part) * _MIB
    fixed, part = _FLOOR_OF_MORE
    return (fixed + mib // part) * _MIB


def committed(vms: Columns) -> Numbers:
    """What guests report, less what their balloons hold: the host adds that to their sizes as well."""
    used: Numbers = np.maximum(0, vms.size_pages - vms.guest_free_pages - vms.guest_cache_pages)
    return used + _floors(vms)


def _floors(vms: Columns) -> Numbers:
    """What each guest keeps available; guests are of a handful of sizes."""
    sizes, of_size = np.unique(vms.configured_pages, return_inverse=True)
    floors: Numbers = np.array([floor_pages(size) for size in sizes.tolist()], np.int64)[of_size]
    return floors
