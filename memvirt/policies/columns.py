"""A snapshot's VMs as columns: one array for each kind of number, a place in each for every VM.

A host makes its snapshot of them, and views when somebody looks at `Snapshot.vms`: an object for each of 1,000 VMs took
longer than most rules do. Rules that reckon with all VMs alike ask `columns_of` for them and reckon in arrays. A snapshot
that was made by hand, as tests of deciders do, has views, and its columns are made of them: to a rule both are the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np

from memvirt.policies import drafts
from memvirt.policies.ages import Numbers, Table, Which, by_bucket
from memvirt.policies.base import Memo, Snapshot, Unseen, VmView
from memvirt.policies.drafts import NO_LIMIT


@dataclass(frozen=True, slots=True)
class Columns(Unseen):
    """What views have, of all VMs; limit_pages is NO_LIMIT where there is none. Ages are of a table of their own."""

    names: Sequence[str]
    aged: Table | Sequence[VmView]
    configured_pages: Numbers
    held_pages: Numbers
    balloon_pages: Numbers
    active_pages: Numbers
    shares: Numbers
    reservation_pages: Numbers
    limit_pages: Numbers
    guest_free_pages: Numbers
    guest_cache_pages: Numbers
    stall_ns: Numbers  # during the last interval
    stall_avg10: Numbers
    stall_avg60: Numbers
    balloonable: Numbers  # 0 or 1

    def made(self) -> tuple[VmView, ...]:
        """The views."""
        rows = zip(*(getattr(self, name).tolist() for name in FIELDS), strict=True)
        return drafts.views(self.names, rows, self.ages.rows())

    @property
    def ages(self) -> Table:
        """Their histograms; of views that were made by hand it is made each time."""
        return self.aged if isinstance(self.aged, Table) else by_bucket(self.aged)

    @property
    def size_pages(self) -> Numbers:
        """As VmView.size_pages."""
        return self.configured_pages - self.balloon_pages

    def balloon_bounds(self, cap_percent: int = 100) -> tuple[Numbers, Numbers]:
        """As VmView.balloon_bounds."""
        configured = self.configured_pages
        largest = np.minimum(configured * cap_percent // 100, np.maximum(0, configured - self.reservation_pages))
        return np.minimum(np.maximum(0, configured - self.limit_pages), largest), largest

    def changed_balloons(self, wanted: Numbers, cap_percent: int = 100, of: Which | None = None) -> dict[str, int]:
        """The wanted balloon sizes, kept within every VM's bounds; VMs that would not change are left out, and those for
        which `of` is not true. A balloonable VM above its limit is brought down to it even when the rule wants nothing of
        it."""
        targets = np.clip(wanted, *self.balloon_bounds(cap_percent))
        moves = (self.balloonable > 0) & (targets != self.balloon_pages)
        return self.by_name(targets, moves if of is None else moves & of)

    def by_name(self, pages: Numbers, where: Which) -> dict[str, int]:
        """Those of VMs for which `where` is true."""
        names, chosen = self.names, pages.tolist()
        return {names[at]: chosen[at] for at in np.flatnonzero(where).tolist()}


FIELDS = tuple(field.name for field in fields(Columns))[2:]  # numbers, in their order
_VIEWS_NAME = {"stall_ns": "stall_some_ns"}


def columns_of(snapshot: Snapshot) -> Columns:
    """Its VMs, however it was made."""
    columns = getattr(snapshot, "columns", None)
    return columns if type(columns) is Columns else _by_view(snapshot.vms)


def rows_of(snapshot: Snapshot, *fields: str) -> Iterable[tuple[Any, ...]]:
    """Of each VM its name and those numbers: for rules that go from VM to VM, without a view of each."""
    vms = columns_of(snapshot)
    return zip(vms.names, *(getattr(vms, field).tolist() for field in fields), strict=True)


def recalled(memo: Memo, keys: Iterable[str], unknown: Sequence[int]) -> Numbers:
    """What a rule remembers of VMs, a row for each: what its memo has at the VM's key, or `unknown`."""
    numbers = chain.from_iterable(memo.get(key, unknown) for key in keys)
    return np.fromiter(numbers, np.int64).reshape(-1, len(unknown))


def remembered(keys: Iterable[str], rows: Numbers) -> dict[str, tuple[int, ...]]:
    """The memo in which `recalled` finds these rows."""
    return dict(zip(keys, map(tuple, rows.tolist()), strict=True))


def nearest_ranks(rows: Numbers, counts: Numbers, percentile: int) -> Numbers:
    """The percentile of each row, by nearest rank: of its `counts` greatest numbers, the others being zeros that are none.
    0 of none."""
    ranks = np.maximum(-(-percentile * counts // 100), 1)
    places = rows.shape[1] - np.maximum(counts - ranks + 1, 1)
    return np.where(counts > 0, np.sort(rows, axis=1)[np.arange(len(rows)), places], 0)


def in_proportion(pages: int, weights: Numbers) -> Numbers:
    """So many pages, at least none and at most as many as the weights are, in proportion to them, each part rounded down."""
    total = int(weights.sum())
    return weights * max(0, min(pages, total)) // max(total, 1)


def inflations(vms: Columns, pages: Numbers) -> Numbers:
    """How much larger balloons must be for the host to gain that many pages of each VM.

    A balloon takes what is free in the guest first, and free pages that no frame backs give the host nothing. Without
    counting those a balloon in a mostly empty guest creeps along, round after round, to no use.
    """
    free = vms.guest_free_pages
    held_free = np.clip(free - (vms.size_pages - vms.held_pages), 0, free)
    some = pages * free // np.maximum(held_free, 1)
    return np.where(pages > 0, np.where(pages < held_free, some, pages + free - held_free), 0)


def _by_view(vms: Sequence[VmView]) -> Columns:
    limits = np.array([NO_LIMIT if vm.limit_pages is None else min(vm.limit_pages, NO_LIMIT) for vm in vms], np.int64)
    numbers = (
        limits
        if name == "limit_pages"
        else np.array([getattr(vm, _VIEWS_NAME.get(name, name)) for vm in vms], np.int64)
        for name in FIELDS
    )
    return Columns([vm.name for vm in vms], vms, *numbers)
