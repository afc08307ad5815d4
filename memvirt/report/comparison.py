"""Two runs or more against the first: what became better, what worse, what is the same.

Results folders are compared in their simulated metrics, cell by cell, the same seed on both sides. These numbers have
no noise: equal code gives equal digits, so a difference holds for the seeds that were run. What holds over seeds in
general takes five of them, and an interval. pyperf files are compared in wall times, by the means of their processes: the
ratio is one of geometric means. Timings in folders are compared when all of them have some. p values are
corrected across the whole table.

What a pair of runs differs in besides is said first (`memvirt.report.likeness`), and unlike runs are refused; for wall
times, also another machine.

One number for all is a geometric mean of ratios. It is taken over the cells that every run has and that ended well in
each, so that runs are compared over the same cells. Cells that are left out are named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, log
from pathlib import Path
from statistics import fmean, geometric_mean

from memvirt.errors import ConfigError, absence
from memvirt.metrics.metric import Better
from memvirt.report.columns import COLUMNS, Column
from memvirt.report.likeness import few, notes, require_like
from memvirt.report.statistics import (
    ALPHA,
    MARGIN,
    Comparison,
    RankTest,
    Verdict,
    compare_means,
    compare_pairs,
    holm,
    process_means,
    rank_test,
    verdict,
)
from memvirt.results import run_folder
from memvirt.results.record import Record
from memvirt.timing import samples

MACHINE = ("hostname", "cpu_model_name", "cpu_count", "platform", "python_version", "unit")
WALL = "wall time"
PERCENTILE = re.compile(r"sim_ns\.(\w+)\.p(50|99|999)\Z")  # of a fault kind's time, in a record
SIMULATED = tuple(column for column in COLUMNS if not column.wall and column.better is not Better.NEITHER)


@dataclass(frozen=True, slots=True)
class Case:
    """One metric of one cell, in the first run and in another."""

    other: str  # the run compared with the first
    cell: str  # scenario and preset, or a benchmark's name
    metric: str
    unit: str
    lower: bool  # less is better
    before: float  # mean in the first run, of wall times the geometric mean
    after: float
    comparison: Comparison
    ranks: RankTest | None = None  # of wall times
    equal: bool = False  # digit for digit, as only exact numbers can be

    @property
    def sampled(self) -> bool:
        """Whether the numbers come from a clock, with noise; else they come from a seed and are exact."""
        return self.metric == WALL

    def verdict(self, corrected_p: float) -> Verdict:
        """What may be said of the other run."""
        if self.sampled or self.comparison.interval is not None:
            said = verdict(self.comparison, corrected_p)
        elif abs(self.comparison.ratio - 1) <= MARGIN:
            said = Verdict.SAME
        else:
            said = Verdict.WORSE if self.comparison.ratio > 1 else Verdict.BETTER
        opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
        return said if self.lower else opposite.get(said, said)


@dataclass(frozen=True, slots=True)
class Difference:
    """A case with its verdict."""

    case: Case
    verdict: Verdict
    corrected_p: float  # for all rows of the table; 1 where nothing was tested

    @property
    def disputed(self) -> bool:
        """Whether there is a difference by Welch's test that Mann-Whitney's, uncorrected, does not see."""
        ranks = self.case.ranks
        return self.verdict in (Verdict.BETTER, Verdict.WORSE) and ranks is not None and ranks.p >= ALPHA

    def beyond(self, threshold: float) -> bool:
        """Whether it got worse by more than a share: 0.05 is 5 %."""
        ratio = self.case.comparison.ratio
        return self.verdict is Verdict.WORSE and (ratio > 1 + threshold or ratio < 1 / (1 + threshold))


@dataclass(frozen=True, slots=True)
class Overall:
    """One metric over all cells that every run has."""

    other: str
    metric: str
    ratio: float  # geometric mean of after / before
    cells: int
    without: tuple[str, ...]  # cells that have no such number, or a zero, in some run


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found."""

    base: str
    differences: tuple[Difference, ...]
    endings: tuple[tuple[str, str, str, str], ...] = ()  # other, cell, status before, status after
    notes: tuple[str, ...] = ()
    overall: tuple[Overall, ...] = ()
    left_out: tuple[str, ...] = ()  # cells that are not in every run, or did not end well in each, with the reason

    def regressed(self, threshold: float) -> list[Difference]:
        """The metrics that got worse beyond the threshold, the worst first."""
        worse = [each for each in self.differences if each.beyond(threshold)]
        return sorted(worse, key=lambda each: -abs(log(each.case.comparison.ratio or inf)))

    def lost(self) -> list[tuple[str, str, str, str]]:
        """The cells that no longer end well."""
        return [ending for ending in self.endings if ending[2] == "done"]

    def regressions(self, threshold: float) -> int:
        """How many metrics got worse beyond the threshold, and cells that no longer end well."""
        return len(self.regressed(threshold)) + len(self.lost())


def compare(paths: Sequence[str | os.PathLike[str]]) -> Compared:
    """Compare results folders or pyperf files with the first of them."""
    places = [Path(path) for path in paths]
    if len(places) < 2:
        raise ConfigError("compare needs two results folders, or two pyperf files, or more")
    if missing := [f"{place}: {why}" for place in places if (why := absence(place))]:
        raise ConfigError("\n".join(missing))
    if len({os.path.isdir(place) for place in places}) > 1:
        raise ConfigError("compare either results folders or pyperf files, not one with the other")
    if len({place.resolve() for place in places}) < len(places):
        raise ConfigError("the same folder or file is named twice: there is nothing to compare")
    return _folders(places) if os.path.isdir(places[0]) else Compared(str(places[0]), _decided(_files(places)))


def _decided(cases: Iterable[Case]) -> tuple[Difference, ...]:
    """Cases with their verdicts; p values corrected across all that were tested."""
    every = list(cases)
    tested = [index for index, case in enumerate(every) if case.comparison.interval is not None]
    corrected = dict(zip(tested, holm([every[index].comparison.p for index in tested]), strict=True))
    p_values = [corrected.get(index, 1.0) for index in range(len(every))]
    return tuple(Difference(case, case.verdict(p), p) for case, p in zip(every, p_values, strict=True))


def _folders(places: Sequence[Path]) -> Compared:
    base, *others = places
    runs = [_by_name(run_folder.load(place)) for place in places]
    first = runs[0]
    cases: list[Case] = []
    endings: list[tuple[str, str, str, str]] = []
    told: list[str] = []
    for other, second in zip(others, runs[1:], strict=True):
        common = [name for name in first if name in second]
        require_like(str(base), str(other), first, second, common)
        told += notes(str(other), first, second, common)
        for name in common:
            before, after = first[name].status, second[name].status
            if before != after:
                endings.append((str(other), name, before, after))
        cases += _simulated(str(other), first, second, common)
    timed = [place for place in places if os.path.isdir(place / samples.FOLDER)]
    if len(timed) == len(places):
        cases += _timed(places)
    elif timed:
        told.append(f"wall times are not compared: only {', '.join(map(str, timed))} has timings")
    shared, left_out = _shared(places, runs)
    overall = tuple(
        each
        for other, second in zip(others, runs[1:], strict=True)
        for each in _overall(str(other), first, second, runs, shared)
    )
    return Compared(str(base), _decided(cases), tuple(endings), tuple(told), overall, tuple(left_out))


def _shared(places: Sequence[Path], runs: Sequence[Mapping[str, Record]]) -> tuple[list[str], list[str]]:
    """The cells that are done in every run, and the others with the reason."""
    shared, left_out = [], []
    for name in dict.fromkeys(name for run in runs for name in run):
        missing = [str(place) for place, run in zip(places, runs, strict=True) if name not in run]
        statuses = [run[name].status for run in runs if name in run]
        ended = [
            f"{run[name].status} in {place}"
            for place, run in zip(places, runs, strict=True)
            if name in run and run[name].status != "done"
        ]
        if ended and not missing and len(set(statuses)) == 1:
            ended = [f"{statuses[0]} in all"]
        if missing or ended:
            left_out.append(f"{name} ({'; '.join([*(f'not in {place}' for place in missing), *ended])})")
        else:
            shared.append(name)
    return shared, left_out


def _overall(
    other: str,
    first: Mapping[str, Record],
    second: Mapping[str, Record],
    runs: Sequence[Mapping[str, Record]],
    shared: Sequence[str],
) -> Iterator[Overall]:
    """The geometric mean of each metric's ratios, over the shared cells that have it above zero in all runs."""
    for column in SIMULATED:
        kept = [name for name in shared if all((column.value(run[name]) or 0) > 0 for run in runs)]
        if len(kept) > 1:
            logs = [log((column.value(second[name]) or 1) / (column.value(first[name]) or 1)) for name in kept]
            without = tuple(name for name in shared if name not in set(kept))
            yield Overall(other, column.title, exp(fsum(logs) / len(logs)), len(kept), without)


def _by_name(records: Iterable[Record]) -> dict[str, Record]:
    return {record.cell: record for record in records if record.role == "column"}


def _simulated(
    other: str, first: Mapping[str, Record], second: Mapping[str, Record], common: Sequence[str]
) -> Iterator[Case]:
    """The simulated metrics of each scenario and preset, seeds paired; of cells that are done in both."""
    seeds: dict[str, list[tuple[Record, Record]]] = {}
    for name in common:
        if first[name].status == second[name].status == "done":
            seeds.setdefault(name.rpartition("--s")[0], []).append((first[name], second[name]))
    for cell, pairs in seeds.items():
        for column in (*SIMULATED, *_percentiles(pairs[0][0])):
            values = [(column.value(one), column.value(two)) for one, two in pairs]
            whole = [(one, two) for one, two in values if one is not None and two is not None]
            if whole:
                yield _case(other, cell, column, [one for one, _ in whole], [two for _, two in whole])


def _percentiles(record: Record) -> list[Column]:
    """The percentiles of each fault kind's time that a record has."""
    found = [match for name in sorted(record.derived) if (match := PERCENTILE.match(name))]
    return [
        Column(match[0], f"{match[1]} fault p{match[2].replace('999', '99.9')}", "", "ns", Better.LOWER)
        for match in found
    ]


def _case(other: str, cell: str, column: Column, before: list[float], after: list[float]) -> Case:
    means = fmean(before), fmean(after)
    if before == after:
        comparison = Comparison(1.0, None, 1.0, len(before))
    elif min(*before, *after) <= 0:  # a count that is zero for some seed has no logarithm
        ratio = means[1] / means[0] if means[0] else inf
        comparison = Comparison(ratio, None, 1.0, len(before))
    else:
        comparison = compare_pairs(before, after)
    lower = column.better is Better.LOWER
    return Case(other, cell, column.title, column.unit, lower, *means, comparison, equal=before == after)


def _timed(places: Sequence[Path]) -> Iterator[Case]:
    names = [path.name for path in sorted((places[0] / samples.FOLDER).glob("[!.]*.json"))]
    for other in places[1:]:
        for name in names:
            if os.path.exists(other / samples.FOLDER / name):
                one, two = (samples.load(place / samples.FOLDER / name) for place in (places[0], other))
                yield from _walls(str(other), one, two)


def _files(places: Sequence[Path]) -> Iterator[Case]:
    base = samples.load(places[0])
    for other in places[1:]:
        yield from _walls(str(other), base, samples.load(other))


def _walls(other: str, base: Mapping[str, samples.Timed], against: Mapping[str, samples.Timed]) -> Iterator[Case]:
    common = [name for name in base if name in against]
    if not common:
        raise ConfigError(f"no benchmark in common: {few(base)} there, {few(against)} in {other}")
    for name in common:
        one, two = base[name], against[name]
        unlike = [
            f"{key}: {one.machine.get(key)} and {two.machine.get(key)}"
            for key in MACHINE
            if one.machine.get(key) != two.machine.get(key)
        ]
        if unlike:
            raise ConfigError("\n".join([f"benchmark {name} was timed on unlike machines, {other} last:", *unlike]))
        before, after = process_means(one.values), process_means(two.values)
        means = geometric_mean(before), geometric_mean(after)
        cell = f"{name} {one.preset}".strip() if one.preset == two.preset else f"{name} {one.preset} → {two.preset}"
        ranks = rank_test(before, after)
        yield Case(other, cell, WALL, "s", True, *means, compare_means(before, after), ranks)
