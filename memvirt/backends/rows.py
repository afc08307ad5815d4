"""What the engine counts beside what the kernel counts: one row a number, and what is to be thought of it.

exact     equal
within    unequal, and no further apart than the tolerance, which is a share of the kernel's number
differs   further apart; where the reason is known the row says it, and the difference is no failure
skipped   could not be measured here; the row says why
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

EXACT, WITHIN, DIFFERS, SKIPPED = "exact", "within", "differs", "skipped"
VERDICTS = (EXACT, WITHIN, DIFFERS, SKIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number on both sides. `apart`: the difference where it is another than that of the two numbers, such as the
    largest of a series whose last value they are."""

    mechanism: str
    what: str
    engine: int | None = None
    kernel: int | None = None
    tolerance: float = 0.0  # of the kernel's number; 0: must be equal
    apart: int | None = None
    reason: str = ""

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
        """It differs, and nobody knows why."""
        return self.verdict == DIFFERS and not self.reason

    def as_dict(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {
            "mechanism": self.mechanism,
            "what": self.what,
            "engine": self.engine,
            "kernel": self.kernel,
            "difference": self.difference,
            "tolerance": self.tolerance,
            "verdict": self.verdict,
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
