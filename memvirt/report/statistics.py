"""All statistics of memvirt: verdicts about numbers that vary, be it from process to process or from seed to seed.

Five questions are asked here, and each has one method. All intervals are at 95 % unless a caller asks for another level.

    between processes   Wall times. Values within a process are not independent, so a process counts once, as its mean
                        (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time"). Two sets of process means
                        are compared by Welch's t-test (1947, Biometrika 34) on their logarithms. A difference of mean
                        logarithms is a ratio of geometric means, so one call gives the ratio's interval and the p that
                        agrees with it. Nothing is drawn at random.
    between pairs       The same seed, or the same turn of a benchmark, on both sides: Student's t (1908, Biometrika 6)
                        on the logarithms of the ratios.
    one mean            Values of one preset over seeds: Student's interval.
    the best of many    The same seeds under several presets: Student's interval of the paired differences to the best
                        one. The best was chosen after looking, so it is as if all pairs were compared, and the level
                        is shared out among them (Bonferroni; Dunn 1961, J. Am. Stat. Assoc. 56).
    a whole table       Its p values are corrected together by Holm's method (1979, Scand. J. Statist. 6).

A second opinion on wall times comes from ranks: the p of the Mann-Whitney U test (1947, Ann. Math. Statist.
18) and Cliff's delta (1993, Psychol. Bull. 114). It decides nothing. With n processes a side the exact rank test cannot
go below 2 / C(2n, n), and Holm's method multiplies that by the rows of the table: at five processes and seven rows no
difference, however large, would ever be found.

The verdict. Too few values: inconclusive. The interval within a margin around 1: no difference, as in Schuirmann's test
of equivalence (1987, J. Pharmacokinet. Biopharm. 15). The corrected p below 5 %: better or worse. Anything else:
inconclusive, the data do not tell.

How well the levels hold is simulated in tests/test_statistics.py: for normal, lognormal and gamma process means, five to
twenty a side, identical code is called different in 3 to 5 % of trials. The one weak place: 5 processes against 20 with
a strong skew, 7 to 9 %. Timings take as many samples of every cell, so only files made by hand come to that.

scipy is imported when it is first needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from importlib import import_module
from math import comb, exp, log
from statistics import fmean
from typing import Any

from memvirt.errors import ConfigError

MIN_SEEDS = 5  # pairs, for an interval over seeds or turns
MIN_PROCESSES = 5  # each side, for a verdict
LEVEL = 0.95  # of intervals
ALPHA = 0.05  # of tests
MARGIN = 0.01  # a ratio this near to 1 is no difference worth a word
ROUNDING = 1e-12  # logarithms this near to each other differ by rounding only


class Verdict(StrEnum):
    """What may be said of the second set against the first, where less is better."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second set against the first."""

    ratio: float  # of geometric means
    interval: Interval | None  # of the ratio; None: too few values
    p: float  # that such a difference comes by chance; 1 with too few values
    n: int  # of the smaller set


@dataclass(frozen=True, slots=True)
class RankTest:
    """A second opinion, which looks at the order of the values only."""

    p: float  # of the Mann-Whitney U test, not corrected
    delta: float  # Cliff's: -1 every value of the second set lies below the first's, +1 above


def process_means(values: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each process; processes without a value count for nothing."""
    return [fmean(each) for each in values if each]


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of a mean over seeds.

    Without scipy the range of the values stands in. It holds the median with a probability of 1 - 2**(1 - n), whatever
    the distribution: 94 % for five values and more for more (David and Nagaraja 2003, "Order Statistics", 7.1).
    """
    try:
        return _student(values, level)[0]
    except ConfigError:
        return Interval(min(values), max(values))


def compare_means(base: Sequence[float], other: Sequence[float]) -> Comparison:
    """Process means against process means, all positive and finite. ConfigError without scipy."""
    scipy = _scipy()
    first, second = _logs(base), _logs(other)
    difference, n = fmean(second) - fmean(first), min(len(first), len(second))
    if n < MIN_PROCESSES:
        interval, p = None, 1.0
    elif _constant(first) and _constant(second):
        interval, p = _exactly(difference)
    else:
        with _nearly_constant_is_fine():
            tested = scipy.ttest_ind(second, first, equal_var=False)
            low, high = tested.confidence_interval(LEVEL)
        interval, p = Interval(float(low), float(high)), float(tested.pvalue)
    return Comparison(exp(difference), _as_ratio(interval), p, n)


def rank_test(base: Sequence[float], other: Sequence[float]) -> RankTest:
    """Process means against process means, once more. ConfigError without scipy."""
    tested = _scipy().mannwhitneyu(other, base)
    return RankTest(float(tested.pvalue), 2 * float(tested.statistic) / (len(base) * len(other)) - 1)


def compare_pairs(base: Sequence[float], other: Sequence[float], level: float = LEVEL) -> Comparison:
    """Values paired by position (the same seed or turn on both sides), all positive and finite.

    ConfigError without scipy, from five pairs on.
    """
    logs = [after - before for before, after in zip(_logs(base), _logs(other), strict=True)]
    interval, p = _student(logs, level) if len(logs) >= MIN_SEEDS else (None, 1.0)
    return Comparison(exp(fmean(logs)), _as_ratio(interval), p, len(logs))


def told_apart(best: Sequence[float], others: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each of several presets differs from the best one beyond chance; values paired by seed.

    Positive values are compared by their ratios, others by their differences. Below five seeds nothing is chance: the
    seeds that were run are all there is. Sets of another length than the best one's are not paired, and not told apart.
    """
    if len(best) < MIN_SEEDS or not others:
        return [True] * len(others)
    positive = min(min(each) for each in (best, *others)) > 0
    base, rest = (_logs(best), map(_logs, others)) if positive else (best, others)
    level = 1 - (1 - LEVEL) / comb(len(others) + 1, 2)
    found = []
    for each in rest:
        differences = [other - one for one, other in zip(base, each, strict=False)]
        interval = mean_interval(differences, level)
        found.append(len(each) == len(best) and not interval.low <= 0 <= interval.high)
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for being asked together, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected


def verdict(comparison: Comparison, corrected_p: float, margin: float = MARGIN) -> Verdict:
    """What may be said, less being better; swap better and worse for a metric where more is."""
    interval = comparison.interval
    if interval is None:
        return Verdict.INCONCLUSIVE
    if interval.low >= 1 - margin and interval.high <= 1 + margin:
        return Verdict.SAME
    if corrected_p < ALPHA:
        return Verdict.BETTER if comparison.ratio < 1 else Verdict.WORSE
    return Verdict.INCONCLUSIVE


def _student(values: Sequence[float], level: float) -> tuple[Interval, float]:
    """The interval of a mean, and the p of its being zero. ConfigError without scipy."""
    if _constant(values):
        return _exactly(fmean(values))
    _scipy()
    return _tested(tuple(values), level)


@lru_cache(maxsize=8192)
def _tested(values: tuple[float, ...], level: float) -> tuple[Interval, float]:
    """The same of values that vary, remembered: every format of a table asks for the same intervals."""
    with _nearly_constant_is_fine():
        tested = _scipy().ttest_1samp(values, 0.0)
        low, high = tested.confidence_interval(level)
    return Interval(float(low), float(high)), float(tested.pvalue)


def _exactly(value: float) -> tuple[Interval, float]:
    """What values without variance say."""
    return Interval(value, value), 1.0 if abs(value) <= ROUNDING else 0.0


def _constant(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= ROUNDING


def _logs(values: Sequence[float]) -> list[float]:
    return [log(value) for value in values]


def _as_ratio(interval: Interval | None) -> Interval | None:
    """An interval of logarithms as one of ratios."""
    return None if interval is None else Interval(exp(interval.low), exp(interval.high))


@contextmanager
def _nearly_constant_is_fine() -> Iterator[None]:
    """scipy warns of values that are nearly alike. Such values do occur, and rounding makes no verdict of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _scipy() -> Any:
    try:
        return import_module("scipy.stats")
    except ImportError:
        raise ConfigError("intervals and verdicts need scipy: pip install memvirt[report]") from None
