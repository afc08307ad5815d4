"""Whether claims hold, by the records and nothing else (what a claim is: `memvirt.results.claims`).

    held           every cell that the claim names shows it, under every seed (or in the mean over them, where it says so)
    failed         some cell does not: its number lies outside, it ended otherwise, or it has no such number
    not checked    the claim is stated for another tier, or a cell that it needs is not among the records

A claim of which one cell fails has failed, whatever else is missing. The evidence names the cell that is furthest
outside; of a claim that held it says how the numbers lie. What was published of it stands beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import fmean

from memvirt.metrics.registry import REGISTRY
from memvirt.report import scope
from memvirt.report.check import Check, Standing
from memvirt.report.columns import column
from memvirt.report.summary import number
from memvirt.results.claims import SEPARATOR, Claim
from memvirt.results.record import Record

Cells = Mapping[str, Mapping[int, Record]]  # scenario--preset -> seed -> record


NEARLY_ONE = 0.05  # a ratio that lies no further from 1 is told with two digits of what it differs by

# What a claim's standing is called.
WORDS = {Standing.PASS: "held", Standing.FAIL: "failed", Standing.SKIP: "not checked"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim, and what the records say of it."""

    claim: Claim
    standing: Standing
    evidence: str  # a phrase
    scope: str  # of which cells it speaks: "zipf at 1.50 and 2.00: swap"

    @property
    def word(self) -> str:
        """Its standing, as a claim's is called."""
        return WORDS[self.standing]

    @property
    def check(self) -> Check:
        """The same as a check among others."""
        return Check(self.standing, f"claim {self.claim.id}", f"{self.claim.statement} ({self.evidence})")

    def __str__(self) -> str:
        return f"{self.word}: {self.claim.id}: {self.claim.statement} ({self.scope}: {self.evidence})"


@dataclass(frozen=True, slots=True)
class _Finding:
    """One cell under one seed, or in the mean over seeds."""

    place: str
    value: float | None  # what the range is about; None: there is none, or an outcome was asked for
    trouble: str = ""  # why it does not show the claim; "" when it does
    far: float = 0.0  # how far outside, for choosing what is told


def check(claims: Sequence[Claim], records: Sequence[Record]) -> list[Checked]:
    """Every claim with its standing, in the order given."""
    columns, others = _by_cell(records, "column"), _by_cell(records, "baseline")
    tiers: set[str] = {record.tier for record in records}
    places = scope.Places(records)
    found = []
    for claim in claims:
        standing, evidence = _check(claim, columns, {**others, **columns}, tiers, places)
        if claim.published and standing is not Standing.SKIP:
            evidence += f"; published: {claim.published}"
        found.append(Checked(claim, standing, evidence, places.scope(claim)))
    return found


def failed(checked: Sequence[Checked]) -> bool:
    """Whether any claim failed: exit code 4 of a command that checks claims."""
    return any(each.standing is Standing.FAIL for each in checked)


def summary(checked: Sequence[Checked]) -> str:
    """How many claims held, failed and were not checked: "3 held, 1 failed"."""
    counts = [(standing, sum(each.standing is standing for each in checked)) for standing in Standing]
    return ", ".join(f"{count} {WORDS[standing]}" for standing, count in counts if count) or "none"


def told(
    claims: Sequence[Claim], records: Sequence[Record], shown: Sequence[Record] | None = None
) -> tuple[str, list[str]]:
    """What stands under a table: a line that counts, a line for each claim that was checked, and one for all that could
    not be. Claims about no cell of those `shown` are counted only. ("", []) where nothing is claimed."""
    every = check(claims, records)
    if not every:
        return "", []
    checked = every if shown is None else about(every, shown)
    others = [each for each in every if each not in checked]
    more = f" Of cells that are not shown: {summary(others)}." if others else ""
    lines = [str(each) for each in checked if each.standing is not Standing.SKIP]
    unchecked = _unchecked([each for each in checked if each.standing is Standing.SKIP])
    return f"Expected of this suite: {summary(checked)}.{more}", [*lines, *unchecked]


def about(checked: Sequence[Checked], shown: Sequence[Record]) -> list[Checked]:
    """Those that speak of a cell among the records that are shown."""
    there = set(_by_cell(shown, "column"))
    return [each for each in checked if _speaks_of(each.claim, there)]


def _speaks_of(claim: Claim, cells: set[str]) -> bool:
    return any(fnmatchcase(cell, pattern) for pattern in claim.cells for cell in cells)


def _unchecked(checked: Sequence[Checked]) -> Iterator[str]:
    """One line for all claims that nothing is known of: their names, by what each lacks."""
    lacking: dict[str, list[str]] = {}
    for each in checked:
        lacking.setdefault(each.evidence, []).append(each.claim.id)
    if lacking:
        told = (f"{', '.join(names)} ({evidence})" for evidence, names in lacking.items())
        yield f"{WORDS[Standing.SKIP]}: {'; '.join(told)}"


def _by_cell(records: Sequence[Record], role: str) -> dict[str, dict[int, Record]]:
    cells: dict[str, dict[int, Record]] = {}
    for record in records:
        if record.role == role:
            cells.setdefault(f"{record.scenario}{SEPARATOR}{record.preset}", {})[record.seed] = record
    return cells


def _check(
    claim: Claim, columns: Cells, all_cells: Cells, tiers: set[str], places: scope.Places
) -> tuple[Standing, str]:
    """What became of a claim, and the evidence."""
    if not tiers & set(claim.tiers):
        return (Standing.SKIP, f"stated for tier {' and '.join(claim.tiers)}")
    named = {pattern: [cell for cell in columns if fnmatchcase(cell, pattern)] for pattern in claim.cells}
    missing = [places.cell(pattern) for pattern, cells in named.items() if not cells]
    findings: list[_Finding] = []
    against = places.cell(claim.relative_to)  # a preset's name stays what it is
    for cell in dict.fromkeys(cell for cells in named.values() for cell in cells):
        reference = _reference(claim, cell)
        if reference and reference not in all_cells:
            missing.append(places.cell(reference))
            continue
        found = list(_findings(claim, places.cell(cell), against, columns[cell], all_cells.get(reference, {})))
        findings += found
        missing += [] if found else [f"a seed of {places.cell(cell)} and {places.cell(reference)}"]
    outside = [finding for finding in findings if finding.trouble]
    if outside:
        worst = max(outside, key=lambda finding: finding.far)
        more = f"; {len(outside)} of {len(findings)} findings" if len(findings) > 1 else ""
        return Standing.FAIL, f"{worst.place}: {worst.trouble}{more}"
    if missing:
        return Standing.SKIP, f"not among the records: {'; '.join(dict.fromkeys(missing))}"
    return Standing.PASS, _held(claim, against, findings)


def _reference(claim: Claim, cell: str) -> str:
    """The cell that a cell is held against; "" when against none."""
    if not claim.relative_to or SEPARATOR in claim.relative_to:
        return claim.relative_to
    return f"{cell.rpartition(SEPARATOR)[0]}{SEPARATOR}{claim.relative_to}"


def _findings(
    claim: Claim, place: str, against: str, seeds: Mapping[int, Record], reference: Mapping[int, Record]
) -> Iterator[_Finding]:
    """What each seed shows, or their mean."""
    if claim.outcome:
        for seed, record in seeds.items():
            trouble = "" if record.status == claim.outcome else f"{record.status}, not {claim.outcome}"
            yield _Finding(f"{place}, seed {seed}", None, trouble, 1.0)
        return
    whole: list[float] = []
    troubled = False
    for seed, record in seeds.items():
        if claim.relative_to and seed not in reference:
            continue
        value, trouble = _value(claim, record, reference.get(seed))
        if value is None:
            troubled = True
            yield _Finding(f"{place}, seed {seed}", None, trouble, float("inf"))
        elif claim.seeds == "each":
            yield _ranged(claim, f"{place}, seed {seed}", against, value)
        else:
            whole.append(value)
    if whole and not troubled:
        yield _ranged(claim, f"{place}, mean over {len(whole)} seeds", against, fmean(whole))


def _value(claim: Claim, record: Record, reference: Record | None) -> tuple[float | None, str]:
    """What the range is about, or why there is no such number."""
    for each in (record, reference):
        if each is not None and each.status != "done":
            return None, f"{scope.cell(each)} is {each.status}"
    value, base = record.number(claim.metric), reference.number(claim.metric) if reference else None
    if value is None or (reference and base is None):
        return None, f"has no {_metric(claim)}"
    if reference is None or base is None:
        return value, ""
    if base == 0:
        return None, f"{_metric(claim)} of {scope.cell(reference)} is 0, there is no ratio to it"
    return value / base, ""


def _ranged(claim: Claim, place: str, against: str, value: float) -> _Finding:
    low, high = claim.at_least, claim.at_most
    if low is not None and value < low:
        return _Finding(place, value, f"{_told(claim, against, value)}, claimed at least {low:g}", low - value)
    if high is not None and value > high:
        return _Finding(place, value, f"{_told(claim, against, value)}, claimed at most {high:g}", value - high)
    return _Finding(place, value)


def _told(claim: Claim, against: str, value: float) -> str:
    return f"{_metric(claim)} {_amount(claim, value)}{_unit(claim, against)}"


def _metric(claim: Claim) -> str:
    """The metric as tables head it; behind it as the registry has it, where the words do not tell that."""
    title = column(claim.metric).title
    return title if title.replace(" ", "_") == claim.metric else f"{title} ({claim.metric})"


def _amount(claim: Claim, value: float) -> str:
    if not claim.relative_to:
        return number(column(claim.metric), value)
    return f"{value:.4f}" if 0 < abs(value - 1) < NEARLY_ONE else f"{value:.3g}"


def _unit(claim: Claim, against: str) -> str:
    known = column(claim.metric).unit or REGISTRY[claim.metric].unit
    own = "" if known in _metric(claim).split() else known
    unit = f"of {against}" if claim.relative_to else own
    return unit if unit in ("", "×") else f" {unit}"


def _held(claim: Claim, against: str, findings: Sequence[_Finding]) -> str:
    values = [finding.value for finding in findings if finding.value is not None]
    if not values:
        return f"{len(findings)} of {len(findings)} {claim.outcome}"
    low, high = _amount(claim, min(values)), _amount(claim, max(values))
    return f"{_metric(claim)} {low if low == high else f'{low} to {high}'}{_unit(claim, against)}"
