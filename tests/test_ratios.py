"""bench/ratios.py: what its answers rest on, how turns are taken, and what it does with bad input. Nothing is timed."""

import importlib
import json
import re
from contextlib import nullcontext
from itertools import count
from math import exp, inf, log, nan
from pathlib import Path
from types import SimpleNamespace

import harness
import numpy as np
import pytest
import ratios
from harness import Absent, Answer, Reference, Unlike, answer, bounded, compare, enough, exact

import memvirt
from memvirt.engine.host.admission import create_vm
from memvirt.errors import ConfigError
from memvirt.inputs import synthetic
from memvirt.report.statistics import Comparison, Interval

BENCH = Path(harness.__file__).parent
ENGINE = BENCH.parent / "ext" / "memvirt" / "engine"


def around(ratio, factor):
    """A ratio with an interval that reaches from ratio / factor to ratio * factor."""
    return Comparison(ratio, Interval(ratio / factor, ratio * factor), 0.5, 9)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.0, 1.5, Answer.MET),
        (1.1, 1.5, Answer.MET),
        (0.99, 1.5, Answer.CANNOT_TELL),
        (0.5, 1.0, Answer.CANNOT_TELL),
        (0.5, 0.99, Answer.MISSED),
    ],
)
def test_the_interval_answers_the_target(low, high, said):
    assert answer(Comparison(1.0, Interval(low, high), 0.5, 9), 1.0) is said


def test_without_an_interval_nothing_can_be_told():
    few = Comparison(3.0, None, 1.0, 4)
    assert answer(few, 1.0) is Answer.CANNOT_TELL
    assert not enough(few, 1.0) and not enough(few, None)


def test_an_interval_narrower_than_its_distance_to_the_target_is_enough():
    assert enough(around(1.2, 1.09), 1.0) and enough(around(1 / 1.2, 1.09), 1.0)
    assert not enough(around(1.2, 1.10), 1.0) and not enough(around(1 / 1.2, 1.10), 1.0)
    assert answer(around(1.2, 1.10), 1.0) is Answer.MET, "clear at the last turn, and not before"
    assert enough(around(1.0, 9.0), None)


def reference(values, target=1.0, name="peer", **more):
    """A reference that measures these values, one after another."""
    values = iter(values)
    return Reference(name=name, measure=lambda: next(values), target=target, **more)


def rows(ours, *references, repeats=20):
    ours = iter(ours)
    return list(compare("work", lambda: next(ours), references, unit="ns", repeats=repeats))


def steady(value):
    """Values about this one, which differ by 1 % and a little."""
    return (value * (1.01 if i % 3 else 0.99) for i in count())


def restless(value):
    """Values above and below this one by turns."""
    return (value * (1.1 if i % 2 else 0.9) for i in count())


def test_ours_and_references_take_turns_in_both_orders():
    calls = []

    def measured(name):
        return lambda: calls.append(name) or 1.0

    references = [Reference(name=name, measure=measured(name), target=None) for name in ("first", "second")]
    list(compare("work", measured("ours"), references, unit="ns", repeats=3))
    there = ["ours", "first", "second"]
    assert calls == there + there[::-1] + there + there[::-1]


def test_the_first_turn_does_not_count():
    [row] = rows([99.0] + [2.0] * 9, reference([1.0] + [4.0] * 9))
    assert (row.ours, row.reference, row.ratio, row.turns) == (2.0, 4.0, 2.0, 5)


def test_a_clear_answer_ends_a_row_at_five_turns():
    [row] = rows(steady(1.0), reference(steady(2.0)))
    assert row.answer is Answer.MET and row.turns == 5 and row.interval.low > 1.9
    [row] = rows(steady(2.0), reference(steady(1.0)))
    assert row.answer is Answer.MISSED and row.turns == 5


def test_an_unclear_one_goes_on_to_the_cap():
    noise = [1.0, 3.0, 0.4, 2.0, 0.7, 1.0, 0.3, 1.6]
    [row] = rows([1.0] * 9, reference([1.0, *noise]), repeats=8)
    assert row.answer is Answer.CANNOT_TELL and row.turns == 8
    assert row.ratio == pytest.approx(np.exp(np.log(noise).mean()))


def test_turns_are_added_as_long_as_they_are_needed():
    """0.1 % better with 0.5 % of noise: five turns are not enough, forty are."""
    rng = np.random.Generator(np.random.PCG64(1))
    theirs = np.exp(rng.normal(0.004, 0.005, 61)).tolist()
    [short] = rows([1.0] * 61, reference(theirs), repeats=5)
    [long] = rows([1.0] * 61, reference(theirs), repeats=60)
    assert short.answer is Answer.CANNOT_TELL and long.answer is Answer.MET and 5 < long.turns < 60


def test_a_cap_below_five_gives_figures_and_no_answers():
    [row] = rows([1.0] * 5, reference([9.0] * 5), repeats=4)
    assert (row.ratio, row.interval, row.answer, row.turns) == (pytest.approx(9.0), None, Answer.CANNOT_TELL, 4)


def test_a_reference_without_a_target_is_measured_five_times_and_has_no_answer():
    [row] = rows(steady(1.0), reference(steady(1.0), target=None))
    assert row.answer is None and row.turns == 5 and row.interval is not None


def test_what_is_answered_is_not_measured_on():
    clear, unclear = rows(steady(1.0), reference(steady(9.0)), reference(restless(1.0)), repeats=12)
    assert (clear.turns, clear.answer) == (5, Answer.MET)
    assert (unclear.turns, unclear.answer) == (12, Answer.CANNOT_TELL)
    assert clear.ratio == pytest.approx(clear.reference / clear.ours), "of the same turns"


def test_a_drift_that_both_feel_leaves_the_ratio():
    drift = [2.0**i for i in range(9)]
    [row] = rows([1.5 * each for each in drift], reference([3.0 * each for each in drift]))
    assert row.ratio == pytest.approx(2.0) and row.turns == 5 and row.interval.high < 2.0001


def test_what_is_not_to_be_had_is_absent_and_ours_is_shown():
    gone = Reference(name="peer", measure=None, target=3.0, note="no root")
    [row] = rows(steady(5.0), gone)
    assert (row.answer, row.note, row.target, row.ratio) == (Answer.ABSENT, "absent: no root", 3.0, None)
    assert row.ours == pytest.approx(5.0, rel=0.02)


def raising(error, after):
    for _ in range(after):
        yield 9.0
    raise error


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_peer_that_goes_away_is_absent_and_the_others_stay(after):
    one, other = rows(steady(1.0), reference(raising(Absent("killed"), after)), reference(steady(9.0)))
    assert (one.answer, one.note, one.ratio) == (Answer.ABSENT, "absent: killed", None)
    assert other.answer is Answer.MET


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_peer_that_does_other_work_is_a_target_missed(after):
    [row] = rows(steady(1.0), reference(raising(Unlike("DIFFERENT miss counts: 1 and 2"), after)))
    assert row.answer is Answer.MISSED and row.note.startswith("DIFFERENT")


@pytest.mark.parametrize("value", [0.0, -3.0, inf, nan])
def test_what_nothing_can_be_divided_by_is_no_figure(value):
    [row] = rows(steady(1.0), reference([1.0, 2.0, value]))
    assert row.answer is Answer.ABSENT and f"measured {value:g}" in row.note
    with pytest.raises(RuntimeError, match="ours measured"):
        rows([value], reference(steady(1.0)))


def test_numbers_without_noise_are_answered_at_once():
    assert bounded("bytes", 24, 24, "B").answer is Answer.MET
    assert bounded("bytes", 25, 24, "B").answer is Answer.MISSED
    row = exact("pool", 1.02, 1.05, "", target=1 / 1.005)
    assert row.answer is Answer.MET and row.ratio == pytest.approx(1.05 / 1.02) and row.turns == 0
    assert exact("pool", 1.0499, 1.04, "", target=1 / 1.005).answer is Answer.MISSED


def wrong_answers(trials, repeats=20, target=2.0, seed=1):
    """How often a ratio that is exactly at its target is called met, and how often missed."""
    rng = np.random.Generator(np.random.PCG64(seed))
    said = []
    for _ in range(trials):
        noise = rng.gamma(16, 1 / 16, (2, repeats + 1))
        [row] = rows(noise[0].tolist(), reference((target * noise[1]).tolist(), target=target), repeats=repeats)
        said.append(row.answer)
    return said.count(Answer.MET) / trials, said.count(Answer.MISSED) / trials


@pytest.mark.parametrize("repeats", [5, 20])
def test_looking_again_and_again_keeps_the_level(repeats):
    """Of 1000 trials at 5 %, three standard deviations are 2 %."""
    met, missed = wrong_answers(1000, repeats)
    assert met + missed < 0.07 and met < 0.04 and missed < 0.04


def test_a_rule_that_stops_at_the_first_clear_look_would_be_found_out(monkeypatch):
    monkeypatch.setattr(harness, "enough", lambda compared, target: answer(compared, target) != Answer.CANNOT_TELL)
    assert sum(wrong_answers(300)) > 0.1


def test_a_ratio_clear_of_its_target_is_nearly_always_told():
    rng = np.random.Generator(np.random.PCG64(2))
    for factor, said in ((1.15, Answer.MET), (1 / 1.15, Answer.MISSED)):
        found = []
        for _ in range(100):
            ours, theirs = np.exp(rng.normal(0, 0.08, (2, 21)))
            found.append(rows(ours.tolist(), reference((factor * theirs).tolist()))[0].answer)
        assert found.count(said) >= 95 and set(found) <= {said, Answer.CANNOT_TELL}


def made(*, fail=None):
    """Rows of every kind, as a group yields them; then an error, if one is wanted."""

    def measure(chosen, repeats):
        yield from rows(steady(1.0), reference(steady(2.0)), reference(restless(1.0)), repeats=6)
        yield harness.absent("work / peer", 1.0, "ns", 2.0, "no root")
        if fail is not None:
            raise fail
        yield bounded("bytes", 25, 24, "B", "a note")
        yield harness.unjudged("state", 3.0, "B")

    return measure


def test_json_has_one_row_for_each_reference_and_target(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ratios, "measure", made())
    file = tmp_path / "ratios.json"
    assert ratios.main(["--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert [row["answer"] for row in found] == ["met", "cannot tell", "absent", "missed", None]
    assert found[0].keys() == {
        "what", "ours", "reference", "unit", "ratio", "interval", "target", "turns", "answer", "note"
    }  # fmt: skip
    low, high = found[0]["interval"]
    assert low <= found[0]["ratio"] <= high and found[2]["interval"] is None
    said = capsys.readouterr()
    assert "1 of 3 targets met, 1 missed, 1 cannot be told; 1 references absent" in said.err
    lines = said.out.splitlines()
    assert len(lines) == 6 and "MISSED" in lines[4] and lines[4].endswith("a note")
    assert all(len(line.split()) > 4 for line in lines)


@pytest.mark.parametrize(
    ("fail", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted"), (ConfigError("intervals need scipy: pip install x"), 1, "pip install")],
)
def test_what_was_measured_is_written_whatever_happens(fail, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ratios, "measure", made(fail=fail))
    file = tmp_path / "ratios.json"
    assert ratios.main(["--json", str(file)]) == code
    assert len(json.loads(file.read_text())) == 3 and said in capsys.readouterr().err
    monkeypatch.setattr(ratios, "measure", made(fail=RuntimeError("a row is broken")))
    file.unlink()
    with pytest.raises(RuntimeError):
        ratios.main(["--json", str(file)])
    assert len(json.loads(file.read_text())) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "hits"], "unknown: hits; there are start, hit"),
        (["--only", ","], "unknown: nothing"),
        (["--repeats", "0"], "at least 1"),
        (["--repeats", "many"], "invalid int"),
        (["--json", "/nowhere/at/all.json"], "cannot be written"),
        (["--json", "."], "cannot be written"),
    ],
)
def test_bad_input_is_refused_before_anything_is_measured(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(ratios, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as ended:
        ratios.main(arguments)
    assert ended.value.code == 2 and said in " ".join(capsys.readouterr().err.split())


def test_help_has_two_examples_and_every_group(capsys):
    with pytest.raises(SystemExit):
        ratios.main(["--help"])
    said = capsys.readouterr().out
    assert said.count("  python bench/ratios.py --") == 2
    assert all(re.search(rf"^  {name} +{re.escape(held)}$", said, re.MULTILINE) for name, held in ratios.GROUPS.items())


def test_a_busy_machine_is_told_of():
    assert ratios.unrest(1.4, 2) == "" and "load here is 3.0 on 2 processors" in ratios.unrest(3.0, 2)


def test_only_and_full_choose_groups(monkeypatch):
    chosen = []
    monkeypatch.setattr(ratios, "measure", lambda names, repeats: iter(chosen.append((list(names), repeats)) or ()))
    for arguments in (["--only", "swap, hit,swap", "--repeats", "7"], ["--full"], []):
        ratios.main(arguments)
    assert chosen[0] == (["swap", "hit"], 7)
    assert chosen[1][0] == list(ratios.GROUPS) and set(chosen[1][0]) - set(chosen[2][0]) == set(ratios.SLOW)


@pytest.mark.parametrize("group", ratios.GROUPS)
def test_every_group_has_rows(group):
    assert callable(importlib.import_module(f"rows.{group}").rows)


def test_limit_loops_name_what_there_is():
    """They are compiled when they are first needed, so that a module which moved would be noticed late."""
    for path in BENCH.glob("limits/*"):
        text = path.read_text() if path.suffix in (".pyx", ".h") else ""
        for name in re.findall(r"^from memvirt\.engine\.([\w.]+) cimport", text, re.MULTILINE):
            assert (ENGINE / f"{name.replace('.', '/')}.pxd").exists(), f"{path.name}: {name}"
        for name in re.findall(r'(?:extern from|#include) "([\w./]+)"', text):
            assert any((base / name).exists() for base in (BENCH / "limits", ENGINE)), f"{path.name}: {name}"


def test_limit_loops_reach_into_the_engine_as_it_is():
    """A function of the engine's that went is found when the loop is run, not when it is compiled: Cython looks it up."""
    limit = importlib.import_module("limits.build").load("page_limit")
    with memvirt.Host(memory="16MiB", sharing="hash") as host:
        parent = host.create_vm("parent", "4MiB")
        parent.write(0, bytes(4 << 20))
        assert limit.scan_ns(host.engine) > 0
        assert limit.leaf_copy_ns(host.engine, parent.clone("clone").engine_vm) > 0
        child = create_vm(host.engine, "child", parent.pages)
        assert limit.clone_share_ns(host.engine, parent.engine_vm, child) > 0


def test_the_distance_is_one_of_logarithms():
    """A ratio at half its target is as far from it as one at twice."""
    for factor in (1.1, 1.4, 1.5, 3.0):
        expected = 2 * log(factor) < log(2)
        assert enough(around(2.0, factor), 1.0) == enough(around(0.5, factor), 1.0) == expected
    assert exp(log(2) / 2) > 1.4


def small_life(minutes=4):
    """The scenario of the rows about fleets that live, on a host of 48 MiB."""
    life = importlib.import_module("rows.life")
    return life, life.cell("10s", memory="48MiB", size="2MiB", vms=30, minutes=minutes)


def test_a_minute_of_a_fleet_is_one_as_a_cell_runs_it_and_the_limit_makes_the_same_touches(monkeypatch):
    life, made = small_life()
    corpus = synthetic(256, seed=1)
    monkeypatch.setattr(life, "load", lambda name: SimpleNamespace(Flat=Table))
    Table.touched = 0
    ours, limit = life.Ours(made, corpus), life.Limit(made, corpus)
    for _ in range(2):
        assert ours.pass_minute() > 0 and limit.pass_minute() > 0
    counters = ours.host.counters()
    touches = sum(counters[name] for name in ("reads", "writes", "fills"))
    assert abs(Table.touched - touches) <= touches // 50, "but for what a VM that waits leaves out"
    assert len(ours.fleet.vms) == 30 and sum("guest" in name for name in ours.fleet.vms) == 1
    assert "guest-1" in ours.fleet.vms, "the first has gone"
    assert made.host.content == "fingerprint"
    ours.host.check()
    ours.host.close()


class Table:
    touched = 0

    def __init__(self, pages):
        self.pages = pages

    def touch(self, pages, ops):
        assert len(pages) == len(ops) and (not len(pages) or pages.max() < self.pages)
        Table.touched += len(pages)


def test_the_rows_about_filling_measure_what_they_say(monkeypatch):
    life = importlib.import_module("rows.life")
    monkeypatch.setattr(life, "VM_MIB", 8)
    against, bound = life._filling(synthetic(256, seed=1), 2)
    assert against.ours == bound.ours > 0 and against.unit == "ns/page" and bound.reference == 200


def test_the_fleet_of_half_an_hour_is_a_cell_that_ends(monkeypatch):
    fleet = importlib.import_module("rows.fleet")
    small = small_life(minutes=2)[1]
    monkeypatch.setattr(fleet, "cell", lambda *asked: small)
    monkeypatch.setattr(fleet, "Worker", lambda: nullcontext(lambda call: call()))
    monkeypatch.setattr(fleet, "synthetic", lambda pages, seed: synthetic(256, seed=seed))
    spent, memory = fleet.rows(1)
    assert spent.reference == 1200 and memory.reference == 5 and "s a VM-minute" in spent.note
