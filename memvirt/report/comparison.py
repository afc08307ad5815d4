"""Two runs or more against the first: what became better, what worse, what is the same.

Results folders are compared in their simulated metrics, cell by cell, the same seed on both sides. These numbers have
no noise: equal code gives equal digits, so a difference is a difference for the seeds that were run; what it is over
seeds in general needs five of them and an interval. pyperf files are compared in wall times, by the means of their
processes: the ratio is one of geometric means. Timings in folders are compared when all of them have some. p values are
corrected across the whole table.

Unlike runs are refused: another suite, tier, corpus, codec or configuration of a cell; for wall times another machine.
What may differ is memvirt itself, for that is what is compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from memvirt.errors import ConfigError
from memvirt.metrics.metric import Better
from memvirt.report.columns import COLUMNS, Column
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
from memvirt.results.record import Record, differences
from memvirt.timing import samples

CODEC = ("lz4", "lz4_route")  # versions that change what compresses to what
MACHINE = ("hostname", "cpu_model_name", "cpu_count", "platform", "python_version", "unit")
WALL = "wall time"
SETTINGS_SHOWN = 5  # of those that differ, in a message
SIDE_BY_SIDE = (
    "to hold two settings against each other, run them as columns of one run: --preset mine.toml,other.toml, "
    "or [[variants]] in a suite"
)
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
class Outcome:
    """What a comparison found."""

    base: str
    differences: tuple[Difference, ...]
    endings: tuple[tuple[str, str, str, str], ...]  # other, cell, status before, status after
    notes: tuple[str, ...]

    def regressions(self, threshold: float) -> int:
        """How many metrics got worse beyond the threshold, and cells that no longer end well."""
        return sum(each.beyond(threshold) for each in self.differences) + sum(
            before == "done" for _, _, before, after in self.endings
        )


def compare(paths: Sequence[str | os.PathLike[str]]) -> Outcome:
    """Compare results folders or pyperf files with the first of them."""
    places = [Path(path) for path in paths]
    if len(places) < 2:
        raise ConfigError("compare needs two results folders, or two pyperf files, or more")
    missing = [str(place) for place in places if not place.exists()]
    if missing:
        raise ConfigError("\n".join(f"{place}: there is no such folder or file" for place in missing))
    if len({place.is_dir() for place in places}) > 1:
        raise ConfigError("compare either results folders or pyperf files, not one with the other")
    if len({place.resolve() for place in places}) < len(places):
        raise ConfigError("the same folder or file is named twice: there is nothing to compare")
    return _folders(places) if places[0].is_dir() else Outcome(str(places[0]), _decided(_files(places)), (), ())


def _decided(cases: Iterable[Case]) -> tuple[Difference, ...]:
    """Cases with their verdicts; p values corrected across all that were tested."""
    every = list(cases)
    tested = [index for index, case in enumerate(every) if case.comparison.interval is not None]
    corrected = dict(zip(tested, holm([every[index].comparison.p for index in tested]), strict=True))
    p_values = [corrected.get(index, 1.0) for index in range(len(every))]
    return tuple(Difference(case, case.verdict(p), p) for case, p in zip(every, p_values, strict=True))


def _folders(places: Sequence[Path]) -> Outcome:
    base, *others = places
    first = _by_name(run_folder.load(base))
    cases: list[Case] = []
    endings: list[tuple[str, str, str, str]] = []
    notes: list[str] = []
    for other in others:
        second = _by_name(run_folder.load(other))
        common = [name for name in first if name in second]
        _require_like(base, other, first, second, common)
        notes += _notes(str(other), first, second, common)
        for name in common:
            before, after = first[name].status, second[name].status
            if before != after:
                endings.append((str(other), name, before, after))
        cases += _simulated(str(other), first, second, common)
    timed = [place for place in places if (place / samples.FOLDER).is_dir()]
    if len(timed) == len(places):
        cases += _timed(places)
    elif timed:
        notes.append(f"wall times are not compared: only {', '.join(map(str, timed))} has timings")
    return Outcome(str(base), _decided(cases), tuple(endings), tuple(notes))


def _by_name(records: Iterable[Record]) -> dict[str, Record]:
    return {record.cell: record for record in records if record.role == "column"}


def _require_like(
    base: Path, other: Path, first: Mapping[str, Record], second: Mapping[str, Record], common: Sequence[str]
) -> None:
    """ConfigError with everything that keeps two runs from being compared."""
    if not common:
        raise ConfigError(f"{base} and {other} have no cell in common: {_few(first)} there, {_few(second)} here")
    one, two = first[common[0]], second[common[0]]
    parts: list[tuple[str, Any, Any]] = [(name, getattr(one, name), getattr(two, name)) for name in ("suite", "tier")]
    parts += [(f"input {name}", one.inputs.get(name), two.inputs.get(name)) for name in {**one.inputs, **two.inputs}]
    parts += [(f"codec {name}", one.versions.get(name), two.versions.get(name)) for name in CODEC]
    problems = [f"{name}: {before} and {after}" for name, before, after in parts if before != after]
    unlike = next((name for name in common if first[name].config_sha256 != second[name].config_sha256), None)
    if unlike is not None:
        problems += [f"cell {unlike}: {what}" for what in _settings_apart(first[unlike], second[unlike])]
        problems.append(SIDE_BY_SIDE)
    if problems:
        raise ConfigError("\n".join([f"{base} and {other} are unlike runs:", *problems]))


def _settings_apart(one: Record, two: Record) -> list[str]:
    """The settings in which two records of a cell differ, each with both values and where they are from."""
    apart = list(differences(one.config, two.config))
    told = []
    for place, before, after in apart[:SETTINGS_SHOWN]:
        origins = [_origin(record, place) for record in (one, two)]
        told.append(
            f"{place}: {before} ({origins[0]}) and {after} ({origins[1]})"
            if any(origins)
            else f"{place}: {before} and {after}"
        )
    more = len(apart) - len(told)
    return [*told, f"and {more} settings more"] if more else told


def _origin(record: Record, place: str) -> str:
    """Where a host's setting is from; empty for what is no host's setting."""
    first, _, setting = place.partition(".")
    if first != "host":
        return ""
    named = (origin for key, origin in record.origins.items() if setting == key or setting.startswith(f"{key}."))
    return next(named, f"default of memvirt {record.versions.get('memvirt', '')}".rstrip())


def _notes(other: str, first: Mapping[str, Record], second: Mapping[str, Record], common: Sequence[str]) -> list[str]:
    one, two = first[common[0]], second[common[0]]
    notes = []
    if (one.versions, one.commit) != (two.versions, two.commit):
        said = [f"{key} {value}" for key, value in two.versions.items() if one.versions.get(key) != value]
        said += [f"commit {two.commit[:12] or 'none'}"] if one.commit != two.commit else []
        notes.append(f"{other} was made with another memvirt: {', '.join(said)}")
    apart = len(first) + len(second) - 2 * len(common)
    if apart:
        notes.append(f"{apart} cells are in one run only, of {len(common)} in common with {other}")
    return notes


def _simulated(
    other: str, first: Mapping[str, Record], second: Mapping[str, Record], common: Sequence[str]
) -> Iterator[Case]:
    """The simulated metrics of each scenario and preset, seeds paired; of cells that are done in both."""
    seeds: dict[str, list[tuple[Record, Record]]] = {}
    for name in common:
        if first[name].status == second[name].status == "done":
            seeds.setdefault(name.rpartition("--s")[0], []).append((first[name], second[name]))
    for cell, pairs in seeds.items():
        for column in SIMULATED:
            values = [(column.value(one), column.value(two)) for one, two in pairs]
            whole = [(one, two) for one, two in values if one is not None and two is not None]
            if whole:
                yield _case(other, cell, column, [one for one, _ in whole], [two for _, two in whole])


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
            if (other / samples.FOLDER / name).exists():
                one, two = (samples.load(place / samples.FOLDER / name) for place in (places[0], other))
                yield from _walls(str(other), one, two)


def _files(places: Sequence[Path]) -> Iterator[Case]:
    base = samples.load(places[0])
    for other in places[1:]:
        yield from _walls(str(other), base, samples.load(other))


def _walls(other: str, base: Mapping[str, samples.Timed], against: Mapping[str, samples.Timed]) -> Iterator[Case]:
    common = [name for name in base if name in against]
    if not common:
        raise ConfigError(f"no benchmark in common: {_few(base)} there, {_few(against)} in {other}")
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


def _few(names: Iterable[str]) -> str:
    several = list(names)
    return ", ".join(several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")
