"""What a trace is like: every number against sets and loops, phases on traces made of them, figures and the command."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from memvirt.cli import APP
from memvirt.errors import ConfigError, CorpusError
from memvirt.report.figures import traces as figures
from memvirt.simulation import profile as profiling
from memvirt.simulation import reuse_distances, simulate
from memvirt.simulation.profile import Profiler, curve_sizes, octaves, phase_names


def draws(n, below, seed, skew=1.0):
    """Page numbers, low ones the more wanted the larger the skew; the same in every version of NumPy."""
    raw = np.random.Generator(np.random.PCG64(seed)).bit_generator.random_raw(n)
    return ((raw / 2.0**64) ** skew * below).astype(np.uint32)


def profiled(pages, ops=None, stream=None, times=None, names=("",), parts=1, curves=()):
    pages = np.asarray(pages, np.uint32)
    profiler = Profiler(len(pages), names)
    bounds = [len(pages) * i // parts for i in range(parts + 1)]
    for start, end in pairwise(bounds):
        cut = [None if column is None else np.asarray(column)[start:end] for column in (ops, stream, times)]
        profiler.add(pages[start:end], *cut)
    return profiler.profile(curves)


PAGES = draws(25_000, 3000, 1, skew=3.0)
OPS = (draws(25_000, 10, 2) < 3).astype(np.uint8)
STREAM = draws(25_000, 3, 3)
TIMES = (np.arange(25_000, dtype=np.uint64) * 1000 + 5_000_000).astype(np.uint64)
NAMES = ("web", "db", "batch")


def test_counts():
    found = profiled(PAGES, OPS, STREAM, TIMES, NAMES)
    assert (found.touches, found.writes, found.reads) == (25_000, int(OPS.sum()), 25_000 - int(OPS.sum()))
    assert found.pages == found.first_touches == len(set(PAGES.tolist()))
    assert found.span_ns == 24_999_000
    assert sum(each.touches for each in found.intervals) == found.touches
    assert sum(each.new_pages for each in found.intervals) == found.pages
    assert sum(each.writes for each in found.intervals) == found.writes


def test_working_sets_are_sets():
    found = profiled(PAGES, OPS, times=TIMES)
    assert len(found.intervals) == 25
    seen = set()
    for each in found.intervals:
        here = set(PAGES[each.start : each.start + each.touches].tolist())
        assert (each.pages, each.new_pages) == (len(here), len(here - seen))
        assert each.writes == int(OPS[each.start : each.start + each.touches].sum())
        assert each.start_ns == int(TIMES[each.start])
        seen |= here


@pytest.mark.parametrize("parts", [1, 2, 7, 25_000 // 13])
def test_it_may_come_in_parts(parts):
    whole = profiled(PAGES, OPS, STREAM, TIMES, NAMES)
    assert profiled(PAGES, OPS, STREAM, TIMES, NAMES, parts=parts) == whole


def test_sharing_between_streams():
    found = profiled(PAGES, OPS, STREAM, None, NAMES)
    users = {}
    for page, who in zip(PAGES.tolist(), STREAM.tolist(), strict=True):
        users.setdefault(page, set()).add(who)
    for i, part in enumerate(found.streams):
        own = [page for page, who in users.items() if who == {i}]
        touched = [page for page, who in users.items() if i in who]
        assert (part.name, part.pages, part.own_pages) == (NAMES[i], len(touched), len(own))
        own_touches = np.equal(STREAM, i)
        assert (part.touches, part.writes) == (int(own_touches.sum()), int(OPS[own_touches].sum()))
    by_users = [sum(len(who) == k for who in users.values()) for k in (1, 2, 3)]
    assert list(found.pages_by_streams) == by_users
    assert found.span_ns is None


def test_a_stream_that_touches_nothing():
    found = profiled([1, 2, 1], stream=np.array([0, 0, 2], np.uint32), names=NAMES)
    assert [(part.touches, part.pages, part.own_pages) for part in found.streams] == [(2, 2, 1), (0, 0, 0), (1, 1, 0)]


def test_reuse_in_octaves():
    found = profiled(PAGES)
    distances = reuse_distances(PAGES)
    for each in found.reuse:
        assert each.touches == int(((distances >= each.low) & (distances <= each.high)).sum())
    assert sum(each.touches for each in found.reuse) + found.first_touches == found.touches
    assert [(each.low, each.high) for each in found.reuse[:3]] == [(1, 1), (2, 3), (4, 7)]


@settings(max_examples=50, deadline=None)
@given(pages=st.lists(st.integers(0, 30), max_size=60))
def test_short_traces(pages):
    found = profiled(pages)
    assert found.touches == len(pages) and found.pages == len(set(pages))
    assert len(found.intervals) == len(found.phases) == bool(pages)
    assert sum(each.touches for each in found.reuse) + found.first_touches == len(pages)
    for figure in figures.of_trace(found).values():
        check_figure(figure)


# -- phases --------------------------------------------------------------------------------------------------------


def runs(found):
    return [(each.name, each.start, each.touches) for each in found.phases]


def test_phases_that_come_back_are_known_again():
    parts = [
        draws(20_000, 4000, 1),
        draws(20_000, 4000, 2) + 4000,
        draws(20_000, 4000, 3),
        draws(20_000, 900, 4) + 8000,
    ]
    found = profiled(np.concatenate(parts))
    assert runs(found) == [("A", 0, 20_000), ("B", 20_000, 20_000), ("A", 40_000, 20_000), ("C", 60_000, 20_000)]
    assert abs(found.phases[0].pages - found.intervals[0].pages) < 60


@pytest.mark.parametrize(("below", "skew"), [(1_000_000, 1.0), (50_000, 4.0), (300, 1.0)])
def test_what_only_chance_makes_different_is_one_phase(below, skew):
    assert [name for name, _, _ in runs(profiled(draws(200_000, below, 7, skew)))] == ["A"]


def test_a_loop_is_one_phase():
    assert len(profiled(np.tile(np.arange(500), 200)).phases) == 1


def test_a_scan_is_of_no_phase():
    n = 200_000
    parts = [draws(n, 4000, 1), np.arange(4000, 4000 + n), draws(n, 4000, 3)]
    assert [name for name, _, _ in runs(profiled(np.concatenate(parts)))] == ["A", "-", "A"]


def test_names_of_phases():
    far_apart = list(np.eye(30))
    assert phase_names([*far_apart, *far_apart])[-6:] == ["Y", "Z", "AA", "AB", "AC", "AD"]
    assert phase_names([*far_apart[:3], far_apart[1]]) == ["-", "A", "-", "A"], "those like no other belong to none"
    assert phase_names(far_apart[:1]) == ["A"]
    assert phase_names([]) == []


# -- what it refuses -----------------------------------------------------------------------------------------------


def test_a_trace_of_another_length():
    profiler = Profiler(3)
    profiler.add(np.array([1, 2], np.uint32))
    with pytest.raises(ConfigError, match="has 2 touches, not the 3"):
        profiler.profile()
    with pytest.raises(ConfigError, match="more than the 3 touches"):
        profiler.add(np.array([1, 2], np.uint32))


def test_more_pairs_than_can_be_counted(monkeypatch):
    monkeypatch.setattr(profiling, "MOST_PAIRS", 2)
    profiler = Profiler(3, NAMES)
    with pytest.raises(ConfigError, match="import fewer streams"):
        profiler.add(np.array([1, 2, 3], np.uint32), stream=np.zeros(3, np.uint32))


def test_sizes_of_curves():
    assert curve_sizes(6400) == (100, 200, 400, 800, 1600, 3200, 4800, 6400)
    assert curve_sizes(1) == (1,)
    assert octaves(np.array([5], np.uint64)) == ()


# -- figures -------------------------------------------------------------------------------------------------------


def check_figure(figure):
    """Plain data; every field that it draws is in every row."""
    assert json.loads(json.dumps(figure, allow_nan=False)) == figure
    assert figure["$schema"].startswith("https://vega.github.io/schema/vega-lite/") and figure["title"]
    rows = figure["data"]["values"]
    for layer in figure.get("layer", [figure]):
        assert layer["mark"]["type"] in ("line", "bar", "errorband")
        channels = [part for channel in layer["encoding"].values() for part in np.atleast_1d(channel)]
        for field in (channel["field"] for channel in channels):
            assert all(field in row for row in rows), field
    return rows


def test_figures_hold_the_profile_s_numbers():
    curves = [simulate(name, PAGES, capacities=[100, 1000]) for name in ("lru", "clock")]
    found = profiled(PAGES, OPS, STREAM, TIMES, NAMES, curves=curves)
    drawn = figures.of_trace(found)
    assert set(drawn) <= set(figures.FIGURES)
    assert list(drawn) == ["working-set", "reuse-distances", "phases", "stream-sharing", "miss-ratios"]
    rows = {name: check_figure(figure) for name, figure in drawn.items()}
    assert [row["pages"] for row in rows["working-set"][::2]] == [each.pages for each in found.intervals]
    assert rows["working-set"][2]["at"] == pytest.approx(0.001)
    assert sum(row["touches"] for row in rows["reuse-distances"]) == found.touches
    assert [row["pages"] for row in rows["stream-sharing"]] == list(found.pages_by_streams)
    assert [row["miss_ratio"] for row in rows["miss-ratios"]] == [r for c in curves for r in c.miss_ratios()]
    assert rows["miss-ratios"][0]["MiB"] == 100 / 256
    assert len(drawn["miss-ratios"]["layer"]) == 1


def test_estimates_have_a_band():
    pages = draws(60_000, 20_000, 5, 2.0)
    estimated = simulate("clock", pages, capacities=[5000, 10_000], sample=0.05)
    figure = figures.miss_ratios([estimated])
    rows = check_figure(figure)
    assert "estimated" in figure["title"] and len(figure["layer"]) == 2
    assert all(row["low"] < row["miss_ratio"] < row["high"] for row in rows)


def test_figures_without_times_or_streams():
    found = profiled(PAGES)
    assert list(figures.of_trace(found)) == ["working-set", "reuse-distances", "phases"]
    assert check_figure(figures.working_set(found))[2]["at"] == found.intervals[1].start


# -- the command ---------------------------------------------------------------------------------------------------


def info(*words):
    done = CliRunner().invoke(APP, ["trace", "info", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "trace.npy"
    np.save(path, np.stack([PAGES, OPS.astype(np.uint32)]))
    return path


def test_info_in_words(recorded):
    done = info(recorded, "--orders", "lru,clock,belady")
    assert done.exit_code == 0
    for text in ("25000: 17", "Working set: different pages", "Reuse distances", "Phases", "Miss ratios", "belady"):
        assert text in done.stdout
    assert "Streams" not in done.stdout and "estimated" not in done.stdout
    assert "Miss ratios" not in info(recorded, "--orders", "none").stdout


def test_info_for_programs(recorded):
    found = json.loads(info(recorded, "--orders", "s3fifo", "--sizes", "1MiB,400KiB", "--json").stdout)
    assert found["touches"] == 25_000 and found["curves"][0]["capacities"] == [100, 256]
    assert found["curves"][0]["misses"] == [simulate("s3fifo", PAGES, size) for size in (100, 256)]
    assert found["curves"][0]["miss_ratios"][0] == found["curves"][0]["misses"][0] / 25_000
    assert {"reuse", "phases", "intervals", "streams", "pages_by_streams", "sha256"} <= set(found)


OWN = """
class Queue:
    def __init__(self, capacity): self.pages = []
    def expect(self, page): pass
    def insert(self, page): self.pages.append(page)
    def touch(self, page): pass
    def candidate(self): return self.pages[0]
    def take(self, page): self.pages.remove(page)
"""


def test_info_of_an_order_of_ones_own(recorded, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    words = ("--orders", f"{tmp_path / 'mine.py'}:Queue,fifo", "--sizes", "400KiB", "--json")
    one, other = json.loads(info(recorded, *words).stdout)["curves"]
    assert one["misses"] == other["misses"] == [simulate("fifo", PAGES, 100)]
    with pytest.raises(ConfigError, match="order file 'gone.py' does not exist"):
        info(recorded, "--orders", "gone.py:Queue")


def test_info_estimates_when_asked(recorded):
    done = info(recorded, "--orders", "clock", "--sizes", "4MiB,8MiB", "--sample", "0.1")
    assert "estimated from samples" in done.stdout and "±" in done.stdout


def test_info_draws_figures(recorded, tmp_path):
    folder = tmp_path / "new" / "figures"
    assert info(recorded, "--orders", "lru", "--figures", folder).exit_code == 0
    written = sorted(path.name for path in folder.iterdir())
    assert written == [f"{name}.vl.json" for name in ("miss-ratios", "phases", "reuse-distances", "working-set")]
    for path in folder.iterdir():
        check_figure(json.loads(path.read_text()))
    with pytest.raises(CorpusError, match="is there already"):
        info(recorded, "--orders", "none", "--figures", folder)
    assert info(recorded, "--orders", "none", "--figures", folder, "--force").exit_code == 0


def test_info_of_many_streams(tmp_path):
    pytest.importorskip("pyarrow")
    source, out = tmp_path / "log.csv", tmp_path / "log.parquet"
    rows = ["time,address,op,stream"]
    rows += [f"{i},{4096 * int(p)},{'rw'[i % 2]},s{i % 3}" for i, p in enumerate(PAGES[:3000])]
    source.write_text("\n".join(rows) + "\n")
    done = CliRunner().invoke(APP, ["trace", "import", str(source), "-o", str(out), "--format", "csv"])
    assert done.exit_code == 0, done.output
    shown = info(out, "--orders", "none").stdout
    assert "Pages by how many streams touch them" in shown and "s2" in shown


def test_info_of_an_empty_trace(tmp_path):
    np.save(tmp_path / "empty.npy", np.empty(0, np.uint32))
    done = info(tmp_path / "empty.npy")
    assert done.exit_code == 0 and "0 pages" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--orders", "lru,clok"], "unknown order 'clok'; did you mean 'clock'"),
        (["--orders", ","], "names none"),
        (["--sizes", "100MB"], "--sizes: "),
        (["--sizes", "many"], "--sizes: "),
        (["--sample", "often"], "--sample 'often': must be auto, none, or a share"),
        (["--sample", "0.5"], "sample=0.5: must be a share"),
        (["--figures", "{file}/below"], "--figures"),
    ],
)
def test_what_info_refuses(recorded, words, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        info(recorded, *(word.format(file=recorded) for word in words))
