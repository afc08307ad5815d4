"""What a check of results comes to, of a claim as of a bundle: PASS, FAIL or SKIP, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHOWN = 4  # names in a line


class Standing(StrEnum):
    """How a check ended. SKIP: it could not be made, and the line says why."""

    PASS = "PASS"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True)
class Check:
    """One check."""

    standing: Standing
    name: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.standing}  {self.name}: {self.evidence}"


def checked(name: str, wrong: Sequence[str], right: str) -> Check:
    """FAIL with what is wrong, if anything is; else PASS."""
    if not wrong:
        return Check(Standing.PASS, name, right)
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return Check(Standing.FAIL, name, "; ".join(wrong[:SHOWN]) + more)


def skipped(name: str, why: str) -> Check:
    return Check(Standing.SKIP, name, why)
