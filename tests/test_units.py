"""Sizes, times and percentages: exact both ways, and helpful about what cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memvirt import units
from memvirt.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "pages"),
    [
        ("4KiB", 1),
        ("4096B", 1),
        ("4096", 1),
        (4096, 1),
        ("64MiB", 16384),
        ("1.5GiB", 393216),
        (" 4 GiB ", 1 << 20),
        ("1_024KiB", 256),
        ("2TiB", 1 << 29),
        ("0.5MiB", 128),
    ],
)
def test_sizes(text, pages):
    assert units.parse_pages(text) == pages


@pytest.mark.parametrize(
    ("value", "why", "hint"),
    [
        ("0", "zero", "4KiB"),
        (0, "zero", "4KiB"),
        ("-4MiB", "negative", "did you mean 4MiB?"),
        ("4MB", "unknown unit 'MB'", "did you mean 4MiB?"),
        ("4g", "unknown unit 'g'", "did you mean 4GiB?"),
        ("4Gib", "unknown unit 'Gib'", "did you mean 4GiB?"),
        ("5KiB", "not a multiple", "did you mean 4KiB?"),
        ("7KiB", "not a multiple", "did you mean 8KiB?"),
        ("64", "not a multiple", "64MiB"),
        (64, "not a multiple", "64MiB"),
        ("1B", "not a multiple", "did you mean 4KiB?"),
        ("0.3B", "whole number of bytes", "did you mean 0?"),
        ("", "not a number", "4GiB"),
        ("GiB", "not a number", "4GiB"),
        ("four", "not a number", "4GiB"),
        ("1e9", "not a number", "4GiB"),
        ("٤KiB", "not a number", "4GiB"),
        (4096.0, "float", "text"),
        (None, "NoneType", "text"),
        (True, "bool", "text"),
        ("17592186044416KiB", "larger than", "16TiB"),
    ],
)
def test_sizes_that_cannot_be(value, why, hint):
    with pytest.raises(ConfigError) as caught:
        units.parse_pages(value)
    assert why in str(caught.value)
    assert hint in str(caught.value)
    assert repr(value) in str(caught.value)


def test_zero_where_allowed_and_the_largest_size():
    assert units.parse_pages("0", allow_zero=True) == 0
    assert units.parse_pages(units.MAX_PAGES * 4096) == units.MAX_PAGES
    with pytest.raises(ConfigError, match="32-bit"):
        units.parse_pages((units.MAX_PAGES + 1) * 4096)


@given(st.integers(1, units.MAX_PAGES))
def test_pages_survive_the_text(pages):
    assert units.parse_pages(units.format_pages(pages)) == pages


@given(st.integers(0, 1 << 62))
def test_bytes_and_times_survive_the_text(number):
    assert units.parse_bytes(units.format_bytes(number)) == number
    assert units.parse_time(units.format_time(number)) == number


def test_the_text_is_the_shortest():
    assert [units.format_pages(n) for n in (0, 1, 256, 384, 1 << 18)] == ["0", "4KiB", "1MiB", "1536KiB", "1GiB"]
    assert [units.format_time(n) for n in (0, 50_000, 1_500_000_000, 120 * 10**9)] == ["0", "50us", "1500ms", "2min"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [("50us", 50_000), ("50µs", 50_000), ("1s", 10**9), ("0.1ms", 100_000), (7, 7), ("2min", 120 * 10**9), ("0", 0)],
)
def test_times(text, ns):
    assert units.parse_time(text) == ns


@pytest.mark.parametrize(
    ("value", "why"),
    [("-1s", "did you mean 1s"), ("3sec", "did you mean 3s"), ("0.5ns", "whole number"), (1.5, "float"), ("x", "50us")],
)
def test_times_that_cannot_be(value, why):
    with pytest.raises(ConfigError, match=why):
        units.parse_time(value)


def test_percentages():
    assert [units.parse_percent(value) for value in (0, "20%", "100", 7)] == [0, 20, 100, 7]
    assert units.parse_percent("250%", maximum=10_000) == 250
    for value, why in ((101, "did you mean 100%"), ("-1%", "did you mean 0%"), ("2.5%", "whole"), ("3x", "unit")):
        with pytest.raises(ConfigError, match=why):
            units.parse_percent(value)


def test_suggestions():
    assert units.suggest("clok", ["clock", "lru"]) == "; did you mean 'clock'?"
    assert units.suggest("LRU", ["clock", "lru"]) == "; did you mean 'lru'?"
    assert units.suggest("zzz", ["clock", "lru"]) == ""
