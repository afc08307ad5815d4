"""Views by the thousand. A frozen dataclass sets its fields through a call each, which was most of what a snapshot of many
VMs cost. A draft has the same fields, takes them as any object does, and becomes what it was a draft of when all are set:
then it is as frozen as others, and equal to one that was made in the usual way.
"""

from collections.abc import Iterable
from typing import Any

from memvirt.policies.base import ColdAge, Unseen, VmView

NO_LIMIT = (1 << 63) - 1  # limit_pages of a VM without one, in numbers


def _draft_of(kind: Any) -> Any:
    return type(f"{kind.__name__}Draft", kind.__bases__, {"__slots__": kind.__slots__})


_ViewDraft, _AgeDraft = _draft_of(VmView), _draft_of(ColdAge)


def views(
    names: Iterable[str], numbers: Iterable[tuple[int, ...]], ages: Iterable[Unseen | None]
) -> tuple[VmView, ...]:
    """Of each VM its name, its numbers in the order of memvirt.policies.columns.FIELDS, and what its cold_ages are made of
    when somebody looks; None: it has none."""
    made = []
    for name, row, aged in zip(names, numbers, ages, strict=True):
        draft = _ViewDraft()
        draft.name = name
        (
            draft.configured_pages,
            draft.held_pages,
            draft.balloon_pages,
            draft.active_pages,
            draft.shares,
            draft.reservation_pages,
            limit,
            draft.guest_free_pages,
            draft.guest_cache_pages,
            stalled,
            draft.stall_avg10,
            draft.stall_avg60,
            balloonable,
        ) = row
        draft.limit_pages = None if limit == NO_LIMIT else limit
        draft.stall_some_ns = draft.stall_full_ns = stalled
        draft.balloonable = balloonable > 0
        if aged is None:
            draft.cold_ages = ()
        else:
            draft.columns = aged
        draft.__class__ = VmView
        made.append(draft)
    return tuple(made)


def cold_ages(rows: Iterable[tuple[int, int, int]]) -> tuple[ColdAge, ...]:
    """Of (age in ns, pages at least that old, promotions at least that old), ages rising."""
    made = []
    for age_ns, cold, promoted in rows:
        draft = _AgeDraft()
        draft.age_ns = age_ns
        draft.cold_pages = cold
        draft.promoted_pages = promoted
        draft.__class__ = ColdAge
        made.append(draft)
    return tuple(made)
