"""Claims: what a suite expects, as a file, as a check of records, and under a table."""

import json
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.made_records import folder, made
from memvirt.errors import ConfigError
from memvirt.experiment import plan, suite
from memvirt.report import export, markup, terminal
from memvirt.report.check import Standing
from memvirt.report.choice import Choice
from memvirt.report.claims import check, failed, summary, told
from memvirt.results import claims, manifest
from memvirt.results.claims import Claim
from memvirt.results.manifest import Asked, Manifest, Shown

GOOD = {"id": "a", "statement": "It is fast.", "metric": "slowdown", "cells": ["zipf-150--swap"], "minutes": 1}


def claim(**parts):
    made_of = {**GOOD, "at_most": 3, **parts}
    return Claim.model_validate({key: value for key, value in made_of.items() if value is not None})


def standing(*records, **parts):
    (checked,) = check([claim(**parts)], records)
    return checked.word, checked.evidence


def test_a_number_inside_its_range_holds_the_claim_and_one_outside_fails_it():
    assert standing(made(slowdown="2.000")) == ("held", "slowdown 2.00×")
    assert standing(made(slowdown="3.000"))[0] == "held", "the bound itself is inside"
    said = standing(made(slowdown="3.500"))
    assert said == ("failed", "zipf at 1.50, swap, seed 1: slowdown 3.50×, claimed at most 3")
    assert standing(made(slowdown="2.000"), at_most=None, at_least=2.5)[0] == "failed"


def test_what_was_published_stands_beside_the_number():
    found = "2.4 (a paper)"
    assert standing(made(slowdown="2.000"), published=found) == ("held", "slowdown 2.00×; published: 2.4 (a paper)")
    assert standing(made(slowdown="3.500"), published=found)[1].endswith("claimed at most 3; published: 2.4 (a paper)")
    assert "published" not in standing(made("scan"), published=found)[1], "nothing is known that it could stand beside"


def test_one_seed_outside_fails_it_unless_the_mean_is_claimed():
    seeds = [made(seed=seed, slowdown=value) for seed, value in ((1, "1.000"), (2, "4.000"))]
    said, evidence = standing(*seeds)
    assert said == "failed" and "seed 2" in evidence and "1 of 2 findings" in evidence
    assert standing(*seeds, seeds="mean")[0] == "held"
    assert standing(*seeds, seeds="mean", at_most=2)[0] == "failed"


def test_relative_to_pairs_scenario_and_seed():
    records = [made(slowdown="2.000"), made(slowdown="9.000", seed=2)]
    records += [made(preset="none", slowdown="8.000"), made(preset="none", slowdown="10.000", seed=2)]
    assert standing(*records, relative_to="none", at_most=0.9)[0] == "held"
    said, evidence = standing(*records, relative_to="none", at_most=0.89)
    assert said == "failed" and evidence.startswith("zipf at 1.50, swap, seed 2: slowdown 0.9 of none")
    whole = [*records, made("scan", preset="none", slowdown="1.000"), made("scan", preset="none", slowdown="9", seed=2)]
    assert standing(*whole, relative_to="scan-150--none", at_most=2)[0] == "held"
    assert standing(made(), made(preset="none", slowdown="0.000"), relative_to="none")[0] == "failed"


def test_the_optimum_of_a_trace_can_be_what_a_claim_is_relative_to():
    records = [
        made(preset="belady", role="baseline", kind="trace", derived={"miss_ratio": "10.0"}),
        made(preset="lru", kind="trace", derived={"miss_ratio": "12.0"}),
    ]
    asked = {"metric": "miss_ratio", "cells": ["zipf-150--lru"], "relative_to": "belady"}
    assert standing(*records, **asked, at_most=1.2)[0] == "held"
    assert standing(*records, **{**asked, "cells": ["*--belady"]})[0] == "not checked", "a baseline is no column"


def test_outcomes_are_claimed_too():
    refused = made(status="refused", reason="no room")
    asked = {"metric": None, "at_most": None}
    assert standing(refused, outcome="refused", **asked)[0] == "held"
    assert standing(refused, outcome="done", **asked) == ("failed", "zipf at 1.50, swap, seed 1: refused, not done")
    assert standing(refused) == ("failed", "zipf at 1.50, swap, seed 1: zipf at 1.50, swap is refused")
    assert standing(made(slowdown="")) == ("failed", "zipf at 1.50, swap, seed 1: has no slowdown")


def test_what_is_not_there_is_not_checked_unless_something_fails():
    assert standing(made(preset="other"))[0] == "not checked"
    assert standing(made(tier="smoke")) == ("not checked", "stated for tier quick and full")
    assert standing(made(), relative_to="none") == ("not checked", "not among the records: zipf at 1.50, none")
    assert standing(made(), made(preset="none", seed=2), relative_to="none")[0] == "not checked"
    two = ["zipf-150--swap", "scan-150--swap"]
    assert standing(made(slowdown="2.000"), cells=two) == ("not checked", "not among the records: scan-150--swap")
    assert standing(made(slowdown="9.000"), cells=two)[0] == "failed"


def test_patterns_name_many_cells_and_the_worst_is_told():
    records = [made(scenario, slowdown=value) for scenario, value in (("zipf", "5.000"), ("scan", "7.000"))]
    said, evidence = standing(*records, cells=["*-150--swap"])
    assert said == "failed" and evidence.startswith("scan at 1.50, swap, ") and "2 of 2" in evidence


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_standing_is_the_range(value, low, high):
    low, high = min(low, high), max(low, high)
    text = f"{value:.6f}"
    held = low <= float(text) <= high
    assert (standing(made(slowdown=text), at_least=low, at_most=high)[0] == "held") is held


def test_a_summary_counts_and_a_failure_is_told():
    checked = check([claim(), claim(id="b", at_most=1), claim(id="c", cells=["no-1--swap"])], [made(slowdown="2.000")])
    assert [each.standing for each in checked] == [Standing.PASS, Standing.FAIL, Standing.SKIP]
    assert summary(checked) == "1 held, 1 failed, 1 not checked" and failed(checked)
    assert not failed(checked[::2]) and summary([]) == "none"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "slowdwn"}, "no metric is called 'slowdwn'; did you mean 'slowdown'?"),
        ({"outcome": "done"}, "give either a metric or an outcome"),
        ({"metric": None}, "give either a metric or an outcome"),
        ({"at_most": None}, "give at_least, at_most or both"),
        ({"at_least": 4}, "is above at_most"),
        ({"at_most": "nan"}, "must be a finite number"),
        ({"at_most": "x"}, "must be"),
        ({"cells": []}, "needs at least 1 entry"),
        ({"cells": ["zipf-150"]}, "is no SCENARIO-PERCENT--PRESET"),
        ({"minutes": 0}, "must be more than 0"),
        ({"minutes": None}, "minutes"),
        ({"statement": "a\nb"}, "holds a control character"),
        ({"published": "a\nb"}, "holds a control character"),
        ({"id": "a b"}, "is no name"),
        ({"tiers": ["huge"]}, "tiers"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_is_no_claim_is_a_sentence_with_its_line(tmp_path, change, said):
    table = {key: value for key, value in {**GOOD, "at_most": 3, **change}.items() if value is not None}
    spelled = "".join(
        f"{key} = {value if key == 'at_most' and value == 'nan' else claims._toml(value)}\n"
        for key, value in table.items()
    )
    path = tmp_path / "CLAIMS.toml"
    path.write_text(f"schema = 1\n[[claims]]\n{spelled}")
    with pytest.raises(ConfigError) as error:
        claims.read(path)
    assert said in str(error.value) and "CLAIMS.toml:" in str(error.value), error.value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "schema"),
        ("schema = 1\nclaims = []", "needs at least 1 entry"),
        ("schema = 2\n", "schema"),
        ("schema = 1\n[[claims]\n", "not valid TOML"),
        ("\0", "not valid TOML"),
    ],
)
def test_what_is_no_file_of_claims(tmp_path, text, said):
    (tmp_path / "CLAIMS.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        claims.read(tmp_path / "CLAIMS.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        claims.read(tmp_path / "nothing.toml")


def test_an_id_stands_once(tmp_path):
    (tmp_path / "CLAIMS.toml").write_text(claims.dumps([claim(), claim()]))
    with pytest.raises(ConfigError, match="'a' is given twice"):
        claims.read(tmp_path / "CLAIMS.toml")


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=300).filter(str.isprintable), st.floats(0, 1e300))
def test_claims_written_are_read_again(tmp_path_factory, statement, bound):
    path = tmp_path_factory.mktemp("claims") / "CLAIMS.toml"
    written = [claim(statement=statement, at_most=bound, minutes=0.5), claim(id="b", relative_to="x", seeds="mean")]
    path.write_text(claims.dumps(written), encoding="utf-8")
    assert claims.read(path) == written


def test_a_table_tells_which_claims_held_and_a_folder_s_own_take_the_place_of_the_suite_s(tmp_path):
    shown = Shown(claims=[claim(), claim(id="wrong", statement="It is *slow*.", at_most=None, at_least=100)])
    records = [made(slowdown="2.000")]
    text = terminal.text(records, 100, shown)
    assert "Expected of this suite: 1 held, 1 failed." in text
    assert (
        "  held: a: It is fast. (zipf at 1.50: swap: slowdown 2.00×)" in text
        and "  failed: wrong: It is *slow*." in text
    )
    assert "\n- failed: wrong" in markup.to_markdown(records, shown)
    assert json.loads(export.to_json(records, shown))["claims"][1]["standing"] == "failed"
    place = folder(tmp_path / "run", records)
    assert "Expected" not in terminal.table_command(place)
    (place / "CLAIMS.toml").write_text(claims.dumps([claim(id="mine")]))
    assert "held: mine" in terminal.table_command(place)
    (place / "CLAIMS.toml").write_text(claims.dumps([claim(id="mine", cells=["zipf-150--swpa"])]))
    for form in ("text", "md", "latex"):
        text = " ".join(terminal.table_command(place, form).split())
        assert "no cell of this run is called so; did you mean 'zipf-150--swap'" in text.replace("\\", ""), form


def test_claims_that_a_table_cannot_show_are_told_in_one_line():
    stated = [claim(), claim(id="b", tiers=["full"]), claim(id="c", tiers=["full"]), claim(id="d", relative_to="none")]
    counted, lines = told(stated, [made(slowdown="2.000")])
    assert counted == "Expected of this suite: 1 held, 3 not checked."
    assert lines == [
        "held: a: It is fast. (zipf at 1.50: swap: slowdown 2.00×)",
        "not checked: b, c (stated for tier full); d (not among the records: zipf at 1.50, none)",
    ]
    assert told(stated[:1], [made(slowdown="2.000")])[1] == lines[:1]
    assert told([], []) == ("", [])


def test_a_run_takes_the_claims_of_its_suite_along(tmp_path):
    stated = [claim(relative_to="none", at_least=0.5)]
    made_of = Manifest(suite="s", tier="quick", asked=Asked(suite="s"), shown=Shown(claims=stated), cells={"c": "0"})
    assert manifest.loads(manifest.dumps(made_of), "here").shown.claims == stated


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_that_ships_says_what_it_expects_of_cells_that_it_has(name):
    stated = suite.load(name).claims
    assert len(stated) >= 2
    for tier in ("quick", "full"):
        cells = {f"{cell.scenario}--{cell.preset}" for cell in plan.make(name, tier).cells}
        for each in stated:
            assert all(any(fnmatchcase(cell, pattern) for cell in cells) for pattern in each.cells), each.id
            if each.relative_to and "--" not in each.relative_to:
                assert all(
                    f"{cell.split('--')[0]}--{each.relative_to}" in cells for cell in each.cells if "*" not in cell
                )
            elif each.relative_to:
                assert each.relative_to in cells


# ---- as people read them


def scope_of(*records, **parts):
    (checked,) = check([claim(**parts)], records)
    return checked.scope


def test_a_claim_says_of_which_cells_it_speaks_by_their_real_ratios():
    """A cell's name ends in the percentage that was asked for; its ratio may be another."""
    records = [
        replace(made(scenario, ratio, preset), scenario=f"{scenario}-{percent}")
        for scenario in ("zipf", "scan")
        for ratio, percent in (("1.75", 100), ("2.50", 200))
        for preset in ("swap", "none", "zcache")
    ]
    for cells, said in (
        (["zipf-100--swap"], "zipf at 1.75: swap"),
        (["zipf-100--*"], "zipf at 1.75: all presets"),
        (["zipf-*--swap", "zipf-*--none"], "zipf at every ratio: swap, none"),
        (["*-200--swap"], "every scenario at 2.50: swap"),
        (["*--*"], "every scenario at every ratio: all presets"),
        (["zipf-100--swap", "scan-200--*"], "zipf at 1.75: swap; scan at 2.50: all presets"),
        (["gone-100--swap"], "gone-100--swap"),
    ):
        assert scope_of(*records, cells=cells) == said
    assert scope_of(*records, cells=["scan-100--zcache"], relative_to="swap") == "scan at 1.75: zcache; against swap"
    whole = {"cells": ["scan-100--swap"], "relative_to": "zipf-200--swap"}
    assert scope_of(*records, **whole) == "scan at 1.75: swap; against zipf at 2.50, swap"
    assert standing(*records, **whole)[1] == "slowdown 1 of zipf at 2.50, swap"
    many = [made(preset=f"p{i}") for i in range(6)]
    assert scope_of(*many, made(), cells=["*--p*"]) == "zipf at 1.50: p0, p1, p2 and 3 more"
    traces = [made("scan", ratio, kind="trace", preset=preset) for ratio in ("0.05", "0.50") for preset in ("a", "b")]
    assert scope_of(*traces, cells=["scan-*--a"]) == "scan at every capacity: a"


def test_evidence_calls_metrics_as_tables_do_and_names_them_where_the_words_do_not():
    assert standing(made(overcommit="1.5"), metric="effective_overcommit")[1] == "effective overcommit 1.50×"
    assert standing(made(p99_ns=66_560), metric="fault_p99_us", at_most=99)[1] == (
        "p99 fault latency (fault_p99_us) 66.6 µs"
    )
    assert standing(made(derived={"waited_ms": "1.5"}), metric="waited_ms")[1] == "waited (waited_ms) 1.50 ms", (
        "the unit once"
    )
    assert standing(made(counters={"fills": 2}), metric="fills")[1] == "fills 2 pages", "the registry's unit"
    assert standing(made(slowdown=""), metric="cpu_overhead_percent", at_most=50)[1].startswith(
        "CPU to manage memory (cpu_overhead_percent) 40 %"
    )


def test_of_a_part_of_a_table_its_claims_are_printed_and_the_rest_is_counted():
    records = [made(), made("scan", slowdown="9.000"), made(preset="none")]
    expected = [claim(), claim(id="of-scan", cells=["scan-*--swap"]), claim(id="of-none", cells=["zipf-150--none"])]
    line, lines = told(expected, records, records[:1])
    assert line == "Expected of this suite: 1 held. Of cells that are not shown: 1 held, 1 failed."
    assert [text.split(":")[1].strip() for text in lines] == ["a"]
    assert (
        told(expected, records)[0] == "Expected of this suite: 2 held, 1 failed."
        and len(told(expected, records)[1]) == 3
    )
    shown = Shown(claims=expected)
    for write in (terminal.text, markup.to_markdown, markup.to_html, markup.to_latex):
        part = write(records, shown=shown, choice=Choice(scenarios=("scan",)))
        assert "of-scan" in part.replace("\\", "") and "of-none" not in part.replace("\\", "")
        assert "Of cells that are not shown: 2 held." in " ".join(part.split())
    none = markup.to_markdown(records, Shown(claims=expected[1:2]), Choice(presets=("none",)))
    assert "Of cells that are not shown: 1 failed." in none and "of-scan" not in none


def test_latex_prints_a_claim_whole_with_places_to_break_it():
    name = "a-name-that-is-as-long-as-names-of-claims-may-become.and_all-of"
    told_ = markup.to_latex([made()], Shown(claims=[claim(id=name)]))
    assert name in told_.replace("\\allowbreak{}", "").replace("\\_", "_") and "\\allowbreak" in told_
