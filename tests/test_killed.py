"""This machine is as it was after a run, after Ctrl-C, and after a kill and `memvirt restore`: twenty kills, by root.

Half of them are at a moment that is counted: each change of the list of changes, and each change of the machine, is one,
and the run is killed before or after it. The others are at any time of the program itself. Every mechanism that changes
settings has its turns, the grid too. What is compared is all that the kernel shows of what a run may change, settings that
no run touches included; MEMVIRT_KILLS is how many times a run is killed.
"""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memvirt.backends import validate
from memvirt.backends.linux import kernel, undo
from memvirt.environment import meminfo, swap_folder
from memvirt.errors import ConfigError

KILLS = int(os.environ.get("MEMVIRT_KILLS", "20"))
FAMILIES = (
    "ksm",
    "zram",
    "zswap",
    "swap file",
    "control groups",
    "pressure",
    "cost",
    "order",
    "grid",
    "huge pages",
    "limit",
)
COUNTERS = {"full_scans", "pages_scanned", "pages_skipped", "pages_collapsed", "general_profit", "stat_refresh"}
FOLDERS = ("/sys/kernel/mm/ksm", "/sys/kernel/mm/transparent_hugepage", "/sys/module/zswap/parameters", "/proc/sys/vm")


@pytest.fixture(autouse=True)
def root():
    if os.geteuid():
        pytest.skip("needs root: changes settings of this machine")


def read(path):
    try:
        return path.read_text()
    except OSError:  # write only
        return ""


def machine():
    """All of this machine that a run may change, and what it starts."""
    walks = (each for top in FOLDERS for each in os.walk(top) if not each[0].endswith("/stats"))
    paths = [Path(folder, name) for folder, _, files in walks for name in files]
    found = {str(path): read(path) for path in paths if path.name not in COUNTERS and path.stat().st_mode & 0o444}
    found["swaps"] = kernel.read(kernel.SWAPS)
    found["zram"] = sorted(map(str, [*Path("/sys/block").glob("zram*"), *Path("/dev").glob("zram*")]))
    found["files"] = sorted(path.name for path in swap_folder().glob("memvirt-area-*"))
    groups = (Path(top) / name for top, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    found["groups"] = sorted(str(path) for path in groups if path.name.startswith("memvirt-"))
    found["controllers"] = {str(path): read(path) for path in Path("/sys/fs/cgroup").rglob("cgroup.subtree_control")}
    found["zswap"] = meminfo().get("Zswapped", 0)
    found["processes"] = tenants()
    return found


def tenants():
    """Processes that stand for VMs; those of other users' runs count, too: there is one run at a time."""
    deadline = time.monotonic() + 20
    while True:
        lines = [read(path / "cmdline") for path in Path("/proc").iterdir() if path.name.isdigit()]
        found = sum("memvirt.backends.linux.tenant" in line for line in lines)
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


@pytest.fixture
def before():
    """The machine before; skips beside another run."""
    try:
        undo.restore()
        os.close(undo.locked())
    except ConfigError as busy:
        pytest.skip(str(busy))
    return machine()


# The run is killed at its n-th moment: each change of the list, and each change of the machine, is one. The grid has one
# load at one share, for the sake of time.
RUN = """
import os, pathlib, signal, sys
from memvirt.backends.linux import kernel, undo
moment, names = int(sys.argv[1]), sys.argv[2:]
passed = 0
def counted(plain):
    def call(*arguments, **named):
        global passed
        for when in (0, 1):
            passed += 1
            if passed == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            if when == 0:
                result = plain(*arguments, **named)
        return result
    return call
undo._save, undo.write, undo.insist = counted(undo._save), counted(undo.write), counted(undo.insist)
kernel.swap_on = counted(kernel.swap_on)
pathlib.Path.mkdir = counted(pathlib.Path.mkdir)
from memvirt.backends import validate
from memvirt.backends.linux import costs, grid
grid.PERCENT, grid.PATTERNS, costs.PATIENCE_S = (50,), {"zipf": grid.PATTERNS["zipf"]}, 0.0
grid.others = dict
for name in names:
    passed = 0
    told = [row.reason for row in validate.run([name], validate.Scale(8 * 256, 0)) if row.what == "all of it"]
    print(passed, *told, flush=True)
"""


def moments(names):
    """How many moments each of these mechanisms has here; what this machine lacks has few."""
    done = subprocess.run([sys.executable, "-c", RUN, "0", *names], capture_output=True, text=True, timeout=300)
    if "another run" in done.stderr:
        pytest.skip("another run is at work")
    assert done.returncode == 0, done.stderr
    return dict(zip(names, (int(line.split()[0]) for line in done.stdout.splitlines()), strict=True))


def killed_at(name, moment):
    """Kill a run of this mechanism at its n-th moment."""
    words = [sys.executable, "-c", RUN, str(moment), name]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, (name, moment, done.stderr)


def killed_within(name, after_s):
    """Kill the program so long after it has begun to change something, if it lasts so long."""
    words = [sys.executable, "-m", "memvirt", "validate", "--only", name, "--memory", "16MiB"]
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not undo.state_file().exists() and run.poll() is None:
        time.sleep(0.005)
    time.sleep(after_s)
    run.kill()
    run.wait(20)


def restored():
    """`memvirt restore`, by the program."""
    done = subprocess.run([sys.executable, "-m", "memvirt", "restore"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def turns():
    """One mechanism of each family that changes settings, chosen at random, as often as it takes."""
    changing = [*validate.CHANGING, *validate.LONG]
    families = [[name for name in changing if name.startswith(family)] for family in FAMILIES]
    return [random.choice(names) for names in families if names]


def test_every_family_that_changes_settings_is_killed():
    changing = {name.split(":")[0] for name in (*validate.CHANGING, *validate.LONG)}
    assert all(any(name.startswith(family) for family in FAMILIES) for name in changing)


def test_a_killed_run_is_undone_by_restore(before):
    """sysfs, swap areas, zram devices, groups, files and processes are as they were before, each of twenty times."""
    names = turns()
    counted = moments(names)
    assert machine() == before
    there = [name for name in names if counted[name] >= 10]
    if not there:
        pytest.skip(f"this machine lacks what would be changed: {counted}")
    changed = 0
    for number, name in zip(range(KILLS), itertools.cycle(there), strict=False):
        if number % 2:
            killed_within(name, random.random())
            where = "any time"
        else:
            where = random.randint(2, counted[name])
            killed_at(name, where)
        changed += machine() != before
        restored()
        now = machine()
        assert now == before, (
            name,
            where,
            {key: (before[key], now.get(key)) for key in before if before[key] != now.get(key)},
        )
        assert not undo.state_file().exists()
    assert changed >= KILLS // 4, "what was killed had changed nothing"


def test_an_interrupted_run_is_undone_by_itself(before):
    """Ctrl-C in the middle of the program itself: exit code 130, and all is as it was."""
    words = [sys.executable, "-m", "memvirt", "validate", "--only", "ksm", "--memory", "16MiB"]
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not undo.state_file().exists() and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    if run.returncode in (0, 2):
        pytest.skip(f"nothing was changed here: {out or err}")
    assert run.returncode == 130 and "interrupted" in err
    assert machine() == before and not undo.state_file().exists()
