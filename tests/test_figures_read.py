"""Figures as a stranger reads them in one column of a paper: legends are whole, marks fill the panel, labels have room."""

import re
from pathlib import Path

import pytest

from helpers.made_records import made
from memvirt.report.figures import costs, data
from memvirt.report.figures.catalog import KINDS, make
from memvirt.report.figures.drawing import WIDTHS, draw, sized
from memvirt.report.figures.style import CUT, LETTER, LETTERS
from memvirt.report.runs import Run, read_runs
from memvirt.results import run_folder
from memvirt.results.timeline import Stretch, Timeline

QUICK = Path(__file__).parents[1] / "results" / "quick"
GROUP = re.compile(r'<g class="mark-symbol role-legend-symbol"[^>]*>(.*?)</g>')
POINT = re.compile(r'<path transform="translate\(([-\d.e]+),([-\d.e]+)\)"')


@pytest.fixture(scope="module")
def scenes():
    return {each[0].name: each for each in data.scenes(read_runs([QUICK]))}


def figure_of(kind, records):
    manifest = run_folder.read_manifest(QUICK)
    (found,) = data.scenes([Run("mine", "mine", manifest, tuple(records), 0)])
    return make(KINDS[kind], found).figure


def svg_of(figure):
    return draw(figure, "svg", 1).decode()


def test_shapes_in_a_legend_are_whole_and_dashes_long_enough_to_be_seen(scenes):
    """An outline that is dashed as the line is looks like a broken shape; a dash as short as a shape looks like none."""
    shapes = GROUP.findall(svg_of(make(KINDS["fragmentation"], scenes["zipf"]).figure))
    assert len(shapes) == 5 and not any("dasharray" in each for each in shapes)
    strokes = GROUP.findall(svg_of(make(KINDS["latency"], scenes["zipf"]).figure))
    assert len(strokes) == 5 and all("dasharray" in each for each in strokes)
    lengths = [float(re.search(r'd="M[-\d.]+,0L([\d.]+),0', each)[1]) * 2 for each in strokes]
    assert min(lengths) > 16  # two of the longest common dashes


def test_a_line_and_its_shapes_have_the_colour_of_the_legend(scenes):
    *lines, points = make(KINDS["fragmentation"], scenes["zipf"]).figure["layer"]
    scale = points["encoding"]["color"]["scale"]
    legend = dict(zip(scale["domain"], scale["range"], strict=True))
    drawn = {each["transform"][0]["filter"]["equal"]: each["mark"]["color"] for each in lines}
    assert len(drawn) == 5 and drawn == {name: legend[name] for name in drawn}


def test_points_fill_the_panel_and_a_cut_axis_is_named():
    """Slowdowns of a fleet with work of its own differ by hundredths."""
    steps = (("1.00", "1.000", "0.98"), ("2.00", "1.008", "1.60"), ("2.50", "1.040", "2.01"))
    figure = figure_of("tradeoff", [made(ratio=at, slowdown=slow, overcommit=much) for at, slow, much in steps])
    svg = svg_of(figure)
    begin = svg.rindex('class="mark-symbol role-mark')
    places = POINT.findall(svg[begin : svg.index('class="mark-text role-mark', begin)])
    up, across = [float(y) for _, y in places], [float(x) for x, _ in places]
    assert max(up) - min(up) > figure["height"] / 2
    assert max(across) - min(across) > WIDTHS[1] / 2
    assert CUT in figure["title"]["subtitle"] and CUT.capitalize() in figure["description"]


def test_an_axis_from_nothing_is_not_called_cut():
    for least, told in ((0, False), (60, True)):
        records = [made(seed=seed, preset=preset, slowdown=f"{least + seed * 5}") for preset in "ab" for seed in (0, 1)]
        assert (CUT in figure_of("sensitivity", records)["title"]["subtitle"]) == told


def test_numbers_behind_bars_end_inside_their_panel(scenes):
    figure = make(KINDS["savings"], scenes["zipf"]).figure
    panels = sized(figure, WIDTHS[1])["hconcat"]
    for panel, field, label in zip(panels, ("end", "cost"), ("label", "cost_label"), strict=True):
        low, high = panel["spec"]["layer"][0]["encoding"]["x"]["scale"]["domain"]
        each_point = panel["spec"]["width"] / (high - low)
        for row in figure["data"]["values"]:
            end = (row[field] - low) * each_point + 3 + len(row[label]) * LETTER * LETTERS
            assert end <= panel["spec"]["width"] + LETTERS, row
        assert panel["spec"]["view"]["stroke"] is None


def test_ticks_of_one_column_are_named(scenes):
    shares = svg_of(make(KINDS["latency"], scenes["zipf"]).figure)
    assert all(f">{share}</text>" in shares for share in ("50", "90", "99", "99.9", "99.99"))
    blocks = svg_of(make(KINDS["fragmentation"], scenes["zipf"]).figure)
    assert all(f">{size}</text>" in blocks for size in ("4 KiB", "8 KiB", "512 KiB", "4 MiB"))


@pytest.mark.parametrize("kind", ["savings", "latency", "memory", "stall", "fragmentation", "sensitivity"])
def test_a_figure_of_one_ratio_says_what_the_ratio_is_and_that_fits_a_column(scenes, kind):
    """A longer line would take its width from the panels."""
    figure = make(KINDS[kind], scenes["zipf"]).figure
    bare = {**figure, "title": {key: text for key, text in figure["title"].items() if key != "subtitle"}}
    across = [sized(each, WIDTHS[1])["usermeta"]["across"] for each in (figure, bare)]
    assert figure["title"]["subtitle"][0].startswith("2.00: memory promised / host memory") and across[0] == across[1]


def test_stalls_of_a_few_per_cent_are_seen_and_the_end_of_their_axis_is_told(scenes):
    full = make(KINDS["stall"], scenes["zipf"]).figure
    assert full["spec"]["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0, 100]
    assert not any("axes of stalls" in line for line in full["title"]["subtitle"])
    line = Timeline(
        phases=[Stretch(phase="measured", rows=3, step_ns=1)], sim_ns=[0, 10**9, 2 * 10**9],
        host={"stall_some_ns": [0, 3 * 10**7, 10**7], "stall_full_ns": [0, 0, 0]}, vms={},
    )  # fmt: skip
    few = figure_of("stall", [made(timeline=line)])
    assert few["spec"]["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0, 5]
    assert "axes of stalls end at 5 %" in few["title"]["subtitle"]


def test_labels_of_a_low_panel_lie_within_it():
    """Where differences are small the panel is half as high, and a label takes twice as much of it."""
    records = [made(ratio="1.00", preset=name, slowdown="1.000", overcommit="1.0") for name in ("a", "b")]
    records += [made(ratio="2.50", preset="a", slowdown="1.001", overcommit="2.0")]
    records += [made(ratio="2.50", preset="b", slowdown="1.0015", overcommit="2.0")]
    figure = figure_of("tradeoff", records)
    low, high = figure["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert figure["height"] == costs.LEAST_HEIGHT < costs.HEIGHT
    for row in figure["data"]["values"]:
        if row["label"]:
            from_below = figure["height"] * (row["slowdown"] - low) / (high - low) - costs.PLACES[row["place"]][1]
            assert costs.LABEL[1] / 2 <= from_below <= figure["height"] - costs.LABEL[1] / 2, row
    assert any(row["label"] for row in figure["data"]["values"])


def test_a_front_of_one_mark_has_no_line_that_a_key_could_speak_of():
    one = [made(preset="a", slowdown="1.0", overcommit="2.0"), made(preset="b", slowdown="2.0", overcommit="1.5")]
    figure = figure_of("tradeoff", one)
    assert "dashes" not in str(figure["title"]) and "dashed" not in figure["description"]
    two = [one[0], made(preset="b", slowdown="2.0", overcommit="3.0")]
    figure = figure_of("tradeoff", two)
    assert "dashes: Pareto front" in str(figure["title"]) and "dashed" in figure["description"]


def test_lines_that_lie_on_each_other_are_named():
    """Ten orders that miss every request are one line, whose colour is that of the last one drawn."""
    lines = {"fifo": (100.0, 100.0), "lru": (99.99, 100.0), "sieve": (100.0, 100.0), "s3fifo": (100.0, 61.0)}
    rows = [
        {"run": "a", "preset": name, "ratio": ratio, "value": value}
        for name, values in lines.items()
        for ratio, value in zip((0.05, 0.5), values, strict=True)
    ]
    assert costs._on_one_line(rows, list(lines)) == ["fifo, lru, sieve"]
    assert costs._on_one_line(rows, ["fifo", "sieve", "s3fifo"]) == ["fifo, sieve"]
    assert costs._on_one_line(rows, ["lru", "s3fifo"]) == []
