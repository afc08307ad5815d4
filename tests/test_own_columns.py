"""Scenarios with columns and a host of their own: what is planned, what `--preset` and tiers make of it, what is said."""

import pytest

from memvirt.errors import ConfigError
from memvirt.experiment import plan, suite
from memvirt.report import verdict
from memvirt.report.summary import Group, Row

WORKLOAD = '{ workload = "sequential", accesses = 64 }'
TWO = f"""
schema = 1
name = "two"
title = "Two kinds of host"
description = "Whether scenarios may differ in their columns."
presets = ["none", "swap"]
seeds = [1]
[host]
memory = "16MiB"
swap = "16MiB"
[tiers.smoke]
memory_percent = 50
[[scenarios]]
name = "plain"
description = "As the suite has it."
overcommit_percent = [100]
measured = {WORKLOAD}
fleet = {{ vms = 2, memory = "4MiB" }}
[[scenarios]]
name = "own"
description = "Columns and a host of its own."
overcommit_percent = [100]
measured = {WORKLOAD}
fleet = {{ vms = 2, memory = "4MiB" }}
presets = ["swap", "zcache"]
host = {{ memory = "32MiB", swap = "64MiB", harvest_interval = "3s" }}
"""


@pytest.fixture
def two(tmp_path):
    def written(old="", new=""):
        file = tmp_path / "two.toml"
        assert not old or TWO.count(old) == 1
        file.write_text(TWO.replace(old, new) if old else TWO)
        return str(file)

    return written


def planned(made):
    return {cell.name.removesuffix("--s1"): cell.host for cell in made.cells}


def test_a_scenario_runs_its_own_columns_on_its_own_host(two):
    hosts = planned(plan.make(two()))
    assert list(hosts) == ["plain-100--none", "plain-100--swap", "own-100--swap", "own-100--zcache"]
    assert hosts["plain-100--swap"].memory == 4096 and hosts["own-100--swap"].memory == 8192
    assert hosts["plain-100--swap"].swap == 4096 and hosts["own-100--swap"].swap == 16384
    assert hosts["own-100--swap"].harvest_interval == 3 * 10**9 != hosts["plain-100--swap"].harvest_interval


def test_a_tier_scales_both_hosts(two):
    hosts = planned(plan.make(two(), "smoke"))
    assert hosts["plain-100--swap"].memory == 2048 and hosts["own-100--swap"].memory == 4096
    assert hosts["own-100--swap"].harvest_interval == 3 * 10**9


@pytest.mark.parametrize(
    ("only", "cells"),
    [
        (["swap"], ["plain-100--swap", "own-100--swap"]),
        (["none"], ["plain-100--none"]),
        (["zcache"], ["own-100--zcache"]),
        (["zcache", "swap"], ["plain-100--swap", "own-100--zcache", "own-100--swap"]),
        (["sharing"], ["plain-100--sharing"]),  # nobody's: with the suite's columns
        (["sharing", "zcache"], ["plain-100--sharing", "own-100--zcache"]),
    ],
)
def test_a_named_preset_runs_where_a_scenario_has_it(two, only, cells):
    assert list(planned(plan.make(two(), only=only))) == cells


def test_where_every_scenario_has_its_own_another_preset_runs_in_all(two):
    own = 'description = "As the suite has it."\npresets = ["none"]'
    made = plan.make(two('description = "As the suite has it."', own), only=["sharing"])
    assert list(planned(made)) == ["plain-100--sharing", "own-100--sharing"]


def test_a_preset_file_takes_the_place_of_the_column_of_its_name(two, tmp_path):
    mine = tmp_path / "zcache.toml"
    mine.write_text('description = "mine"\nextends = "zcache"\n[host]\nzpool_percent = 7\n')
    hosts = planned(plan.make(two(), only=[str(mine)]))
    assert list(hosts) == ["plain-100--zcache"] and hosts["plain-100--zcache"].zpool_percent == 7


def test_a_preset_s_file_gives_its_own_swap_and_no_memory_of_the_host(two, tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('description = "mine"\nextends = "swap"\n[host]\nswap = "8MiB"\n')
    assert planned(plan.make(two(), only=[str(mine)]))["plain-100--mine"].swap == 2048
    mine.write_text('description = "mine"\nextends = "swap"\n[host]\nmemory = "8MiB"\n')
    with pytest.raises(ConfigError, match="mine.toml: memory: columns have that of the suite"):
        plan.make(two(), only=[str(mine)])


def test_an_option_reaches_the_columns_that_have_it_and_is_refused_where_none_has(two):
    found = {}
    for cell in plan.make(two(), only=["swap", "tmo", "sharing"], overrides=["decider_options.interval_ns=7000"]).cells:
        found[cell.preset] = cell.host.decider_options.get("interval_ns"), cell.asked["settings"]
    assert found["tmo"] == (7000, ["decider_options.interval_ns=7000"])
    assert found["swap"] == (None, []) == found["sharing"]
    with pytest.raises(ConfigError, match="decider 'tmo' has no option 'nope'"):
        plan.make(two(), only=["swap", "tmo"], overrides=["decider_options.nope=7"])
    table = plan.make(two(), only=["swap", "sharing"], overrides=["sharing_options={pages_to_scan=5}"]).cells
    found = {cell.preset: cell.host.sharing_options.get("pages_to_scan") for cell in table}
    assert found == {"swap": None, "sharing": 5}
    both = ["decider_options.interval_ns=7000", "zpool_percent=5"]
    made = plan.make(two(), only=["swap", "tmo"], overrides=both)
    assert {cell.host.zpool_percent for cell in made.cells} == {5}
    assert [cell.asked["settings"] for cell in made.cells if cell.preset == "swap"] == [both[1:]] * 2


def test_an_option_is_of_what_is_chosen_whichever_is_typed_first(two):
    chosen = ["sharing=hash", "sharing_options.pages_to_scan=5"]
    for overrides in (chosen, chosen[::-1]):
        (cell, *_) = plan.make(two(), only=["swap"], overrides=overrides).cells
        assert cell.host.sharing == "hash" and cell.host.sharing_options["pages_to_scan"] == 5


def test_an_option_reaches_what_a_sweep_chooses(two):
    made = plan.make(
        two(),
        only=["swap", "balloon"],
        swept=["balloon=proportional,proxmox"],
        overrides=["decider_options.interval_ns=5000000"],
    )
    hosts = {cell.preset: cell for cell in made.cells}
    assert len(hosts) == 4
    for cell in hosts.values():
        assert cell.host.decider_options["interval_ns"] == 5 * 10**6 and cell.asked["settings"]
    made = plan.make(two(), only=["swap"], swept=["sharing=hash,none"], overrides=["sharing_options.pages_to_scan=5"])
    asked = {
        cell.preset: (cell.host.sharing_options.get("pages_to_scan"), cell.asked["settings"]) for cell in made.cells
    }
    assert asked == {
        "swap@sharing=hash": (5, ["sharing_options.pages_to_scan=5"]),
        "swap@sharing=none": (None, []),
    }


def test_options_of_any_kind_reach_a_decider_of_one_s_own(two, tmp_path):
    """Those whose defaults no record holds, and those that have none."""
    rule = "    interval_ns = 10**9\n    def decide(self, snapshot): ...\n"
    heads = {"Half": "ratio=0.5", "Whole": "ratio=1", "Asked": "ratio", "None_": "ratio=None", "Other": "more=1"}
    text = "".join(f"class {name}:\n    def __init__(self, {head}): ...\n{rule}" for name, head in heads.items())
    (tmp_path / "mine.py").write_text(text)
    only = ["swap", *(f"{tmp_path}/mine.py:{name}" for name in heads)]
    made = plan.make(two(), only=only, overrides=["decider_options.ratio=7"])
    found = {cell.preset: cell.host.decider_options for cell in made.cells}
    assert {name for name, options in found.items() if options.get("ratio") == 7} == {"Half", "Whole", "Asked", "None_"}


def test_a_guest_s_order_takes_its_options_whichever_is_typed_first(two):
    chosen = ["vm.guest=true", "vm.guest.replacement=slru", "vm.guest.replacement_options.segments=3"]
    for overrides in (chosen, [chosen[0], chosen[2], chosen[1]]):
        (cell, *_) = plan.make(two(), only=["swap"], overrides=overrides).cells
        assert cell.guest.replacement == "slru" and cell.guest.replacement_options["segments"] == 3


def test_a_swept_option_is_swept_in_the_columns_that_have_it(two):
    made = plan.make(two(), only=["swap", "balloon"], swept=["decider_options.interval_ns=1ms,2ms"])
    asked = {
        cell.preset: (cell.host.decider_options.get("interval_ns"), cell.asked.get("sweep")) for cell in made.cells
    }
    assert asked == {
        "swap": (None, None),
        "balloon@decider_options.interval_ns=1ms": (10**6, {"decider_options.interval_ns": "1ms"}),
        "balloon@decider_options.interval_ns=2ms": (2 * 10**6, {"decider_options.interval_ns": "2ms"}),
    }
    with pytest.raises(ConfigError, match="no decider is"):
        plan.make(two(), only=["swap"], swept=["decider_options.interval_ns=1ms,2ms"])


def test_a_scenario_may_name_a_variant_of_the_suite(two):
    variant = '[[variants]]\nname = "zcache"\npreset = "zcache"\nset = { zpool_percent = 9 }\n[host]\nmemory = "16MiB"'
    hosts = planned(plan.make(two('[host]\nmemory = "16MiB"', variant)))
    assert hosts["own-100--zcache"].zpool_percent == 9 == hosts["plain-100--zcache"].zpool_percent


def test_a_suite_whose_scenarios_have_all_needs_no_host_and_no_presets(two, tmp_path):
    text = TWO.replace('presets = ["none", "swap"]\n', "").replace('[host]\nmemory = "16MiB"\nswap = "16MiB"\n', "")
    first, _, rest = text.partition("[[scenarios]]")
    alone = tmp_path / "alone.toml"
    alone.write_text(f"{first}[[scenarios]]{rest.partition('[[scenarios]]')[2]}")
    assert list(planned(plan.make(str(alone)))) == ["own-100--swap", "own-100--zcache"]
    both = tmp_path / "both.toml"
    both.write_text(text)
    with pytest.raises(ConfigError, match="presets") as caught:
        suite.load(str(both))
    assert "host" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('presets = ["swap", "zcache"]', "presets = []", "presets"),
        ('presets = ["swap", "zcache"]', 'presets = ["swap", "swap"]', "presets"),
        ('presets = ["swap", "zcache"]', 'presets = ["swap", "sub/swap.toml"]', "'swap' is given twice"),
        ('presets = ["swap", "zcache"]', 'presets = ["swap", "zcash"]', "zcache"),
        ('memory = "32MiB", swap', 'memory = "0", swap', "memory"),
        ('harvest_interval = "3s"', 'harvest_interval = "soon"', "harvest_interval"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(two, old, new, what):
    with pytest.raises(ConfigError, match=what) as caught:
        plan.make(two(old, new))
    assert len(str(caught.value).splitlines()) <= 3


def test_columns_that_become_alike_in_their_scenario_are_told(two):
    with pytest.raises(ConfigError, match="'swap' and 'zcache' are the same"):
        plan.make(two(), overrides=["zpool_percent=20", "zpool_reject_above=4096", "zpool_incompressible=keep"])


def row(preset, slowdown):
    return Row(preset, "done", "", {"slowdown": (slowdown,), "effective_overcommit": (1.0,)}, {})


def test_what_was_learned_averages_no_two_kinds_of_scenario():
    groups = [
        Group("lives", "2.00", "", (1,), (row("swap", 1.0), row("tmo", 1.5)), timed=True),
        Group("scan", "2.00", "", (1,), (row("swap", 8.0), row("all", 2.0))),
        Group("zipf", "2.00", "", (1,), (row("swap", 2.0), row("all", 2.0))),
    ]
    told = verdict.line(groups)
    assert told.startswith("Learned: in lives: lowest slowdown: at 2.00 swap (1.00×), 33 % below tmo (1.50×).")
    assert (
        "In scan and zipf: lowest slowdown (geometric mean over scenarios): at 2.00 all (2.00×), 50 % below swap"
        in told
    )


def test_the_same_presets_are_not_averaged_over_work_and_accesses():
    told = verdict.line(
        [
            Group("lives", "1.00", "", (1,), (row("swap", 1.0), row("all", 1.0)), timed=True),
            Group("scan", "1.00", "", (1,), (row("swap", 9.0), row("all", 9.0))),
        ]
    )
    assert "in lives: " in told and "In scan: " in told and "geometric" not in told
