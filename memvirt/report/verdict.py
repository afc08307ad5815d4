"""The line under a table: what the records say about which preset is cheapest, by a rule that may say "no difference".

The rule. At each overcommit ratio, a preset takes part when it finished every scenario with a slowdown, under every
seed. Its score is the geometric mean of its slowdowns over the scenarios, of each seed, and of those the mean: in one
scenario alone what the table shows. A preset within 1 % of the lowest score is
alike. From five seeds on, one that the seeds do not tell apart from it is named beside it, wherever its mean lies:
paired, as every preset ran the same seeds (`statistics.told_apart`). If no preset is left, there is no difference.

At the highest ratio with a comparison the line also names the Pareto front: presets that no other beats in one of
effective overcommit and slowdown without losing in the other, by more than the same 1 %.

Scenarios with other presets, or whose slowdown is of work that takes time of its own, have a sentence of their own: a mean
over both would be of nothing.

That is the rule "slowdown". A suite may ask for another one; the same 1 % and the same seeds make a tie.

    leading     the first column: means over all scenarios at each ratio, optimum and columns without a value left out
    apart       the first column, each scenario by itself, at its hardest ratio (for a trace: its smallest capacity)
    survival    the largest ratio up to which a preset finished every cell, for each scenario, and for all of them; ≥ where
                no larger one was tried
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, fsum, log
from statistics import fmean

from memvirt.metrics.metric import Better
from memvirt.report.columns import Column, bounds
from memvirt.report.standing import TIE, Standing, standing
from memvirt.report.statistics import MIN_SEEDS
from memvirt.report.summary import Group, Row, averaged, listed, number, ratio_label, reach, spread

LEARNED = "Learned: "


@dataclass(frozen=True, slots=True)
class Score:
    """A preset at one ratio, over all scenarios."""

    preset: str
    slowdown: float  # mean over seeds of the geometric mean over scenarios
    overcommit: float  # effective, the same
    seeds: tuple[float, ...]  # slowdown for each seed
    whole: bool = True  # whether every scenario ran with all of them; else their spread is not that of the mean


@dataclass(frozen=True, slots=True)
class Finding:
    """What one ratio says."""

    ratio: str
    scores: tuple[Score, ...]  # ascending in slowdown
    standing: Standing | None  # of the scores; None: there are none
    beaten: Score | None  # the lowest of those that are; None: no difference, or nothing to compare with


def findings(groups: Sequence[Group]) -> list[Finding]:
    """One finding for each ratio, ascending."""
    ratios = sorted({group.ratio for group in groups}, key=float)
    return [_finding(ratio_label(ratio), [group for group in groups if group.ratio == ratio]) for ratio in ratios]


def _finding(ratio: str, groups: Sequence[Group]) -> Finding:
    scores = sorted(_scores(groups), key=lambda score: (score.slowdown, score.preset))
    if not scores:
        return Finding(ratio, (), None, None)
    found = standing([score.slowdown for score in scores], [score.seeds for score in scores])
    return Finding(ratio, tuple(scores), found, scores[found.beaten[0]] if found.beaten else None)


def _scores(groups: Sequence[Group]) -> list[Score]:
    presets = dict.fromkeys(row.preset for group in groups for row in group.ranked())
    scores = []
    for preset in presets:
        rows = [row for group in groups for row in group.ranked() if row.preset == preset]
        if len(rows) == len(groups) and all(row.done and row.values.get("slowdown") for row in rows):
            scores.append(_score(preset, rows))
    return scores


def _score(preset: str, rows: Sequence[Row]) -> Score:
    slowdowns = _per_seed(rows, "slowdown")
    overcommits = _per_seed(rows, "effective_overcommit")
    whole = len({len(row.values["slowdown"]) for row in rows}) == 1
    return Score(preset, fmean(slowdowns), fmean(overcommits or [0.0]), tuple(slowdowns), whole)


def _per_seed(rows: Sequence[Row], column: str) -> list[float]:
    """The geometric mean over scenarios, for each seed. A scenario of one seed counts the same for all of them; where
    scenarios differ otherwise there is one number: the mean over scenarios of their means over seeds."""
    values = [tuple(row.values.get(column, ())) for row in rows]
    most = max(map(len, values))
    values = [value * most if len(value) == 1 else value for value in values]
    if any(len(value) != most for value in values):
        return [_geometric([_geometric(each) for each in values])]
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
    """The one line, by the rule that the suite asks for. Scenarios that cannot be averaged speak one after another."""
    parts = _comparable(groups)
    if len(parts) < 2:
        return _line(groups)
    told = []
    for part in parts:
        scenarios = list(dict.fromkeys(group.scenario for group in part))
        told.append(f"in {listed(scenarios)}: {_line(part).removeprefix(LEARNED)}")
    return LEARNED + " ".join([told[0], *(each[:1].upper() + each[1:] for each in told[1:])])


def _comparable(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups of scenarios that have the same presets and mean the same by slowdown, in the order of the run."""
    presets: dict[str, frozenset[str]] = {}
    for group in groups:
        own = frozenset(row.preset for row in group.rows)
        presets[group.scenario] = presets.get(group.scenario, frozenset()) | own
    parts: dict[tuple[frozenset[str], bool], list[Group]] = {}
    for group in groups:
        parts.setdefault((presets[group.scenario], group.timed), []).append(group)
    return list(parts.values())


def _line(groups: Sequence[Group]) -> str:
    rules = {"leading": _leading_line, "apart": _apart_line, "survival": _survival_line}
    told = rules.get(groups[0].learned if groups else "", _slowdown_line)(groups)
    seeds = sorted({len(group.seeds) for group in groups})
    return f"{told} {seeds_text(seeds)}." if seeds else told


def seeds_text(counts: Sequence[int]) -> str:
    """ "One seed", "5 seeds", "1 to 5 seeds"."""
    low, high = min(counts), max(counts)
    return "One seed" if high == 1 else f"{high} seeds" if low == high else f"{low} to {high} seeds"


def _slowdown_line(groups: Sequence[Group]) -> str:
    found = [finding for finding in findings(groups) if finding.scores]
    if not found:
        if not any(group.ranked() for group in groups):
            return "Learned: nothing, no preset is ranked: no decider had a part in it."
        return "Learned: nothing, no preset finished every scenario at any ratio."
    compared = [finding for finding in found if len(finding.scores) > 1]
    if not compared:
        only = ", ".join(f"{finding.scores[0].preset} at {finding.ratio}" for finding in found)
        ranked = " of those that are ranked" if any(row.idle for group in groups for row in group.rows) else ""
        return f"Learned: nothing to compare, one preset alone{ranked} finished every scenario ({only})."
    over = " (geometric mean over scenarios)" if len({group.scenario for group in groups}) > 1 else ""
    told = [f"Learned: lowest slowdown{over}: {'; '.join(sentence(finding) for finding in found)}."]
    told += [trade(finding) for finding in compared[-1:] if finding.beaten is not None]
    return " ".join(told)


def sentence(finding: Finding) -> str:
    """What one ratio says of slowdown."""
    lowest, *others = finding.scores
    if not others:
        return f"at {finding.ratio} only {lowest.preset} finished every scenario ({_with_reach(lowest)})"
    if finding.beaten is None or finding.standing is None:
        low, high = f"{lowest.slowdown:.2f}×", f"{others[-1].slowdown:.2f}×"
        return f"at {finding.ratio} no difference ({low if low == high else f'{low} to {high}'})"
    names = [f"{score.preset} ({_with_reach(score)})" for score in finding.scores]
    told = _tied(names, finding.standing, ", not told apart from {}")
    by = 100 * (1 - lowest.slowdown / finding.beaten.slowdown)
    beaten = f"{finding.beaten.preset} ({_with_reach(finding.beaten)})"
    return f"at {finding.ratio} {told}, {by:.0f} % below {beaten}"


def _with_reach(score: Score) -> str:
    """A slowdown, and from five seeds of every scenario on how far the 95 % interval of the mean over seeds reaches."""
    wide = spread(reach(score.seeds)) if score.whole and len(score.seeds) >= MIN_SEEDS else ""
    return f"{score.slowdown:.2f}×{wide}"


def trade(finding: Finding) -> str:
    """What a ratio says of effective overcommit against slowdown."""
    undominated = front(finding.scores)
    if len(undominated) == 1:
        return f"At {finding.ratio} no preset has a higher effective overcommit than {undominated[0]} either."
    if len(undominated) == len(finding.scores):
        return f"At {finding.ratio} no preset beats another in both overcommit and slowdown."
    return f"At {finding.ratio} the best trades of overcommit against slowdown: {listed(undominated)}."


def _tied(names: Sequence[str], found: Standing, frame: str = " (not told apart from {})") -> str:
    """The best one with those that are near it, then those whose seeds lie too far apart to tell."""
    alike, unsure = ([names[at] for at in places] for places in (found.alike, found.unsure))
    told = f"{listed(alike)} alike" if len(alike) > 1 else alike[0]
    return told + frame.format(listed(unsure)) if unsure else told


@dataclass(frozen=True, slots=True)
class Mark:
    """A preset's mean in one column."""

    preset: str
    mean: float
    seeds: tuple[float, ...]  # the value for each seed


def _marks(groups: Sequence[Group], column: Column) -> list[Mark]:
    """Presets that have the column in all of the groups, the best first; the mean over groups, seed by seed."""
    presets = dict.fromkeys(row.preset for group in groups for row in group.ranked())
    marks = []
    for preset in presets:
        rows = [row for group in groups for row in group.ranked() if row.preset == preset]
        values = [row.values.get(column.name, ()) for row in rows if row.done]
        if len(values) == len(groups) and all(values):
            seeds = [fsum(each) / len(each) for each in zip(*values, strict=False)]
            marks.append(Mark(preset, fsum(seeds) / len(seeds), tuple(seeds)))
    sign = -1 if column.better is Better.HIGHER else 1
    return sorted(marks, key=lambda mark: (sign * mark.mean, mark.preset))


def _stand(marks: Sequence[Mark]) -> Standing:
    return standing([mark.mean for mark in marks], [mark.seeds for mark in marks])


def _standing(marks: Sequence[Mark], column: Column) -> str:
    """Who is best, who comes next, who is last."""
    unit = f" {column.unit}".replace(" ×", "×") if column.unit else ""
    if len(marks) == 1:
        return f"{_told(marks[0], column, unit)}, nothing to compare with"
    found = _stand(marks)
    if not found.beaten:
        low, high = (number(column, mark.mean) for mark in (marks[0], marks[-1]))
        return f"no difference ({low}{unit})" if low == high else f"no difference ({low} to {high}{unit})"
    told = _tied([_told(mark, column, unit) for mark in marks], found)
    shown = dict.fromkeys((found.beaten[0], found.beaten[-1]))
    return ", ".join([told, *(_told(marks[at], column, unit) for at in shown)])


def _told(mark: Mark, column: Column, unit: str) -> str:
    """A preset with its mean, and from five seeds on how far the 95 % interval of that reaches, if it shows; both ends of
    it where it is cut at what the column can be."""
    mean, interval = averaged(mark.seeds, column.name)
    told = f"{mark.preset} {number(column, mean)}{unit}"
    if interval is None:
        return told
    ends = [number(column, end) for end in (interval.low, interval.high)]
    if ends[0] == ends[1]:
        return told
    half = number(column, interval.high - mean)
    if set(half) <= set("0."):
        return told
    cut = interval.low in bounds(column.name) or interval.high in bounds(column.name)
    return told + (f" ({ends[0]} to {ends[1]})" if cut else f"±{half}")


def _leading_line(groups: Sequence[Group]) -> str:
    column = groups[0].columns[0]
    ratios = sorted({group.ratio for group in groups}, key=float)
    found = []
    for ratio in ratios:
        usable = [group for group in groups if group.ratio == ratio and _marks([group], column)]
        marks = _marks(usable, column)
        if marks:
            found.append(f"at {ratio} {_standing(marks, column)}")
    if not found:
        return f"Learned: nothing, no preset has a {column.title} in every scenario."
    over = " (mean over scenarios)" if len({group.scenario for group in groups}) > 1 else ""
    return f"Learned: {column.title}{over}, best, next and last: {'; '.join(found)}."


def _apart_line(groups: Sequence[Group]) -> str:
    """The hardest ratio of each scenario in full, with who did not finish; of the others who is best. Scenarios that have
    no such column, whoever finished, are left out."""
    column = groups[0].columns[0]
    found = []
    for scenario in dict.fromkeys(group.scenario for group in groups):
        every = sorted((group for group in groups if group.scenario == scenario), key=lambda each: float(each.ratio))
        hardest = every[0] if every[0].simulated else every[-1]
        marks = _marks([hardest], column)
        if not marks and any(row.done for row in hardest.ranked()):
            continue  # what it is about is another column
        told = f"{scenario} at {hardest.ratio}: {_standing(marks, column) if marks else hardest.why_none}"
        ended = [f"{row.preset} {row.status}" for row in hardest.ranked() if marks and not row.done]
        before = [text for each in every if each is not hardest and (text := _leader(each, column))]
        found.append(", ".join([told, *ended]) + (f" (before: {', '.join(before)})" if before else ""))
    if not found:
        return f"Learned: nothing, no preset has a {column.title} in any scenario."
    return f"Learned: {column.title}, best, next and last: {'; '.join(found)}."


def _leader(group: Group, column: Column) -> str:
    """The best preset of a ratio; "" where none is."""
    marks = _marks([group], column)
    found = _stand(marks) if len(marks) > 1 else None
    if found is None or not found.beaten:
        return ""
    best = [marks[at].preset for at in found.best]
    return f"{listed(best)} {number(column, marks[0].mean)} at {ratio_label(group.ratio)}"


def _survival_line(groups: Sequence[Group]) -> str:
    scenarios = list(dict.fromkeys(group.scenario for group in groups))
    presets = list(dict.fromkeys(row.preset for group in groups for row in group.ranked()))
    reached = {
        (scenario, preset): survived([group for group in groups if group.scenario == scenario], preset)
        for scenario in scenarios
        for preset in presets
    }
    tried = max((group.ratio for group in groups), key=float)

    def words(ratio: str) -> str:
        return f"≥ {ratio}" if ratio == tried else ratio or "nothing"

    told = [
        f"{scenario}: " + ", ".join(f"{preset} {words(reached[scenario, preset])}" for preset in presets)
        for scenario in scenarios
    ]
    worst = {preset: min((reached[scenario, preset] for scenario in scenarios), key=_as_ratio) for preset in presets}
    whatever = ", ".join(f"{preset} {words(ratio)}{_price(groups, preset, ratio)}" for preset, ratio in worst.items())
    return f"Learned: survived up to: {'; '.join(told)}. To be relied on in all of them: {whatever}."


def _price(groups: Sequence[Group], preset: str, ratio: str) -> str:
    """What surviving cost at most: the highest slowdown up to a ratio, where that is above 2."""
    rows = [row for group in groups if float(group.ratio) <= _as_ratio(ratio) for row in group.ranked()]
    means = [mean for row in rows if row.preset == preset and (mean := row.mean("slowdown")) is not None]
    return f" (slowdown up to {max(means):.0f}×)" if means and max(means) > 2 else ""


def survived(groups: Sequence[Group], preset: str) -> str:
    """The largest ratio up to which the preset finished everything; "" when it did not finish the smallest."""
    last = ""
    for group in sorted(groups, key=lambda each: float(each.ratio)):
        if not all(row.done for row in group.ranked() if row.preset == preset):
            break
        last = group.ratio
    return last


def _as_ratio(ratio: str) -> float:
    return float(ratio or 0)
