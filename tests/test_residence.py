"""Epochs longer than pages stay are refused: what VMs use in an epoch is counted by hand, the host's room and limits held
against it, and a longer epoch shown to lose faults."""

import tomllib

import pytest

from memvirt.errors import ConfigError
from memvirt.experiment import plan, residence
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.suite import Suite
from memvirt.inputs import synthetic
from memvirt.settings.diagnose import validate

SUITE = """
schema = 1
name = "stay"
title = "Pages that stay"
description = "For tests"
presets = ["swap"]
[host]
memory = "16MiB"
swap = "64MiB"
harvest_interval = "30s"
[[scenarios]]
name = "one"
description = "For tests"
overcommit_percent = [100]
time = { settle = "10s", duration = "20s", epoch = "EPOCH" }
[scenarios.loads.cycle]
busy_percent = 10
parts = [{ percent = 50, every = "1s" }, { percent = 50, every = "16s" }]
[[scenarios.groups]]
name = "web"
vms = 2
memory = "10MiB"
load = "cycle"
touched_percent = 100
content = { zero_percent = 0, image_percent = 25 }
"""


def scenario(epoch="4s", change=lambda table: None):
    table = tomllib.loads(SUITE.replace("EPOCH", epoch))
    change(table["scenarios"][0])
    return validate(Suite, table).scenarios[0]


def groups(**keys):
    return lambda table: table["groups"][0].update(keys)


def load(**keys):
    return lambda table: table["loads"]["cycle"].update(keys)


@pytest.mark.parametrize(
    ("change", "shares", "pages"),
    [
        (lambda table: None, False, 2 * (1280 + 320)),  # 2,560 pages: half of them every second, half in 16 s
        (lambda table: None, True, 2 * (960 + 240)),  # a quarter is the image
        (groups(touched_percent=50), False, 1600),
        (groups(boot={"every": "40s"}), False, 1600),  # the second comes when all is over
        (groups(boot={"every": "10s"}, stay="9s"), False, 1600),  # one goes as the other comes
        (groups(lifetime={"mean": "5s"}), False, 0),
        (load(day={"period": "20s", "low_percent": 50}), False, 3200),  # busiest at the beginning
        (load(bursts={"every": "64s", "last": "32s", "spread": False}), False, 3200),
        (lambda table: table.update(events=[{"at": "3s", "what": "set-load", "group": "web", "load": "cycle"}]), False, 0),
    ],
)  # fmt: skip
def test_what_vms_use_in_an_epoch(change, shares, pages):
    one = scenario(change=change)
    assert residence.most_used(one, 100, one.time.epoch, shares) == pages
    assert residence.problem(one, 100, pages, shares) == ""
    assert not pages or residence.problem(one, 100, pages - 1, shares)


@pytest.mark.parametrize(
    ("epoch", "change", "said"),
    [
        ("6s", groups(vms=3), "its VMs use 21120KiB in an epoch of 6s, and the host has 16MiB: pages would go"),
        ("6s", groups(limit_percent=60), "each VM of group web uses 7040KiB in an epoch of 6s, and its limit is 6MiB"),
        (
            "6s",
            lambda table: table.update(events=[{"at": "3s", "what": "set-limit", "group": "web", "limit_percent": 55}]),
            "its limit is 5632KiB: pages would go and be asked for again within it, unseen; give an epoch of 1500ms, or",
        ),
    ],
)
def test_a_longer_epoch_is_refused(epoch, change, said):
    one = scenario(epoch, change)
    assert said in residence.problem(one, 100, 4096, False)


def written(tmp_path, text):
    file = tmp_path / "stay.toml"
    file.write_text(text)
    return str(file)


def test_a_plan_says_so_before_anything_runs(tmp_path):
    file = written(tmp_path, SUITE.replace("EPOCH", "6s").replace("vms = 2", "vms = 3"))
    with pytest.raises(
        ConfigError, match=r"scenario one: its VMs use 21120KiB in an epoch of 6s, and the host has 16MiB"
    ):
        plan.make(file)


def test_a_longer_epoch_would_lose_faults(tmp_path, monkeypatch):
    """Two VMs go through 20 MiB in 4 s, with 16 MiB of memory."""
    monkeypatch.setattr(residence, "problem", lambda *asked: "")
    faults = {}
    for epoch in ("1s", "2s", "6s"):
        text = SUITE.replace("EPOCH", epoch).replace('every = "1s"', 'every = "4s"').replace("16s", "4s")
        [cell] = plan.make(written(tmp_path, text), seeds=[1]).in_order()
        faults[epoch] = run_cell(prepare(synthetic(1024, seed=1)), cell).counters["fault_swap"]
    assert 0.95 < faults["2s"] / faults["1s"] < 1.05
    assert faults["6s"] < 0.8 * faults["1s"]
