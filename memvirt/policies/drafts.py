"""Views by the thousand. A frozen dataclass sets its fields through a call each, which was most of what a snapshot of many
VMs cost. A draft has the same fields, takes them as any object does, and becomes what it was a draft of when all are set:
then it is as frozen as others, and equal to one that was made in the usual way.
"""

from collections.abc import Iterable
from typing import Any

from memvirt.policies.base import ColdAge, Columns, VmView

Seen = tuple[int, int, int, int, int, int | None, int, int, int, int, int]  # what the engine's Vm.seen says


def _draft_of(kind: Any) -> Any:
    return type(f"{kind.__name__}Draft", kind.__bases__, {"__slots__": kind.__slots__})


_ViewDraft, _AgeDraft = _draft_of(VmView), _draft_of(ColdAge)


def view(
    name: str, configured: int, seen: Seen, stalled_before: int, balloonable: bool, ages: Columns | None
) -> VmView:
    """A VM that had stalled for so long when the last decision was made; its cold_ages are made of `ages` when somebody
    looks at them, and empty without."""
    draft = _ViewDraft()
    draft.name = name
    draft.configured_pages = configured
    (
        draft.held_pages,
        draft.balloon_pages,
        draft.active_pages,
        draft.shares,
        draft.reservation_pages,
        draft.limit_pages,
        draft.guest_free_pages,
        draft.guest_cache_pages,
        stalled,
        draft.stall_avg10,
        draft.stall_avg60,
    ) = seen
    draft.stall_some_ns = draft.stall_full_ns = stalled - stalled_before
    draft.balloonable = balloonable
    if ages is None:
        draft.cold_ages = ()
    else:
        draft.columns = ages
    draft.__class__ = VmView
    made: VmView = draft
    return made


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
