"""A policy of one's own on the command line: README's twenty lines run, and bad ones are named with decision and cause."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import memvirt
from memvirt.errors import DeciderError
from memvirt.policies import Snapshot, Targets, VmView
from memvirt.policies.asking import Asked

ROOT = Path(__file__).parents[1]
SUITE = """
schema = 1
name = "own"
title = "t"
description = "d"
presets = ["swap"]
[host]
memory = "4MiB"
swap = "16MiB"
[[scenarios]]
name = "u"
description = "d"
overcommit_percent = [150]
measured = { workload = "uniform", accesses = 40000 }
fleet = { vms = 2, memory = "2MiB" }
"""


def run(folder, *words):
    (folder / "own.toml").write_text(SUITE)
    command = [sys.executable, "-m", "memvirt", "run", "own.toml", "--corpus", "synthetic", "--out", "o", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def records(folder):
    found = [json.loads(path.read_text()) for path in (folder / "o" / "cells").glob("*.json")]
    return {record["preset"]: record for record in found if record["role"] == "column"}


def test_readme_s_policy_runs_beside_the_suite_s_columns(tmp_path):
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# my_policy\.py\n.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 22
    assert "memvirt run quick --policy my_policy.py:Mine" in text
    (tmp_path / "my_policy.py").write_text(code)
    done = run(tmp_path, "--policy", "my_policy.py:Mine")
    assert done.returncode == 0, done.stderr
    mine = records(tmp_path)["Mine"]
    assert set(records(tmp_path)) == {"swap", "Mine"}
    assert mine["counters"]["decisions_acted"] > 0 and mine["stores"]["balloon"] > 0
    assert mine["config"]["host"]["balloon"] == "my_policy.py:Mine"


def test_a_policy_that_errs_ends_its_cell_with_decision_time_and_cause(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from memvirt.policies import Targets\nclass Mine:\n    interval_ns = 100_000\n"
        "    def decide(self, snapshot):\n        if snapshot.now_ns > 350_000: raise ValueError('boom')\n"
        "        return Targets(memo={'n': (1,)})\n"
    )
    done = run(tmp_path, "--policy", "mine.py:Mine")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"decider mine\.py:Mine: ValueError: boom \(mine\.py:5\); decision \d+, at \d", done.stderr)
    assert records(tmp_path)["swap"]["status"] == "done"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("esx", "--policy esx: write FILE.py:CLASS"),
        ("mine.py", "--policy mine.py: write FILE.py:CLASS"),
        ("none.py:Mine", "decider file 'none.py' does not exist"),
    ],
)
def test_what_names_no_policy_is_refused_with_a_remedy(tmp_path, name, said):
    done = run(tmp_path, "--policy", name)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


SHOT = Snapshot(now_ns=1, interval_ns=1, total_pages=100, free_pages=5, low_pages=1, high_pages=2,
                vms=(VmView(name="vm0", configured_pages=10, held_pages=3),))  # fmt: skip


class Slow:
    interval_ns = 1
    time_limit_s = 0.2

    def decide(self, snapshot):
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass


def test_a_decider_that_never_answers_is_ended():
    with pytest.raises(DeciderError, match=r"Slow has not answered within 0.2 s; time_limit_s of its class says"):
        Asked(Slow()).answer(SHOT)


def test_the_limit_leaves_another_alarm_as_it_was():
    import signal

    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        with pytest.raises(DeciderError):
            Asked(Slow()).answer(SHOT)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 50 < left < 100 and not rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("limit", ["1", 0, -1, True, None])
def test_a_limit_that_is_no_time_is_refused(limit):
    class Odd(Slow):
        time_limit_s = limit

    with pytest.raises(memvirt.MemvirtError, match="time_limit_s is"):
        Asked(Odd())


def test_targets_for_a_vm_that_ended_are_named_as_such():
    answers = iter([Targets(), Targets(reclaim_pages={"vm0": 1}), Targets(reclaim_pages={"vm9": 1})])

    class Late:
        interval_ns = 1

        def decide(self, snapshot):
            return next(answers)

    asked = Asked(Late())
    asked.answer(SHOT)
    empty = Snapshot(now_ns=2, interval_ns=1, total_pages=100, free_pages=5, low_pages=1, high_pages=2)
    with pytest.raises(DeciderError, match="names 'vm0', which has ended; name VMs of the snapshot that is being"):
        asked.answer(empty)
    with pytest.raises(DeciderError, match="names 'vm9'; there is no such VM"):
        asked.answer(empty)


def test_targets_beyond_a_vm_are_cut_and_counted():
    host = memvirt.Host(memory="8MiB", swap="8MiB")
    vm = host.create_vm("a", "4MiB", reservation="1MiB", guest=True)
    plain = host.create_vm("b", "2MiB")
    pages = np.arange(400)
    for one in (vm, plain):
        one.access(pages, np.ones(400, np.uint8))

    class Greedy:
        interval_ns = 10**12

        def decide(self, snapshot):
            assert snapshot.vms[0].cold_ages == () and snapshot.swap_pages == 2048
            return Targets(balloon_pages={"a": 1024, "b": 5}, reclaim_pages={"a": 1000})

        wants_ages = False

    assert "targets_clipped" not in host.counters()
    host.run({}, until_ns=host.sim_ns + 10**12 + 10**9, decider=Greedy())
    assert host.counters()["targets_clipped"] == 3, "a balloon, a reclaim, and a balloon of a VM without a guest"
    assert vm.counters()["balloon_pages"] <= 768
    host.check()
