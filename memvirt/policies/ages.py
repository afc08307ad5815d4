"""Histograms of cold ages as columns: of one VM as the engine has them, and of all VMs of a snapshot as one table.

A snapshot of 1,000 VMs has up to 127,000 buckets, and an object for each takes some 50 ms. So a host's view has columns,
two texts of bytes, and its cold_ages are made of them when somebody looks; memvirt's own rules do not, and ask for a table.
Views that were made by hand, as tests of deciders do, have no columns: their table is made of their cold_ages.

                 age_ns   30 s   60 s   90 s             there: whether a VM has that bucket
    cold      VM 0         12      9      9
              VM 1         40      0      0   ◄── 0 where it has none; never without a column
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memvirt.policies import drafts
from memvirt.policies.base import ColdAge, VmView

Numbers = NDArray[np.int64]
_NUMBER = 8  # bytes


class Aged(NamedTuple):
    """One VM's histogram: columns of int64, of age 1 and up."""

    interval_ns: int  # between ages
    cold: bytes
    promoted: bytes

    def buckets(self) -> tuple[ColdAge, ...]:
        """What cold_ages has."""
        cold, promoted, step = memoryview(self.cold).cast("q"), memoryview(self.promoted).cast("q"), self.interval_ns
        return drafts.cold_ages(zip(range(step, step * (len(cold) + 1), step), cold, promoted, strict=True))


class Table(NamedTuple):
    """The histograms of all VMs, a row each, by the ages that any has, rising."""

    age_ns: Numbers
    there: NDArray[np.bool_]
    cold: Numbers
    promoted: Numbers


def table_of(vms: Sequence[VmView]) -> Table:
    columns = [getattr(vm, "columns", None) for vm in vms]
    aged = [each for each in columns if type(each) is Aged]
    if not aged or len(aged) < len(vms) or len({each.interval_ns for each in aged}) > 1:
        return _by_bucket(vms)
    sizes = [len(each.cold) for each in aged]
    size = max(sizes) or _NUMBER
    ages = np.arange(_NUMBER, size + _NUMBER, _NUMBER)
    there = ages <= np.array(sizes)[:, np.newaxis]
    return Table(ages // _NUMBER * aged[0].interval_ns, there, _stacked(aged, 1, size), _stacked(aged, 2, size))


def _stacked(aged: list[Aged], column: int, size: int) -> Numbers:
    filled = [each[column].ljust(size, b"\0") for each in aged]  # type: ignore[union-attr]
    return np.frombuffer(b"".join(filled), np.int64).reshape(len(aged), -1)


def _by_bucket(vms: Sequence[VmView]) -> Table:
    """Of views that may have any ages."""
    ages = sorted({each.age_ns for vm in vms for each in vm.cold_ages}) or [0]
    place = {age_ns: column for column, age_ns in enumerate(ages)}
    there = np.zeros((len(vms), len(ages)), np.bool_)
    cold, promoted = np.zeros((2, len(vms), len(ages)), np.int64)
    for row, vm in enumerate(vms):
        for each in vm.cold_ages:
            at = row, place[each.age_ns]
            there[at], cold[at], promoted[at] = True, each.cold_pages, each.promoted_pages
    return Table(np.array(ages, np.int64), there, cold, promoted)
