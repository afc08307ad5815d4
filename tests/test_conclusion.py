"""What a report begins with: answers, extremes, what breaks, ties; and the one rule of ties behind all of it."""

import random

import pytest

from helpers.made_records import made
from memvirt.experiment import suite
from memvirt.report import claims, conclusion, verdict
from memvirt.report.figures import looks, style
from memvirt.report.page import content
from memvirt.report.standing import TIE, near, standing
from memvirt.report.statistics import told_apart
from memvirt.report.summary import groups
from memvirt.results.claims import Claim
from memvirt.results.manifest import Shown
from memvirt.shipped import PRESETS


def five(preset, slowdowns, **parts):
    return [made(preset=preset, seed=seed, slowdown=f"{value:.3f}", **parts) for seed, value in enumerate(slowdowns, 1)]


# ---- the one rule


def test_standing_is_alike_unsure_or_beaten():
    tight = [2.0, 2.01, 1.99, 2.0, 2.0]
    means = [2.0, 2.015, 2.5, 3.0]
    found = standing(
        means, [tight, [each * 1.0075 for each in tight], [0.5, 4.5, 2.5, 0.5, 4.5], [3.0, 3.01, 2.99, 3.0, 3.0]]
    )
    assert (found.alike, found.unsure, found.beaten, found.best) == ((0, 1), (2,), (3,), (0, 1, 2))


def test_standing_holds_each_place_once_and_the_first_is_alike():
    rng = random.Random(3)
    for _ in range(300):
        seeds = [[rng.uniform(1, 3) for _ in range(rng.choice((2, 5)))] for _ in range(rng.randint(1, 6))]
        seeds.sort(key=lambda values: sum(values) / len(values))
        means = [sum(values) / len(values) for values in seeds]
        found = standing(means, seeds)
        assert sorted((*found.alike, *found.unsure, *found.beaten)) == list(range(len(means))) and 0 in found.alike
        apart = [True, *told_apart(seeds[0], seeds[1:])]
        assert all(near(means[0], means[at]) for at in found.alike)
        assert all(apart[at] and not near(means[0], means[at]) for at in found.beaten)


def test_a_tie_is_of_the_larger_one():
    assert near(0.0, 0.0) and near(1.0, 0.9999 / (1 - TIE)) and not near(1.0, 1.02) and not near(0.0, 1e-9)


def test_the_line_and_the_page_name_the_same_best():
    """A hundredth and a bit of the lowest: two rules with one constant once differed here."""
    records = [*five("swap", [1.0] * 5), *five("zcache", [1.0101] * 5), *five("sharing", [1.5, 1.51, 1.49, 1.5, 1.5])]
    every = groups(records)
    line = verdict.line(every)
    rows = sorted(every[0].rows, key=lambda row: row.mean("slowdown"))
    column = next(each for each in every[0].columns if each.name == "slowdown")
    said, beaten = content._standing(rows, column, 5)
    assert "swap" in said and "zcache" in said and beaten.preset == "sharing"
    assert "swap (1.00×) and zcache (1.01×) alike" in line and "sharing" in line


# ---- the conclusion

CLAIM = {"statement": "Swap is slow.", "cells": ["zipf-150--swap"], "metric": "slowdown", "at_least": 1.5, "minutes": 1}


def test_answers_are_the_claims_that_are_marked_so():
    records = five("swap", [2.0] * 5)
    told = Claim(id="a", answer=True, **CLAIM)
    other = Claim(id="b", **{**CLAIM, "statement": "Not marked."})
    wrong = Claim(id="c", answer=True, **{**CLAIM, "statement": "Swap is slower.", "at_least": 3})
    elsewhere = Claim(id="d", answer=True, **{**CLAIM, "tiers": ["full"]})
    said = conclusion.answers(claims.check([told, other, wrong, elsewhere], records))
    assert said[0] == "Swap is slow." and len(said) == 2
    assert said[1].startswith("Not so in these records: Swap is slower. (") and "claimed at least 3" in said[1]


def test_facts_name_extremes_of_other_columns_too():
    """The first column differs little; another one hides a factor of a hundred."""
    fast = [made(preset="swap", seed=seed, slowdown="1.000", p99_ns=1_000) for seed in range(1, 6)]
    slow = [made(preset="zcache", seed=seed, slowdown="1.050", p99_ns=100_000) for seed in range(1, 6)]
    said = conclusion.facts(groups([*fast, *slow]))
    assert said[0] == "Slowdown: presets differ in the one case, zipf at 1.50. Among the best: swap. Last: zcache."
    assert said[1] == "Farthest apart, in zipf at 1.50: 1.00× under swap, 1.05× under zcache."
    assert "P99 fault latency, farthest apart in zipf at 1.50: 1 µs under swap, 100 µs under zcache." in said
    assert said[-1] == "Every cell finished."


def test_intervals_stand_where_they_show():
    low, high = [1.0, 1.2, 1.1, 1.0, 1.2], [3.0, 3.4, 3.2, 3.0, 3.4]
    (said,) = [
        line for line in conclusion.facts(groups([*five("swap", low), *five("all", high)])) if "Farthest" in line
    ]
    assert "1.10× (0.98 to 1.22) under swap" in said and "3.20× (2.95 to 3.45) under all" in said


def test_facts_say_what_breaks_and_from_where_on():
    records = [*five("swap", [1.0] * 5, ratio="1.00"), *five("swap", [2.0] * 5), *five("swap", [3.0] * 5, ratio="2.00")]
    for ratio in ("1.50", "2.00"):
        records += [
            made(preset="none", seed=seed, ratio=ratio, status="refused", reason="no room") for seed in range(1, 6)
        ]
    records += five("none", [1.0] * 5, ratio="1.00")
    said = conclusion.facts(groups(records))
    assert "What breaks: none refused (zipf from 1.50 on)." in said
    assert any("no preset differs from the best in the one case" in line for line in said)


def test_below_five_seeds_it_is_said_that_nothing_is_told_from_chance():
    records = [made(preset="swap"), made(preset="all", slowdown="3.000")]
    assert conclusion.facts(groups(records))[-1].startswith("Fewer than five seeds")


def test_nobody_finished_and_a_suite_s_own_column():
    ended = [made(seed=seed, status="exhausted", reason="no frame") for seed in range(1, 6)]
    said = conclusion.facts(groups(ended))
    assert said[0] == "Slowdown: nobody can be compared, for nowhere did two presets finish."
    shown = Shown(columns=["swap_traffic_mib", "slowdown"], learned="leading")
    both = [*five("swap", [2.0] * 5, swap_pages=2560), *five("all", [2.0] * 5, swap_pages=256)]
    assert conclusion.facts(groups(both, shown))[0].startswith("Swap traffic: presets differ in the one case")


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_asks_and_answers(name):
    asked = suite.load(name)
    assert asked.question.endswith("?") and asked.shown().question == asked.question
    assert any(claim.answer for claim in asked.claims)
    assert sum(claim.answer for claim in asked.claims) <= 6, "a few sentences"


def test_no_two_suites_ask_the_same():
    questions = [suite.load(name).question for name in suite.names()]
    assert len(set(questions)) == len(questions)


# ---- looks that are the same everywhere


def test_all_that_ship_have_a_look_of_their_own():
    columns = {
        (name, scenario.name): [each.name for each in whole.variants_of(scenario)]
        for name, whole in ((name, suite.load(name)) for name in suite.names())
        for scenario in whole.scenarios
    }
    known = {*PRESETS.names(), *(name for names in columns.values() for name in names)}
    assert known <= set(looks.FIXED)
    assert len(set(looks.FIXED.values())) == len(looks.FIXED)
    for name, names in columns.items():
        colours = {looks.FIXED[each][0] for each in names}
        assert len(colours) == min(len(names), looks.COLOURS) or len(names) > looks.COLOURS, name


def test_there_are_as_many_colours_shapes_and_dashes_as_looks_name():
    colours = [name for name in style.PAPER if name.startswith("var(--c")]
    assert len(set(style.SHAPES)) == len(style.DASHES) == len({*map(str, style.DASHES)}) == looks.SHAPES
    assert len({style.PAPER[name] for name in colours}) == style.COLOURS == looks.COLOURS
    names = [f"mechanism-{at}" for at in range(looks.COLOURS * looks.SHAPES)]
    assert len(set(style._looks("mechanism", names))) == len(names)


def test_looks_do_not_depend_on_who_is_beside():
    names = ["swap", "mine", "zcache"]
    assert looks.of(names)[0] == looks.of(["zcache", "swap"])[1] == looks.FIXED["swap"]
    assert looks.of(names)[1][0] not in {looks.FIXED["swap"][0], looks.FIXED["zcache"][0]}


def test_many_unknown_names_have_different_looks():
    names = [f"own-{i}" for i in range(looks.COLOURS * looks.SHAPES)]
    assert len(set(looks.of(names))) == len(names)
    assert len({colour for colour, _ in looks.of(names[: looks.COLOURS])}) == looks.COLOURS
    mixed = ["swap", "zcache", *names[:30]]
    assert len(set(looks.of(mixed))) == len(mixed)
