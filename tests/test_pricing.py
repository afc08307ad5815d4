"""Cost beside cost: the engine's number is its model's, the kernel's is timed, and only so much is excused."""

import os

import pytest

from memvirt.backends import validate
from memvirt.backends.linux import costs, groups, kernel, pricing
from memvirt.backends.linux.kernel import Missing
from memvirt.errors import ConfigError
from memvirt.settings.costs import load


@pytest.fixture
def short(monkeypatch):
    for name, value in (("BATCH", 64), ("BATCHES", 5), ("PATIENCE_S", 0.0)):
        monkeypatch.setattr(costs, name, value)


def story(name):
    try:
        rows = list(validate.run([name], validate.Scale(8 * 1024, 1)))
    except ConfigError as busy:
        pytest.skip(str(busy))
    if rows[-1].what in ("all of it", "the rest"):
        pytest.skip(rows[-1].reason)
    return rows


def test_simulated_costs_are_the_model_s(short, monkeypatch, tmp_path):
    monkeypatch.setenv("MEMVIRT_STATE_DIR", str(tmp_path))
    rows = {row.what: row for row in story("cost: faults") if row.unit}
    model = load("default")
    assert rows["a write to untouched 4 KiB"].engine == model.fault + model.zero_page + model.hit
    huge = rows.get("a write to untouched 2 MiB")
    assert huge is None or huge.engine == model.fault + model.zero_huge + model.hit
    assert rows["a write to a page that a fork shares"].engine >= model.fault + model.copy_page + model.hit
    assert all(row.kernel > 0 and (row.verdict != "differs" or row.reason) for row in rows.values())


def test_a_model_is_excused_for_so_much():
    assert pricing._row("cost", "w", 140, 100).verdict == "within" and not pricing._row("cost", "w", 140, 100).reason
    far = pricing._row("cost", "w", 900, 100)
    assert far.verdict == "differs" and not far.failed and "calibrate" in far.reason
    assert pricing._row("cost", "w", 1100, 100).failed


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [((1, 9), (10, 90), "exact"), ((9, 1), (10, 90), "differs"), ((1, 9), (80, 90), "skipped")],
)
def test_which_is_faster_is_said_where_it_can_be_told(ours, theirs, verdict):
    sides = [dict(zip(("zram", "a swap file"), times, strict=True)) for times in (ours, theirs)]
    row = pricing._first("order", *sides)
    assert row.verdict == verdict and row.failed == (verdict == "differs")


@pytest.mark.parametrize("name", ["cost: zram", "order: zram and a swap file"])
def test_what_root_can_time(name, short):
    if os.geteuid():
        pytest.skip("needs root: turns on swap of its own")
    rows = story(name)
    timed = [row for row in rows if row.unit == "ns"]
    assert len(timed) == 2 and all(row.engine > 0 and row.kernel > 0 for row in timed)
    assert "zram is the faster one" in {row.what for row in rows} or name.startswith("cost")


@pytest.mark.parametrize(
    ("version", "mounts", "found"),
    [
        (2, "cgroup {} cgroup rw,memory 0 0\ncgroup2 {} cgroup2 rw 0 0\n", "bound to control groups of version 1 here"),
        (2, "cgroup2 {} cgroup2 rw 0 0\n", 2),
        (1, "cgroup {} cgroup rw,memory 0 0\n", 1),
        (1, "cgroup2 {} cgroup2 rw 0 0\n", "of version 1"),
        (2, "tmpfs / tmpfs rw 0 0\n", "no control groups are mounted"),
    ],
)
def test_a_version_of_control_groups_can_be_asked_for(monkeypatch, tmp_path, version, mounts, found):
    (tmp_path / "mounts").write_text(mounts.replace("{}", str(tmp_path)))
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (tmp_path / name).write_text("cpu memory\n")
    monkeypatch.setattr(groups, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(kernel.os, "geteuid", lambda: 0)
    if isinstance(found, int):
        assert groups.place(version) == (tmp_path, found)
    else:
        with pytest.raises(Missing, match=found):
            groups.place(version)
