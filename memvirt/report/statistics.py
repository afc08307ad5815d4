"""Verdicts about numbers that vary: process means of wall times, and simulated metrics over seeds.

Values within a process are not independent, so a process counts once, as its mean. Two sets of process means have a
ratio with a 95 % interval (BCa bootstrap, Efron 1987, seeded, so that equal numbers give an equal interval). Whether
they differ at all is asked by the Mann-Whitney U test; Cliff's delta (1993) says how far apart they lie. Simulated
metrics are paired, the same seed on both sides: the logarithms of their ratios have Student's interval and test. All p
values of a table are corrected together by Holm's method (1979) before a verdict.

The verdict. Too few values: inconclusive. The interval within a margin around 1: no difference. Significant after the
correction and 1 outside the interval: better or worse. Anything else: inconclusive, the data do not tell.

scipy is imported when it is first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from math import exp, fsum, log
from typing import Any

from memvirt.errors import ConfigError

MIN_SEEDS = 5  # for an interval over seeds
MIN_PROCESSES = 5  # each side, for a verdict; ten give an interval worth its name
RESAMPLES = 4999
BOOTSTRAP_SEED = 20_260_101  # any constant: equal numbers shall give equal intervals
LEVEL = 0.95  # of intervals
ALPHA = 0.05  # of tests
MARGIN = 0.01  # a ratio this near to 1 is no difference worth a word


class Verdict(StrEnum):
    """What may be said of the second set against the first, where less is better."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a value lies, at 95 %."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second set against the first."""

    ratio: float  # of means; of geometric means when paired
    interval: Interval | None  # None: too few values
    p: float  # that such a difference comes by chance; 1 with too few values
    delta: float  # Cliff's: -1 every value of the second lies below the first's, +1 above
    n: int  # of the smaller set


def process_means(values: Sequence[Sequence[float]]) -> list[float]:
    """The mean of each process; processes without a value count for nothing."""
    return [fsum(each) / len(each) for each in values if each]


def mean_interval(values: Sequence[float]) -> Interval:
    """95 % interval of a mean over seeds, Student's: a bootstrap of five values is too narrow.

    Without scipy the range of the values stands in, about as wide for five of them and wider for more.
    """
    if min(values) == max(values):
        return Interval(min(values), max(values))
    try:
        _, scipy = _scipy()
    except ConfigError:
        return Interval(min(values), max(values))
    return _student(scipy, values)


def _student(scipy: Any, values: Sequence[float]) -> Interval:
    mean = fsum(values) / len(values)
    error = scipy.sem(values)
    low, high = scipy.t.interval(LEVEL, len(values) - 1, loc=mean, scale=error)
    return Interval(float(low), float(high))


def compare_means(base: Sequence[float], other: Sequence[float]) -> Comparison:
    """Process means against process means, both positive. ConfigError without scipy."""
    numpy, scipy = _scipy()
    first, second = numpy.asarray(base, dtype=float), numpy.asarray(other, dtype=float)
    ratio, n = float(second.mean() / first.mean()), min(len(first), len(second))
    tested = scipy.mannwhitneyu(second, first, alternative="two-sided")
    delta = 2 * float(tested.statistic) / (len(first) * len(second)) - 1
    if n < MIN_PROCESSES:
        return Comparison(ratio, None, 1.0, delta, n)
    if first.min() == first.max() and second.min() == second.max():
        return Comparison(ratio, Interval(ratio, ratio), float(tested.pvalue), delta, n)

    def mean_ratio(second: Any, first: Any, axis: int = -1) -> Any:
        return numpy.mean(second, axis=axis) / numpy.mean(first, axis=axis)

    return Comparison(ratio, _bootstrap(scipy, (second, first), mean_ratio), float(tested.pvalue), delta, n)


def compare_pairs(base: Sequence[float], other: Sequence[float]) -> Comparison:
    """Values paired by position (the same seed on both sides), all positive. Below five pairs without scipy too."""
    logs = [log(second / first) for first, second in zip(base, other, strict=True)]
    ratio = exp(fsum(logs) / len(logs))
    delta = cliffs_delta(base, other)
    if len(logs) < MIN_SEEDS:
        return Comparison(ratio, None, 1.0, delta, len(logs))
    if min(logs) == max(logs):
        return Comparison(ratio, Interval(ratio, ratio), 0.0 if logs[0] else 1.0, delta, len(logs))
    _, scipy = _scipy()
    of_logs = _student(scipy, logs)
    p = float(scipy.ttest_1samp(logs, 0.0).pvalue)
    return Comparison(ratio, Interval(exp(of_logs.low), exp(of_logs.high)), p, delta, len(logs))


def cliffs_delta(base: Sequence[float], other: Sequence[float]) -> float:
    """The share of pairs in which the second set's value is larger, less the share in which it is smaller."""
    above = sum((second > first) - (second < first) for first in base for second in other)
    return above / (len(base) * len(other))


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
    if corrected_p < ALPHA and not interval.low <= 1 <= interval.high:
        return Verdict.BETTER if comparison.ratio < 1 else Verdict.WORSE
    return Verdict.INCONCLUSIVE


def _bootstrap(scipy: Any, samples: tuple[Any, ...], statistic: Any) -> Interval:
    found = scipy.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        vectorized=True,
        rng=BOOTSTRAP_SEED,
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def _scipy() -> tuple[Any, Any]:
    try:
        return import_module("numpy"), import_module("scipy.stats")
    except ImportError:
        raise ConfigError("intervals and verdicts need scipy: pip install memvirt[report]") from None
