"""The line under a table: what the records say about which preset is cheapest, by a rule that may say "no difference".

The rule. At each overcommit ratio, a preset takes part when it finished every scenario with a slowdown, under every
seed. Its score is the geometric mean of its slowdowns over the scenarios. Presets within 1 % of the lowest score, or,
from five seeds on, with an interval over seeds that reaches the interval of the lowest, are not told apart from it.
When that leaves nobody behind, there is no difference.

At the highest ratio with a comparison the line also names the Pareto front: presets that no other beats in one of
effective overcommit and slowdown without losing in the other, by more than the same 1 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, log

from memvirt.stats import MIN_SEEDS, Interval, mean_interval
from memvirt.summary import Group, Row

TIE = 0.01  # of the lower score


@dataclass(frozen=True, slots=True)
class Score:
    """A preset at one ratio, over all scenarios."""

    preset: str
    slowdown: float  # geometric mean over scenarios and seeds
    overcommit: float  # effective, the same
    interval: Interval | None  # of slowdown, over seeds; None below five seeds


@dataclass(frozen=True, slots=True)
class Finding:
    """What one ratio says."""

    ratio: str
    scores: tuple[Score, ...]  # ascending in slowdown
    best: tuple[str, ...]  # not told apart from the lowest
    beaten: Score | None  # the lowest of the others; None: no difference, or nobody to compare with


def findings(groups: Sequence[Group]) -> list[Finding]:
    """One finding for each ratio, ascending."""
    ratios = sorted({group.ratio for group in groups}, key=float)
    return [_finding(ratio, [group for group in groups if group.ratio == ratio]) for ratio in ratios]


def _finding(ratio: str, groups: Sequence[Group]) -> Finding:
    scores = sorted(_scores(groups), key=lambda score: (score.slowdown, score.preset))
    if not scores:
        return Finding(ratio, (), (), None)
    lowest = scores[0]
    best = tuple(score.preset for score in scores if tied(lowest, score))
    beaten = next((score for score in scores if score.preset not in best), None)
    return Finding(ratio, tuple(scores), best, beaten)


def tied(lowest: Score, other: Score) -> bool:
    """Whether two scores are not told apart."""
    if other.slowdown <= lowest.slowdown * (1 + TIE):
        return True
    if lowest.interval is None or other.interval is None:
        return False
    return other.interval.low <= lowest.interval.high


def _scores(groups: Sequence[Group]) -> list[Score]:
    presets = dict.fromkeys(row.preset for group in groups for row in group.rows)
    scores = []
    for preset in presets:
        rows = [row for group in groups for row in group.rows if row.preset == preset]
        if len(rows) == len(groups) and all(row.done and row.values.get("slowdown") for row in rows):
            scores.append(_score(preset, rows))
    return scores


def _score(preset: str, rows: Sequence[Row]) -> Score:
    slowdowns = _per_seed(rows, "slowdown")
    overcommits = _per_seed(rows, "effective_overcommit")
    interval = mean_interval(slowdowns) if len(slowdowns) >= MIN_SEEDS else None
    return Score(preset, _geometric(slowdowns), _geometric(overcommits), interval)


def _per_seed(rows: Sequence[Row], column: str) -> list[float]:
    """The geometric mean over scenarios, for each seed; over all values when scenarios differ in seeds."""
    values = [row.values.get(column, ()) for row in rows]
    if len({len(value) for value in values}) > 1:
        return [_geometric([value for each in values for value in each])]
    return [_geometric(each) for each in zip(*values, strict=True)]


def _geometric(values: Sequence[float]) -> float:
    if not values or min(values) <= 0:
        return 0.0
    return exp(fsum(log(value) for value in values) / len(values))


def front(scores: Sequence[Score]) -> list[str]:
    """Presets not dominated in (effective overcommit, slowdown), the lowest slowdown first."""
    return [score.preset for score in scores if not any(_dominates(other, score) for other in scores)]


def _dominates(one: Score, other: Score) -> bool:
    """No worse in both, and better by more than a tie in one."""
    better = other.slowdown > one.slowdown * (1 + TIE) or one.overcommit > other.overcommit * (1 + TIE)
    return one.slowdown <= other.slowdown and one.overcommit >= other.overcommit and better


def line(groups: Sequence[Group]) -> str:
    """The one line."""
    found = [finding for finding in findings(groups) if finding.scores]
    if not found:
        return "Learned: nothing, no preset finished every scenario at any ratio."
    compared = [finding for finding in found if len(finding.scores) > 1]
    if not compared:
        only = ", ".join(f"{finding.best[0]} at {finding.ratio}" for finding in found)
        return f"Learned: nothing to compare, one preset alone finished every scenario ({only})."
    over = " (geometric mean over scenarios)" if len({group.scenario for group in groups}) > 1 else ""
    told = [f"Learned: lowest slowdown{over}: {'; '.join(sentence(finding) for finding in found)}."]
    told += [trade(finding) for finding in compared[-1:] if finding.beaten is not None]
    told += ["One seed."] if max(len(group.seeds) for group in groups) == 1 else []
    return " ".join(told)


def sentence(finding: Finding) -> str:
    """What one ratio says of slowdown."""
    lowest = finding.scores[0]
    if len(finding.scores) == 1:
        return f"at {finding.ratio} only {lowest.preset} finished every scenario ({lowest.slowdown:.2f}×)"
    if finding.beaten is None:
        return f"at {finding.ratio} no difference ({lowest.slowdown:.2f}×)"
    by = 100 * (1 - lowest.slowdown / finding.beaten.slowdown)
    return (
        f"at {finding.ratio} {_list(finding.best)} ({lowest.slowdown:.2f}×), "
        f"{by:.0f} % below {finding.beaten.preset} ({finding.beaten.slowdown:.2f}×)"
    )


def trade(finding: Finding) -> str:
    """What a ratio says of effective overcommit against slowdown."""
    undominated = front(finding.scores)
    if len(undominated) == 1:
        return f"At {finding.ratio} no preset has a higher effective overcommit than {undominated[0]} either."
    if len(undominated) == len(finding.scores):
        return f"At {finding.ratio} no preset beats another in both overcommit and slowdown."
    return f"At {finding.ratio} the best trades of overcommit against slowdown: {_list(undominated)}."


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
