"""What all rows of bench/ratios.py share: ours and its references by turns, and an answer to each target.

A measurement is a call that does its work once and returns one positive number, of which less is better. A turn
measures ours and every reference once, back to back, and the next turn does it in the opposite order: a machine that
drifts drifts for all, and nobody always comes first. The first turn warms up and does not count.

The ratio of a row, reference / ours, is how many times better ours is. A turn gives one ratio; their logarithms give
Student's interval (memvirt's own statistics, `compare_pairs`). The interval answers the target:

    met           all of it is at the target or above
    missed        all of it is below
    cannot tell   the target lies inside, or there are too few turns for an interval
    absent        the peer is not to be had here; counts neither way

Turns are added until the interval is narrower than its distance to the target is long (both in logarithms), and at
most up to the cap. Looking again and again finds more than there is to find. Two things keep that small: an early stop
needs twice what the last look needs, as in trials that are watched (Haybittle 1971, Brit. J. Radiol. 44; Peto 1976,
Brit. J. Cancer 34), and the interval is one of 96 %. Together, a ratio that is exactly at its target is called met or
missed in at most 5 % of rows; tests/test_ratios.py simulates it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import isfinite, log
from statistics import geometric_mean
from typing import Any

from memvirt.report.statistics import MIN_SEEDS, Comparison, Interval, compare_pairs

Measure = Callable[[], float]
MIN_TURNS = MIN_SEEDS
REPEATS = 20  # turns of a row at most, unless asked otherwise
LEVEL = 0.96  # of intervals


class Absent(Exception):
    """A peer is not to be had here; the message says why."""


class Unlike(Exception):
    """A peer did other work than ours; the message says which. The target is missed, however fast ours was."""


class Answer(StrEnum):
    """What is said of a target."""

    MET = "met"
    MISSED = "missed"
    CANNOT_TELL = "cannot tell"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Ours against one reference. Without a target there is no answer; without a reference no ratio."""

    what: str
    ours: float | None  # geometric mean over the turns
    reference: float | None
    unit: str
    ratio: float | None  # larger is better
    interval: Interval | None  # of the ratio; None: too few turns
    target: float | None  # the least ratio
    turns: int  # that were measured; 0 for numbers that have no noise
    answer: Answer | None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the interval as two numbers."""
        return asdict(self) | {"interval": [self.interval.low, self.interval.high] if self.interval else None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What ours is held against. `measure` None: absent, `note` says why."""

    name: str
    measure: Measure | None
    target: float | None
    note: str = ""


def answer(compared: Comparison, target: float) -> Answer:
    """What an interval of the ratio says of the target."""
    if compared.interval is None or compared.interval.low < target <= compared.interval.high:
        return Answer.CANNOT_TELL
    return Answer.MET if compared.interval.low >= target else Answer.MISSED


def enough(compared: Comparison, target: float | None) -> bool:
    """Whether no further turn is needed."""
    if compared.interval is None or target is None:
        return compared.interval is not None
    width = log(compared.interval.high) - log(compared.interval.low)
    return width < abs(log(compared.ratio) - log(target))


@dataclass(slots=True)
class Pairing:
    """One reference beside ours, turn by turn."""

    reference: Reference
    mine: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    gone: str | None = None  # why it is absent
    unlike: str | None = None
    done: bool = False

    def __post_init__(self) -> None:
        if self.reference.measure is None:
            self.gone = self.reference.note

    @property
    def open(self) -> bool:
        """Whether it is to be measured in the next turn."""
        return not self.done and self.gone is None and self.unlike is None

    def measure(self) -> float | None:
        """One measurement; None when there is none to be had, now or later."""
        assert self.reference.measure is not None
        try:
            value = self.reference.measure()
        except Absent as error:
            self.gone = str(error)
        except Unlike as error:
            self.unlike = str(error)
        else:
            if usable(value):
                return value
            self.gone = f"it measured {value:g}, and nothing can be divided by that"
        return None

    def add(self, mine: float, theirs: float) -> None:
        """A turn's two numbers; then it may be done."""
        self.mine.append(mine)
        self.theirs.append(theirs)
        self.done = enough(self.compared(), self.reference.target)

    def compared(self) -> Comparison:
        """How many times better ours is, so far."""
        return compare_pairs(self.mine, self.theirs, LEVEL)

    def row(self, what: str, unit: str, ours: float | None) -> Row:
        """What came of it. `ours` is shown when there is no reference."""
        what, target, note = f"{what} / {self.reference.name}", self.reference.target, self.reference.note
        if self.gone is not None:
            return absent(what, ours, unit, target, self.gone)
        compared = self.compared() if self.mine else None
        said = None if target is None else Answer.CANNOT_TELL if compared is None else answer(compared, target)
        if self.unlike is not None:
            said, note = Answer.MISSED, self.unlike
        return Row(
            what=what,
            ours=geometric_mean(self.mine) if self.mine else ours,
            reference=geometric_mean(self.theirs) if self.theirs else None,
            unit=unit,
            ratio=compared.ratio if compared else None,
            interval=compared.interval if compared else None,
            target=target,
            turns=len(self.mine),
            answer=said,
            note=note,
        )


def compare(
    what: str, ours: Measure, references: Sequence[Reference], *, unit: str, repeats: int = REPEATS
) -> Iterator[Row]:
    """One row per reference, after at most `repeats` turns. A measurement that raises Absent makes its row absent."""
    pairings = [Pairing(reference) for reference in references]
    mine: list[float] = []
    for turn in range(repeats + 1):
        wanted = [pairing for pairing in pairings if pairing.open]
        if not wanted and len(mine) >= min(MIN_TURNS, repeats):
            break
        tell(f"{what}: turn {turn} of at most {repeats}")
        own, theirs = _turn(ours, wanted, backwards=bool(turn % 2))
        if turn == 0:
            continue
        mine.append(own)
        for pairing, value in zip(wanted, theirs, strict=True):
            if value is not None:
                pairing.add(own, value)
    tell("")
    for pairing in pairings:
        yield pairing.row(what, unit, geometric_mean(mine) if mine else None)


def _turn(ours: Measure, wanted: Sequence[Pairing], backwards: bool) -> tuple[float, list[float | None]]:
    """Ours and the references once each, in this order or the opposite one."""
    theirs = [pairing.measure() for pairing in reversed(wanted)] if backwards else []
    own = ours()
    if not usable(own):
        raise RuntimeError(f"ours measured {own:g}, which is no amount of time or space")
    return own, theirs[::-1] if backwards else [pairing.measure() for pairing in wanted]


def usable(value: float) -> bool:
    """Whether a measurement can stand in a ratio. A difference of two times may come out as nothing, or less."""
    return isfinite(value) and value > 0


def tell(text: str) -> None:
    """Show where a long row is, on a terminal only; nothing clears the line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:100]}", end="", file=sys.stderr, flush=True)


def absent(what: str, ours: float | None, unit: str, target: float | None, why: str) -> Row:
    """A row whose reference is not to be had here: it counts neither way."""
    return Row(
        what=what,
        ours=ours,
        reference=None,
        unit=unit,
        ratio=None,
        interval=None,
        target=target,
        turns=0,
        answer=Answer.ABSENT,
        note=f"absent: {why}",
    )


def unjudged(what: str, ours: float, unit: str, note: str = "") -> Row:
    """A row that is only told: there is nothing to hold it against."""
    return Row(
        what=what,
        ours=ours,
        reference=None,
        unit=unit,
        ratio=None,
        interval=None,
        target=None,
        turns=0,
        answer=None,
        note=note,
    )


def exact(what: str, ours: float, reference: float, unit: str, *, target: float = 1.0, note: str = "") -> Row:
    """Two numbers without noise, of which less is better, such as bytes."""
    ratio = reference / ours
    return Row(
        what=what,
        ours=ours,
        reference=reference,
        unit=unit,
        ratio=ratio,
        interval=Interval(ratio, ratio),
        target=target,
        turns=0,
        answer=Answer.MET if ratio >= target else Answer.MISSED,
        note=note,
    )


def bounded(what: str, ours: float, bound: float, unit: str, note: str = "") -> Row:
    """A row whose reference is a fixed bound: to be at it or below meets it."""
    return exact(f"{what} / bound", ours, bound, unit, note=note)
