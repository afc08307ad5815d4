"""Fleets that live: loads in time, VMs that come and go, slowdown of their work."""

import itertools
import re
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memvirt.errors import ConfigError
from memvirt.experiment import plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.life_spec import Group
from memvirt.experiment.suite import Suite, load, names
from memvirt.inputs import synthetic
from memvirt.metrics.registry import REGISTRY
from memvirt.report import terminal
from memvirt.results.record import comparable
from memvirt.settings.diagnose import validate
from memvirt.workloads import WRITE, Space, Stream
from memvirt.workloads.load import Load, corput, level_percent
from memvirt.workloads.touches import Touches

S = 10**9
CORPUS = synthetic(1024, seed=1)

SUITE = """
schema = 1
name = "living"
title = "A fleet that lives"
description = "For tests"
columns = ["slowdown", "slowdown_p99.gold"]
presets = []
[host]
memory = "24MiB"
swap = "64MiB"
[[variants]]
name = "swap"
preset = "swap"
set = { harvest_interval = "10s" }
[[scenarios]]
name = "mixed"
description = "Busy and idle VMs."
overcommit_percent = [100]
[scenarios.time]
settle = "5s"
duration = "20s"
epoch = "2s"
[scenarios.loads.busy]
busy_percent = 30
parts = [{ percent = 20, every = "200ms" }, { percent = 30, every = "5s" }, { percent = 40, every = "30s" }]
[scenarios.loads.idle]
busy_percent = 1
parts = [{ percent = 5, every = "1s" }, { percent = 95, every = "2min" }]
[[scenarios.groups]]
name = "web"
level = "gold"
vms = 3
memory = "8MiB"
load = "busy"
[[scenarios.groups]]
name = "batch"
level = "bronze"
vms = 2
memory = "8MiB"
load = "idle"
"""
SHRINK = 'shrink = { per_second = "100KiB", to_percent = 40 }\n'
LOAD = Load.model_validate(
    {"busy_percent": 40, "parts": [{"percent": 25, "every": "500ms"}, {"percent": 50, "every": "7s"}]}
)


def with_table(**tables):
    return Load.model_validate({**LOAD.model_dump(mode="json", exclude_none=True), **tables})


def suite(changes=lambda table: None, text=SUITE):
    table = tomllib.loads(text)
    changes(table)
    return validate(Suite, table)


def run(tmp_path, text=SUITE, seed=1, overrides=()):
    """The records of all cells of a suite, by scenario and column."""
    file = tmp_path / "living.toml"
    file.write_text(text)
    made = plan.make(str(file), seeds=[seed], overrides=list(overrides))
    context = prepare(CORPUS)
    records = [run_cell(context, cell) for cell in made.in_order()]
    assert all(record.status == "done" and record.verified for record in records), [r.reason for r in records]
    return {(record.scenario, record.preset): record for record in records}


def touches(pages=1000, read_only=100, seed=1, vm=0, epoch_ns=2 * S):
    return Touches(LOAD, Space(pages, read_only), Stream(seed, vm, "load"), epoch_ns)


# ---- what is touched when


@given(cuts=st.lists(st.integers(0, 30 * S), max_size=12), pages=st.integers(1, 3000))
@settings(max_examples=60, deadline=None)
def test_touches_do_not_depend_on_how_time_is_cut(cuts, pages):
    whole = touches(pages, 0).between(0, 30 * S)
    at = sorted({0, 30 * S, *cuts})
    parts = [touches(pages, 0).between(a, b) for a, b in itertools.pairwise(at)]
    one = touches(pages, 0)
    again = [one.between(a, b) for a, b in itertools.pairwise(at)]
    for found in (parts, again):
        joined = [np.concatenate([part[i] for part in found]) for i in (0, 1)]
        assert sorted(zip(*(column.tolist() for column in joined), strict=True)) == sorted(
            zip(*(column.tolist() for column in whole), strict=True)
        )


@given(
    cuts=st.lists(st.integers(0, 30 * S), max_size=12),
    pages=st.integers(1, 3000),
    resident=st.lists(st.integers(0, 3000), min_size=13, max_size=13),
    wrong=st.sets(st.integers(0, 12)),
    missed=st.sets(st.integers(0, 12)),
)
@settings(max_examples=60, deadline=None)
def test_windows_made_ahead_are_those_that_are_asked_for(cuts, pages, resident, wrong, missed):
    """Also where a window ends elsewhere than was expected, is left out, or the VM has become smaller meanwhile."""
    at = sorted({0, 30 * S, *cuts})
    ahead, alone = touches(pages, 0), touches(pages, 0)
    for number, (began, until) in enumerate(itertools.pairwise(at)):
        if number in missed:
            continue
        if number % 3 == 0:
            ahead.resident = alone.resident = resident[number]
        later = [time + (index in wrong) for index, time in enumerate(at) if time > until]
        found, (wanted, ops) = ahead.batch(began, until, 7, iter(later)), alone.between(began, until)
        if found is None:
            assert not len(wanted)
            continue
        assert found.pages.tolist() == (wanted.tolist() or [0])
        assert found.ops.tolist() == (ops.tolist() or [0])


def test_what_is_made_ahead_is_bounded():
    one = touches(1 << 20)
    one.batch(0, S, 0, iter(range(2 * S, 9 * S, S)))
    assert not one._ahead  # 130,000 touches a second
    one = touches()
    one.batch(0, S, 0, iter(range(2 * S, 9 * S, S)))
    assert len(one._ahead) == 7


def test_each_part_is_used_as_often_as_it_says_and_no_page_twice_in_its_round():
    found = touches()
    assert len(set(found.between(0, 2 * S)[0].tolist())) >= 250  # an epoch: all of the first part, of 500 ms
    uses = np.bincount(found.between(0, 28 * S)[0], minlength=1000)
    assert sorted(set(uses.tolist())) == [0, 4, 14]  # 25 % unnamed; every 7 s; every epoch
    assert abs(np.count_nonzero(uses == 14) - 250) <= 15
    assert abs(np.count_nonzero(uses == 4) - 500) <= 15


def test_only_what_is_not_the_image_is_written_and_as_often_as_it_says():
    pages, ops = touches(20_000, 5_000).between(0, 20 * S)
    assert not ops[pages < 5_000].any()
    assert ops[pages >= 5_000].mean() == pytest.approx(0.2, abs=0.01)
    assert set(ops.tolist()) == {0, WRITE}


def test_vms_and_seeds_have_touches_of_their_own():
    seen = [tuple(touches(seed=seed, vm=vm).between(0, S)[0].tolist()) for seed in (1, 2) for vm in (0, 1)]
    assert len(set(seen)) == 4


def test_work_is_the_share_of_time_that_the_load_says():
    batch = touches().batch(3 * S, 4 * S, 5 * S)
    assert batch.due_ns.tolist() == [5 * S]
    assert batch.work_ns * len(batch.pages) == pytest.approx(0.4 * S, rel=0.01)
    assert touches().batch(S, S, 0) is None


def test_a_day_falls_and_rises_and_vms_can_be_spread_over_it():
    hour = 3600 * S
    day = {"period": "24h", "low_percent": 20}
    load = with_table(day=day)
    assert [level_percent(load, hours * hour, 0) for hours in (0, 6, 12, 18, 24)] == [100, 60, 20, 60, 100]
    spread = with_table(day={**day, "spread": True})
    assert [level_percent(spread, 0, vm) for vm in range(4)] == [100, 20, 60, 60]
    assert level_percent(LOAD, 5, 3) == 100


def test_vms_are_spread_evenly_however_many_there_are_and_each_keeps_its_place():
    """The star discrepancy of n numbers of van der Corput's sequence is at most (log2(n) + 2) / n."""
    for count in (1, 2, 3, 7, 20, 50, 333):
        places = sorted(corput(number) / 2**32 for number in range(count))
        worst = max(max(abs(p - i / count), abs(p - (i + 1) / count)) for i, p in enumerate(places))
        assert worst <= (np.log2(count) + 2) / count
    assert [corput(number) for number in range(4)] == [0, 1 << 31, 1 << 30, 3 << 30]


def test_bursts_are_short_and_vms_have_them_at_different_times():
    bursts = {"every": "60s", "last": "6s", "low_percent": 20}
    load = with_table(bursts=bursts)
    levels = np.array([[level_percent(load, second * S, vm) for second in range(60)] for vm in range(10)])
    assert set(levels.flatten().tolist()) == {20, 100}
    assert ((levels == 100).sum(axis=1) == 6).all()
    assert (levels == 100).sum(axis=0).max() <= 3  # of ten
    together = with_table(bursts={**bursts, "spread": False})
    assert [level_percent(together, 3 * S, vm) for vm in range(3)] == [100] * 3
    both = with_table(bursts=bursts, day={"period": "2min", "low_percent": 0})
    assert level_percent(both, 30 * S, 0) == 10  # half a day's load, of which a fifth is left between bursts


# ---- runs


def test_a_fleet_lives_and_its_slowdown_is_of_its_work(tmp_path):
    record = run(tmp_path)["mixed-100", "swap"]
    work = sum(vm["work_ns"] for vm in record.vms.values())
    stall = sum(vm["stall_ns"] for vm in record.vms.values())
    assert stall > 0
    assert float(record.derived["slowdown"]) == pytest.approx((work + stall) / work, abs=1e-3)
    assert record.vms["web-0"]["work_ns"] == pytest.approx(0.3 * 20 * S, rel=0.03)
    assert record.vms["batch-0"]["work_ns"] == pytest.approx(0.01 * 20 * S, rel=0.05)
    ordered = [float(record.derived[f"slowdown_{name}"]) for name in ("p50", "p99", "worst")]
    assert ordered == sorted(ordered)
    assert ordered[0] >= 1
    assert {"slowdown_p99.gold", "slowdown_p99.bronze"} <= set(record.derived)
    assert "slowdown_p99.silver" not in record.derived
    assert "request" not in record.histograms  # the work of a second is no request


def test_the_same_seed_gives_the_same_record_and_another_seed_another(tmp_path):
    one, again, other = (run(tmp_path, seed=seed)["mixed-100", "swap"] for seed in (1, 1, 2))
    assert comparable(one) == comparable(again)
    assert one.counters != other.counters


def test_bytes_and_fingerprints_come_to_the_same(tmp_path):
    text = SUITE.replace('preset = "swap"', 'preset = "PRESET"').replace(
        "[scenarios.time]", 'content = "CONTENT"\n[scenarios.time]'
    )
    for preset, name, within in (("sharing", "saved_sharing_frames", 0.01), ("zcache", "faults", 0.03)):
        one, other = (
            run(tmp_path, text.replace("PRESET", preset).replace("CONTENT", content))["mixed-100", "swap"].derived[name]
            for content in ("bytes", "fingerprint")
        )
        assert one > 500
        assert other == pytest.approx(one, rel=within), preset


def test_vms_come_and_go_and_what_happens_happens(tmp_path):
    text = SUITE.replace(
        'name = "batch"', 'name = "batch"\nboot = { at = "8s", every = "2s", per_second = "4MiB" }\nstay = "9s"'
    )
    text += """
[[scenarios.events]]
at = "10s"
what = "restart"
group = "web"
percent = 34
[[scenarios.events]]
at = "12s"
what = "set-load"
group = "web"
load = "idle"
spread = "3s"
"""
    record = run(tmp_path, text)["mixed-100", "swap"]
    assert set(record.vms) == {"web-0", "web-1", "web-2", "batch-0", "batch-1"}
    assert record.vms["batch-0"]["sim_ns"] == pytest.approx(9 * S, abs=S)
    assert record.vms["web-0"]["work_ns"] < 0.3 * 9 * S  # idle since the 12th second
    assert record.vms["web-0"]["work_ns"] < record.vms["web-2"]["work_ns"]
    held = {name for name, vm in record.fragmentation["vms"].items() if vm["present_pages"]}
    assert held == {"web-0", "web-1", "web-2"}  # the others have gone


def test_a_patch_undoes_sharing_until_the_scanner_has_been_round_again(tmp_path):
    text = (
        SUITE.replace('memory = "24MiB"', 'memory = "64MiB"')
        .replace('preset = "swap"', 'preset = "sharing"')
        .replace('duration = "20s"', 'duration = "30s"')
    )
    patch = '[[scenarios.events]]\nat = "15s"\nwhat = "rewrite-image"\ngroup = "web"\n'
    calm, patched = (run(tmp_path, each)["mixed-100", "swap"] for each in (text, text + patch))
    assert patched.counters["cow_breaks_shared"] > calm.counters["cow_breaks_shared"] + 500
    assert patched.counters["fills"] - calm.counters["fills"] == 3 * (8 * 256 * 80 // 100 * 20 // 100)


def test_growth_ends_where_it_is_told_to(tmp_path):
    text = SUITE.replace('memory = "24MiB"', 'memory = "64MiB"') + ""
    grown = text.replace(
        "[scenarios.loads.idle]", 'grow = { per_second = "100KiB", to_percent = 90 }\n[scenarios.loads.idle]'
    )
    calm, more = (run(tmp_path, each)["mixed-100", "swap"] for each in (text, grown))
    present = [record.fragmentation["vms"]["web-1"]["present_pages"] for record in (calm, more)]
    assert present[0] == 8 * 256 * 80 // 100
    assert present[1] == 8 * 256 * 90 // 100


def test_each_vm_has_percentiles_of_its_own_windows(tmp_path):
    """Those of all lie between those of the VMs; one that is idle throughout has none."""
    record = run(tmp_path, SUITE)["mixed-100", "swap"]
    slow = {
        quantile: {name: vm[f"slowdown_{quantile}_milli"] for name, vm in record.vms.items()}
        for quantile in ("p50", "p99", "worst")
    }
    for quantile, values in slow.items():
        of_all = round(1000 * float(record.derived[f"slowdown_{quantile}"]))
        assert min(values.values()) <= of_all <= max(values.values())
    assert max(slow["worst"].values()) == round(1000 * float(record.derived["slowdown_worst"])) > 1000
    assert record.derived["slowdown_p99_worst_vm"] == f"{max(slow['p99'].values()) / 1000:.3f}"
    gold = [value for name, value in slow["worst"].items() if name.startswith("web")]
    assert max(gold) == round(1000 * float(record.derived["slowdown_worst.gold"]))


def test_requests_have_due_times_percentiles_and_a_backlog(tmp_path):
    """An open loop at 50 requests a second: all of them are done where memory is enough; where it is not they queue."""
    requests = "requests = { per_second = 50, touches = 20, work = '2ms' }\n"
    text = SUITE.replace("[scenarios.loads.idle]", requests + "[scenarios.loads.idle]")
    calm = run(tmp_path, text.replace('memory = "24MiB"', 'memory = "64MiB"'))["mixed-100", "swap"]
    count = sum(n for _, n in calm.histograms["request"])
    assert count == pytest.approx(3 * 50 * 20, abs=6)
    assert 1.9e6 <= calm.derived["sim_ns.request.p50"] < 4e6
    assert {vm["behind_ns"] for name, vm in calm.vms.items() if name.startswith("web")} == {0}
    assert "behind_ns" not in calm.vms["batch-0"]
    assert calm.derived["request_backlog_ms"] == "0.000"
    slow = text.replace('"10s" }', '"10s", swap_device = "hdd" }')
    tight = run(tmp_path, slow)["mixed-100", "swap"]
    behind = max(vm.get("behind_ns", 0) for vm in tight.vms.values())
    assert float(tight.derived["request_backlog_ms"]) == pytest.approx(behind / 1e6, abs=1e-3)
    assert tight.derived["sim_ns.request.p99"] > 3 * calm.derived["sim_ns.request.p99"]


def test_requests_have_percentiles_for_each_service_level(tmp_path):
    requests = "requests = { per_second = 50, touches = 20, work = '2ms' }\n"
    text = SUITE.replace("[scenarios.loads.idle]", requests + "[scenarios.loads.idle]").replace("24MiB", "64MiB")
    derived = run(tmp_path, text)["mixed-100", "swap"].derived
    assert 1.9 <= float(derived["request_p50_ms.gold"]) < 4
    assert float(derived["request_p50_ms"]) == pytest.approx(derived["sim_ns.request.p50"] / 1e6, abs=1e-3)
    order = [float(derived[f"request_{name}_ms.gold"]) for name in ("p50", "p99", "worst")]
    assert order == sorted(order) and "request_p99_ms.bronze" not in derived
    assert all(f"request_{name}_ms.gold" in REGISTRY for name in ("p50", "p99", "worst"))
    assert not any(name.startswith("request_p") for name in run(tmp_path, SUITE)["mixed-100", "swap"].derived)


def test_a_set_load_begins_and_ends_requests(tmp_path):
    requests = "requests = { per_second = 50, touches = 20, work = '2ms' }\n"
    text = SUITE.replace('memory = "24MiB"', 'memory = "64MiB"').replace(
        "[[scenarios.groups]]", requests + "[[scenarios.groups]]", 1
    )
    events = "".join(
        f'[[scenarios.events]]\nat = "{at}s"\nwhat = "set-load"\ngroup = "web"\nload = "{load}"\n'
        for at, load in ((8, "idle"), (12, "busy"))
    )
    text = text.replace('load = "idle"', 'load = "busy"') + events
    record = run(tmp_path, text)["mixed-100", "swap"]
    assert sum(n for _, n in record.histograms["request"]) == pytest.approx(3 * 50 * 4, abs=12)


def test_a_limit_that_is_set_holds_and_a_group_that_shrinks_holds_less(tmp_path):
    text = SUITE.replace('memory = "24MiB"', 'memory = "64MiB"')
    event = '[[scenarios.events]]\nat = "10s"\nwhat = "set-limit"\ngroup = "web"\nlimit_percent = 50\n'
    record = run(tmp_path, text + event)["mixed-100", "swap"]
    held = record.fragmentation["vms"]
    assert held["web-0"]["present_pages"] <= 1024 < held["batch-0"]["present_pages"]
    guests = text.replace('preset = "swap"', 'preset = "balloon"')
    shrinking = guests.replace("[scenarios.loads.idle]", SHRINK + "[scenarios.loads.idle]")
    less, more = (run(tmp_path, each)["mixed-100", "swap"].counters["guest.discarded"] for each in (shrinking, guests))
    assert less - more == pytest.approx(3 * 25 * 20, abs=3 * 25)


def test_a_decider_that_cannot_act_is_refused_with_its_place_and_what_to_do(tmp_path):
    file = tmp_path / "living.toml"
    file.write_text(SUITE.replace('preset = "swap"', 'preset = "ksmtuned"'))
    with pytest.raises(ConfigError) as caught:
        plan.make(str(file))
    said = str(caught.value)
    assert "decider ksmtuned is asked every 1min (decider_options.interval_ns)" in said
    assert "time.duration" in said and "lasts 20s" in said and "it cannot act; measure longer" in said
    plan.make(str(file), overrides=["decider_options.interval_ns=5000000000"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            "harvest_interval=60s",
            "weighs accessed marks, which are collected every 1min (harvest_interval), and all of it",
        ),
        (
            "decider_options.warmup_ns=60000000000",
            "only watches for 1min (decider_options.warmup_ns), and all of it lasts",
        ),
        (
            "decider_options.min_age_ns=26000000000",
            "have been cold for 26s (decider_options.min_age_ns), and all of it",
        ),
    ],
)
def test_a_decider_that_is_asked_but_cannot_change_anything_is_refused_too(tmp_path, settings, said):
    file = tmp_path / "living.toml"
    file.write_text(SUITE.replace('preset = "swap"', 'preset = "far-memory"'))
    times = {"interval_ns": 5 * 10**9, "warmup_ns": 10**9, "min_age_ns": 5 * 10**9}
    can = ["harvest_interval=10s", *(f"decider_options.{key}={value}" for key, value in times.items())]
    plan.make(str(file), overrides=can)
    with pytest.raises(ConfigError) as caught:
        plan.make(
            str(file), overrides=[each for each in can if each.split("=")[0] != settings.split("=")[0]] + [settings]
        )
    assert said in str(caught.value) and "it cannot act; measure longer" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('duration = "20s"', 'duration = "0s"', "time.duration"),
        ('epoch = "2s"', 'epoch = "0"', "time.epoch"),
        ('epoch = "2s"', 'epoch = "2s"\nwindow = "0s"', "time.window"),
        ('every = "200ms"', 'every = "0s"', "parts[0].every"),
        ("[scenarios.time]", "[scenarios.time]  # ", ""),
    ],
)
def test_what_lasts_nothing_is_refused_with_its_place(tmp_path, old, new, where):
    """Nothing can be divided by it: without the check it was an error of arithmetic, once VMs ran."""
    assert old in SUITE
    file = tmp_path / "living.toml"
    file.write_text(SUITE.replace(old, new, 1))
    if not where:
        plan.make(str(file))
        return
    with pytest.raises(ConfigError) as caught:
        plan.make(str(file))
    assert f"{where}: lasts nothing; give a time" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "table", "where"),
    [
        (Load, {"busy_percent": 1, "parts": [{"percent": 2, "every": "1s"}], "day": {"period": "0s"}}, "day.period"),
        (Load, {"busy_percent": 1, "parts": [], "bursts": {"every": "9s", "last": "0s"}}, "bursts.last"),
        (Group, {"name": "a", "vms": 1, "memory": "1MiB", "load": "a", "stay": "0s"}, "stay"),
        (Group, {"name": "a", "vms": 1, "memory": "1MiB", "load": "a", "lifetime": {"mean": "0s"}}, "lifetime.mean"),
        (
            Group,
            {"name": "a", "vms": 1, "memory": "1MiB", "load": "a", "files": {"size": "1MiB", "every": 0}},
            "files.every",
        ),
    ],
)
def test_so_are_days_bursts_stays_and_files(model, table, where):
    with pytest.raises(ConfigError) as caught:
        validate(model, table)
    assert f"{where}: lasts nothing" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"size": "1MiB"}, "files.every: give either every, for all of them, or parts"),
        ({"size": "1MiB", "every": "1s", "parts": [{"percent": 5, "every": "2s"}]}, "files.every: give either every"),
        ({"size": "1MiB", "parts": []}, "files.every: give either every"),
        (
            {"size": "1MiB", "parts": [{"percent": 60, "every": "2s"}, {"percent": 41, "every": "2s"}]},
            "files.parts: come to 101 % of the files",
        ),
    ],
)
def test_files_say_once_how_often_they_are_used(files, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        validate(Group, {"name": "a", "vms": 1, "memory": "1MiB", "load": "a", "files": files})


def test_ages_that_marks_do_not_reach_are_refused(tmp_path):
    """127 harvests of 10 s are 1270 s: however long a scenario lasts, no page is known to be cold for longer."""
    file = tmp_path / "living.toml"
    file.write_text(SUITE.replace('preset = "swap"', 'preset = "far-memory"').replace('"20s"', '"30min"'))
    with pytest.raises(ConfigError, match="ages are known to 127 times 10s"):
        plan.make(str(file), overrides=["harvest_interval=10s", "decider_options.min_age_ns=1300000000000"])


def test_no_shipped_fleet_that_lives_has_a_column_whose_decider_cannot_act():
    """Planning them would raise; and whatever preset is added can act there, or planning raises."""
    living = [name for name in names() if any(spec.kind == "life" for spec in load(name).scenarios)]
    assert len(living) >= 7
    for name in living:
        for tier in ("smoke", "quick", "full"):
            for cell in plan.make(name, tier).cells:
                decider = cell.host.decider()
                assert decider is None or cell.spec.kind != "life" or decider.interval_ns <= cell.spec.time.duration
    for preset in ("esx-2002", "ksmtuned", "mom", "proxmox", "senpai", "tmo", "far-memory"):
        plan.make("day", only=[preset])


# ---- what cannot be


def _group(**values):
    return lambda table: table["scenarios"][0]["groups"][0].update(values)


def _event(**values):
    return lambda table: table["scenarios"][0].setdefault("events", []).append(values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (_group(load="bussy"), "no load is called 'bussy'; did you mean 'busy'?"),
        (_group(name="batch"), "'batch' is given twice"),
        (_group(reservation_percent=60, limit_percent=50), "60 % is above the limit, 50 %"),
        (_group(content={"image_percent": 90, "zero_percent": 20}), "110 %"),
        (_event(at="1s", what="restart", group="wep"), "no group is called 'wep'"),
        (_event(at="25s", what="restart", group="web"), "the scenario ends at 25s"),
        (_event(at="1s", what="set-load", group="web"), "set-load needs it"),
        (_event(at="1s", what="restart", group="web", load="idle"), "restart has none"),
        (lambda t: t["scenarios"][0]["time"].update(duration="500ms"), "shorter than a window"),
        (lambda t: t["scenarios"][0]["time"].update(epoch="500ms"), "shorter than a window"),
        (lambda t: t["scenarios"][0]["time"].update(duration="0s"), "duration"),
        (lambda t: t["scenarios"][0]["time"].update(settle=20), "time 20 has no unit, and would be 20ns"),
        (lambda t: t["scenarios"][0]["time"].update(epoch="2"), "time '2' has no unit, and would be 2ns"),
        (_group(boot={"at": 5}), "boot.at: time 5 has no unit"),
        (_group(boot={"every": 1}), "boot.every: time 1 has no unit"),
        (_event(at=10, what="restart", group="web"), "events[0].at: time 10 has no unit"),
        (_event(at="1s", spread=3, what="restart", group="web"), "events[0].spread: time 3 has no unit"),
        (lambda t: t["scenarios"][0]["loads"]["busy"]["parts"].append({"percent": 20, "every": "1s"}), "110 %"),
        (lambda t: t["scenarios"][0]["loads"]["busy"].update(busy_percent=101), "busy_percent"),
    ],
)
def test_what_cannot_be_is_said(changes, said):
    with pytest.raises(ConfigError) as caught:
        suite(changes)
    assert said in str(caught.value)


def test_an_epoch_longer_than_a_fifth_of_the_harvest_is_refused(tmp_path):
    file = tmp_path / "living.toml"
    file.write_text(SUITE.replace('harvest_interval = "10s"', 'harvest_interval = "9s"'))
    with pytest.raises(ConfigError, match="harvest_interval 9s is shorter than 5 epochs of 2s"):
        plan.make(str(file))


def test_the_legend_says_what_slowdown_is_of_a_fleet_that_lives(tmp_path):
    columns = 'columns = ["slowdown", "slowdown_p99", "slowdown_p99.gold"]'
    text = SUITE.replace('columns = ["slowdown", "slowdown_p99.gold"]', columns)
    records = list(run(tmp_path, text).values())
    shown = plan.make(str(tmp_path / "living.toml")).suite.shown()
    told = " ".join(terminal.text(records, 400, shown).split())
    assert "slowdown: (work + waiting for memory) / work, of all that VMs compute." in told
    assert "slowdown p99: ninety-nine of a hundred of the VMs' seconds take at most so many times their work." in told
    assert "99th percentile of slowdown of gold VMs" in told and "same stream with enough memory" not in told
