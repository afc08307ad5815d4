"""What a run comes to, in a few sentences: what a reader takes along who reads nothing else.

    answers       the claims by which its suite answers its question, those that hold here; those that failed, said so
    first column  in how many cases presets differ, who is among the best in how many of them, and where they lie farthest
                  apart, with intervals
    others        the columns in which they lie farther apart than in all others
    breaks        who was refused, exhausted or failed, and where
    no difference the cases in which nobody is beaten

A *case* is a scenario at a ratio (of a trace: at a capacity) with two presets or more that finished and are ranked. Who is
beaten in a case is asked of the one rule (`memvirt.report.standing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memvirt.metrics.metric import Better
from memvirt.report.check import Standing as Verdict
from memvirt.report.claims import Checked
from memvirt.report.columns import Column
from memvirt.report.standing import Standing, standing
from memvirt.report.statistics import MIN_SEEDS
from memvirt.report.summary import Group, Row, averaged, number, ratio_label

SHOWN = 4  # names in one list
OTHERS = 2  # columns that are told beside the first


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario at a ratio, its rows the best first in one column."""

    group: Group
    rows: tuple[Row, ...]
    found: Standing
    first: float
    last: float

    @property
    def apart(self) -> float:
        """How far the last mean lies from the first."""
        return abs(self.last - self.first)

    @property
    def factor(self) -> float:
        """How many times the less the more is; infinite where that is nothing."""
        less, more = sorted((abs(self.first), abs(self.last)))
        return more / less if less else float("inf")


def answers(checked: Sequence[Checked]) -> list[str]:
    """What the suite answers, a statement each, as far as it could be checked."""
    return [_answer(each) for each in checked if each.claim.answer and each.standing is not Verdict.SKIP]


def facts(groups: Sequence[Group]) -> list[str]:
    """What the columns, the endings and the ties say."""
    told: list[str] = []
    by_column = {column: cases(groups, column) for column in ranking(groups)}
    if by_column:
        first, *others = by_column
        told += _first(first, by_column[first])
        told += _others({column: by_column[column] for column in others})
    broken = _broken(groups)
    told.append(f"What breaks: {broken}." if broken else "Every cell finished.")
    few = max((len(group.seeds) for group in groups), default=MIN_SEEDS) < MIN_SEEDS
    return told + (["Fewer than five seeds: none of these differences is told from chance."] if few else [])


def _answer(checked: Checked) -> str:
    if checked.standing is Verdict.PASS:
        return checked.claim.statement
    return f"Not so in these records: {checked.claim.statement} ({checked.evidence})"


def ranking(groups: Sequence[Group]) -> list[Column]:
    """The columns in which a preset can be better than another, the deciding one first."""
    columns = list(dict.fromkeys(column for group in groups for column in group.columns))
    able = [column for column in columns if column.better is not Better.NEITHER and not column.wall]
    slowdowns = bool(groups) and groups[0].learned in ("slowdown", "survival")
    return sorted(able, key=lambda column: not (slowdowns and column.name == "slowdown"))


def cases(groups: Sequence[Group], column: Column) -> list[Case]:
    """The cases of a column."""
    sign = -1 if column.better is Better.HIGHER else 1
    found = []
    for group in groups:
        there = [(row.mean(column.name), row) for row in group.ranked() if row.done]
        marks = [(mean, row) for mean, row in there if mean is not None]
        marks.sort(key=lambda mark: sign * mark[0])
        if len(marks) > 1:
            means = [mean for mean, _ in marks]
            rows = tuple(row for _, row in marks)
            stand = standing(means, [row.values[column.name] for row in rows])
            found.append(Case(group, rows, stand, means[0], means[-1]))
    return found


def differing(every: Iterable[Case]) -> list[Case]:
    """The cases in which somebody is beaten, the largest difference first."""
    return sorted((case for case in every if case.found.beaten), key=lambda case: -case.apart)


def _first(column: Column, every: Sequence[Case]) -> list[str]:
    """What the deciding column says."""
    title = column.title[:1].upper() + column.title[1:]
    if not every:
        return [f"{title}: nobody can be compared, for nowhere did two presets finish."]
    apart = differing(every)
    if not apart:
        low, high = (pick(case.first for case in every) for pick in (min, max))
        values = " to ".join(dict.fromkeys(number(column, value) for value in (low, high)))
        return [f"{title}: no preset differs from the best in {_cases(every, 'any of')} ({values}{_unit(column)})."]
    told = [f"{title}: presets differ in {_cases(every, f'{len(apart)} of')}. {_leaders(apart)}"]
    told += [f"Farthest apart, {_extremes(column, apart[0])}."]
    same = [case.group for case in every if not case.found.beaten]
    return told + ([f"No difference in it: {_places(same)}."] if same else [])


def _cases(every: Sequence[Case], of: str) -> str:
    """How many cases there are, after `of` so many; or the only one."""
    if len(every) == 1:
        return f"the one case, {_places([every[0].group])}"
    what = "a trace at a capacity" if every[0].group.simulated else "a scenario at a ratio"
    return f"{of} {len(every)} cases, each {what}"


def _leaders(apart: Sequence[Case]) -> str:
    """Who is among the best in how many of some cases, and who is last."""
    best: dict[str, int] = {}
    last: dict[str, int] = {}
    for case in apart:
        for at in case.found.best:
            best[case.rows[at].preset] = best.get(case.rows[at].preset, 0) + 1
        last[case.rows[-1].preset] = last.get(case.rows[-1].preset, 0) + 1
    one = len(apart) == 1
    return f"Among the best: {_counted(best, one)}. Last: {_counted(last, one)}."


def _counted(counts: dict[str, int], bare: bool) -> str:
    """Names by how often, the most frequent first: "swap and zcache in 6 each"."""
    if bare:
        return _few(list(counts))
    by_count: dict[int, list[str]] = {}
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        by_count.setdefault(count, []).append(name)
    told = [f"{_few(names)} in {count}{' each' if len(names) > 1 else ''}" for count, names in by_count.items()]
    return ", ".join(told[:SHOWN])


def _others(by_column: dict[Column, list[Case]]) -> list[str]:
    """The columns in which presets lie farthest apart, by the factor at their largest difference."""
    widest = [(column, apart[0]) for column, every in by_column.items() if (apart := differing(every))]
    finite = sorted((each for each in widest if each[1].factor < float("inf")), key=lambda each: -each[1].factor)
    chosen = finite[:OTHERS] or widest[:OTHERS]
    return [
        f"{column.title[:1].upper()}{column.title[1:]}, farthest apart {_extremes(column, case)}."
        for column, case in chosen
    ]


def _extremes(column: Column, case: Case) -> str:
    """The best and the last of a case, with their intervals."""
    ends = []
    for row, places in ((case.rows[0], case.rows), (case.rows[-1], case.rows[::-1])):
        told = number(column, row.mean(column.name) or 0)
        alike = [each.preset for each in places if number(column, each.mean(column.name) or 0) == told]
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        ends.append(f"{with_interval(column, row)} under {row.preset}{more}")
    return f"in {case.group.scenario} at {ratio_label(case.group.ratio)}: {ends[0]}, {ends[1]}"


def with_interval(column: Column, row: Row) -> str:
    """A mean with its unit, and from five seeds on its 95 % interval, where that shows."""
    mean, interval = averaged(row.values[column.name], column.name)
    ends = [number(column, end) for end in (interval.low, interval.high)] if interval else []
    between = f" ({ends[0]} to {ends[1]})" if ends and ends[0] != ends[1] else ""
    return f"{number(column, mean)}{_unit(column)}{between}"


def _unit(column: Column) -> str:
    return "" if not column.unit else column.unit if column.unit == "×" else f" {column.unit}"


def _broken(groups: Sequence[Group]) -> str:
    """Who did not finish, by how it ended: "conservative refused in overcommit from 1.88 on"."""
    ended: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        for row in group.rows:
            if not row.done:
                ended.setdefault((row.preset, row.status), []).append(group)
    places: dict[tuple[str, str], list[str]] = {}
    for (preset, status), there in ended.items():
        places.setdefault((status, _where(there, groups)), []).append(preset)
    return ", ".join(f"{_few(names)} {status} ({where})" for (status, where), names in places.items())


def _where(there: Sequence[Group], every: Sequence[Group]) -> str:
    """Scenarios with the ratios at which something ended; "from 1.88 on" where all larger ones are among them."""
    told: dict[str, list[str]] = {}
    for scenario in dict.fromkeys(group.scenario for group in there):
        known = sorted((group.ratio for group in every if group.scenario == scenario), key=float)
        own = sorted((group.ratio for group in there if group.scenario == scenario), key=float)
        onward = len(own) > 1 and known[-len(own) :] == own
        words = f"from {ratio_label(own[0])} on" if onward else f"at {_few(list(map(ratio_label, own)))}"
        told.setdefault(words, []).append(scenario)
    return "; ".join(f"{_few(names)} {words}" for words, names in told.items())


def _places(groups: Sequence[Group]) -> str:
    """Scenarios with their ratios."""
    told: dict[str, list[str]] = {}
    for scenario in dict.fromkeys(group.scenario for group in groups):
        ratios = [ratio_label(group.ratio) for group in groups if group.scenario == scenario]
        told.setdefault(_few(ratios), []).append(scenario)
    return "; ".join(f"{_few(names)} at {ratios}" for ratios, names in told.items())


def _few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    if len(names) > SHOWN:
        return f"{', '.join(names[: SHOWN - 1])} and {len(names) - SHOWN + 1} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
