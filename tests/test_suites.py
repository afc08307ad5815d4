"""Suites from end to end, at a size that tests can afford; traces against the optimum; columns and last lines."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from memvirt import simulation
from memvirt.errors import ConfigError, InvariantError
from memvirt.experiment import plan, suite
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.trace_cell import trace_of
from memvirt.inputs import synthetic
from memvirt.metrics.registry import REGISTRY
from memvirt.report import columns, terminal, verdict
from memvirt.report.summary import Group, Row, groups
from memvirt.results.record import dumps, loads


@pytest.fixture(scope="module")
def context():
    return prepare(synthetic(4000, seed=1))


def run(context, cells):
    """Records of a plan's cells, baselines first, as memvirt.experiment.loop does it but kept in memory."""
    records = {}
    for cell in cells.in_order():
        baseline = None if cell.is_baseline else records.get(cells.baseline_of(cell).name)
        records[cell.name] = run_cell(context, cell, baseline)
    return list(records.values())


def tiny(monkeypatch, name, percent=6):
    """The plan of a suite whose smoke tier is smaller still, at the easiest and the hardest ratio of two scenarios."""
    whole = suite.load(name)
    # Where deciders are asked once a minute, or only watch for five, it lasts that long, or they would be refused.
    lasts = {
        "cold": 30,
        "ksm-52": 5,
        "textbook": 20,
        "noisy-neighbour": 20,
        "policies": 65,
        "quick": 20,
        "day": 50,
    }.get(name, 2)
    least = 25 if name == "fragmentation" else 0
    percent = 1 if name == "day" else percent  # half of ten minutes, for so many policies
    small = suite.Tier(memory_percent=max(percent, least), accesses_percent=lasts, seeds=[1])
    scenarios = []
    for scenario in (whole.scenarios[0], whole.scenarios[-1]) if len(whole.scenarios) > 1 else whole.scenarios:
        if isinstance(scenario, suite.Simulated):
            scenarios.append(scenario)
            continue
        points = sorted({scenario.points[0], scenario.points[-1]})
        change = {"overcommit_percent": points}
        if getattr(scenario, "aging", None) is not None:
            change["aging"] = scenario.aging.model_copy(update={"cycles": 4, "measured_cycles": 2})
        scenarios.append(scenario.model_copy(update=change))
    cut = whole.model_copy(update={"tiers": {"smoke": small}, "scenarios": scenarios})
    monkeypatch.setattr(suite, "load", lambda asked: cut)
    return plan.make(name, "smoke")


@pytest.mark.parametrize("name", suite.names())
def test_every_suite_runs_and_every_record_is_verified(context, monkeypatch, name):
    records = run(context, tiny(monkeypatch, name))
    assert {record.status for record in records} <= {"done", "exhausted", "refused"}, [
        record.reason for record in records if record.status == "failed"
    ]
    assert all(record.verified for record in records if record.status == "done")
    assert any(record.status == "done" and record.role == "column" for record in records)
    assert all(loads(dumps(record), name) == record for record in records[:3])
    shown = suite.load(name).shown()
    text = terminal.text(records, 250, shown)
    for column in map(columns.column, shown.columns):
        assert all(word in text for word in column.head.split("\n")), column.name
    assert "Learned: " in text and "Learned: nothing" not in text


@pytest.mark.parametrize("name", suite.names())
def test_every_tier_of_every_suite_can_be_planned(name):
    for tier in ("smoke", "quick", "full"):
        cells = plan.make(name, tier)
        assert cells.count() >= len(cells.cells) > 0
        for cell in cells.in_order():
            assert pickle.loads(pickle.dumps(cell)).sha256() == cell.sha256()


def traces(monkeypatch, context):
    """Records of the suite of traces, all of its scenarios."""
    whole = suite.load("replacement")
    cut = whole.model_copy(update={"tiers": {"smoke": suite.Tier(memory_percent=5, accesses_percent=5)}})
    monkeypatch.setattr(suite, "load", lambda asked: cut)
    return run(context, plan.make("replacement", "smoke"))


def test_belady_bounds_all(monkeypatch, context):
    records = traces(monkeypatch, context)
    shown = suite.load("replacement").shown()
    for group in groups(records, shown):
        by_preset = {row.preset: row for row in group.rows}
        assert len(by_preset) == 12 and group.simulated
        optimum = by_preset.pop(suite.Simulated.baseline)
        assert optimum.mean("of_optimum") == 100
        for row in by_preset.values():
            assert row.mean("misses") >= optimum.mean("misses") >= row.mean("compulsory_misses")
            assert 0 <= row.mean("of_optimum") <= 100
    scan = next(group for group in groups(records, shown) if group.scenario == "scan")
    assert {row.preset: row.mean("of_optimum") for row in scan.rows}["lru"] == 0  # a scan longer than memory
    assert "capacity" in terminal.text(records, 100)


def test_a_simulated_cell_counts_what_simulate_counts(context):
    cells = plan.make("replacement", "smoke", only=["arc"])
    cell = cells.cells[0]
    optimum = run_cell(context, cells.baseline_of(cell))
    record = run_cell(context, cell, optimum)
    trace = trace_of(cell.spec, cell.seed)
    assert record.counters == {
        "requests": len(trace),
        "misses": simulation.simulate("arc", trace, cell.host.memory),
        "compulsory_misses": len(set(trace.tolist())),
    }
    assert cell.host.memory == cell.spec.simulate.pages * cell.overcommit_percent // 100 and record.ratio == "0.05"
    hits = len(trace) - record.counters["misses"]
    best = len(trace) - simulation.simulate("belady", trace, cell.host.memory)
    assert abs(float(record.derived["of_optimum"]) - 100 * hits / best) < 1e-6


def test_an_order_better_than_the_optimum_is_a_failure(context):
    cells = plan.make("replacement", "smoke", only=["lru"])
    cell = cells.cells[0]
    optimum = run_cell(context, cells.baseline_of(cell))
    worse = replace(optimum, counters={**optimum.counters, "misses": optimum.counters["requests"]})
    record = run_cell(context, cell, worse)
    assert record.status == "failed" and not record.verified and InvariantError.__name__ in record.reason


def test_guests_that_differ_have_baselines_of_their_own():
    """A slowdown is taken against VMs of the same kind: those of another guest are another machine."""
    names = set()
    for overrides in ((), ("vm.guest.swappiness=150",), ("vm.guest.swap=4MiB",)):
        cells = plan.make("quick", "smoke", only=["balloon", "swap"], overrides=overrides)
        names |= {cells.baseline_of(cell).name for cell in cells.cells if cell.scenario == "zipf-150"}
        assert {bool(cell.guest) for cell in cells.cells if cell.preset == "swap"} == {False}
    assert len(names) == 4


def test_settled_sharing_saves_most_for_identical_fleets(context, monkeypatch):
    whole = suite.load("sharing")
    kept = [each for each in whole.scenarios if each.name.endswith("-numbers")]
    cut = whole.model_copy(
        update={"tiers": {"smoke": suite.Tier(memory_percent=12, accesses_percent=2)}, "scenarios": kept}
    )
    monkeypatch.setattr(suite, "load", lambda asked: cut)
    saved = {
        group.scenario: {row.preset: row.mean("saved_net_frames") for row in group.rows}
        for group in groups(
            run(context, plan.make("sharing", "smoke", only=["hash", "hash-tenants", "ksm", "esx-salted"])), cut.shown()
        )
    }
    for preset in ("hash", "ksm"):
        assert saved["identical-numbers"][preset] > 1.5 * saved["same-system-numbers"][preset]
        assert saved["same-system-numbers"][preset] > 5 * max(1, saved["mixed-numbers"][preset])
    lost = {name: found["hash"] - found["hash-tenants"] for name, found in saved.items()}
    assert lost["identical-numbers"] > lost["same-system-numbers"] > lost["mixed-numbers"] > 0, (
        "another copy of the image"
    )
    assert all(found["esx-salted"] < found["hash"] / 10 for name, found in saved.items() if name != "mixed-numbers")


def test_hints_find_what_arrives_and_find_it_sooner(context, monkeypatch):
    """Of a trickle they miss little that can be had at all; of a flood more than the scan in order finds, and sooner."""
    cut = suite.load("arrivals").model_copy(
        update={"tiers": {"smoke": suite.Tier(memory_percent=25, accesses_percent=25)}}
    )
    monkeypatch.setattr(suite, "load", lambda asked: cut)
    found = groups(run(context, plan.make("arrivals", "smoke")), cut.shown())
    for group in found:
        saved = {row.preset: row.mean("saved_net_frames") for row in group.rows}
        delay = {row.preset: row.mean("merge_delay_us") for row in group.rows}
        for scanner in ("hash", "ksm"):
            assert saved[f"{scanner}-hints"] > saved[scanner] + 30
            assert delay[scanner] is None or delay[f"{scanner}-hints"] < delay[scanner]
        assert saved["inline"] >= saved["hash-hints"] and delay["inline"] < delay["hash-hints"]
        if group.scenario == "trickle":
            assert saved["inline"] - saved["hash-hints"] < 0.2 * (saved["inline"] - saved["hash"])
    assert "hash-hints" in verdict.line(found)


def test_a_storm_takes_back_what_sharing_lent(context, monkeypatch):
    """What a scanner alone survives falls with the share that is rewritten; swap survives all of it, slowly."""
    whole = suite.load("cow-storm")
    kept = [each for each in whole.scenarios if each.name in ("dirty-10", "dirty-100")]
    cut = whole.model_copy(
        update={"tiers": {"smoke": suite.Tier(memory_percent=12, accesses_percent=25)}, "scenarios": kept}
    )
    monkeypatch.setattr(suite, "load", lambda asked: cut)
    found = groups(run(context, plan.make("cow-storm", "smoke", only=["off", "hash"])), cut.shown())
    survived = {
        (scenario, preset): verdict.survived([each for each in found if each.scenario == scenario], preset)
        for scenario in ("dirty-10", "dirty-100")
        for preset in ("off", "hash")
    }
    assert float(survived["dirty-10", "hash"]) >= 1.75 > 1.25 > float(survived["dirty-100", "hash"] or 0)
    assert float(survived["dirty-10", "off"] or 0) <= 1.0
    line = verdict.line(found)
    words = {ratio: f"≥ {ratio}" if ratio == "2.50" else ratio or "nothing" for ratio in survived.values()}
    off, shared = (words[survived["dirty-10", preset]] for preset in ("off", "hash"))
    assert f"dirty-10: off {off}, hash {shared}" in line
    assert "To be relied on in all of them: " in line


def test_codecs_cost_what_they_cost():
    from memvirt.settings import costs

    model = costs.load("default")
    told = {codec: costs.for_codec(model, codec) for codec in ("lz4", "lz4hc", "zstd")}
    assert {tuple(sorted(each)) for each in told.values()} == {tuple(sorted(told["lz4"]))}
    assert not any(key.endswith(("_lz4hc", "_zstd")) for key in told["lz4"])
    assert told["lz4"]["compress"] == model.compress < told["zstd"]["compress"] < told["lz4hc"]["compress"]
    assert told["lz4hc"]["decompress"] == model.decompress < told["zstd"]["decompress"] == model.decompress_zstd


def test_columns_have_a_meaning():
    assert {column.name for column in columns.COLUMNS} <= set(columns.BY_NAME) <= set(REGISTRY)
    assert all(columns.column(name).title for name in REGISTRY)


MINIMAL = """
schema = 1
name = "mine"
title = "t"
description = "d"
presets = ["swap"]
{}
[[scenarios]]
name = "s"
description = "d"
{}
"""
TRACE = "simulate = { pages = 1000, capacity_percent = [10], workload = { workload = 'uniform', accesses = 10 } }"
FLEET = (
    "overcommit_percent = [100]\nmeasured = { workload = 'uniform', accesses = 10 }\n"
    "fleet = { vms = 1, memory = '1MiB' }"
)


@pytest.mark.parametrize(
    ("top", "scenario", "said"),
    [
        ('columns = ["slowdwn"]', TRACE, "slowdown"),
        ('learned = "leading"', TRACE, "compares the first of columns"),
        ('learned = "best"', TRACE, "unknown value 'best'"),
        ("", FLEET, "is required by scenarios with a fleet"),
        ("", TRACE.replace("[10]", "[0]"), "capacity_percent"),
        ("", TRACE.replace("1000", "10"), "pages"),
        ("", TRACE + "\nfleet = { vms = 1, memory = '1MiB' }", "unknown key 'fleet'"),
        ("", TRACE.replace("uniform", "unifrom"), "uniform"),
    ],
)
def test_what_is_wrong_in_a_suite_is_named(tmp_path, top, scenario, said):
    path = tmp_path / "mine.toml"
    path.write_text(MINIMAL.format(top, scenario))
    with pytest.raises(ConfigError) as error:
        suite.load(path)
    assert said in str(error.value)


def group(scenario, ratio, learned_rule, simulated=False, **values):
    """A group with one column; a value of None is a row that ended exhausted."""
    leading = columns.column("of_optimum" if simulated else "slowdown")
    rows = tuple(
        Row(preset, "exhausted", "x: no_frame", {}, {})
        if value is None
        else Row(
            preset,
            "done",
            "",
            {leading.name: value if isinstance(value, tuple) else (value,)},
            {},
            "baseline" if preset == "belady" else "column",
        )
        for preset, value in values.items()
    )
    return Group(scenario, ratio, "", (1,), rows, (leading,), learned_rule, simulated)


def test_leading_takes_means_over_scenarios_and_leaves_the_optimum_out():
    found = [
        group("a", "0.10", "leading", True, belady=100.0, lru=0.0, arc=80.0, fifo=0.0),
        group("b", "0.10", "leading", True, belady=100.0, lru=60.0, arc=80.0, fifo=40.0),
        group("a", "0.50", "leading", True, belady=100.0, lru=90.0, arc=90.5, fifo=90.1),
        group("b", "0.50", "leading", True, belady=100.0, lru=90.0, arc=90.5, fifo=90.1),
    ]
    line = verdict.line(found)
    assert "at 0.10 arc 80 %, lru 30 %, fifo 20 %; at 0.50 no difference (90 %)." in line
    assert "belady" not in line and "(mean over scenarios)" in line and line.endswith("One seed.")


def test_apart_looks_at_the_hardest_ratio_of_each_scenario():
    found = [
        group("easy", "1.50", "apart", swap=9.0, lz4=1.0),
        group("easy", "2.00", "apart", swap=9.0, lz4=3.0, zstd=3.02),
        group("hard", "2.00", "apart", swap=None, lz4=None, zstd=None),
    ]
    line = verdict.line(found)
    assert "easy at 2.00: lz4 3.00× and zstd 3.02× alike, swap 9.00× (before: lz4 1.00 at 1.50); " in line
    assert "hard at 2.00: nobody finished." in line


def test_apart_names_who_did_not_finish_and_a_column_alone_is_no_comparison():
    found = [
        group("a", "2.00", "apart", swap=9.0, lz4=3.0, zram=None),
        group("b", "2.00", "apart", swap=9.0, lz4=None, zram=None),
    ]
    line = verdict.line(found)
    assert "a at 2.00: lz4 3.00×, swap 9.00×, zram exhausted; b at 2.00: swap 9.00×, nothing to compare with" in line


def test_apart_leaves_out_scenarios_that_have_no_such_column():
    """Whoever finished there: they are about another one."""
    aged = group("aged", "0.75", "apart", swap=1.0, lz4=1.0)
    without = replace(aged, rows=tuple(replace(row, values={}) for row in aged.rows))
    line = verdict.line([group("a", "2.00", "apart", swap=9.0, lz4=3.0), without])
    assert "a at 2.00: lz4 3.00×, swap 9.00×." in line and "aged" not in line
    assert verdict.line([without]) == "Learned: nothing, no preset has a slowdown in any scenario. One seed."


def test_what_survives_at_a_price_says_it():
    found = [group("a", ratio, "survival", off=slow) for ratio, slow in (("1.00", 1.0), ("2.00", 900.0))]
    assert "off ≥ 2.00 (slowdown up to 900×)." in verdict.line(found)


def test_a_scenario_of_one_seed_counts_the_same_for_every_seed():
    found = [
        group("a", "1.00", "slowdown", one=(1.0, 2.0, 1.5, 1.2, 1.8), other=(1.1, 2.2, 1.61, 1.3, 1.99)),
        group("b", "1.00", "slowdown", one=(4.0,), other=(4.0,)),
    ]
    (finding,) = verdict.findings(found)
    assert finding.beaten is not None and [len(score.seeds) for score in finding.scores] == [5, 5]


def test_seeds_that_disagree_are_not_told_apart():
    torn = group("a", "1.00", "apart", one=(1.0, 2.0, 1.5, 1.2, 1.8), other=(1.9, 1.3, 1.6, 2.1, 1.1))
    paired = group("a", "1.00", "apart", one=(1.0, 2.0, 1.5, 1.2, 1.8), other=(1.1, 2.2, 1.61, 1.3, 1.99))
    sharp = group("a", "1.00", "apart", one=(1.5,) * 5, other=(1.6,) * 5)
    assert "no difference" in verdict.line([torn])
    assert "one 1.50×±0.51, other 1.64×±0.57" in verdict.line([paired])
    assert "one 1.50×, other 1.60" in verdict.line([sharp])


def test_survival_stops_at_the_first_ratio_that_fails():
    found = [
        group("a", "1.00", "survival", off=1.0, hash=1.0),
        group("a", "1.50", "survival", off=None, hash=1.0),
        group("a", "2.00", "survival", off=1.0, hash=1.0),
        group("b", "1.00", "survival", off=None, hash=1.0),
        group("b", "1.50", "survival", off=None, hash=None),
    ]
    assert verdict.line(found).startswith(
        "Learned: survived up to: a: off 1.00, hash ≥ 2.00; b: off nothing, hash 1.00. "
        "To be relied on in all of them: off nothing, hash 1.00."
    )


PROMISING = """
schema = 1
name = "promising"
title = "t"
description = "d"
presets = [{presets}]
[host]
memory = "4MiB"
swap = "8MiB"
[[scenarios]]
name = "s"
description = "d"
overcommit_percent = [100, 200]
warm_up = {{ workload = "zipf", accesses = 2000 }}
measured = {{ workload = "zipf", accesses = 4000, write_percent = 20 }}
fleet = {{ vms = 2, memory = "2MiB", freed_percent = 5{fleet} }}
"""


def promising(tmp_path, fleet="", presets="'swap'"):
    path = tmp_path / "promising.toml"
    path.write_text(PROMISING.format(fleet=fleet, presets=presets))
    return str(path)


def test_a_limit_and_a_reservation_act_in_a_suite(tmp_path, context):
    """A VM within its limit pays with its own pages; one with a reservation keeps them; the baseline knows neither."""
    plain, limited, kept = (
        run(context, plan.make(promising(tmp_path, fleet), "quick"))
        for fleet in ("", ", limit_percent = [30, 100]", ", reservation_percent = [0, 70]")
    )
    alone = {record.scenario: record for record in limited if record.preset == "swap"}["s-100"]
    assert alone.counters["reclaim_limit"] > 0 and alone.vms["vm0"]["stall_ns"] > alone.vms["vm1"]["stall_ns"]
    spared = {record.scenario: record for record in kept if record.preset == "swap"}["s-200"]
    assert spared.counters["reclaim_spared_reserved"] > 0
    assert spared.vms["vm1"]["stall_ns"] < spared.vms["vm0"]["stall_ns"]
    baselines = [
        [record.config_sha256 for record in found if record.preset == "baseline"] for found in (plain, limited)
    ]
    assert baselines[0] == baselines[1]


def test_promises_that_a_host_cannot_keep_are_all_named(tmp_path):
    path = promising(tmp_path, ", reservation_percent = [100]", "'swap', 'zcache'")
    plan.make(path, "quick")  # at 1.0 just as much as there is: admission refuses, cell by cell
    text = Path(path).read_text().replace('memory = "4MiB"', 'memory = "3MiB"').replace("[100, 200]", "[200, 400]")
    Path(path).write_text(text)
    with pytest.raises(ConfigError) as error:
        plan.make(path, "quick", overrides=["zpool_percent=101"])
    assert "zpool_percent" in str(error.value)
    with pytest.raises(ConfigError) as error:
        plan.make(path, "quick")
    for column in ("swap", "zcache"):
        said = f"scenario s-200 under {column}: vms: reservations sum to 8MiB, above the host's memory, 3MiB"
        assert said in str(error.value)


def test_a_preset_promises_where_the_fleet_does_not(tmp_path):
    fleets = {}
    for fleet in ("", ", reservation_percent = [10]"):
        cells = plan.make(promising(tmp_path, fleet, "'swap', 'proxmox'"), "quick").cells
        fleets[fleet] = {cell.preset: cell.spec.fleet.promised for cell in cells}
    assert fleets[""] == {"swap": {}, "proxmox": {"reservation_percent": (25,)}}
    assert set(map(str, fleets[", reservation_percent = [10]"].values())) == {"{'reservation_percent': (10,)}"}
    with pytest.raises(ConfigError, match="25 % is above the same VM's limit, 20 %"):
        plan.make(promising(tmp_path, ", limit_percent = [20]", "'swap', 'proxmox'"), "quick")
    changed = plan.make(promising(tmp_path), "quick", overrides=["vm.limit_percent=60"]).cells[0]
    assert changed.spec.fleet.promised == {"limit_percent": (60,)}


def test_proxmox_moves_balloons_in_a_suite(tmp_path, context):
    """Its interval and its steps are those of large hosts; scaled to this one it acts, because VMs have a minimum."""
    scaled = ["decider_options.interval_ns=1ms", "decider_options.deadband_pages=64KiB"]
    found = {}
    for minimum in (25, 0):
        overrides = [*scaled, f"vm.reservation_percent={minimum}"]
        records = run(context, plan.make(promising(tmp_path, "", "'proxmox'"), "quick", overrides=overrides))
        found[minimum] = [
            (record.status, record.stores["balloon"] > 0, record.counters["decisions_acted"] > 0)
            for record in records
            if record.preset == "proxmox" and record.scenario == "s-200"
        ]
    assert found == {25: [("done", True, True)], 0: [("done", False, False)]}
