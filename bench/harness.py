"""What all rows of bench/ratios.py share: interleaved runs of ours and its references, and one row per reference.

A measurement is a call that does its work once and returns one number. Ours and all references take turns, so that a
machine that drifts drifts for all; the ratio is taken within each turn, and its median over the turns is reported.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

Measure = Callable[[], float]
REPEATS = 5


class Absent(Exception):
    """A peer is not to be had here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """ratio: how many times better ours is; spread: (largest - least) / median of the ratio over the turns.
    target and met are None where there is nothing to reach; reference, ratio and met are None where it is absent."""

    what: str
    ours: float | None
    reference: float | None
    unit: str
    ratio: float | None
    target: float | None
    spread: float | None
    met: bool | None
    note: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What ours is held against. `measure` None: absent, `note` says why."""

    name: str
    measure: Measure | None
    target: float | None
    note: str = ""


def compare(
    what: str,
    ours: Measure | None,
    references: list[Reference],
    *,
    unit: str,
    larger_is_better: bool = False,
    repeats: int = REPEATS,
) -> Iterator[Row]:
    """One row per reference. A measurement that raises Absent makes its row absent; ours None: nothing of ours to hold
    against them (the note says why)."""
    mine: list[float] = []
    theirs: list[list[float]] = [[] for _ in references]
    gone: dict[int, str] = {i: ref.note for i, ref in enumerate(references) if ref.measure is None}
    for _ in range(repeats if ours is not None else 0):
        mine.append(ours())
        for i, reference in enumerate(references):
            if i in gone or reference.measure is None:
                continue
            try:
                theirs[i].append(reference.measure())
            except Absent as error:
                gone[i] = str(error)
    for i, reference in enumerate(references):
        name = f"{what} / {reference.name}"
        if i in gone or not mine:
            yield absent(name, statistics.median(mine) if mine else None, unit, reference.target, gone.get(i, "absent"))
        else:
            ratios = [a / b if larger_is_better else b / a for a, b in zip(mine, theirs[i], strict=True)]
            yield _row(name, mine, theirs[i], ratios, unit, reference)


def _row(what: str, mine: list[float], theirs: list[float], ratios: list[float], unit: str, ref: Reference) -> Row:
    ratio = statistics.median(ratios)
    return Row(
        what=what,
        ours=statistics.median(mine),
        reference=statistics.median(theirs),
        unit=unit,
        ratio=ratio,
        target=ref.target,
        spread=(max(ratios) - min(ratios)) / ratio,
        met=None if ref.target is None else ratio >= ref.target,
        note=ref.note,
    )


def absent(what: str, ours: float | None, unit: str, target: float | None, why: str) -> Row:
    """A row whose reference is not to be had here: it counts neither way."""
    return Row(
        what=what,
        ours=ours,
        reference=None,
        unit=unit,
        ratio=None,
        target=target,
        spread=None,
        met=None,
        note=f"absent: {why}",
    )


def unjudged(what: str, ours: float, unit: str, note: str = "") -> Row:
    """A row that is only told: there is nothing to hold it against."""
    return Row(
        what=what, ours=ours, reference=None, unit=unit, ratio=None, target=None, spread=None, met=None, note=note
    )


def bounded(what: str, ours: float, bound: float, unit: str, note: str = "", larger_is_better: bool = False) -> Row:
    """A row whose reference is a fixed bound: to be on the right side of it is to meet it."""
    ratio = ours / bound if larger_is_better else bound / ours
    return Row(
        what=f"{what} / bound",
        ours=ours,
        reference=bound,
        unit=unit,
        ratio=ratio,
        target=1.0,
        spread=0.0,
        met=ratio >= 1,
        note=note,
    )
