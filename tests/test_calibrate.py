"""This machine's costs: what is timed is done, a median has an interval, and the file is one that simulated time takes."""

import json
import os
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from memvirt import Host
from memvirt.backends import calibrate
from memvirt.backends.linux import costs, disk, timed
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.measured import Measured, measured, outside
from memvirt.cli import main
from memvirt.engine.content.codec import open_codec
from memvirt.errors import ConfigError
from memvirt.settings.costs import CostModel, file, load
from memvirt.settings.costs import names as shipped
from memvirt.settings.devices import SwapDevice

RNG = np.random.default_rng(1)


def rows(count=8):
    return RNG.integers(0, 256, (count, 4096), dtype=np.uint8)


def test_operations_on_pages_are_done():
    order = np.array([3, 0], np.uint32)
    mine, others = rows(), rows()
    before = mine.copy()
    ns, equal = timed.per_page("compare", mine, mine.copy(), order)
    assert ns > 0 and equal == 2 and timed.per_page("compare", mine, others, order)[1] == 0
    assert timed.per_page("same_filled", mine, others, order)[1] == 0 and (mine == before).all()
    assert timed.per_page("hash", mine, others, order)[1] == timed.per_page("hash", mine, others, order[::-1].copy())[1]
    timed.per_page("half_copy", mine, others, order)
    assert (mine[[0, 3], :2048] == others[[0, 3], :2048]).all() and (mine[[0, 3], 2048:] == before[[0, 3], 2048:]).all()
    timed.per_page("copy", mine, others, order)
    assert (mine[[0, 3]] == others[[0, 3]]).all() and (mine[1] == before[1]).all()
    timed.per_page("clear", mine, others, order)
    assert not mine[[0, 3]].any() and timed.per_page("same_filled", mine, others, order)[1] == 2
    assert timed.per_page("load", mine, others, order[:0]) == (0, 0)


def test_pages_go_through_the_codec_and_back():
    codec = open_codec("lz4")
    mine = rows() & 15
    order = np.array([5, 2, 2], np.uint32)
    blocks, lengths, out = np.zeros((3, 8192), np.uint8), np.zeros(3, np.uint32), np.zeros_like(mine)
    assert timed.packed(codec, mine, order, blocks, lengths) > 0
    assert lengths.tolist() == [len(codec.pack(mine[number].tobytes())) for number in order]
    assert timed.unpacked(codec, blocks, lengths, out, order) > 0 and (out[[5, 2]] == mine[[5, 2]]).all()
    blocks[0] = 255
    with pytest.raises(ValueError, match="1 of 3 blocks are none"):
        timed.unpacked(codec, blocks, lengths, out, order)


def test_what_is_no_page_is_refused():
    codec, mine, far = open_codec("lz4"), rows(), np.array([8], np.uint32)
    near, blocks, lengths = np.array([0], np.uint32), np.zeros((1, 8192), np.uint8), np.zeros(1, np.uint32)
    for call in (
        lambda: timed.per_page("sing", mine, mine, near),
        lambda: timed.per_page("copy", mine, mine, far),
        lambda: timed.per_page("copy", mine, mine[:, :8].copy(), near),
        lambda: timed.packed(codec, mine, far, blocks, lengths),
        lambda: timed.packed(codec, mine, near, blocks[:, :8].copy(), lengths),
        lambda: timed.unpacked(codec, blocks, np.array([9000], np.uint32), mine, near),
    ):
        with pytest.raises(ValueError):
            call()


def test_an_interval_holds_the_median_as_often_as_it_says():
    """Of 15 values the fourth and the twelfth: tables of the sign test."""
    assert [outside(count) for count in (1, 5, 6, 9, 15, 100)] == [0, 0, 0, 1, 3, 39]
    values = RNG.lognormal(size=(400, 15))
    held = sum(low <= 1 <= high for low, high in (_interval(each) for each in values))
    assert held >= 370
    assert abs(outside(201) - outside(200)) <= 1


def _interval(values):
    ordered, beyond = sorted(values), outside(len(values))
    return ordered[beyond], ordered[-1 - beyond]


@pytest.fixture
def small(monkeypatch, tmp_path):
    for module, name, value in (
        (costs, "PAGES", 512), (costs, "BATCH", 64), (costs, "BATCHES", 5), (costs, "PATIENCE_S", 0.0),
        (disk, "LASTS_S", 0.02), (disk, "PAGES", 1024),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("MEMVIRT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setitem(costs.MEASUREMENTS, "zram", lambda _: iter([]))


def test_a_calibration_is_a_cost_model_that_a_host_takes(small, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["memvirt", "calibrate", "-o", str(tmp_path / "here.toml")])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    made = file(str(tmp_path / "here.toml"))
    assert tomllib.loads((tmp_path / "here.toml").read_text())["costs"] == made.costs.model_dump(exclude_none=True)
    first, clear = made.spread["first_touch"], made.spread["clear"]
    assert made.costs.fault == max(0, first.median - clear.median) and first.low <= first.median <= first.high
    assert made.costs.refill == load("default").refill and made.source["refill"].startswith("default model")
    assert made.source["copy_page"].startswith("measured: copying a page, median")
    assert set(made.spread) >= {"compress.heap", "decompress.random", "cow_break", "release"}
    settings = {"costs": str(tmp_path / "here.toml")}
    if "disk" not in made.skipped:
        settings["swap_device"] = str(tmp_path / "here.toml")
    with Host(memory="4MiB", swap="8MiB", **settings) as host:
        vm = host.create_vm("vm", "4MiB")
        before = vm.sim_ns
        vm.access([0], [True])
        assert vm.sim_ns - before == made.costs.fault + made.costs.zero_page + made.costs.hit
        assert "disk" in made.skipped or host.config.swap_device == made.swap_device


def test_what_cannot_be_measured_is_said_and_keeps_its_value(small, monkeypatch):
    def lacks(*_):
        raise Missing("no such thing here")
        yield

    for name in costs.MEASUREMENTS:
        monkeypatch.setitem(costs.MEASUREMENTS, name, lacks)
    monkeypatch.setattr(disk, "points", lacks)
    made = calibrate.model(calibrate.run(0))
    assert made.costs == load("default") and made.swap_device is None
    assert set(made.skipped) == set(calibrate.measurements()) and set(made.skipped.values()) == {"no such thing here"}
    assert "could not be measured" in made.source["fault"]
    assert tomllib.loads(calibrate.dumps(made))["skipped"]["disk"] == "no such thing here"


def test_text_of_any_kind_is_written_as_toml(small):
    found = calibrate.Calibration(skipped={"a.b": 'a "quoted" \\ \x7f\n text ✓'})
    made = calibrate.model(found)
    assert tomllib.loads(calibrate.dumps(made))["skipped"] == found.skipped


def test_a_device_follows_from_its_points():
    def point(write, pages, depth, ns, per_s):
        return disk.Point(write, pages, depth, (ns,) * 5, per_s, 1000.0)

    found = [
        point(False, 1, 1, 60_000, 10_000),
        point(False, 8, 1, 95_000, 5_000),
        point(False, 1, 16, 200_000, 39_000),
    ]
    found += [point(True, 1, 1, 30_000, 1), point(True, 8, 1, 30_000, 1)]
    assert disk.device(found) == SwapDevice(
        read_latency_ns=55_000, read_page_ns=5_000, write_latency_ns=29_999, write_page_ns=1, channels=4
    )


def test_a_disk_is_timed_and_nothing_is_left(small, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path))
    try:
        found = list(disk.points(0))
    except Missing as reason:
        pytest.skip(str(reason))
    assert len(found) == 18 and all(point.spent and min(point.spent) > 0 and point.per_s > 0 for point in found)
    assert not [entry for entry in tmp_path.iterdir() if entry.name != "state"]


def test_a_place_that_takes_no_file_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(Missing, match="nowhere"):
        list(disk.points(0))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["calibrate", "-o", "here"], "did you mean here.toml"),
        (["calibrate", "-o", "nowhere/here.toml"], "there is no folder nowhere"),
        (["calibrate"], "Missing option"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_measured(words, said, monkeypatch, capsys):
    monkeypatch.setattr(calibrate, "run", lambda *_: pytest.fail("it was run"))
    monkeypatch.setattr(sys, "argv", ["memvirt", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_interrupted_nothing_is_written(monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["memvirt", "calibrate", "-o", str(tmp_path / "here.toml")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130 and not (tmp_path / "here.toml").exists()


def test_a_device_needs_a_file_that_has_one(tmp_path):
    source = dict.fromkeys(CostModel.model_fields.keys() - {"giving"}, "here")
    lines = ['description = "mine"', "[costs]", *(f"{key} = 1" for key in source), "[source]"]
    (tmp_path / "mine.toml").write_text("\n".join([*lines, *(f'{key} = "x"' for key in source)]))
    assert load(str(tmp_path / "mine.toml")).hit == 1
    with pytest.raises(ConfigError, match=r"has no \[swap_device\]"):
        Host(memory="4MiB", swap_device=str(tmp_path / "mine.toml"))
    with pytest.raises(ConfigError, match="nowhere"):
        Host(memory="4MiB", swap_device=str(tmp_path / "nowhere.toml"))


def test_cost_models_are_listed_and_described(monkeypatch, capsys):
    for words in (["list", "costs", "--json"], ["describe", "default"]):
        monkeypatch.setattr(sys, "argv", ["memvirt", *words])
        with pytest.raises(SystemExit) as end:
            main()
        out = capsys.readouterr().out
        assert not end.value.code
        if words[0] == "list":
            assert [row["name"] for row in json.loads(out)] == shipped()
        else:
            assert "zero_huge" in out and "what is paid for" in out


def test_measured_values_are_means_of_batches():
    found = measured("copy", "copying", [100.0, 300.0, 200.0], 10)
    assert found == Measured("copy", "copying", (10.0, 30.0, 20.0), 10) and found.median == 20
    assert Measured("nothing", "", (0.0,), 1).median == 1


def test_an_ordinary_user_is_told_what_needs_root():
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("is run by an ordinary user already, or setpriv is missing")
    code = "from memvirt.backends.linux import costs\ntry:\n    next(costs.zram(0))\n"
    code += "except costs.Missing as why:\n    print(why)\n"
    nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"]
    nobody += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    done = subprocess.run(["setpriv", *nobody, sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if done.stderr.startswith("setpriv"):
        pytest.skip(done.stderr)
    assert "needs root: a zram device is made" in done.stdout, done.stderr
