"""Figures of results: their numbers are the records', they come out the same each time, and names cannot break them."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from helpers.made_records import folder, made
from helpers.program import call
from memvirt.errors import ConfigError
from memvirt.report.figures import costs, data, drawing, moments, plotting, savings, style, waterfall
from memvirt.report.figures.catalog import KINDS, make
from memvirt.report.figures.drawing import WIDTHS, draw
from memvirt.report.runs import Run, read_runs
from memvirt.report.summary import averaged
from memvirt.results import run_folder
from memvirt.results.record import percentile
from memvirt.results.timeline import Stretch, Timeline

ROOT = Path(__file__).parents[1]
QUICK = ROOT / "results" / "quick"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "bell\x07 and \x1b[31m escape",
    "\u202eright to left\u202c שלום",
    "n" * 300,
    "datum.value; 'quoted' \\ {{ 7 * 7 }} &amp;",
)


@pytest.fixture(scope="module")
def scenes():
    return {each[0].name: each for each in data.scenes(read_runs([QUICK]))}


def run_of(records, name="mine"):
    """A run as if these records lay in a folder."""
    return Run(name, name, run_folder.read_manifest(QUICK), tuple(records), 0)


def figures_of(records, *, kinds=KINDS):
    """(kind, what was made) of every scenario of some records."""
    return [(name, make(KINDS[name], scenes)) for scenes in data.scenes([run_of(records)]) for name in kinds]


def test_a_preset_looks_the_same_in_every_figure_of_what_is_shown_together():
    """Of two suites with other presets, too: colours and shapes go by all presets, not by those of a scenario."""
    runs = [run_of(seeds(swap=1, zcache=2), "one"), run_of(seeds(none=1, zcache=2, swap=3), "two")]
    runs[1] = replace(runs[1], manifest=replace(runs[1].manifest, suite="another"))
    drawn = [make(KINDS["tradeoff"], each) for each in data.scenes(runs)]
    looks = [
        dict(zip(scale["domain"], scale["range"], strict=True))
        for figure in drawn
        for scale in _scales(figure.figure)
        if "swap" in scale.get("domain", [])
    ]
    assert len(drawn) == 2 and len(looks) >= 4
    assert {look["swap"] for look in looks if look["swap"].startswith("var")} == {looks[0]["swap"]}
    assert len({look["zcache"] for look in looks if not look["zcache"].startswith("var")}) == 1


def _scales(spec):
    """Every scale in a specification."""
    if isinstance(spec, dict):
        yield from ([spec["scale"]] if isinstance(spec.get("scale"), dict) else [])
        for part in spec.values():
            yield from _scales(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from _scales(part)


def seeds(count=5, **presets):
    """Records of some presets, whose slowdowns differ a little from seed to seed."""
    return [
        made(ratio=ratio, preset=preset, seed=seed, slowdown=f"{slowdown * float(ratio) + seed / 100:.3f}")
        for ratio in ("1.00", "2.00")
        for preset, slowdown in presets.items()
        for seed in range(1, count + 1)
    ]


# ---- numbers


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 50)), min_size=1, max_size=12), st.integers(1, 999))
def test_a_curve_says_what_percentiles_say(pairs, per_mille):
    counts = {}
    for value, count in pairs:
        counts[value] = counts.get(value, 0) + count
    histogram = sorted(counts.items())
    points = data.curve([histogram[::2], histogram[1::2]])
    over = 1000 / (1000 - per_mille)
    at = [us for start, us in points if start < over * (1 - 1e-9)][-1:] or [points[0][1]]
    exact = percentile(histogram, per_mille) / 1000
    thinned = {value / 1000 for value in counts if value / 1000 >= at[0]}
    assert at[0] <= exact
    later = percentile(histogram, min(999, int(1000 - 1000 / (over * data.STEP)) + 1)) / 1000
    assert exact == at[0] or (exact <= later and exact in thinned)


def test_a_curve_of_nothing_has_no_point():
    assert data.curve([]) == [] and data.curve([[]]) == []
    assert data.curve([[(600, 4)]]) == [(1.0, 0.6), (4.0, 0.6)]


def test_a_waterfall_adds_up_to_what_the_record_says(scenes):
    for name, each in scenes.items():
        rows = waterfall.savings(each[0], "1.50")
        for preset, records in each[0].at("1.50"):
            steps = {row["step"]: row for row in rows if row["preset"] == preset}
            found = [
                int(value) for one in records for key, value in one.derived.items() if waterfall.SAVED.fullmatch(key)
            ]
            saved = sum(found) / len(records)
            if not saved:
                assert not steps
                continue
            net = steps.pop(waterfall.NET)
            assert sum(row["mib"] for row in steps.values()) == pytest.approx(net["mib"])
            gross = sum(row["mib"] for row in steps.values() if row["sign"] in ("saved", "given up"))
            assert gross * 256 == pytest.approx(saved), (name, preset)
            assert [row["from"] for row in steps.values()][1:] == [row["to"] for row in steps.values()][:-1]


def test_costs_are_seconds_for_each_gib():
    record = made(ratio="2.00", saved=(("zpool", 262_144), ("swap", 131_072)), cpu=(1, 2_000_000_000))
    record = replace(record, cpu_ns={**record.cpu_ns, "compress": 10**9, "decompress": 2 * 10**9})
    (scene,) = data.scenes([run_of([record])])[0]
    costs = {row["step"]: row["cost"] for row in waterfall.savings(scene, "2.00")}
    assert costs == {"compressed": 3.0, "swapped": 4.0, waterfall.NET: None}


def test_one_cost_of_several_steps_is_drawn_once():
    """Three times 28.0 below each other reads as 84."""
    record = made(saved=(("sharing", 30), ("swap", 300)), cpu=(1, 10**9))
    parts = {"saved_zero_pages": 10, "saved_intra_pages": 131_062, "saved_inter_pages": 131_072}
    record = replace(record, derived=record.derived | parts, cpu_ns={**record.cpu_ns, "scan": 14 * 10**9})
    ((_, figure),) = figures_of([record], kinds=["savings"])
    told = {row["step"]: (row["cost"], row["cost_label"]) for row in figure.figure["data"]["values"]}
    merged = [told[f"merged{step}"] for step in (", zero", " in a VM", " across VMs")]
    assert merged[0] == (pytest.approx(14, rel=1e-3), "14, all 3") and merged[1:] == [(0, "")] * 2
    assert [savings._cost_text(cost, 1) for cost in (0.0, 1.6e-05, 0.0012, 2.5)] == ["0", "<0.001", "0.0012", "2.50"]
    assert "all N: one cost, of N steps together" in figure.figure["title"]["subtitle"]


def test_what_a_balloon_holds_is_drawn_and_told_apart(scenes):
    """Frames that guests gave up need not have held anything: more is saved at the same effective overcommit."""
    for name, drawn in (("balloon", True), ("swap", False)):
        figures = figures_of([made(saved=((name, 300), ("zpool", 100)))], kinds=["savings"])
        spec = figures[0][1].figure
        hollow = [row["step"] for row in spec["data"]["values"] if row["sign"] == "given up"]
        assert hollow == ["ballooned"] * drawn
        assert ("effective overcommit does not count it" in spec["title"]["subtitle"]) == drawn
        assert ("guests gave up, whether or not they held content" in spec["description"]) == drawn
        assert ("1.56 (1.17 of it the balloon's)" in spec["description"]) == drawn
        assert ('fill-opacity="0.2"' in draw(spec, "svg").decode()) == drawn


def test_latency_says_how_many_faults_there_were_and_no_exponent():
    several = [
        made(preset=each, histograms={"swap": [(500, n), (15_470_000, 2)]}) for each, n in (("a", 98), ("b", 9998))
    ]
    ((_, figure),) = figures_of(several, kinds=["latency"])
    spec = figure.figure
    assert (
        "faults, one seed: a 100, b 10.0k" in spec["title"]["subtitle"]
        and "Faults: a 100, b 10.0k." in spec["description"]
    )
    assert "The longest: 15.5 ms, read from swap" in spec["description"]
    ticks = draw(spec, "svg").decode()
    assert ">10,000<" in ticks and "e+" not in ticks


def test_faults_are_counted_for_each_seed():
    several = [made(seed=seed, histograms={"swap": [(500, 10 * seed), (900, 2)]}) for seed in (1, 2)]
    ((_, figure),) = figures_of(several, kinds=["latency"])
    assert "Faults, mean over seeds: swap 17." in figure.figure["description"]


def test_a_mechanism_and_a_fault_that_have_no_words_yet_are_called_as_they_are():
    record = made(ratio="2.00", saved=(("swap", 256), ("novel", 512)), histograms={"novel": [(500, 1), (900, 1)]})
    (scene,) = data.scenes([run_of([replace(record, cpu_ns={"novel": 10**9})])])[0]
    rows = {row["step"]: row for row in waterfall.savings(scene, "2.00")}
    assert rows["novel"]["mib"] == 2 and rows["novel"]["cost"] == 512 and rows[waterfall.NET]["mib"] == 3
    assert {row["kind"] for row in data.latencies(scene, "2.00")} == {data.ALL_FAULTS, "novel"}


def test_uses_of_memory_add_up_to_the_host_at_every_moment(scenes):
    (scene,) = scenes["zipf"]
    rows = moments.memory_uses(scene, "1.50")
    sums = {}
    for row in rows:
        place = row["preset"], row["ms"]
        sums[place] = sums.get(place, 0) + row["mib"]
    assert sums and set(sums.values()) == {64.0}
    assert len(sums) < len(moments.at_first_seed(scene, "1.50")) * 2 * moments.MOST_MOMENTS["measured"]


def test_stalls_are_the_counted_time_over_the_passed_time(scenes):
    (scene,) = scenes["zipf"]
    for preset, record in moments.at_first_seed(scene, "2.00"):
        line, rows = record.timeline, [row for row in moments.stalls(scene, "2.00") if row["preset"] == preset]
        measured = line.of_phase("measured")
        begin = line.sim_ns[measured[0]]
        for name, who in moments.STALLS.items():
            found = [row for row in rows if row["who"] == who]
            waited, before = 0.0, found[0]["ms"]
            for row in found[1:]:
                waited += (row["ms"] - before) * row["percent"] / 100 if row["ms"] > 0 else 0
                before = row["ms"]
            counted = sum(line.host.get(name, [0] * len(line.sim_ns))[row] for row in measured) / 1e6
            assert waited == pytest.approx(counted, rel=0.02, abs=0.2) and begin > 0


def test_the_front_is_what_nothing_beats(scenes):
    """And nothing of it turns back: more overcommit is more slowdown there. What prints alike is no trade-off."""
    for each in scenes.values():
        rows = data.tradeoff(each[0])
        front = [row for row in rows if row["front"]]
        for row in rows:
            beaten = any(
                other["slowdown"] <= row["slowdown"] * 1.01 and other["overcommit"] * 1.01 >= row["overcommit"]
                for other in front
                if other is not row
            )
            assert row["front"] != beaten
        line = sorted(front, key=lambda row: row["overcommit"])
        assert line and [row["slowdown"] for row in line] == sorted(row["slowdown"] for row in line)


def test_noise_puts_no_preset_on_the_front():
    records = [
        made(ratio="1.00", preset="a", slowdown="1.000", overcommit="0.820"),
        made(ratio="1.00", preset="b", slowdown="1.005", overcommit="0.920"),
        made(ratio="1.00", preset="c", slowdown="1.004", overcommit="0.921"),
        made(ratio="2.00", preset="c", slowdown="2.000", overcommit="1.500"),
    ]
    ((_, figure),) = figures_of(records, kinds=["tradeoff"])
    assert "On it: at 1.00 c; at 2.00 c." in figure.figure["description"]


def test_intervals_from_five_seeds_on():
    for count, drawn in ((4, False), (5, True)):
        (scene,) = data.scenes([run_of(seeds(count, swap=2.0, sharing=3.0))])[0]
        assert all((row["slowdown_low"] < row["slowdown"]) == drawn for row in data.tradeoff(scene))
        made_ = make(KINDS["sensitivity"], [scene])
        assert ("95 % interval" in made_.figure["description"]) == drawn


def test_intervals_end_where_their_quantity_does():
    values = (0.0, 0.0, 0.0, 0.0, 10.0)
    mean, interval = averaged(values, "waited_ms")
    assert mean == 2 and interval.low == 0 and interval.high == pytest.approx(7.55, abs=0.01)
    assert averaged(values, "saved_net_frames")[1].low == pytest.approx(-3.55, abs=0.01), "a loss is negative"
    assert averaged((90, 100, 100, 100, 100), "stall_percent")[1].high == 100
    assert averaged((1.0, 1.0, 1.0, 1.0, 1.1), "slowdown_p99")[1].low == 1.0
    slow = [{"": text} for text in ("1.000", "1.000", "1.000", "1.000", "1.010")]
    records = [each for seed, text in enumerate(slow, 1) for each in levels_of({"swap": {"1.00": text}}, seed)]
    (scenes,) = data.scenes([run_of(records)])
    (row,) = data.tradeoff(scenes[0])
    assert row["slowdown_low"] == 1.0 < row["slowdown"] < row["slowdown_high"]


def test_an_interval_down_to_nothing_does_not_stretch_a_logarithmic_axis():
    """A mean of 67 over seeds of 1 to 300, as when one seed in five fits."""
    records = [made(preset="a", seed=seed, slowdown=f"{1 + seed**3}") for seed in range(1, 6)]
    records += [made(preset="b", seed=seed, slowdown="1.5") for seed in range(1, 6)]
    trade, seeds_ = (figure.figure for _, figure in figures_of(records, kinds=["tradeoff", "sensitivity"]))
    assert trade["layer"][0]["encoding"]["y"]["scale"]["domain"][0] == 1
    low = {row["low"] for row in seeds_["data"]["values"]}
    assert min(low) >= seeds_["layer"][0]["encoding"]["x"]["scale"]["domain"][0] > 0


def test_presets_keep_their_colours_when_others_are_missing():
    names = ["a", "b", "c"]
    some = style.coloured("preset", names, [{"preset": "c"}])
    assert some["scale"]["range"][2] == style.coloured("preset", names, [])["scale"]["range"][2]
    assert some["legend"]["values"] == ["c"]
    many = [f"p{i}" for i in range(60)]
    looks = zip(
        style.coloured("preset", many, [])["scale"]["range"],
        style.shaped("preset", many, [])["scale"]["range"],
        strict=True,
    )
    assert len(set(looks)) == 60


@given(st.floats(1e-3, 1e6), st.floats(1, 1e6))
def test_a_logarithmic_axis_holds_its_values(low, factor):
    axis = style.logarithm("x", "x", low, low * factor)
    start, end = axis["scale"]["domain"]
    assert 0 < start <= low * 1.001 and start < end and end >= low * factor * 0.999
    assert all(start <= tick <= end for tick in axis["axis"]["values"]) and len(axis["axis"]["values"]) <= 14


def test_differences_of_a_thousandth_are_not_drawn_large():
    start, end = style.ratio_axis([{"x": 1.0}, {"x": 1.001}], "x", "x", (1.0, float("inf")))["scale"]["domain"]
    assert start == 1.0 and end >= 1.01
    start, end = style.ratio_axis([{"x": 99.5}, {"x": 99.9}], "x", "x", (0.0, 100.0))["scale"]["domain"]
    assert end == 100 and start < 99.1
    assert style.ratio_axis([{"x": 1.0}, {"x": 99.0}], "x", "x")["scale"]["type"] == "log"


def test_no_axis_goes_beyond_what_its_quantity_can_be():
    for low, high, least, most in ((0.0, 60.0, 0.0, 100.0), (50.0, 100.0, 0.0, 100.0), (1.0, 1.5, 1.0, float("inf"))):
        scale = style.ratio_axis([{"x": low}, {"x": high}], "x", "x", (least, most))["scale"]
        assert least <= scale["domain"][0] <= low and high <= scale["domain"][1] <= most
        assert not scale["nice"] and "padding" not in scale
    assert style.ratio_axis([{"x": -3.0}, {"x": 3.0}], "x", "x", (0.0, 9.0))["scale"]["domain"][0] == -3, "seen, though"
    trade = make(KINDS["tradeoff"], data.scenes([run_of(seeds(swap=1.0))])[0]).figure
    assert trade["layer"][0]["encoding"]["y"]["scale"]["domain"][0] == 1.0


def levels_of(presets, seed=1):
    """Records of a fleet that lives, with service levels: {preset: {ratio: {level or "": slowdown}}}."""
    groups = [{"name": "web", "level": "gold"}, {"name": "desktop", "level": "bronze"}]
    for preset, ratios in presets.items():
        for ratio, slow in ratios.items():
            config = {"scenario": {"name": "day", "description": "", "groups": groups}, "ratio": ratio}
            told = {f"slowdown_p99{'.' * bool(level)}{level}": text for level, text in slow.items()}
            vms = {"web-0": {"accesses": 1, "sim_ns": 2, "stall_ns": 0, "work_ns": 2}}
            yield made(
                scenario="day", ratio=ratio, preset=preset, seed=seed, config=config, kind="life", vms=vms,
                derived={"slowdown": slow[""] if seed > 1 else "1.001", "effective_overcommit": "1.5", **told},
            )  # fmt: skip


def test_slowdown_of_each_service_level_over_the_ratio():
    slow = {"1.00": {"": "1.000", "bronze": "1.001", "gold": "1.000"},
            "2.50": {"": "1.080", "bronze": "1.060", "gold": "1.090"}}  # fmt: skip
    (scenes,) = data.scenes([run_of(levels_of({"swap": slow, "sharing": {"1.00": slow["1.00"]}}))])
    figure = make(KINDS["levels"], scenes).figure
    assert figure["facet"]["row"]["sort"] == ["all VMs", "gold", "bronze"]  # as the suite has them
    found = {(row["preset"], row["ratio"], row["level"]): row["value"] for row in figure["data"]["values"]}
    assert found["swap", 2.5, "gold"] == 1.09 and found["sharing", 1.0, "bronze"] == 1.001 and len(found) == 9
    assert "1.09 under swap at 2.50, gold" in figure["description"] and "(work + stall) / work" in json.dumps(figure)
    trade = make(KINDS["tradeoff"], scenes).figure
    assert "slowdown: (work + stall) / work" in json.dumps(trade)


@pytest.mark.parametrize("kind", ["levels", "tradeoff"])
def test_how_to_read_marks_fits_a_column(kind):
    """A longer line would take its width from the panels."""
    (scenes,) = data.scenes([run_of(levels_of({"swap": {"1.00": {"": "1.0"}, "2.00": {"": "1.5"}}}))])
    figure = make(KINDS[kind], scenes).figure
    bare = {**figure, "title": {key: text for key, text in figure["title"].items() if key != "subtitle"}}
    widths = [float(re.search(rb' width="([\d.]+)"', draw(each, "svg", 1))[1]) for each in (figure, bare)]
    across = [drawing.sized(each, WIDTHS[1])["usermeta"]["across"] for each in (figure, bare)]
    assert "subtitle" in figure["title"] and across[0] == across[1] and widths[0] == pytest.approx(WIDTHS[1], abs=1)


def test_a_fleet_of_one_level_has_one_panel():
    (scenes,) = data.scenes([run_of(levels_of({"swap": {"1.00": {"": "1.5", "gold": "1.5"}}}))])
    figure = make(KINDS["levels"], scenes).figure
    assert "facet" not in figure and {row["level"] for row in figure["data"]["values"]} == {"all VMs"}
    assert figure["layer"][0]["encoding"]["x"]["field"] == "preset", "at one ratio marks would lie on each other"


def test_labels_of_ratios_lie_on_no_mark():
    """Above the mark of `a` lie others, of presets that are slower at the same overcommit."""
    crowd = [made(ratio="4.00", preset=f"p{i}", slowdown=f"{2 + i / 12:.3f}", overcommit="1.500") for i in range(4)]
    records = [*crowd, made(ratio="1.00", preset="a", slowdown="1.000", overcommit="1.0")]
    records += [made(ratio="4.00", preset="z", slowdown="3.900", overcommit="1.3")]
    ((_, figure),) = figures_of(records, kinds=["tradeoff"])
    rows = {(row["preset"], row["ratio"]): row for row in figure.figure["data"]["values"]}
    assert rows["p0", 4.0]["label"] == "4.00" and rows["p0", 4.0]["place"] == "b"
    assert rows["a", 1.0]["label"] == "1.00" and rows["p1", 4.0]["label"] is None
    marks = [layer["mark"] for layer in figure.figure["layer"]]
    points = next(i for i, mark in enumerate(marks) if mark["type"] == "point")
    halos = [i for i, mark in enumerate(marks) if mark["type"] == "text" and "stroke" in mark]
    assert halos and max(halos) < points, "a halo behind marks erases none"


def test_a_key_speaks_of_numbers_where_there_are_any():
    """Where a dozen marks lie on each other there is no place for one."""
    for count, told in ((1, True), (160, False)):
        crowd = [
            made(preset=f"p{i}", slowdown=f"{1.9 + i % 20 / 9}", overcommit=f"{1 + i // 20}") for i in range(count)
        ]
        ((_, figure),) = figures_of(crowd, kinds=["tradeoff"])
        labels = [row["label"] for row in figure.figure["data"]["values"] if row["label"]]
        assert bool(labels) == told == figure.figure["title"]["subtitle"][0].startswith("numbers:")


def test_keys_tell_what_marks_and_bars_are(scenes):
    for kind, line in (
        ("tradeoff", "lower right is better; mean of 5 seeds, bars: 95 % intervals"),
        ("savings", "mean of 5 seeds"),
        ("fragmentation", "mean of 5 seeds"),
        ("memory", "seed 1 of 5"),
        ("stall", "seed 1 of 5"),
    ):
        assert line in make(KINDS[kind], scenes["zipf"]).figure["title"]["subtitle"], kind


def test_a_seed_far_from_the_mean_is_told_in_its_unit():
    """400 % of a mean of nearly nothing says nothing, nor does 0.0 %."""
    for values, told in (((2.0, 2.0, 5.0), "swap, 5 × with a mean of 3 ×."), ((2.0, 2.0, 2.0001), None)):
        records = [made(seed=seed, slowdown=f"{value}") for seed, value in enumerate(values)]
        ((_, figure),) = figures_of(records, kinds=["sensitivity"])
        assert told is None or f"Farthest from its mean: {told}" in figure.figure["description"]
        assert ("Farthest" in figure.figure["description"]) == (told is not None)


def test_orders_that_miss_alike_are_not_told_apart():
    def told(*values):
        return costs._misses_told([{"preset": name, "value": value} for name, value in zip("abc", values, strict=True)])

    assert told(99.96, 100.0, 100.0) == "no difference, 100.0 % missed under every order"
    assert told(95.6, 100.0, 100.0) == "the fewest misses: a 95.6 %; the most: 2 orders 100.0 %"
    assert told(1.0, 2.0, 3.0) == "the fewest misses: a 1.0 %; the most: c 3.0 %"


def test_what_was_lost_net_is_negative():
    """Metadata of a scanner that finds hardly anything is more than it saves."""
    record = made(saved=(("zpool", 10),), usage={"free": 10, "guest": 40, "backing": 40})
    ((_, figure),) = figures_of([record], kinds=["savings"])
    net = next(row for row in figure.figure["data"]["values"] if row["step"] == waterfall.NET)
    assert net["label"].startswith("−") and net["amount"] < 0


def test_axes_have_units_that_fit():
    for ns, mib, told in ((10**9, 64, ("ms", "MiB")), (10**12, 8192, ("s", "GiB"))):
        frames = mib * 256
        line = Timeline(
            phases=[Stretch(phase="measured", rows=3, step_ns=1)], sim_ns=[0, ns, 2 * ns],
            host={"usage.guest": [frames] * 3, "stall_some_ns": [0, ns // 2, 0]}, vms={},
        )  # fmt: skip
        found = figures_of([made(timeline=line)], kinds=["memory", "stall"])
        for _, figure in found:
            assert f"simulated {told[0]} since" in json.dumps(figure.figure)
            assert max(row["ms"] for row in figure.figure["data"]["values"]) == 2000
        assert f'"title": "{told[1]}"' in json.dumps(found[0][1].figure)
        assert max(row["mib"] for row in found[0][1].figure["data"]["values"]) == (64 if ns < 10**10 else 8)


def test_the_last_look_at_the_width_is_the_drawing(scenes, monkeypatch):
    drawn = []

    class Library:
        def vegalite_to_svg(self, spec, **how):
            drawn.append(spec)
            return vl_convert.vegalite_to_svg(spec, **how)

    library = Library()
    monkeypatch.setattr(drawing, "_library", lambda: library)
    draw(make(KINDS["tradeoff"], scenes["scan"]).figure, "svg", 2)
    assert len(drawn) == 2


def test_a_png_has_a_ground():
    """Black letters on whatever is behind say nothing where that is black."""
    ((_, figure),) = figures_of([made(saved=(("swap", 256),))], kinds=["savings"])
    png = draw(figure.figure, "png")
    at, data_ = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        data_ += png[at + 8 : at + 8 + length] if png[at + 4 : at + 8] == b"IDAT" else b""
        at += 12 + length
    assert zlib.decompress(data_)[1:5] == b"\xff\xff\xff\xff"  # the first pixel, opaque


def test_large_amounts_have_no_exponent():
    ((_, figure),) = figures_of([made(saved=(("swap", 1234 * 256),))], kinds=["savings"])
    assert {row["label"] for row in figure.figure["data"]["values"]} >= {"+1,234"}
    assert "e+" not in figure.figure["description"]


# ---- what there is nothing of


def test_figures_that_would_be_empty_say_so():
    same = seeds(swap=2.0)
    same = [replace(record, derived={**record.derived, "slowdown": "2.000"}) for record in same]
    ((_, figure),) = figures_of(same, kinds=["sensitivity"])
    assert figure.figure is None and figure.reason == "slowdown is 2 under every preset and seed"
    line = Timeline(
        phases=[Stretch(phase="measured", rows=2, step_ns=1)], sim_ns=[0, 10], host={"usage.free": [5, 4]}, vms={}
    )
    ((_, figure),) = figures_of([made(timeline=line)], kinds=["stall"])
    assert figure.reason == "no VM waited for memory at ratio 1.50"
    alike = made(histograms={"swap": [(500, 3)]})
    ((_, figure),) = figures_of([alike], kinds=["latency"])
    assert figure.figure is None
    assert figure.reason == "all faults of a kind took as long at ratio 1.50: read from swap 0.5 µs"


def test_a_figure_without_data_says_why():
    alone = made(histograms={}, fragmentation={}, derived={"faults": 0})
    reasons = {name: made_.reason for name, made_ in figures_of([alone])}
    assert all(reasons.values()) and len(set(reasons.values())) >= len(KINDS) - 2, "of time lines one reason"
    refused = made(status="refused", reason="no room")
    assert all(made_.figure is None for _, made_ in figures_of([refused]))


def test_the_telling_ratio_is_the_hardest_that_half_of_those_that_finished_any_finished(scenes):
    assert data.telling_ratio(scenes["zipf"]) == "2.00"
    records = [made(ratio=ratio, preset=preset) for ratio in ("1.00", "1.50") for preset in ("a", "b")]
    records += [made(ratio="2.00", preset="a"), made(ratio="2.00", preset="b", status="refused", reason="no")]
    records += [made(ratio=ratio, preset="c", status="refused", reason="no") for ratio in ("1.00", "1.50", "2.00")]
    assert data.telling_ratio(data.scenes([run_of(records)])[0]) == "2.00", "one of the two that finished any"
    records += [made(ratio=ratio, preset="d") for ratio in ("1.00", "1.50")]
    assert data.telling_ratio(data.scenes([run_of(records)])[0]) == "1.50", "one of three is less than half"


# ---- files


@pytest.mark.parametrize("columns", [1, 2])
def test_a_figure_is_as_wide_as_its_columns_and_the_same_each_time(scenes, columns):
    kind = ("tradeoff", "savings")[columns - 1]
    figure = make(KINDS[kind], scenes["clone-storm"]).figure
    first = draw(figure, "svg", columns)
    draw(make(KINDS["fragmentation"], scenes["zipf"]).figure, "svg")  # what else is drawn leaves no trace
    assert draw(figure, "svg", columns) == first
    width = float(re.match(rb'<svg[^>]* width="([\d.]+)"', first)[1])
    assert width == pytest.approx(WIDTHS[columns], abs=2)
    pdf = draw(figure, "pdf", columns)
    assert re.search(rb"/MediaBox \[0 0 ([\d.]+)", pdf)[1].split(b".")[0] == str(round(width)).encode()
    assert b"/FontFile2" in pdf and set(re.findall(rb"/BaseFont /\w+\+([\w-]+)", pdf)) == {b"LiberationSans"}
    assert draw(figure, "png", columns).startswith(b"\x89PNG")
    spec = json.loads(draw(figure, "json", columns))
    assert spec["$schema"] == style.SCHEMA and "var(--" not in json.dumps(spec)


def test_two_processes_draw_the_same_bytes(tmp_path):
    """PDF included: it would write two fonts in either order."""
    asked = ["--figure", "tradeoff", "--scenario", "zipf", "--format", "pdf"]
    for out in ("a", "b"):
        command = [sys.executable, "-m", "memvirt", "plot", str(QUICK), *asked, "--out", str(tmp_path / out)]
        subprocess.run(command, check=True, capture_output=True)
    (first,), (second,) = ((tmp_path / out).iterdir() for out in ("a", "b"))
    assert first.name == "tradeoff-zipf.pdf" and first.read_bytes() == second.read_bytes()


def test_hostile_names_are_text(tmp_path):
    records = [
        replace(record, preset=HOSTILE[int(record.preset)])
        for record in seeds(2, **{str(i): 2.0 + i for i in range(6)})
    ]
    for name, made_ in figures_of(records, kinds=("tradeoff", "savings", "sensitivity")):
        assert made_.figure is not None, name
        drawn = draw(made_.figure, "svg").decode()
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn).iter()}
        assert tags <= {"svg", "g", "rect", "path", "text", "tspan", "line", "defs", "clipPath", "title", "desc"}, name
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", drawn) and "bell\\x07" in drawn
        assert float(re.match(r'<svg[^>]* width="([\d.]+)"', drawn)[1]) < WIDTHS[1] + 5


def test_scenarios_of_any_name_get_file_names_of_their_own(tmp_path, capsys):
    config = {"scenario": {"name": "../../x <b>\n", "description": ""}}
    records = [replace(record, scenario="odd-200") for record in seeds(1, swap=2.0)]
    records = [made(ratio=record.ratio, preset="swap", config=config | {"ratio": record.ratio}) for record in records]
    path = folder(tmp_path / "run", [replace(record, scenario=f"odd-{i}") for i, record in enumerate(records)])
    out = tmp_path / "out"
    call("plot", str(path), "--figure", "tradeoff", "--out", str(out))
    assert [file.parent for file in tmp_path.rglob("*.svg")] == [out]


# ---- the command


def test_plot_writes_what_it_names_and_tells_what_there_is_not(tmp_path, capsys):
    asked = ["plot", str(QUICK), "--figure", "savings,miss-ratios", "--scenario", "scan", "--ratio", "1.5", "--out"]
    assert not call(*asked, str(tmp_path / "new" / "place"), "--format", "json", "--no-title")
    out, err = capsys.readouterr()
    file = Path(out.strip())
    assert file == tmp_path / "new" / "place" / "savings-scan-1.50.vl.json" and "title" not in json.loads(
        file.read_text()
    )
    assert "scan: no figure miss-ratios: no order of replacement ran alone" in err


def test_plot_names_each_file_when_it_is_written(tmp_path):
    drawing_ = plotting.plot([QUICK], plotting.Wanted(["savings"], "zipf"), tmp_path, form="json", tell=print)
    assert next(drawing_).exists() and len(list(tmp_path.iterdir())) == 1
    both = plotting.plot([QUICK], plotting.Wanted(["savings", "stall"], "scan"), tmp_path, form="json", tell=print)
    first = next(both)
    assert first.name == "savings-scan-2.00.vl.json" and not (tmp_path / "stall-scan-2.00.vl.json").exists()
    assert [each.name for each in both] == ["stall-scan-2.00.vl.json"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--figure", "tradeof"], "unknown figure 'tradeof'; did you mean 'tradeoff'"),
        (["--format", "eps"], "unknown format 'eps'"),
        (["--scenario", "zip"], "no scenario 'zip'; did you mean 'zipf'"),
        (["--ratio", "3"], "fleet has no ratio '3' (there are: 2.00)"),
        (["--ratio", "x"], "fleet has no ratio 'x'"),
        (["--figure", "miss-ratios"], "none of these figures has anything to draw"),
    ],
)
def test_what_cannot_be_plotted_is_a_sentence(words, said, capsys, tmp_path):
    assert call("plot", str(QUICK), *words, "--out", str(tmp_path / "out")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_are_none_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"a": 1}')
    mixed = folder(tmp_path / "mixed", [made(seed=1), made(seed=2, suite="other")])
    for path, said in (
        ("empty", "not a memvirt results folder"),
        ("foreign", "not of a memvirt run"),
        ("mixed", "unlike runs"),
    ):
        assert call("plot", str(tmp_path / path)) == 2
        assert said in capsys.readouterr().err
    assert call("plot", str(QUICK), str(QUICK)) == 2
    assert "given twice" in capsys.readouterr().err
    assert mixed.exists()


def test_without_the_library_a_sentence_says_what_to_install(monkeypatch, scenes):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ConfigError, match=r"pip install memvirt\[report\]"):
        draw(make(KINDS["tradeoff"], scenes["zipf"]).figure, "svg")


def test_every_figure_is_listed(capsys):
    call("list", "figures", "--json")
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(KINDS)
