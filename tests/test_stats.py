"""Verdicts: known answers, and how often identical things are called different."""

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from memvirt.errors import ConfigError
from memvirt.report import statistics
from memvirt.report.statistics import Comparison, Interval, Verdict

TRIALS = 400


def processes(rng, n, centre=1.0):
    """Process means as they come: processes differ by 3 %."""
    return [centre * rng.gauss(1, 0.03) for _ in range(n)]


def verdicts(n, centre, trials=TRIALS, seed=1):
    rng = random.Random(seed)
    for _ in range(trials):
        compared = statistics.compare_means(processes(rng, n), processes(rng, n, centre))
        yield statistics.verdict(compared, compared.p)


def test_identical_code_is_rarely_called_different(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    different = sum(verdict in (Verdict.BETTER, Verdict.WORSE) for verdict in verdicts(20, 1.0))
    assert different / TRIALS < 0.06


def test_a_table_of_identical_code_is_rarely_called_different(monkeypatch):
    """Holm's correction: 10 comparisons at once, and one wrong verdict anywhere in at most 6 % of tables."""
    monkeypatch.setattr(statistics, "RESAMPLES", 199)
    rng, tables, wrong = random.Random(2), 40, 0
    for _ in range(tables):
        row = [statistics.compare_means(processes(rng, 12), processes(rng, 12)) for _ in range(10)]
        said = map(statistics.verdict, row, statistics.holm([each.p for each in row]))
        wrong += any(verdict in (Verdict.BETTER, Verdict.WORSE) for verdict in said)
    assert wrong / tables < 0.06


def test_a_real_difference_is_found(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    assert sum(verdict is Verdict.WORSE for verdict in verdicts(20, 1.06, trials=100)) >= 98
    assert sum(verdict is Verdict.BETTER for verdict in verdicts(20, 0.94, trials=100)) >= 98


def test_the_interval_holds_the_truth_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    rng, held = random.Random(3), 0
    for _ in range(TRIALS):
        interval = statistics.compare_means(processes(rng, 20), processes(rng, 20, 1.25)).interval
        held += interval.low <= 1.25 <= interval.high
    assert 0.91 < held / TRIALS < 0.985


def test_seed_intervals_hold_the_truth_too():
    rng, held = random.Random(4), 0
    for _ in range(1000):
        interval = statistics.mean_interval([rng.gauss(10, 1) for _ in range(5)])
        held += interval.low <= 10 <= interval.high
    assert 0.93 < held / 1000 < 0.97


def test_equal_numbers_give_equal_intervals():
    first, second = processes(random.Random(1), 10), processes(random.Random(2), 10)
    assert statistics.compare_means(first, second) == statistics.compare_means(first, second)


def test_too_few_processes_are_inconclusive():
    compared = statistics.compare_means([1.0, 1.01, 1.02, 0.99], [2.0, 2.01, 2.02, 2.03])
    assert compared.interval is None and compared.delta == 1.0
    assert statistics.verdict(compared, compared.p) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("ratio", "low", "high", "p", "said"),
    [
        (1.10, 1.05, 1.15, 0.001, Verdict.WORSE),
        (0.90, 0.85, 0.95, 0.001, Verdict.BETTER),
        (1.10, 1.05, 1.15, 0.05, Verdict.INCONCLUSIVE),
        (1.10, 0.99, 1.21, 0.001, Verdict.INCONCLUSIVE),
        (1.005, 1.001, 1.009, 0.001, Verdict.SAME),
        (1.000, 0.990, 1.010, 0.9, Verdict.SAME),
        (1.000, 0.980, 1.020, 0.9, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_from_interval_and_p(ratio, low, high, p, said):
    assert statistics.verdict(Comparison(ratio, Interval(low, high), p, 0.0, 20), p) is said


def test_processes_without_variance_are_compared_exactly():
    compared = statistics.compare_means([2.0] * 6, [3.0] * 6)
    assert compared.interval == Interval(1.5, 1.5) and compared.delta == 1.0
    assert statistics.verdict(compared, compared.p) is Verdict.WORSE


def test_values_within_a_process_count_once():
    assert statistics.process_means([[1.0, 3.0], [], [5.0]]) == [2.0, 5.0]


def test_pairs_are_averaged_in_logarithms():
    compared = statistics.compare_pairs([1.0, 2.0], [2.0, 1.0])
    assert compared.ratio == pytest.approx(1.0) and compared.interval is None and compared.n == 2


def test_five_pairs_have_an_interval_and_four_do_not():
    base, other = [1.0, 2.0, 3.0, 4.0, 5.0], [1.11, 2.2, 3.31, 4.4, 5.49]
    five = statistics.compare_pairs(base, other)
    assert five.interval.low < 1.1 < five.interval.high < 1.11
    assert statistics.verdict(five, five.p) is Verdict.WORSE
    assert statistics.compare_pairs(base[:4], other[:4]).interval is None


def test_pairs_with_one_ratio_have_an_exact_interval():
    compared = statistics.compare_pairs([1.0, 2.0, 4.0, 8.0, 16.0], [2.0, 4.0, 8.0, 16.0, 32.0])
    assert compared.interval.low == compared.interval.high == pytest.approx(2.0)
    assert statistics.verdict(compared, compared.p) is Verdict.WORSE


def test_holm_by_hand():
    assert statistics.holm([]) == []
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_none_and_bonferroni(p_values):
    corrected = statistics.holm(p_values)
    for p, each in zip(p_values, corrected, strict=True):
        assert p <= each <= min(1.0, max(p_values) * len(p_values)) or each == pytest.approx(p)
    assert [corrected[i] for i in sorted(range(len(p_values)), key=p_values.__getitem__)] == sorted(corrected)


values = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=8)


@given(values, values)
def test_cliffs_delta_is_u(first, second):
    statistic = scipy_stats.mannwhitneyu(second, first).statistic
    assert statistics.cliffs_delta(first, second) == pytest.approx(2 * statistic / (len(first) * len(second)) - 1)


def test_a_missing_scipy_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ConfigError, match=r"pip install memvirt\[report\]"):
        statistics.compare_means([1.0], [1.0])
    assert statistics.mean_interval([1.0, 2.0, 4.0]) == Interval(1.0, 4.0)
