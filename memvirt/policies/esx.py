"""VMware ESX as described at OSDI 2002, and what ESXi 6 made of it: who has how much memory, and who gives.

**States.** Free memory names the state: high, soft, hard, low. The lower thresholds are per cent of the host (2002: soft
below 4, hard below 2, low below 1, high from 6 on) or of minFree, which grows more slowly than the host (ESXi: 6 % of the
first 4 GiB, 4 % of the next 8, 2 % of the next 16, 1 % of the rest; soft below 64 % of it, hard below 32, low below 16,
high from 100 on). A state is entered at once when free memory falls below its threshold, and left, one at a time, when
free memory is `hysteresis_percent` above that of the next. Every reclaiming state aims at the high threshold.

    high    nothing is taken                     soft    balloons; the host pages where a balloon cannot help
    clear   as high (ESXi: it begins to share)
    hard    the host pages                       low     the same, and a VM that holds more than its target does not run

**Targets.** Each VM is due an allocation: as though every VM had all that it asks for, and memory were taken back page by
page from the one that pays least for what it holds (min-funding revocation), down to its reservation. What it pays is
rho = S / (P * (f + k * (1 - f))), S shares, P pages, f the part of them in use, k = 1 / (1 - tau): with the idle tax tau =
75 % an idle page costs as much as four used ones. That has a closed form: there is one price at which all that are not at
their bounds pay alike. So it is found by bisection, over all VMs at once. What a VM asks for is all that it may have
(configured size or limit), or what it holds, if its guest has memory free that it does not use.
A VM that is due more than its size has its balloon made smaller, in every state, by no more in all than would bring
free memory down to the soft threshold. One that holds more than it is due gives, in the states that take.

**Estimate.** f is a sample: `sample_pages` pages of each VM, watched for `sample_ns`. A slow and a fast moving average of
it are kept, and a fast one that counts the period that is not over yet; the largest counts, so that memory is used as
soon as it is touched and idle only after a while. The engine's accessed marks stand for the watched pages: each is drawn
anew, as touched with the probability that marks give. The preset collects marks as often as ESX ends a period; what the
unfinished period has seen is then no newer than they. A VM that was not yet watched for a period counts as using all.

**When.** The rule looks every `interval_ns`, as the balloon driver asks for its target each second, and at once when free
memory falls below the next threshold; it acts every `rebalance_ns`, when the state changes, when a VM has come or gone, at
each look in the states that page, and while a VM waits to be admitted: for that balloons are asked first, in every state.

In integers: P * (f + k * (1 - f)) = (A * (100 - tau) + (P - A) * 100) / (100 - tau) with A = f * P.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memvirt.policies.ages import Numbers
from memvirt.policies.base import Percent, Positive, Snapshot, Targets
from memvirt.policies.columns import Columns, columns_of, in_proportion, inflations, recalled, remembered

_PPM = 1_000_000
_SCALE = 1024  # of prices
_HIGH, _SOFT, _HARD, _LOW = range(4)
_NAMES = ("high", "soft", "hard", "low")
_WANTS_MORE = 32  # a guest with less than a 32nd of its size free asks for more
_MIB = 256  # pages
# Remembered of a VM: whether it was watched for a period, its slow average, its fast one, this period's sample
_UNKNOWN = (0, 0, 0, 0)
_DRAWS_AT_ONCE = 8192  # of the sample: as many as a processor's cache has room for
# minFree: per cent of so many GiB, then of the next (VMware, vSphere's "sliding scale")
_SCALE_OF_MIN_FREE = ((6, 4), (4, 8), (2, 16), (1, 1 << 20))


@dataclass(frozen=True, slots=True, kw_only=True)
class Esx:
    """Allocations by shares, idle tax, reservation, limit; taken as free memory's state says."""

    wants_ages: ClassVar[bool] = False
    interval_ns: Positive = 1_000_000_000
    rebalance_ns: Positive = 15_000_000_000
    idle_tax_percent: Percent = 75
    of_min_free: bool = False  # thresholds are per cent of minFree, not of the host
    high_percent: int = 6
    soft_percent: int = 4
    hard_percent: int = 2
    low_percent: int = 1
    hysteresis_percent: Percent = 10
    balloon_max_percent: Percent = 65
    sample_ns: Positive = 30_000_000_000
    sample_pages: Positive = 100
    slow_percent: Percent = 10  # weight of a new sample in the averages
    fast_percent: Percent = 50

    def __post_init__(self) -> None:
        marks = [(name, getattr(self, f"{name}_percent")) for name in ("high", "soft", "hard", "low")]
        for (above, much), (below, little) in pairwise(marks):
            if little > much:
                raise ValueError(
                    f"{below}_percent is {little}, above {above}_percent, {much}; high >= soft >= hard >= low"
                )

    def decide(self, snapshot: Snapshot) -> Targets:
        vms = columns_of(snapshot)
        marks = self.thresholds(snapshot.total_pages)
        was, balanced_ns, seen_vms, *period = snapshot.memo.get("esx", (_HIGH, -self.rebalance_ns, 0, 0, 0))
        state = self._state(was, snapshot.free_pages, marks)
        fleet = crc32("\0".join(vms.names).encode())
        memo, active = self._estimate(vms, snapshot, period[0], period[1])
        wanted = snapshot.wanted_pages
        due = state != was or fleet != seen_vms or snapshot.now_ns - balanced_ns >= self.rebalance_ns or wanted > 0
        head = (state, snapshot.now_ns if due else balanced_ns, fleet, *memo.pop("esx"))
        memo["esx"] = head
        told = self._told(state, snapshot.free_pages, marks)
        below = marks[state + 1] if state < _LOW else 0
        if not vms.names or not (due or state >= _HARD):
            return Targets(state=told, wake_below_pages=below, memo=memo)
        held = vms.held_pages
        aim = marks[_HIGH] * (100 + self.hysteresis_percent) // 100
        left = snapshot.free_pages - wanted
        allocation = self._allocations(vms, active * held // _PPM, int(held.sum()) + left - aim)
        given = self._given(vms, allocation, left - marks[_SOFT])
        take = self._taken(held - allocation, aim - left if state != _HIGH else wanted)
        balloons, reclaim = self._how(vms, take, max(state, _SOFT))
        balloons = np.where(given > 0, vms.balloon_pages - given, balloons)
        return Targets(
            balloon_pages=vms.changed_balloons(balloons, self.balloon_max_percent),
            reclaim_pages=vms.by_name(reclaim, reclaim > 0),
            block_above_pages=vms.by_name(allocation, np.ones_like(held)) if state == _LOW else {},
            state=told,
            wake_below_pages=below,
            memo=memo,
        )

    # ---- states

    def thresholds(self, total_pages: int) -> tuple[int, int, int, int]:
        """Free pages from which the state is high, and below which it is soft, hard, low."""
        whole = min_free(total_pages) if self.of_min_free else total_pages
        high, soft, hard, low = self.high_percent, self.soft_percent, self.hard_percent, self.low_percent
        return whole * high // 100, whole * soft // 100, whole * hard // 100, whole * low // 100

    def _state(self, was: int, free: int, marks: tuple[int, int, int, int]) -> int:
        """The state of free memory, coming from another: down at once, up by one and only well above its threshold."""
        below = sum(free < mark for mark in marks[1:])
        if below >= was:
            return below
        # high is left below soft, and soft is left for high above the high threshold: the mark of the state above
        return was - 1 if free * 100 >= marks[was - 1] * (100 + self.hysteresis_percent) else was

    def _told(self, state: int, free: int, marks: tuple[int, int, int, int]) -> str:
        """What the state is called. With thresholds of minFree, high is clear below its own: as soon as that is reached ESXi
        shares pages, which the scanner does in every state here, and takes nothing."""
        return "clear" if self.of_min_free and state == _HIGH and free < marks[_HIGH] else _NAMES[state]

    # ---- the estimate of what is in use

    def _estimate(
        self, vms: Columns, snapshot: Snapshot, began_ns: int, period: int
    ) -> tuple[dict[str, tuple[int, ...]], Numbers]:
        """The memo of the averages, and the part of each VM in use, ppm of what it holds."""
        over = snapshot.now_ns - began_ns >= self.sample_ns
        keys = [f"vm:{name}" for name in vms.names]
        known, slow, fast, seen = recalled(snapshot.memo, keys, _UNKNOWN).T
        seen, known = np.maximum(seen, self._sampled(vms, period)), known > 0
        if over:
            slow = np.where(known, slow + (seen - slow) * self.slow_percent // 100, seen)
            fast = np.where(known, fast + (seen - fast) * self.fast_percent // 100, seen)
        unfinished = fast + (seen - fast) * self.fast_percent // 100
        watched = known | over
        active = np.where(watched, np.maximum(np.maximum(slow, fast), unfinished), _PPM)
        memo = remembered(keys, np.stack((watched, slow, fast, np.zeros_like(seen) if over else seen), axis=1))
        memo["esx"] = (snapshot.now_ns, period + 1) if over else (began_ns, period)
        return memo, active

    def _sampled(self, vms: Columns, period: int) -> Numbers:
        """Of the watched pages of each VM, how many were touched, ppm; the same at every look in one period if the marks
        are, whatever other VMs there are."""
        part = vms.active_pages * _PPM // np.maximum(1, vms.held_pages)
        keys = np.array([crc32(name.encode()) << 32 | (period & 0xFFFFFFFF) for name in vms.names], np.uint64)
        steps = np.arange(1, self.sample_pages + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        most, touched = np.minimum(part, _PPM).astype(np.uint64), np.empty(len(keys), np.int64)
        rows = max(1, _DRAWS_AT_ONCE // self.sample_pages)
        for first in range(0, len(keys), rows):
            some = slice(first, first + rows)
            draws = _mixed(keys[some, None] + steps)
            draws -= draws // np.uint64(_PPM) * np.uint64(_PPM)  # the remainder, for which numpy has a slower way
            touched[some] = np.count_nonzero(draws < most[some, None], axis=1)
        return touched * _PPM // self.sample_pages

    # ---- allocations

    def _allocations(self, vms: Columns, active: Numbers, memory: int) -> Numbers:
        """Pages that each VM is due of so much memory: all that is asked for if it fits, else at one price for all."""
        shares, least = vms.shares, vms.reservation_pages
        most = np.maximum(least, _asked(vms))
        if int(most.sum()) <= memory:
            return most
        used = 100 - self.idle_tax_percent
        active = np.minimum(active, most)
        top = np.where(shares > 0, (active * used + (most - active) * 100) * _SCALE // np.maximum(shares, 1) + 1, 0)

        def at(price: int) -> Numbers:
            """What each gets for that much of charge for a share."""
            charge = shares * np.minimum(price, top) // _SCALE
            inside = active if used == 0 else np.minimum(charge // max(used, 1), active)
            pages = inside + np.maximum(0, charge - active * used) // 100
            return np.clip(np.where(shares > 0, pages, least), least, most)

        low, high = 0, int(top.max(initial=0))
        while low < high:
            middle = (low + high + 1) // 2
            if int(at(middle).sum()) <= memory:
                low = middle
            else:
                high = middle - 1
        return at(low)

    def _given(self, vms: Columns, allocation: Numbers, spare: int) -> Numbers:
        """By how much each balloon is made smaller: what VMs are due beyond their size, no more in all than is spare."""
        room: Numbers = np.minimum(vms.balloon_pages, np.maximum(0, allocation - vms.size_pages)) * vms.balloonable
        return in_proportion(spare, room)

    def _taken(self, excess: Numbers, need: int) -> Numbers:
        """What VMs give that hold more than they are due: all of it, or as much of each as is needed."""
        return in_proportion(need, np.maximum(excess, 0))

    def _how(self, vms: Columns, take: Numbers, state: int) -> tuple[Numbers, Numbers]:
        """Balloon sizes, and pages that the host pages out, by which so much is taken."""
        take = np.minimum(take, np.maximum(0, vms.held_pages - vms.reservation_pages))
        if state != _SOFT:
            return vms.balloon_pages, take
        room = np.maximum(0, vms.balloon_bounds(self.balloon_max_percent)[1] - vms.balloon_pages) * vms.balloonable
        return vms.balloon_pages + np.minimum(room, inflations(vms, take)), np.maximum(0, take - room)


def min_free(total_pages: int) -> int:
    """minFree in pages: each step of the scale in whole MiB, as it is published (899 MiB of 28 GiB)."""
    left, found = total_pages // _MIB, 0
    for percent, gib in _SCALE_OF_MIN_FREE:
        part = min(left, gib * 1024)
        found += part * percent // 100
        left -= part
    return found * _MIB


def _asked(vms: Columns) -> Numbers:
    """The most that VMs have a use for: all that they may have, or what they hold if their guest has memory left."""
    most = np.minimum(vms.limit_pages, vms.configured_pages)
    full = (vms.balloonable == 0) | (vms.guest_free_pages * _WANTS_MORE < vms.size_pages)
    return np.where(full, most, np.minimum(most, vms.held_pages))


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), in place."""
    keys ^= keys >> np.uint64(30)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    keys ^= keys >> np.uint64(27)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    return keys
