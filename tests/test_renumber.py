"""Renumbering by first appearance, against a dict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.engine.traces.renumber import Renumber
from memvirt.errors import InvariantError

KEYS = st.integers(0, (1 << 64) - 1) | st.integers(0, 20)


def by_dict(keys, spaces, table):
    return [table.setdefault((key, space), len(table)) for key, space in zip(keys, spaces, strict=True)]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=300), max_size=5))
def test_numbers_are_those_of_a_dict_that_is_asked_in_order(batches):
    table, oracle = Renumber(), {}
    for batch in batches:
        keys = np.array([key for key, _ in batch], dtype=np.uint64)
        spaces = np.array([space for _, space in batch], dtype=np.uint32)
        assert table.number(keys, spaces).tolist() == by_dict(keys.tolist(), spaces.tolist(), oracle)
        table.check()
    assert table.pages == len(oracle)
    keys, spaces = table.originals()
    assert list(zip(keys.tolist(), spaces.tolist(), strict=True)) == list(oracle)


def test_a_table_grows_and_forgets_nothing():
    keys = np.arange(200_000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    table = Renumber()
    before = table.memory_bytes()
    assert (table.number(keys) == np.arange(200_000)).all()
    assert (table.number(keys[::-1]) == np.arange(200_000)[::-1]).all()
    table.check()
    assert before < table.memory_bytes() <= 64 * 200_000


def test_keys_made_to_collide_in_an_unseeded_table_cost_no_more():
    """Keys that differ in their high bits only: with the low bits as hash all would stand in one chain."""
    keys = np.arange(50_000, dtype=np.uint64) << np.uint64(44)
    table = Renumber()
    assert (table.number(keys) == np.arange(50_000)).all()


def test_too_many_pages_are_refused():
    table = Renumber(3)
    assert table.number(np.array([9, 8, 9, 7], dtype=np.uint64)).tolist() == [0, 1, 0, 2]
    with pytest.raises(OverflowError, match="more than 3 different pages"):
        table.number(np.array([8, 6], dtype=np.uint64))
    assert table.number(np.array([7], dtype=np.uint64)).tolist() == [2]


@pytest.mark.parametrize("most", [0, -1, (1 << 31) + 1, "3", None])
def test_a_table_for_no_number_of_pages_is_refused(most):
    with pytest.raises(InvariantError):
        Renumber(most)


def test_keys_and_spaces_go_in_pairs():
    with pytest.raises(InvariantError, match="2 keys need as many spaces, not 1"):
        Renumber().number(np.zeros(2, np.uint64), np.zeros(1, np.uint32))
    assert Renumber().number(np.zeros(0, np.uint64)).tolist() == []
