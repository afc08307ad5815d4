"""Tables: what a person reads, what programs read, and the line that says what was learned."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import made_records
from memvirt.errors import ConfigError, RecordError
from memvirt.report import export, markup, terminal, verdict
from memvirt.report.choice import Choice
from memvirt.report.columns import BY_NAME
from memvirt.report.summary import figures, groups
from memvirt.results.manifest import USUAL, Shown

made, folder = made_records.made, made_records.folder

NO_ROOM = "VM 'vm3': 5120 pages would be promised; memory and swap have 4096 (commit='strict')"
STOPPED = "vm2 stopped in phase fill after 77 accesses: no_frame"


def small_run():
    return [
        made(preset="baseline", role="baseline", ratio="0.50", slowdown="", faults=0),
        *(
            made(ratio="1.00", preset=preset, slowdown="1.000", faults=0, p99_ns=0, swap_pages=0, saved=(), unusable=0)
            for preset in ("none", "swap", "sharing")
        ),
        made(preset="none", status="refused", reason=NO_ROOM),
        made(preset="swap", slowdown="9.500", faults=43_140, swap_pages=51_200, saved=(("swap", 3885),)),
        made(
            preset="sharing",
            slowdown="2.125",
            overcommit="1.612",
            faults=1294,
            p99_ns=600,
            swap_pages=0,
            cpu=(950, 50),
            saved=(("swap", 918), ("sharing", 1783), ("zpool", -54), ("cloning", 3)),
        ),
        made("scan", preset="none", status="refused", reason=NO_ROOM),
        made("scan", preset="swap", status="exhausted", reason=STOPPED),
        made("scan", preset="sharing", slowdown="3.000"),
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_table_fits_its_terminal(width):
    lines = terminal.text(small_run(), width).splitlines()
    assert max(map(len, lines)) <= width


def test_the_whole_table():
    assert terminal.text(small_run(), 120) == (Path(__file__).parent / "helpers" / "golden_table.txt").read_text()


def test_what_a_narrow_terminal_loses_is_named():
    wide, narrow = terminal.text(small_run(), 130), terminal.text(small_run(), 60)
    assert "Not shown" not in wide and "single run" in wide
    assert "Not shown at this width: simulator speed" in " ".join(narrow.split())
    assert "effective" in narrow and "slowdown" in narrow and "traffic\n" not in narrow


def test_rows_without_numbers_say_how_they_ended():
    text = terminal.text(small_run(), 120)
    refused = next(line for line in text.splitlines() if "refused" in line)
    assert refused.split()[:3] == ["1.50", "none", "refused"] and "by admission" in refused
    exhausted = next(line for line in text.splitlines() if "exhausted" in line)
    assert "no frame" in exhausted
    assert "refused: none in zipf at 1.50 and 1 more: VM 'vm3'" in text
    for form in ("md", "html", "latex"):
        assert "none in zipf at 1.50 and 1 more: VM" in terminal.WRITERS[form](small_run(), USUAL)


def five(records):
    """The same cells under five seeds, all of them alike."""
    return [replace(record, seed=seed) for seed in range(1, 6) for record in records]


def test_stars_stand_where_the_best_values_are():
    text = terminal.text(five(small_run()), 130)
    row = next(line for line in text.splitlines() if "1.61" in line)
    assert {"1.61*", "2.12*", "1,294*", "0.60*", "5.0*"} <= set(row.split())
    assert "0" in row.split(), "what did not happen needs no star"
    assert "1.00*" not in text, "a value that every preset has is not the best"
    assert "told apart from all others" in text


def test_below_five_seeds_nothing_is_best():
    for seeds in (1, 2, 4):
        text = terminal.text([record for record in five(small_run()) if record.seed <= seeds], 130)
        assert "*" not in text and "no best value is marked" in " ".join(text.split())


def test_of_numbers_that_print_alike_all_are_best_or_none():
    near = [made(preset="a", slowdown="2.001"), made(preset="b", slowdown="2.004"), made(preset="c", slowdown="9.000")]
    far, slowdown = [*near, made(preset="d", slowdown="9.500")], BY_NAME["slowdown"]
    assert groups(five(far))[0].best(slowdown) == {"a", "b"}
    assert groups(five(near))[0].best(slowdown) == set(), "more than half of all are no choice"
    assert groups(five(near[:2]))[0].best(slowdown) == set()


def test_seeds_that_lie_apart_are_marked():
    records = [made(seed=seed, slowdown=f"{2 * seed}.000", faults=100 + seed) for seed in (1, 2)]
    row = next(line for line in terminal.text(records, 120).splitlines() if "1.50" in line)
    assert "~3.00" in row and "102" in row and "~102" not in row


def test_a_row_whose_decider_slept_is_shown_and_not_ranked():
    """In no cell of the run: where it acted elsewhere it had a part."""
    config = {"scenario": {"name": "zipf"}, "host": {"balloon": "tmo"}}
    slept = {"config": config, "counters": {"decisions": 0, "decisions_acted": 0}}
    records = five(
        [made(preset="tmo", slowdown="1.000", **slept), made(preset="a"), made(preset="b", slowdown="3.000")]
    )
    text = " ".join(terminal.text(records, 120).split())
    assert "tmo†" in text and "† the decider 'tmo' of tmo was never asked" in text and "2.00*" in text
    assert "a (2.00×), 33 % below b" in verdict.line(groups(records))
    for form in ("md", "latex", "html"):
        said = terminal.WRITERS[form](records, USUAL)
        assert "was never asked" in said.replace("\\", "") and ("tmo†" in said or "tmo\\textdagger" in said)
    assert "no preset is ranked" in verdict.line(groups([each for each in records if each.preset == "tmo"]))
    awake = [*records, replace(records[0], seed=9, counters={"decisions": 3, "decisions_acted": 1})]
    assert "†" not in terminal.text(awake, 120)


def test_orders_that_saw_no_marks_are_told():
    blind = made(counters={"evicted": 10, "harvests": 0})
    assert "no accessed marks were collected" in " ".join(terminal.text([blind], 120).split())
    for seen in ({"evicted": 10, "harvests": 1}, {"evicted": 0, "harvests": 0}, {"evicted": 10}):
        assert "accessed marks" not in terminal.text([made(counters=seen)], 120)


def test_the_caption_names_what_was_run():
    records = [made(seed=seed, tier="smoke", commit="f" * 40 + "+") for seed in (1, 3)]
    records = [replace(record, asked={"settings": ["zpool_percent=40"]}) for record in records]
    for form in ("text", "md", "html", "latex"):
        said = terminal.text(records, 150) if form == "text" else terminal.WRITERS[form](records, USUAL)
        said = said.replace("\\", "")
        assert "suite tiny, tier smoke, seeds 1, 3, corpus " + made_records.CORPUS[:12] in said
        assert "memvirt 0.1.0 (ffffffffffff+), --set zpool_percent=40" in said.replace("{-}", "-")
        assert "Tier smoke is for tests" in " ".join(said.split())


def test_a_table_of_vms_that_compute_nothing_says_so_above_it():
    micro = "a microbenchmark of mechanisms"
    assert micro in terminal.text([made()], 150).splitlines()[0]
    for load in (made(kind="life"), made(vms={"vm0": {"accesses": 1, "sim_ns": 1, "stall_ns": 0, "work_ns": 1}})):
        assert micro not in terminal.text([load], 150)
    mixed = [made(kind="life", scenario="fleet"), made(scenario="scan"), made(scenario="zipf")]
    assert terminal.text(mixed, 150).splitlines()[0].endswith(f", {micro} in scan and zipf")


def test_what_means_two_things_in_one_table_has_both_meanings_each_with_where_it_holds():
    computes, plain = "(work + waiting for memory) / work, of all that VMs compute", "time / time with enough memory"
    living, scan = made(kind="life", scenario="fleet"), made(scenario="scan")
    for records in ([living, scan], [scan, living]):
        said = " ".join(terminal.text(records, 150).split())
        assert f"in fleet: {computes}" in said and f"in scan: {plain}" in said and said.count("slowdown: in ") == 1
        assert f"in scan: {plain}" in terminal.WRITERS["md"](records, USUAL)
        assert said.count("effective overcommit: content that VMs hold") == 1, "it means the same in both"
    assert f"slowdown: {plain}. " in " ".join(terminal.text([scan], 150).split())


def test_wall_times_are_never_called_best():
    (group,) = groups([made(preset="a", speed=1), made(preset="b", speed=10**9)])
    assert group.best(BY_NAME["simulated_maccesses_per_s"]) == set()


def test_any_number_of_a_record_can_be_a_column_and_a_histogram_none():
    (record,) = [made(preset="a", speed=5, saved=(("swap", 7),))]
    table = terminal.text([record], 150, choice=Choice(("sim_ns", "accesses_per_s", "wall_ns", "saved")))
    assert "swap 7" in table and "500k" in table and figures(record.sim_ns) in table and "–" not in table
    with pytest.raises(ConfigError, match="'sim_ns.swap' is a histogram"):
        terminal.text([record], 150, choice=Choice(("sim_ns.swap",)))


def test_a_scenario_without_a_point_of_the_sweep_stands_beside_one_with_it():
    """As where options are swept and a scenario's columns have none."""
    swept = made("scan", preset="tmo@k=1", asked={"sweep": {"k": "1"}})
    for records in ([made(preset="swap"), swept], [swept, made(preset="swap")]):
        text = terminal.text(records, 150)
        assert "tmo" in text and "swap" in text


def test_a_row_counts_only_when_every_seed_is_done():
    records = [made(seed=1), made(seed=2, status="exhausted", reason=STOPPED)]
    (row,) = groups(records)[0].rows
    assert (row.status, row.values, row.reason) == ("exhausted", {}, STOPPED + " (1 of 2 seeds)")


def test_means_over_seeds_and_an_interval_from_five():
    records = [made(seed=seed, slowdown=f"{2 + seed / 10:.3f}") for seed in range(1, 6)]
    (row,) = groups(records)[0].rows
    assert row.mean("slowdown") == pytest.approx(2.3)
    assert "~2.30±0.20" in terminal.text(records, 120)
    assert "±" not in terminal.text(records[:4], 120)


def test_mechanisms_are_never_parted_from_their_numbers():
    (row,) = groups([made(saved=(("sharing", 12_345), ("swap", 9876), ("cloning", 5432), ("same", 1)))])[0].rows
    assert terminal.saved_text(row, 14).split("\n") == ["sharing 12.3k,", "swap 9,876,", "cloning 5,432"]
    assert terminal.saved_text(row, 30).split("\n") == ["sharing 12.3k, swap 9,876,", "cloning 5,432"]


@pytest.mark.parametrize(
    ("value", "text"),
    list(
        {
            0: "0",
            0.6: "0.60",
            1.888: "1.89",
            66.56: "66.6",
            344: "344",
            1752.9: "1,753",
            12_345: "12.3k",
            1_234_567: "1.23M",
            5e9: "5.00G",
            -54: "−54",
        }.items()
    ),
)
def test_three_figures(value, text):
    assert figures(value) == text


def test_the_optimum_of_a_trace_is_a_row_that_is_compared_with_nothing():
    """Also where a preset has its name: the role says which is which."""

    def trace(preset, ratio, role="column"):
        return made(preset=preset, role=role, kind="trace", derived={"miss_ratio": ratio})

    records = [trace("belady", "10.0", "baseline"), trace("belady", "20.0"), trace("lru", "30.0")]
    (group,) = groups(records, Shown(columns=["miss_ratio"], learned="leading"))
    assert [(row.preset, row.role) for row in group.rows] == [
        ("belady", "baseline"),
        ("belady", "column"),
        ("lru", "column"),
    ]
    assert [row.preset for row in group.ranked()] == ["belady", "lru"]
    assert [group.is_best(row, {"belady"}) for row in group.rows] == [False, True, False]
    assert "belady 20 %, lru 30" in verdict.line([group])


def test_unknown_formats_and_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown format 'latx'.*latex"):
        terminal.table_command(tmp_path, "latx")
    with pytest.raises(ConfigError, match="not a memvirt results folder"):
        terminal.table_command(tmp_path)


def test_unlike_records_do_not_share_a_table(tmp_path):
    other = replace(made(preset="other"), versions={"memvirt": "0.2.0"})
    with pytest.raises(RecordError, match="unlike runs: versions"):
        terminal.table_command(folder(tmp_path / "run", [made(), other]))


@pytest.mark.parametrize("form", terminal.FORMATS)
def test_every_format_is_made_from_a_folder(form, tmp_path):
    text = terminal.table_command(folder(tmp_path / "run", small_run()), form)
    assert "sharing" in text and text.endswith("\n")


def test_the_order_of_the_run_is_the_order_of_the_rows(tmp_path):
    records = [made(preset=name) for name in ("swap", "all", "none")]
    text = terminal.table_command(folder(tmp_path / "run", records))
    assert text.index("swap") < text.index("all ") < text.index("none ")


def test_markdown_marks_the_best_and_the_refused():
    text = markup.to_markdown(five(small_run()))
    assert "**2.12**" in text and "*refused*" in text and "*exhausted*" in text and "no frame" in text
    assert "single run" in text and "effective overcommit (×) ↑" in text


def test_the_long_frame_is_exact():
    rows = list(csv.DictReader(io.StringIO(export.to_csv(small_run()))))
    assert tuple(rows[0]) == export.FRAME
    found = {(row["scenario"], row["ratio"], row["preset"], row["metric"]): row for row in rows}
    assert found["zipf", "1.50", "sharing", "slowdown"]["value"] == "2.125"
    assert found["zipf", "1.50", "sharing", "slowdown"]["unit"] == "×"
    assert found["zipf", "1.50", "swap", "swap_pages_in"]["value"] == "25600"
    assert found["zipf", "1.50", "swap", "swap_traffic_mib"]["value"] == "200.000000"
    assert found["zipf", "1.50", "none", "status"]["value"] == "refused"
    assert ("zipf", "1.50", "none", "slowdown") not in found


def test_json_holds_the_same_frame():
    data = json.loads(export.to_json(small_run()))
    rows = list(csv.reader(io.StringIO(export.to_csv(small_run()))))
    assert data["columns"] == rows[0] and len(data["rows"]) == len(rows) - 1
    assert [str(cell) for cell in data["rows"][1][:-1]] == rows[2][:-1]
    assert data["learned"] == verdict.line(groups(small_run()))


def test_tables_do_without_the_extras(monkeypatch):
    for name in ("pandas", "tabulate", "scipy", "scipy.stats", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    records = [made(seed=seed, slowdown=f"{2 + seed / 10:.3f}") for seed in range(1, 6)]
    assert all(write(records, USUAL) for write in terminal.WRITERS.values())
    assert "2.30±0.20" in terminal.text(records, 120), "without scipy the range of the seeds stands in"


def test_tables_import_nothing_heavy():
    heavy = ("pandas", "scipy", "pyperf", "jinja2")
    code = f"import sys, memvirt.report.terminal; print([name for name in {heavy} if name in sys.modules])"
    root = str(Path(terminal.__file__).parents[2])
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert said.stdout.strip() == "[]"


# ---- the learned line

LINES = [
    ([("a", "2.000"), ("b", "4.000")], "at 1.50 a (2.00×), 50 % below b (4.00×)"),
    (
        [("a", "2.000"), ("b", "2.020"), ("c", "3.000")],
        "at 1.50 a (2.00×) and b (2.02×) alike, 33 % below c (3.00×)",
    ),
    ([("a", "2.000"), ("b", "2.021")], "at 1.50 a (2.00×), 1 % below b (2.02×)"),
    ([("a", "2.000"), ("b", "2.010")], "at 1.50 no difference (2.00× to 2.01×)"),
]


@pytest.mark.parametrize(("presets", "said"), LINES)
def test_what_was_learned(presets, said):
    line = verdict.line(groups([made(preset=name, slowdown=slowdown) for name, slowdown in presets]))
    assert line.startswith(f"Learned: lowest slowdown: {said}.") and line.endswith("One seed.")


def test_the_line_names_the_trade():
    def said(*rows):
        return verdict.line(groups([made(preset=name, slowdown=slow, overcommit=over) for name, slow, over in rows]))

    a, b, c = ("a", "2.000", "1.200"), ("b", "4.000", "1.500"), ("c", "5.000", "1.100")
    assert "At 1.50 no preset beats another in both overcommit and slowdown." in said(a, b)
    assert "At 1.50 the best trades of overcommit against slowdown: a and b." in said(a, b, c)
    assert "At 1.50 no preset has a higher effective overcommit than a either." in said(a, c)


def test_the_whole_line_of_a_run():
    assert verdict.line(groups(small_run())) == (
        "Learned: lowest slowdown (geometric mean over scenarios): at 1.00 no difference (1.00×); "
        "at 1.50 only sharing finished every scenario (2.52×). One seed."
    )


def test_nothing_learned_is_said():
    assert "nothing to compare" in verdict.line(groups([made()]))
    assert "nothing, no preset finished" in verdict.line(groups([made(status="refused", reason="no")]))


def test_a_preset_that_did_not_finish_everywhere_takes_no_part():
    (at_one, at_half) = verdict.findings(groups(small_run()))
    assert [score.preset for score in at_one.scores] == ["none", "sharing", "swap"] and at_one.beaten is None
    assert [score.preset for score in at_half.scores] == ["sharing"]


NOISE = (1.0, 3.0, 2.0, 1.5, 2.5)  # of five seeds: presets ran the same ones


def over_seeds(seeds=5, **presets):
    """Records of presets whose slowdown is the noise of the seed times a factor, one for each seed."""
    return [
        made(preset=preset, seed=seed, slowdown=f"{NOISE[seed] * factors[seed]:.3f}")
        for preset, factors in presets.items()
        for seed in range(seeds)
    ]


CLEAR = {"a": (1.0,) * 5, "b": (1.2, 1.21, 1.19, 1.2, 1.22)}
UNCLEAR = {"a": (1.0,) * 5, "b": (1.9, 0.8, 1.6, 0.9, 1.3)}


def test_seeds_that_differ_widely_tell_apart_what_differs_in_each_of_them():
    assert "a (2.00×±0.98), 17 % below b (2.41×±1.20)" in verdict.line(groups(over_seeds(**CLEAR)))
    assert groups(over_seeds(**CLEAR))[0].best(BY_NAME["slowdown"]) == {"a"}


def test_seeds_that_disagree_are_no_difference_and_none_is_marked():
    assert "no difference" in verdict.line(groups(over_seeds(**UNCLEAR)))
    assert groups(over_seeds(**UNCLEAR))[0].best(BY_NAME["slowdown"]) == set()
    four = groups(over_seeds(4, **UNCLEAR))
    assert "no difference" not in verdict.line(four), "four seeds have no interval"
    assert four[0].best(BY_NAME["slowdown"]) == set()


def test_what_is_not_told_apart_from_the_next_is_not_marked():
    records = over_seeds(**UNCLEAR, c=(9.0, 9.1, 9.2, 9.0, 9.1))
    assert groups(records)[0].best(BY_NAME["slowdown"]) == set()
    assert re.search(
        r"at 1.50 a \(2\.\S*\), not told apart from b \(2\.\S*\), 8\d % below c", verdict.line(groups(records))
    )


presets_with_scores = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(1, 20_000), st.integers(1, 5000)), min_size=2
)


@given(presets_with_scores)
def test_the_rule_holds_for_any_numbers(numbers):
    records = [
        made(preset=name, slowdown=f"{slow / 1000:.3f}", overcommit=f"{over / 1000:.3f}")
        for name, (slow, over) in numbers.items()
    ]
    (finding,) = verdict.findings(groups(records))
    lowest = min(slow for slow, _ in numbers.values())
    near = {name for name, (slow, _) in numbers.items() if slow - lowest <= 0.01 * slow * (1 + 1e-12)}
    assert {finding.scores[at].preset for at in finding.standing.best} == near
    assert (finding.beaten is None) == (near == set(numbers))
    if finding.beaten is not None:
        assert numbers[finding.beaten.preset][0] == min(numbers[name][0] for name in set(numbers) - near)
    front = verdict.front(finding.scores)
    assert front, "somebody is not dominated"
    for name, (slow, over) in numbers.items():
        worse_in_both = any(
            slow > other_slow * 1.011 and over * 1.011 < other_over for other_slow, other_over in numbers.values()
        )
        best_in_one = slow < min(s for other, (s, _) in numbers.items() if other != name)
        assert not (worse_in_both and name in front)
        assert not (best_in_one and name not in front)


@given(presets_with_scores, st.randoms(use_true_random=False))
def test_the_line_does_not_depend_on_the_order_of_records(numbers, rng):
    records = [made(preset=name, slowdown=f"{slow / 1000:.3f}") for name, (slow, _) in numbers.items()]
    shuffled = list(records)
    rng.shuffle(shuffled)
    assert sorted(verdict.line(groups(records))) == sorted(verdict.line(groups(shuffled)))


def test_a_preset_called_baseline_is_a_row_like_any_other(tmp_path):
    records = [made(preset="baseline-mine"), made(preset="baseline-mine", role="baseline", slowdown="")]
    text = terminal.table_command(folder(tmp_path / "run", records))
    assert len(re.findall(r"^ 1.50 +baseline-mine +1.50 +2.00", text, re.MULTILINE)) == 1


def test_notes_explain_the_columns_that_are_shown_and_no_others():
    records = small_run()
    whole, narrow = (" ".join(terminal.text(records, width).split()) for width in (120, 72))
    assert (
        "CPU to manage memory: managing it /" in whole
        and "CPU to manage memory: man" not in narrow
        and "slowdown: time /" in narrow
    )
    assert "effective overcommit: content" in narrow, "it is shown at any width"
    one = " ".join(terminal.text(records, 120, choice=Choice(columns=("slowdown",))).split())
    assert "slowdown: " in one and "effective overcommit" not in one and "CPU to manage" not in one
    own = Shown(columns=["miss_ratio", "pool_ratio", "scan_s_per_gib_saved", "huge_mapped_percent", "cow_p999_us"])
    lost = terminal.text(records, 44, own)
    assert "Not shown at this width:" in lost and "p99.9 COW write:" not in " ".join(lost.split())
