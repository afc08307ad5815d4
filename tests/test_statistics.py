"""Verdicts: known answers, and how often identical things are called different."""

import sys
from math import exp, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from memvirt.errors import ConfigError
from memvirt.report import statistics
from memvirt.report.statistics import Comparison, Interval, Verdict

TRIALS = 3000
# Of 3000 trials at 5 %, three and a half standard deviations are 1.4 %. Five processes a side are a little on the safe side.
ALARMS = (0.025, 0.064)
COVERAGE = (1 - ALARMS[1], 1 - ALARMS[0])

# Process means as they come: an even scatter of 3 %, and two that lean to the slow side. The last one does so even in
# its logarithms: nothing is faster than 1, and some are far slower.
MEANS = {
    "normal": lambda rng, n: rng.normal(1, 0.03, n),
    "gamma": lambda rng, n: rng.gamma(4, 0.25, n),
    "1 + lognormal": lambda rng, n: 1 + rng.lognormal(0, 1, n),
}


def draws(kind, n, trials, seed=2):
    """Pairs of sets of process means from one distribution: what identical code gives."""
    rng = np.random.Generator(np.random.PCG64([seed, n, *kind.encode()]))
    for _ in range(trials):
        yield MEANS[kind](rng, n).tolist(), MEANS[kind](rng, n).tolist()


def coverage(interval_of, kind, n, trials, truth=1.25):
    """How often an interval holds the true ratio."""
    held = 0
    for first, second in draws(kind, n, trials):
        low, high = interval_of(first, [truth * value for value in second])
        held += low <= truth <= high
    return held / trials


def welch(first, second):
    interval = statistics.compare_means(first, second).interval
    return interval.low, interval.high


def bootstrap(first, second):
    """What this was before: BCa of the ratio of means."""

    def ratio(second, first, axis=-1):
        return np.mean(second, axis=axis) / np.mean(first, axis=axis)

    sets = (np.array(second), np.array(first))
    return scipy_stats.bootstrap(sets, ratio, n_resamples=499, vectorized=True, rng=1).confidence_interval


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("kind", MEANS)
def test_levels_hold(kind, n):
    """Identical code is called different at the nominal rate, and interval and p say the same of every trial."""
    alarms = 0
    for first, second in draws(kind, n, TRIALS):
        compared = statistics.compare_means(first, second)
        alarms += compared.p < statistics.ALPHA
        assert (compared.p < statistics.ALPHA) != (compared.interval.low <= 1 <= compared.interval.high)
    assert ALARMS[0] < alarms / TRIALS < ALARMS[1]


@pytest.mark.parametrize(("kind", "n"), [("normal", 5), ("gamma", 10), ("1 + lognormal", 20)])
def test_intervals_hold_the_true_ratio_as_often_as_they_say(kind, n):
    assert COVERAGE[0] < coverage(welch, kind, n, TRIALS) < COVERAGE[1]


@pytest.mark.parametrize(
    ("kind", "n"), [("normal", 5), ("1 + lognormal", 5), ("1 + lognormal", 10), ("1 + lognormal", 20)]
)
def test_the_bootstrap_would_be_found_out(kind, n):
    """The simulation tells a method that does not hold its level: this one covers 81 to 88 %."""
    assert coverage(bootstrap, kind, n, 400) < COVERAGE[0] - 0.02


@pytest.mark.parametrize("n", [5, 12])
def test_a_table_of_identical_code_is_rarely_called_different(n):
    """Holm's correction: 10 rows at once, and a wrong verdict anywhere in about 5 % of tables."""
    tables, every = 300, draws("gamma", n, 3000, seed=3)
    wrong = 0
    for _ in range(tables):
        rows = [statistics.compare_means(*next(every)) for _ in range(10)]
        said = map(statistics.verdict, rows, statistics.holm([row.p for row in rows]))
        wrong += any(verdict in (Verdict.BETTER, Verdict.WORSE) for verdict in said)
    assert wrong / tables < 0.085


def test_the_rank_test_as_a_gate_would_be_found_out():
    """Seven rows of five processes a side, each twice as slow: plain to Welch, and beyond the exact rank test."""
    sets = [(first, [2 * value for value in second]) for first, second in draws("normal", 5, 7)]
    rows, ranks = [statistics.compare_means(*each) for each in sets], [statistics.rank_test(*each) for each in sets]
    corrected = statistics.holm([row.p for row in rows])
    assert {statistics.verdict(row, p) for row, p in zip(rows, corrected, strict=True)} == {Verdict.WORSE}
    assert {each.delta for each in ranks} == {1}
    least = min(statistics.holm([each.p for each in ranks]))
    assert least == pytest.approx(7 * 2 / 252) and least > statistics.ALPHA


@pytest.mark.parametrize(("n", "slower", "found"), [(20, 1.06, 0.98), (10, 1.06, 0.95), (5, 1.10, 0.9)])
def test_a_real_difference_is_found(n, slower, found):
    for factor, verdict in ((slower, Verdict.WORSE), (1 / slower, Verdict.BETTER)):
        rows = [
            statistics.compare_means(first, [factor * value for value in second])
            for first, second in draws("normal", n, 200)
        ]
        assert sum(statistics.verdict(row, row.p) is verdict for row in rows) >= found * 200


@pytest.mark.parametrize("kind", MEANS)
def test_pairs_hold_their_level(kind):
    """Seeds that differ widely, the same on both sides, and a ratio of its own for each."""
    alarms, rng = 0, np.random.Generator(np.random.PCG64(4))
    for first, second in draws(kind, 5, TRIALS):
        seeds = rng.lognormal(0, 2, 5)
        alarms += statistics.compare_pairs((seeds * first).tolist(), (seeds * second).tolist()).p < statistics.ALPHA
    assert ALARMS[0] < alarms / TRIALS < ALARMS[1]


def test_seed_intervals_hold_the_truth_too(monkeypatch):
    sets = [[10 * value for value in first] for first, _ in draws("normal", 5, TRIALS)]
    held = [each.low <= 10 <= each.high for each in map(statistics.mean_interval, sets)]
    assert COVERAGE[0] < sum(held) / TRIALS < COVERAGE[1]
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    held = [each.low <= 10 <= each.high for each in map(statistics.mean_interval, sets)]
    assert sum(held) / TRIALS == pytest.approx(1 - 2**-4, abs=0.014), "what is said of the stand-in"


@pytest.mark.parametrize(("presets", "n"), [(2, 5), (6, 5), (6, 10)])
def test_equal_presets_are_seldom_told_apart_from_the_best_of_them(presets, n):
    """Seeds differ widely and presets by chance. Any preset told apart is a false alarm, though the best was picked."""
    rng, alarms = np.random.Generator(np.random.PCG64(5)), 0
    for _ in range(1000):
        values = rng.lognormal(0, 1, n) * rng.gamma(16, 1 / 16, (presets, n))
        first, *others = sorted(values.tolist(), key=lambda each: np.log(each).mean())
        alarms += any(statistics.told_apart(first, others))
    assert alarms / 1000 < 0.07


def test_presets_that_differ_in_every_seed_are_told_apart():
    seeds = [1.0, 30.0, 2.0, 9.0, 0.1]
    slower, torn = [1.1, 33.3, 2.21, 9.9, 0.111], [2.0, 20.0, 3.0, 5.0, 0.2]
    assert statistics.told_apart(seeds, [slower, torn, seeds]) == [True, False, False]
    assert statistics.told_apart(seeds[:4], [torn[:4]]) == [True], "four seeds are all there is"
    assert statistics.told_apart(seeds, [slower[:4]]) == [False], "not paired"
    assert statistics.told_apart([0.0] * 5, [[5.0, 5.1, 5.2, 5.0, 5.1], [0.0] * 5]) == [True, False]
    assert statistics.told_apart(seeds, []) == []


def test_the_best_is_found_without_scipy(monkeypatch):
    """The range of the differences stands in: all seeds have to agree."""
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert statistics.told_apart([1.0, 2.0, 3.0, 4.0, 5.0], [[1.1, 2.1, 3.1, 4.1, 5.1]]) == [True]
    assert statistics.told_apart([1.0, 2.0, 3.0, 4.0, 5.0], [[1.1, 2.1, 3.1, 4.1, 4.9]]) == [False]


def test_against_scipy_on_the_same_numbers():
    first, second = [1.0, 1.1, 1.3, 0.9, 1.05, 1.2], [1.4, 1.5, 1.2, 1.9, 1.3]
    compared = statistics.compare_means(first, second)
    theirs = scipy_stats.ttest_ind(np.log(second), np.log(first), equal_var=False)
    assert compared.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert compared.ratio == pytest.approx(scipy_stats.gmean(second) / scipy_stats.gmean(first))
    assert compared.interval.low == pytest.approx(np.exp(theirs.confidence_interval(0.95).low))
    assert statistics.rank_test(first, second).p == scipy_stats.mannwhitneyu(second, first).pvalue


def test_welch_by_hand():
    """NIST's AUTO83B is not at hand in full, so two small sets whose answer can be done on paper: logs 0 to 4 and 2 to
    10 by twos. Means 2 and 6, variances 2.5 and 10, t = 4 / sqrt(2.5), df = 2.5**2 / ((0.5**2 + 2**2) / 4) = 5.88."""
    compared = statistics.compare_means([exp(i) for i in range(5)], [exp(2 * i) for i in range(1, 6)])
    assert compared.ratio == pytest.approx(exp(4))
    t, df = 4 / sqrt(2.5), 2.5**2 / (4.25 / 4)
    assert compared.p == pytest.approx(2 * scipy_stats.t.sf(t, df))
    assert log(compared.interval.high) - 4 == pytest.approx(scipy_stats.t.ppf(0.975, df) * sqrt(2.5))


def test_equal_numbers_give_equal_intervals():
    first, second = next(draws("normal", 10, 1))
    assert statistics.compare_means(first, second) == statistics.compare_means(first, second)


@given(st.lists(st.floats(1e-9, 1e6), min_size=5, max_size=8), st.lists(st.floats(1e-9, 1e6), min_size=5, max_size=8))
def test_swapped_sides_say_the_opposite(first, second):
    one, other = statistics.compare_means(first, second), statistics.compare_means(second, first)
    assert one.ratio * other.ratio == pytest.approx(1)
    assert one.p == pytest.approx(other.p, abs=1e-9)
    assert (
        0 <= one.p <= 1 and one.interval.low <= one.ratio * (1 + 1e-9) and one.ratio <= one.interval.high * (1 + 1e-9)
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("first", [[2.0] * 5, [2.0, 2.0, 2.0, 2.0, 2.0 + 1e-15], [2.0, 2.1, 1.9, 2.0, 2.0]])
@pytest.mark.parametrize("second", [[3.0] * 5, [3.0, 3.0, 3.0, 3.0, 3.0 + 1e-15]])
def test_values_that_hardly_differ_are_compared_without_a_warning(first, second):
    compared = statistics.compare_means(first, second)
    assert statistics.verdict(compared, compared.p) is Verdict.WORSE
    assert statistics.compare_pairs(first, second).ratio == pytest.approx(1.5, rel=0.01)


def test_too_few_processes_are_inconclusive():
    compared = statistics.compare_means([1.0, 1.01, 1.02, 0.99], [2.0, 2.01, 2.02, 2.03])
    assert compared.interval is None
    assert statistics.verdict(compared, compared.p) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("ratio", "low", "high", "p", "said"),
    [
        (1.10, 1.05, 1.15, 0.001, Verdict.WORSE),
        (0.90, 0.85, 0.95, 0.001, Verdict.BETTER),
        (1.10, 1.05, 1.15, 0.05, Verdict.INCONCLUSIVE),
        (1.005, 1.001, 1.009, 0.001, Verdict.SAME),
        (1.000, 0.990, 1.010, 0.9, Verdict.SAME),
        (1.000, 0.980, 1.020, 0.9, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_from_interval_and_p(ratio, low, high, p, said):
    assert statistics.verdict(Comparison(ratio, Interval(low, high), p, 20), p) is said


def test_processes_without_variance_are_compared_exactly():
    compared = statistics.compare_means([2.0] * 6, [3.0] * 6)
    assert compared.interval.low == compared.interval.high == pytest.approx(1.5)
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
def test_cliffs_delta_counts_pairs(first, second):
    above = sum((after > before) - (after < before) for before in first for after in second)
    assert statistics.rank_test(first, second).delta == pytest.approx(above / (len(first) * len(second)))


def test_a_missing_scipy_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(ConfigError, match=r"pip install memvirt\[report\]"):
        statistics.compare_means([1.0], [1.0])
    assert statistics.mean_interval([1.0, 2.0, 4.0]) == Interval(1.0, 4.0)
