"""What a machine may lack, each by the name that a user would look for: its rows are skipped, and the others run.

The lacks are made as real as this machine lets them be. Calls that an older kernel does not know, or a container forbids,
are refused by a filter of system calls; a full disk is a small file system; the rest are files that stand for the kernel's.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from memvirt.backends import validate
from memvirt.backends.linux import areas, groups, kernel, ksm, undo
from memvirt.errors import ConfigError

SCALE = validate.Scale(2048, 0)
OTHER = "provisioned thick"  # what must run all the same
TESTS = Path(__file__).parent
SWAPPING = ("zram: lz4", "zswap", "swap file: zipf at 75 % resident", "pressure: zram", "cost: zram", "grid")


def told(*names):
    """Rows by mechanism, that of OTHER at the end."""
    try:
        rows = list(validate.run([*names, OTHER], SCALE))
    except ConfigError as busy:
        pytest.skip(str(busy))
    found = {name: [row for row in rows if row.mechanism == name] for name in (*names, OTHER)}
    assert {row.verdict for row in found.pop(OTHER)} == {"exact"}, "what is not concerned did not run"
    return found


def skipped(found, said):
    for name, rows in found.items():
        assert [row.verdict for row in rows] == ["skipped"] and said in rows[0].reason, (name, rows)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A user who may do everything, with a list of changes of their own."""
    monkeypatch.setenv(undo.FOLDER, str(tmp_path / "state"))
    monkeypatch.setattr(kernel.os, "geteuid", lambda: 0)
    return tmp_path


def test_no_root_is_named(root, monkeypatch):
    monkeypatch.setattr(kernel.os, "geteuid", lambda: 65534)
    skipped(told(*validate.CHANGING, *validate.LONG), "needs root")


def test_no_page_merging_is_named(root, monkeypatch):
    monkeypatch.setattr(ksm, "KSM", root / "nowhere")
    skipped(told("ksm: alike with uniform writes"), "no page merging (CONFIG_KSM)")


def test_no_zram_is_named(root, monkeypatch):
    if os.access("/proc/sys/vm/page-cluster", os.W_OK) is False:
        pytest.skip("readahead cannot be turned off here")
    monkeypatch.setattr(undo, "ZRAM", root / "nowhere")
    skipped(told("zram: lz4", "pressure: zram", "cost: zram"), "no zram, or its module is not loaded")


def test_no_zswap_is_named(root, monkeypatch):
    monkeypatch.setattr(areas, "ZSWAP", root / "nowhere")
    if os.access("/proc/sys/vm/page-cluster", os.W_OK):
        skipped(told("zswap"), "no zswap (CONFIG_ZSWAP)")


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ("tmpfs / tmpfs rw 0 0\n", "no control groups are mounted"),
        ("cgroup2 {} cgroup2 rw 0 0\n", "has no memory controller"),
    ],
)
def test_only_groups_of_version_2_are_named(root, monkeypatch, mounts, said):
    (root / "mounts").write_text(mounts.replace("{}", str(root)))
    (root / "cgroup.controllers").write_text("cpu hugetlb\n")
    monkeypatch.setattr(groups, "MOUNTS", root / "mounts")
    skipped(told("zram: zipf at 75 % resident", "pressure: zram", "grid", "control groups of version 2"), said)
    skipped(told("control groups of version 1"), "no control groups of version 1 have the memory controller")


def test_another_swap_area_is_named(root, monkeypatch):
    (root / "swaps").write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n")
    monkeypatch.setattr(kernel, "SWAPS", root / "swaps")
    found = told(*SWAPPING)
    rows = found.pop("grid")
    assert [row.what for row in rows] == ["over zram", "over zswap", "over swap file"]
    assert all(row.verdict == "skipped" and "/dev/sda2" in row.reason for row in rows)
    skipped(found, "another swap area is in use (/dev/sda2)")


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A folder for swap files in which nothing has room."""
    if os.geteuid():
        pytest.skip("needs root: mounts a small file system")
    place = tmp_path / "full"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "full", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(done.stderr)
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(place))
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_named(full):
    found = told("zswap", "swap file: zipf at 75 % resident", "userfaultfd: clock over swap")
    (row,) = found.pop("userfaultfd: clock over swap")
    assert (row.verdict == "skipped" and "No space left" in row.reason) or "cannot be had" in row.reason
    skipped(found, f"of disk in {full}")
    assert not list(full.iterdir())


def refused(rules, *names):
    """Rows of the program itself, which is refused these calls."""
    if platform.machine() != "x86_64":
        pytest.skip("numbers of system calls are those of x86-64")
    words = [sys.executable, "-m", "helpers.refused", rules, "validate", "--memory", "8MiB", "--json"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*words, "--only", ",".join(names)], capture_output=True, text=True, timeout=200, env=env)
    if "prctl" in done.stderr or "another run" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    return {name: [row for row in json.loads(done.stdout) if row["mechanism"] == name] for name in names}


@pytest.mark.parametrize(
    ("rules", "name", "said"),
    [
        ("userfaultfd=EPERM", "userfaultfd: clock over swap", "userfaultfd cannot be had"),
        ("userfaultfd=ENOSYS", "userfaultfd: page sharing", "CONFIG_USERFAULTFD"),
        ("madvise:8=EINVAL", "release: MADV_FREE", "Linux has it since 4.5"),
        ("madvise:23=EINVAL", "provisioned thick", "Linux has it since 5.14"),
        ("memfd_create=ENOSYS", "release: hole in a file", "Linux has it since 3.17"),
    ],
)
def test_a_call_that_is_refused_is_named(rules, name, said, tmp_path, monkeypatch):
    monkeypatch.setenv(undo.FOLDER, str(tmp_path))
    other = "release: MADV_DONTNEED"
    found = refused(rules, name, other)
    assert {row["verdict"] for row in found[other]} == {"exact"}
    assert [row["verdict"] for row in found[name]] == ["skipped"] and said in found[name][0]["reason"]


def test_a_kernel_that_pages_nothing_out_when_told_is_named():
    if os.geteuid():
        pytest.skip("needs root: turns on swap of its own")
    found = refused("madvise:21=EINVAL", "zram: lz4", "release: MADV_DONTNEED")
    (row,) = found["zram: lz4"]
    if "no zram" in row["reason"] or "swap area" in row["reason"]:
        pytest.skip(row["reason"])
    assert row["verdict"] == "skipped" and "since 5.4" in row["reason"]


def test_a_call_nobody_thought_of_is_told_and_the_others_run(monkeypatch, tmp_path):
    monkeypatch.setenv(undo.FOLDER, str(tmp_path))
    monkeypatch.setitem(validate.counting.MECHANISMS, "first touch", lambda *_: [os.stat(tmp_path / "nowhere")])
    skipped(told("first touch"), "this kernel refuses a call: [Errno 2] No such file")
