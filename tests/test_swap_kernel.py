"""What leaves memory on this machine's kernel beside the engine, and every reason why it cannot be had.

The first half needs no root: files stand for the kernel's. The second turns on swap of its own, under the lock of a run.
"""

import os

import numpy as np
import pytest

from memvirt.backends import validate
from memvirt.backends.linux import areas, groups, kernel, ksm, loads, ways
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.undo import Changes
from memvirt.errors import ConfigError
from memvirt.inputs import Corpus

PAGES = 1024


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A machine of files, whose user may do everything."""
    monkeypatch.setenv("MEMVIRT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(kernel.os, "geteuid", lambda: 0)
    monkeypatch.setattr(kernel, "SWAPS", tmp_path / "swaps")
    (tmp_path / "swaps").write_text("Filename Type Size Used Priority\n")
    return tmp_path


def changed(call, *arguments):
    with Changes() as changes:
        return call(changes, *arguments)


def test_another_swap_area_is_named(place):
    (place / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    for call in (areas.file, areas.zram):
        with pytest.raises(Missing, match=r"/dev/sda2\): its traffic"):
            changed(call, 10)


def test_a_full_disk_is_named(place, monkeypatch):
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(place))
    with pytest.raises(Missing, match="of disk in"):
        changed(areas.file, 1 << 36)
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(place / "nowhere"))
    with pytest.raises(Missing, match="nowhere"):
        changed(areas.file, 10)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(place))
    monkeypatch.setattr(areas.os, "posix_fallocate", full)
    with pytest.raises(Missing, match="No space left"):
        changed(areas.file, 10)
    assert not list(place.glob("memvirt-area-*"))


def test_a_file_that_the_kernel_does_not_take_is_named_and_removed(place, monkeypatch):
    def refused(*_):
        raise OSError(22, "swapon: Invalid argument")

    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(place))
    monkeypatch.setattr(kernel, "swap_on", refused)
    with pytest.raises(Missing, match="Invalid argument"):
        changed(areas.file, 10)
    assert not list(place.glob("memvirt-area-*"))


def test_the_header_is_the_kernel_s():
    """union swap_header: version, last page and bad pages at 1024, the magic in the last ten bytes."""
    page = areas.header(100)
    assert len(page) == 4096 and page[-10:] == b"SWAPSPACE2"
    assert np.frombuffer(page, "<u4", 3, 1024).tolist() == [1, 99, 0]


@pytest.mark.parametrize(
    ("mounts", "files", "found"),
    [
        ("tmpfs / tmpfs rw 0 0\n", {}, "no control groups are mounted"),
        ("cgroup {} cgroup rw,cpu 0 0\n", {}, "no control groups are mounted"),
        ("cgroup {} cgroup rw,memory 0 0\ncgroup2 /x cgroup2 rw 0 0\n", {}, 1),
        ("cgroup2 {} cgroup2 rw 0 0\n", {"cgroup.controllers": "cpu"}, "has no memory controller"),
        (
            "cgroup2 {} cgroup2 rw 0 0\n",
            {"cgroup.controllers": "cpu memory", "cgroup.subtree_control": "cpu"},
            "to none",
        ),
        ("cgroup2 {} cgroup2 rw 0 0\n", {"cgroup.controllers": "memory", "cgroup.subtree_control": "memory"}, 2),
    ],
)
def test_control_groups_of_both_versions_are_found(place, monkeypatch, mounts, files, found):
    (place / "mounts").write_text(mounts.replace("{}", str(place)))
    monkeypatch.setattr(groups, "MOUNTS", place / "mounts")
    for name, text in files.items():
        (place / name).write_text(text + "\n")
    if isinstance(found, int):
        assert groups.place() == (place, found)
    else:
        with pytest.raises(Missing, match=found):
            groups.place()


def test_a_group_without_a_limit_is_named_and_removed(place, monkeypatch):
    monkeypatch.setattr(groups, "place", lambda: (place, 2))
    with pytest.raises(Missing, match="have no memory limit"):
        changed(groups.Group, 10)
    assert not list(place.glob("memvirt-*"))


def test_no_zswap_and_zswap_in_use_are_named(place, monkeypatch):
    monkeypatch.setattr(areas, "ZSWAP", place / "nowhere")
    with pytest.raises(Missing, match="CONFIG_ZSWAP"):
        changed(areas.zswap)
    monkeypatch.setattr(areas, "ZSWAP", place)
    monkeypatch.setattr(areas, "meminfo", lambda: {"Zswapped": 4096})
    with pytest.raises(Missing, match="zswap is in use"):
        changed(areas.zswap)


def test_zswap_says_which_codec_it_has(place, monkeypatch):
    monkeypatch.setattr(areas, "ZSWAP", place)
    monkeypatch.setattr(areas, "meminfo", dict)
    for name, text in (("compressor", "lzo"), ("enabled", "N"), ("max_pool_percent", "20")):
        (place / name).write_text(text + "\n")
    with Changes() as changes:
        assert areas.zswap(changes) == "lz4" and (place / "enabled").read_text() == "Y"
    assert [(place / name).read_text() for name in ("compressor", "enabled", "max_pool_percent")] == ["lzo", "N", "20"]


def test_ksm_that_is_in_use_or_old_is_named(place, monkeypatch):
    monkeypatch.setattr(ksm, "KSM", place / "nowhere")
    with pytest.raises(Missing, match="CONFIG_KSM"):
        changed(ksm.Ksmd)
    monkeypatch.setattr(ksm, "KSM", place)
    for name in ("run", "pages_shared", "pages_sharing"):
        (place / name).write_text("0\n")
    with pytest.raises(Missing, match="too old: .*use_zero_pages came with Linux 4.12"):
        changed(ksm.Ksmd)
    (place / "pages_sharing").write_text("7\n")
    with pytest.raises(Missing, match="in use on this machine: pages_sharing is 7"):
        changed(ksm.Ksmd)


def test_pages_of_one_word_are_left_out_where_they_would_reach_no_device():
    rows = np.zeros((4, 4096), np.uint8)
    rows[1] = 7
    rows[2, 4095] = 1
    rows[3].view("<u8")[:] = np.arange(512)
    assert loads.plain_pages(Corpus.of([("all", rows[1:])], ["test"])).tolist() == [2, 3]


# ---- this machine


def story(name, pages=PAGES):
    if os.geteuid():
        pytest.skip("needs root: turns on swap of its own")
    try:
        rows = list(validate.run([name], validate.Scale(8 * pages, 1)))
    except ConfigError as busy:
        pytest.skip(str(busy))
    if rows[-1].what in ("all of it", "the rest"):
        pytest.skip(rows[-1].reason)
    # At this size any order is a twentieth off now and then; the test of them has a bound of its own.
    assert [row for row in rows if row.failed and "major faults" not in row.what] == []
    return {row.what: row for row in rows}


def test_zram_holds_what_the_engine_s_pool_holds():
    rows = story("zram: lz4", PAGES * ways.SHARE)
    for what in ("pages compressed", "faults of reading all back", "pages read back equal"):
        assert rows[what].verdict == "exact" and rows[what].kernel > PAGES // 2
    assert rows["bytes of them"].verdict in ("exact", "within")


def test_zswap_takes_and_gives_what_the_engine_s_cache_does():
    rows = story("zswap", PAGES * ways.SHARE)
    for what in ("faults of reading all back", "pages read back equal"):
        assert rows[what].verdict == "exact" and rows[what].kernel == PAGES


@pytest.mark.parametrize("name", ["zram: zipf at 75 % resident", "zram: loop at 75 % resident"])
def test_under_a_limit_faults_are_those_of_an_order(name):
    """A loop over more than there is room for misses always, but for what the kernel spares at its ends; for the others
    it is free within bounds."""
    rows = story(name)
    faults = rows["major faults: clock"]
    assert abs(faults.difference) <= 0.2 * faults.kernel and faults.kernel > 100
    if "loop" in name:
        assert faults.kernel >= (1 - faults.tolerance) * 6 * PAGES and faults.engine >= 0.99 * 6 * PAGES
