"""A search over sizes: the answer of a function that is known, in as few questions as promised, and what is not monotone."""

from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memvirt.experiment.bisection import Bounds, answer, bracket, next_size, violations
from memvirt.experiment.capacity import conclude, first_beyond, holds, wanted


def ask(meets, bounds, step=1):
    """What is known when the search ends."""
    known = {}
    while (size := next_size(known, bounds, step)) is not None:
        assert bounds.low <= size <= bounds.high and size not in known
        known[size] = meets(size)
    return known


def searched(meets, seeds, bounds):
    """(what is known, rounds) of a search over seeds, whose `meets` is given size and seed."""
    known, rounds = {seed: {} for seed in seeds}, 0
    while asked := wanted(known, seeds, bounds):
        assert len(set(asked)) == len(asked)
        for size, seed in asked:
            assert bounds.low <= size <= bounds.high and size not in known[seed]
            known[seed][size] = meets(size, seed)
        rounds += 1
    return known, rounds


@st.composite
def questions(draw):
    low = draw(st.integers(1, 50))
    high = draw(st.integers(low, low + 5000))
    return Bounds(low, high, draw(st.integers(low, high))), draw(st.integers(low - 1, high))


@given(question=questions(), step=st.integers(1, 40))
def test_a_threshold_is_found_exactly_in_a_logarithm_of_questions(question, step):
    bounds, threshold = question
    known = ask(lambda size: size <= threshold, bounds, step)
    assert answer(known, bounds) == threshold and not violations(known)
    away = abs(threshold - bounds.start) + 1
    assert len(known) <= 2 * ceil(log2(away + step)) + 4


@given(bits=st.lists(st.booleans(), min_size=1, max_size=60), start=st.integers(1, 60), step=st.integers(1, 9))
def test_whatever_the_function_every_size_asked_up_to_the_answer_meets_and_the_next_fails(bits, start, step):
    bounds = Bounds(1, len(bits), min(start, len(bits)))
    known = ask(lambda size: bits[size - 1], bounds, step)
    found = answer(known, bounds)
    assert all(meets for size, meets in known.items() if size <= found)
    assert found == bounds.high or known[found + 1] is False
    assert found == 0 or known[found]


def test_violations_name_each_size_that_fails_below_one_that_meets():
    known = {1: True, 2: False, 3: True, 5: False, 6: False, 8: True, 9: False}
    assert violations(known) == [(2, 3), (5, 8), (6, 8)] and bracket(known) == (1, 2)
    assert violations({1: True, 2: False}) == [] and bracket({}) == (None, None)


def test_a_first_guess_lies_within_the_bounds():
    with pytest.raises(ValueError, match="does not lie in 3 to 5"):
        Bounds(3, 5, 6)


@given(
    thresholds=st.lists(st.integers(0, 80), min_size=1, max_size=5),
    start=st.integers(1, 80),
)
def test_every_seed_gets_its_own_answer_and_the_least_is_that_of_all(thresholds, start):
    seeds, bounds = range(1, len(thresholds) + 1), Bounds(1, 80, start)
    known, _ = searched(lambda size, seed: size <= thresholds[seed - 1], seeds, bounds)
    found = conclude(known, seeds, bounds)
    assert list(found.by_seed.values()) == thresholds and not found.violations
    assert found.size == min(thresholds) and found.interval == (min(thresholds), max(thresholds))
    expected = "none" if min(thresholds) < 1 else "all" if min(thresholds) == 80 else "found"
    assert found.outcome == expected
    beyond = first_beyond(known, seeds)
    assert beyond == (None if min(thresholds) == 80 else (min(thresholds) + 1, thresholds.index(min(thresholds)) + 1))


@given(data=st.data())
def test_a_search_over_any_function_ends_on_the_safe_side_and_says_what_it_saw(data):
    bits = {seed: data.draw(st.lists(st.booleans(), min_size=20, max_size=20)) for seed in (1, 2, 3)}
    bounds = Bounds(1, 20, 10)
    known, rounds = searched(lambda size, seed: bits[seed][size - 1], [1, 2, 3], bounds)
    found = conclude(known, [1, 2, 3], bounds)
    assert rounds <= 40 and found.outcome != "unfinished"
    for seed, size in found.by_seed.items():
        assert all(meets for asked, meets in known[seed].items() if asked <= size)
        assert size == 20 or known[seed].get(size + 1) is False
        assert {(fails, meets) for each, fails, meets in found.violations if each == seed} == set(
            violations(known[seed])
        )


def test_one_seed_goes_far_and_the_others_look_where_it_ends():
    known, rounds = searched(lambda size, seed: size <= 33 + seed // 3, [1, 2, 3], Bounds(1, 4096, 20))
    assert len(known[2]) == len(known[3]) == 3 and {33, 34, 35} == set(known[2])
    assert set(known[2]) <= set(known[1]) and rounds <= 12
    assert any(25 <= size <= 31 for size in known[1]) and any(35 < size <= 41 for size in known[1])


@pytest.mark.parametrize(("threshold", "cells"), [(15, 8), (16, 9), (14, 9), (19, 11), (30, 14)])
def test_a_good_first_guess_makes_a_short_search(threshold, cells):
    known, rounds = searched(lambda size, seed: size <= threshold, [1, 2, 3], Bounds(1, 459, 15))
    assert sum(map(len, known.values())) <= cells and rounds <= 9
    assert conclude(known, [1, 2, 3], Bounds(1, 459, 15)).size == threshold


def test_the_first_two_sizes_run_beside_each_other_and_neither_is_for_nothing():
    bounds = Bounds(1, 400, 40)
    assert wanted({1: {}}, [1], bounds) == [(35, 1), (40, 1)]
    assert wanted({1: {40: True}}, [1], bounds) == [(35, 1)], "a search that was stopped goes on with what is missing"
    assert wanted({1: {35: True, 40: False}}, [1], bounds) == [(37, 1)]
    assert wanted({1: {35: True, 40: True, 41: False}}, [1], bounds) == [(45, 1)], "35 shows the curve below"
    assert wanted({1: {}}, [1], Bounds(1, 9, 2)) == [(2, 1)]
    assert wanted({1: {3: True, 7: False}}, [1], bounds) == [(5, 1)], "of another question: it goes on from there"


def test_an_unfinished_search_says_so_and_what_it_has():
    found = conclude({1: {4: True}, 2: {}}, [1, 2], Bounds(1, 9, 4))
    assert found.outcome == "unfinished" and found.by_seed == {1: 4, 2: 0}


@given(answer_=st.integers(0, 500), hosts=st.integers(2, 40))
def test_with_a_spare_host_the_survivors_hold_no_more_than_the_answer(answer_, hosts):
    found = conclude({1: {size: size <= answer_ for size in (answer_, answer_ + 1) if size}}, [1], Bounds(1, 501, 1))
    held = found.with_spare(hosts)
    survivors = hosts - 1
    assert held + ceil(held / survivors) <= answer_ or not held
    assert held + 1 + ceil((held + 1) / survivors) > answer_


def test_the_range_of_seeds_holds_the_median_as_often_as_it_says():
    assert [holds(seeds) for seeds in (1, 3, 5)] == [0, 0.75, 0.9375]
