"""What the engine counts beside what the kernel counts: one row a number, and what is to be thought of it.

exact     equal
within    unequal, and no further apart than the tolerance, which is a share of the kernel's number
differs   further apart
skipped   could not be measured here; the row says why

A row that differs fails, unless it states a reason and how large a difference that covers (`covered`, a share of the
kernel's number): a known difference that grows is a failure again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

EXACT, WITHIN, DIFFERS, SKIPPED = "exact", "within", "differs", "skipped"
VERDICTS = (EXACT, WITHIN, DIFFERS, SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number on both sides. `apart`: the difference where it is another than that of the two numbers, such as the
    largest of a series whose last value they are. `ways`: it was measured in so many, and they are furthest apart in this."""

    mechanism: str
    what: str
    engine: int | None = None
    kernel: int | None = None
    unit: str = ""  # "": a count
    tolerance: float = 0.0  # of the kernel's number; 0: must be equal
    apart: int | None = None
    covered: float = 0.0  # of the kernel's number: how far apart the reason lets the two be
    reason: str = ""
    ways: int = 1

    @property
    def difference(self) -> int | None:
        """Engine less kernel."""
        if self.engine is None or self.kernel is None:
            return None
        return self.engine - self.kernel if self.apart is None else self.apart

    @property
    def verdict(self) -> str:
        if self.difference is None or self.kernel is None:
            return SKIPPED
        if self.difference == 0:
            return EXACT
        return WITHIN if abs(self.difference) <= self.tolerance * abs(self.kernel) else DIFFERS

    @property
    def failed(self) -> bool:
        """It differs, and no reason covers that."""
        if self.verdict != DIFFERS or self.difference is None or self.kernel is None:
            return False
        return not self.reason or abs(self.difference) > round(self.covered * abs(self.kernel))

    def unless_within(self, reason: str, covered: float) -> Row:
        """The row, with a reason if it needs one."""
        return replace(self, reason=reason, covered=covered) if self.verdict == DIFFERS else self

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {
            "mechanism": self.mechanism,
            "what": self.what,
            "unit": self.unit,
            "ways": self.ways,
            "engine": self.engine,
            "kernel": self.kernel,
            "difference": self.difference,
            "tolerance": self.tolerance,
            "verdict": self.verdict,
            "covered": self.covered,
            "reason": self.reason,
        }


def skipped(mechanism: str, what: str, reason: str) -> Row:
    """A row that could not be measured."""
    return Row(mechanism=mechanism, what=what, reason=reason)


def counted(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows have each verdict."""
    found = dict.fromkeys(VERDICTS, 0)
    for row in rows:
        found[row.verdict] += 1
    return found
