"""Records are values: validated, exact, written whole; and the arithmetic under them."""

import os
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memvirt.errors import RecordError
from memvirt.results import record as records
from memvirt.results.record import Record


def made(**changes):
    config = changes.pop("config", {"scenario": {"name": "zipf"}})
    fields = {
        "suite": "s", "scenario": "zipf-150", "preset": "swap", "role": "column", "kind": "fleet",
        "seed": 1, "tier": "smoke", "status": "done",
        "ratio": "1.50", "config": config, "config_sha256": records.sha256_of(config), "inputs": {"corpus": "ab"},
        "versions": {"memvirt": "0.1.0"},
    }  # fmt: skip
    return Record(**{**fields, **changes})


def test_a_record_survives_its_text():
    record = made(counters={"reads": 3}, histograms={"swap": [(10, 2), (20, 1)]}, derived={"slowdown": "1.5"})
    assert records.loads(records.dumps(record), "x") == record
    assert record.cell == "zipf-150--swap--s1" and made(role="baseline").cell == "zipf-150--swap--s1--baseline"
    assert record.base_scenario == "zipf" and record.description == ""
    assert (record.number("slowdown"), record.number("reads"), record.number("faults")) == (1.5, 3, None)
    assert not {"environment", "measured"} & set(records.comparable(record))


def test_members_of_families_are_numbers_too():
    record = made(usage={"guest": 7}, stores={"swap": 3}, cpu_ns={"compress": 5}, derived={"sim_ns.swap.p50": 9})
    names = ("usage.guest", "stores.swap", "cpu_ns.compress", "sim_ns.swap.p50")
    assert [record.number(name) for name in names] == [7, 3, 5, 9]
    assert record.number("usage.swap") is record.number("guest") is record.number("usage") is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "failed"}, "needs a reason"),
        ({"derived": {"slowdown": 1.5}}, "derived.slowdown"),
        ({"config": {"scenario": {"name": "a"}, "a": [1, {"b": 0.5}]}}, r"a float at a\[1\].b"),
        ({"config": {"scenario": "zipf"}}, "scenario is no description of a scenario"),
        ({"derived": {"slowdown": "quick"}}, "no decimal number: slowdown"),
        ({"fragmentation": {"unusable": {"9": 3}}}, "unusable is no list of integers"),
        ({"fragmentation": {"external": [True]}}, "external is no list of integers"),
        ({"measured": {"accesses_per_s": "fast"}}, "accesses_per_s is no integer"),
        ({"asked": {"settings": 7}}, "settings is no list of texts"),
        ({"vms": {"vm0": {"sim_ns": 3}}}, "no times of vm0"),
        ({"counters": {"reads": 1 << 63}}, "counters.reads"),
        ({"derived": {"slowdown": "1" * 21}}, "no decimal number: slowdown"),
        ({"role": "row"}, "role"),
        ({"shown": {}}, "shown"),
        ({"config_sha256": "0"}, "not the hash of config"),
        ({"counters": {"reads": 1, "guest.oom": -1}}, "counters only grow, these did not: guest.oom"),
        ({"histograms": {"swap": [(20, 1), (10, 1)]}}, "must ascend"),
        ({"histograms": {"swap": [(20, 0)]}}, "must ascend and counts be positive"),
        ({"tier": "huge"}, "tier"),
        ({"colour": "red"}, "colour"),
        ({"sim_ns": "5"}, "sim_ns"),
    ],
)
def test_what_no_record_may_be(changes, said):
    with pytest.raises((ValueError, TypeError), match=said):
        made(**changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a whole JSON file"),
        ("[]", "not a memvirt record"),
        ('{"format": "memvirt-record", "schema": 9}', "schema 9"),
        ('{"format": "memvirt-record", "schema": 3}', "suite"),
        ('{"format": "memvirt-record", "schema": 1}', r"schema 1 \(which held no defaults.*run it again"),
        (b"\xff\xfe", "not a whole JSON file"),
    ],
)
def test_a_damaged_record_names_its_file(text, said):
    with pytest.raises(RecordError, match=said) as caught:
        records.loads(text, "cells/a.json")
    assert str(caught.value).startswith("cells/a.json: ")


@given(st.integers(-(10**12), 10**12), st.integers(-(10**9), 10**9).filter(bool), st.integers(0, 6))
def test_ratios_are_exact_decimals(numerator, denominator, digits):
    exact = Fraction(numerator, denominator)
    text = records.ratio_text(numerator, denominator, digits)
    assert abs(Fraction(text) - exact) * 2 * 10**digits <= 1
    assert Fraction(text) == round(exact * 10**digits) / Fraction(10) ** digits


def test_no_ratio_to_nothing():
    assert records.ratio_text(5, 0) == ""


@given(st.dictionaries(st.integers(0, 1000), st.integers(1, 50), min_size=1), st.sampled_from([500, 990, 999, 1000]))
def test_percentiles_are_those_of_the_written_out_values(counts, per_mille):
    values = sorted(value for value, count in counts.items() for _ in range(count))
    rank = -(-len(values) * per_mille // 1000)
    assert records.percentile(sorted(counts.items()), per_mille) == values[rank - 1]


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 9)), st.dictionaries(st.integers(0, 50), st.integers(1, 9)))
def test_histograms_gain_what_was_added(before, gained):
    after = {value: before.get(value, 0) + gained.get(value, 0) for value in {*before, *gained}}
    found = records.histogram_difference({"k": list(after.items())}, {"k": list(before.items())})
    assert found == ({"k": sorted(gained.items())} if gained else {})


def test_a_failing_write_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    records.write_atomically(path, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match="No space left on device; nothing was changed"):
        records.write_atomically(path, "new")
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_unlike_runs_are_not_laid_together():
    records.require_alike([made(), made(seed=2)])
    with pytest.raises(RecordError, match="unlike runs: inputs"):
        records.require_alike([made(), made(inputs={"corpus": "cd"})])
