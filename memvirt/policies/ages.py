"""Histograms of cold ages of all VMs of a snapshot, as one table.

A snapshot of 1,000 VMs has up to 127,000 buckets, and an object for each takes some 50 ms. So a host's snapshot has a table,
and a view's cold_ages are made of its row when somebody looks; memvirt's own rules go by the table. Views that were made by
hand, as tests of deciders do, have none: it is made of their cold_ages.

                 age_ns   30 s   60 s   90 s             there: whether a VM has that bucket
    cold      VM 0         12      9      9
              VM 1         40      0      0   ◄── 0 where it has none; never without a column
"""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memvirt.policies import drafts
from memvirt.policies.base import ColdAge, Unseen, VmView

Numbers = NDArray[np.int64]
Which = NDArray[np.bool_]  # of VMs
_MOST = (1 << 63) - 1


class Table(NamedTuple):
    """The histograms of all VMs, a row each, by the ages that any has, rising."""

    age_ns: Numbers  # at most 2**63 - 1
    there: Which
    cold: Numbers
    promoted: Numbers
    exact_ns: Sequence[int]  # age_ns, however large

    def rows(self) -> Iterable["Row | None"]:
        """One VM's histogram each; None for all where no VM has any."""
        vms = len(self.there)
        return (Row(self, at) for at in range(vms)) if self.there.any() else repeat(None, vms)


class Row(Unseen):
    """One VM's histogram."""

    __slots__ = ("_at", "_table")

    def __init__(self, table: Table, at: int) -> None:
        self._table, self._at = table, at

    def made(self) -> tuple[ColdAge, ...]:
        """What cold_ages has."""
        table, at = self._table, self._at
        places, cold, promoted = np.flatnonzero(table.there[at]).tolist(), table.cold[at], table.promoted[at]
        ages = [table.exact_ns[place] for place in places]
        return drafts.cold_ages(zip(ages, cold[places].tolist(), promoted[places].tolist(), strict=True))


def no_ages(vms: int) -> Table:
    """Of so many VMs of which none are known."""
    nothing = np.zeros((vms, 1), np.int64)
    return Table(np.zeros(1, np.int64), nothing > 0, nothing, nothing, [0])


def by_interval(interval_ns: int, oldest: Numbers, cold: Numbers, promoted: Numbers) -> Table:
    """Of VMs whose ages are 1, 2, ... intervals: how many each has, and a column for each that any has."""
    if not cold.shape[1]:
        return no_ages(len(oldest))
    ages = np.arange(1, cold.shape[1] + 1)
    exact_ns = [age * interval_ns for age in ages.tolist()]
    return Table(_bounded(exact_ns), ages <= oldest[:, np.newaxis], cold, promoted, exact_ns)


def by_bucket(vms: Sequence[VmView]) -> Table:
    """Of views that may have any ages."""
    ages = sorted({each.age_ns for vm in vms for each in vm.cold_ages}) or [0]
    place = {age_ns: column for column, age_ns in enumerate(ages)}
    there = np.zeros((len(vms), len(ages)), np.bool_)
    cold, promoted = np.zeros((2, len(vms), len(ages)), np.int64)
    for row, vm in enumerate(vms):
        for each in vm.cold_ages:
            at = row, place[each.age_ns]
            there[at], cold[at], promoted[at] = True, each.cold_pages, each.promoted_pages
    return Table(_bounded(ages), there, cold, promoted, ages)


def _bounded(numbers: Sequence[int]) -> Numbers:
    return np.array([min(number, _MOST) for number in numbers], np.int64)
