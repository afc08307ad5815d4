"""Under a limit: loads, hosts of the right size, what is told of orders, of devices and of pressure. No kernel is asked: its
side is made up, so that every verdict can be had.
"""

import json

import numpy as np
import pytest

from memvirt.backends import validate
from memvirt.backends.linux import grid, groups, kernel, limits, loads, pressure, ways
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.pair import contents
from memvirt.backends.rows import Row
from memvirt.errors import ConfigError, CorpusError

PAGES = 1024
CORPUS = contents(0)


# ---- ways


def test_of_all_ways_the_furthest_is_told():
    def row(engine, theirs=100, **further):
        return Row(mechanism="m", what="w", engine=engine, kernel=theirs, **further)

    assert ways.furthest([row(100), row(99), row(101, 101)]).engine == 99
    assert ways.furthest([row(100), row(200, 200)]).kernel == 200 and ways.furthest([row(100)]).ways == 1
    known = row(50, reason="known", covered=0.6)
    assert ways.furthest([known, row(98)]).engine == 98, "a failure is worse than what is known"
    none = row(None, reason="why")
    assert ways.furthest([none, row(100)]).ways == 1 and ways.furthest([none, none]).verdict == "skipped"


def test_a_story_is_told_in_six_ways_that_are_not_alike():
    seen = []

    def story(name, way):
        seen.append((way.mix, way.order, way.sources.tobytes(), way.some(50).tobytes()))
        assert len(set(way.some(way.pages).tolist())) == way.pages
        yield Row(mechanism=name, what="w", engine=1, kernel=1)

    (row,) = ways.by_all_ways("story", story, 4 * 128, 0)
    assert row.ways == 6 == len({each[:2] for each in seen}) == len({each[2:] for each in seen})


def test_what_was_found_before_something_lacked_is_told():
    def story(name, way):
        yield Row(mechanism=name, what="w", engine=1, kernel=1)
        if way.mix == "few contents":
            raise Missing("no more")

    told = ways.by_all_ways("story", story, 512, 0)
    assert next(told).ways == 5
    with pytest.raises(Missing):
        next(told)


# ---- loads


@pytest.mark.parametrize("pattern", loads.PATTERNS)
def test_a_load_is_the_seed_s(pattern):
    one, again, other = (loads.load_of(pattern, PAGES, seed, CORPUS) for seed in (1, 1, 2))
    assert (one.order == again.order).all() and (one.sources == again.sources).all()
    assert (one.order != other.order).any() or pattern == "loop"
    assert one.order.max() < PAGES and len(one.order) == 8 * PAGES and 0.15 < one.ops.mean() < 0.25
    assert set(one.sources) <= set(loads.plain_pages(CORPUS))


def test_a_trace_is_a_load(tmp_path):
    pages = np.arange(400) % 100
    np.save(tmp_path / "t.npy", np.array([pages, pages % 3 == 0], np.uint32))
    load = loads.recorded(tmp_path / "t.npy", 0, CORPUS)
    assert (load.pages, load.warm) == (100, 100) and (load.order == pages).all() and load.ops.sum() == 4 * 34
    np.save(tmp_path / "few.npy", np.arange(10))
    with pytest.raises(ConfigError, match="10 pages; a load under a limit needs 64"):
        loads.recorded(tmp_path / "few.npy", 0, CORPUS)
    with pytest.raises(CorpusError):
        loads.recorded(tmp_path / "nowhere.npy", 0, CORPUS)


def test_a_trace_is_for_the_grid(tmp_path, program):
    np.save(tmp_path / "t.npy", np.arange(400) % 100)
    code, _, err = program("validate", "--only", "first", "--trace", tmp_path / "t.npy")
    assert code == 2 and "replayed by 'grid' alone" in err
    code, _, err = program("validate", "--only", "grid", "--trace", tmp_path / "nowhere")
    assert code == 2 and "nowhere" in err
    assert validate.replayed(tmp_path / "t.npy", ["grid"]).startswith("t.npy, sha256 ")


@pytest.fixture
def program(memvirt):
    return lambda *words: memvirt(*map(str, words))


# ---- hosts


@pytest.mark.parametrize("settings", [{}, limits.POOL])
@pytest.mark.parametrize("percent", [90, 50, 25])
def test_a_vm_has_as_many_pages_as_it_should(settings, percent):
    load = loads.load_of("zipf", 4 * PAGES, 0, CORPUS)
    vm = limits.Limited(load, CORPUS, limits.ORDERS["twolist"] | settings)
    room = 4 * PAGES * percent // 100
    found = vm.having(room)
    assert room - 64 <= found["resident"] <= room, "no fewer than two batches leave"
    assert found["faults"] > 0 and found["ns"] > 100
    assert vm.having(room) is found and vm.having(room + 100)["faults"] < found["faults"]


def test_a_vm_whose_limit_is_all_its_pages_has_no_faults():
    load = loads.load_of("zipf", PAGES, 0, CORPUS)
    found = limits.run(load, PAGES, CORPUS, limits.ORDERS["twolist"])
    assert (found["faults"], found["restored"], found["resident"]) == (0, 0, PAGES)


def test_an_engine_that_stops_is_no_result():
    load = loads.load_of("uniform", PAGES, 0, CORPUS)
    with pytest.raises(limits.TooSmall):
        limits.run(load, 300, CORPUS, {"swap": 0})


# ---- the grid


@pytest.fixture
def made_up(monkeypatch):
    """A kernel that is a host of the engine, or counts what is told."""
    told = {}

    def kernel_side(changes, load, percent, corpus, version=None, pool=None):
        found = limits.run(load, load.pages * percent // 100, corpus, {"replacement": "twolist"})
        return {**found, "pool": 300, **told}

    class Changes:
        def apart(self):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(grid, "kernel_side", kernel_side)
    monkeypatch.setattr(groups, "place", lambda version: None)
    monkeypatch.setattr(grid, "PERCENT", (75, 50))
    monkeypatch.setattr(grid, "DEVICES", {name: (lambda *_: None, each[1]) for name, each in limits.DEVICES.items()})
    monkeypatch.setattr(grid, "PATTERNS", {name: loads.PATTERNS[name] for name in ("zipf", "uniform")})
    return Changes(), told


def test_a_kernel_that_is_the_engine_does_not_fail(made_up):
    changes, _ = made_up
    rows = list(grid.grid(changes, PAGES, 0))
    own = [row for row in rows if row.what.endswith(("twolist", "distance"))]
    assert len(own) == 3 * (2 * 2 + 1)
    assert all(abs(row.difference) <= 0.04 * row.kernel for row in own), "it is the same VM"
    orders = {row.what.rpartition(": ")[2] for row in rows if row.what.startswith("zram, zipf 75 %")}
    assert orders == {"twolist", *grid.others()} and len(orders) > 14
    assert all(not row.failed for row in rows)
    assert [row.what for row in rows if len(row.what) > 45] == [], "a table of 100 columns"


def test_a_kernel_that_is_another_is_found(made_up):
    changes, told = made_up
    told["faults"] = 100
    rows = {row.what: row for row in grid.grid(changes, PAGES, 0)}
    assert rows["zram, zipf 50 %: twolist"].failed and rows["swap file, zipf 50 %: twolist"].failed
    assert rows["zram: 100,000 less mean distance"].failed
    assert rows["swap file: 100,000 less mean distance"].failed


def test_a_trace_takes_the_place_of_what_is_generated(made_up, tmp_path):
    np.save(tmp_path / "t.npy", np.tile(np.arange(512), 12))
    rows = list(grid.grid(made_up[0], PAGES, 0, tmp_path / "t.npy"))
    assert {row.what.split(":")[0] for row in rows if ", " in row.what} >= {"zram, trace 75 %", "zswap, trace 50 %"}
    assert not any("uniform" in row.what for row in rows)


def test_which_is_faster_is_told_where_the_kernel_tells():
    def row(ours, theirs):
        names = ("zram", "zswap", "swap file")
        return grid.same_order("w", *(dict(zip(names, side, strict=True)) for side in (ours, theirs)))

    assert row((1, 2, 9), (10, 20, 90)).verdict == "exact" and row((1, 2, 9), (10, 20, 90)).kernel == 2
    wrong = row((10, 2, 9), (10, 20, 90))
    assert wrong.failed and wrong.difference == -1 and "zram 10 beside 10" in wrong.reason
    assert row((1, 2, 9), (80, 20, 90)).kernel == 1 and row((1, 2, 9), (80, 95, 90)).verdict == "skipped"


# ---- pressure


def test_pressure_is_a_share_of_the_time_and_pages_that_were_active():
    def told(engine, theirs):
        names = ("restored", "faults", "some_ns", "full_ns", "elapsed_ns")
        sides = (dict(zip(names, side, strict=True)) for side in (engine, theirs))
        return [(row.engine, row.kernel, row.verdict, row.failed) for row in pressure.rows("p", "w", *sides)]

    same = told((50, 1000, 300, 200, 1000), (50, 1000, 3000, 2000, 10_000))
    assert same == [(50, 50, "exact", False), (300, 300, "exact", False), (200, 200, "exact", False)]
    apart = told((81, 1000, 300, 0, 1000), (50, 1000, 200, 200, 1000))
    assert apart[0][2:] == ("differs", True) and apart[1][2:] == ("differs", False)
    assert told((80, 1000, 0, 0, 1), (50, 1000, 0, 0, 1))[0][2:] == ("within", False)
    assert told((0, 1, 990, 990, 1000), (0, 1, 10, 10, 1000))[1][3], "a hundred times as much is no matter of costs"


def test_no_pressure_is_named(monkeypatch):
    class Changes:
        pass

    monkeypatch.setattr(groups, "place", lambda version: None)
    monkeypatch.setattr(pressure, "DEVICES", {"zram": (lambda *_: None, {})})
    monkeypatch.setattr(pressure, "kernel_side", lambda *_: {"resident": 10})
    with pytest.raises(Missing, match="CONFIG_PSI"):
        next(pressure.pressed("zram", Changes(), PAGES, 0))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
            {"some_ns": 12_000, "full_ns": 7000},
        ),
        ("some avg10=0.00 total=12\n", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_a_group_s_pressure_is_read(tmp_path, text, found):
    if text is not None:
        (tmp_path / "memory.pressure").write_text(text)
    group = object.__new__(groups.Group)
    group._watched = tmp_path
    assert group.pressure() == found
    group._watched = None
    assert group.pressure() == {}


@pytest.mark.parametrize(("version", "mapped"), [(1, "rss"), (2, "anon")])
def test_pages_that_nobody_maps_are_counted(tmp_path, version, mapped):
    (tmp_path / "memory.stat").write_text(f"{mapped} 8192\ninactive_anon 12288\nactive_anon 4096\n")
    group = object.__new__(groups.Group)
    group.path, group.version = tmp_path, version
    assert group.unmapped() == 2


def test_a_wait_for_a_processor_is_told_or_none():
    before = kernel.queued_ns()
    assert 0 <= before <= kernel.queued_ns()


def test_rows_of_ways_are_kept(tmp_path):
    from memvirt.backends import comparison, table

    row = Row(mechanism="m", what="w", engine=1, kernel=1, ways=6)
    made = comparison.made([row], ["m"], 0, 1024, "t.npy, sha256 0")
    again = comparison.loads(comparison.dumps(made), "here")
    assert again.rows[0].ways == 6 and again.trace == made.trace and "w ×6" in table.text([row], 100)
    assert json.loads(comparison.dumps(made))["rows"][0]["ways"] == 6
