"""Time lines: rows that are even and few, columns that agree with what is counted, and a look that changes nothing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import memvirt
from helpers.made_records import made
from helpers.suites import scenario, suite
from memvirt.engine.host.sample import Samples
from memvirt.errors import ConfigError
from memvirt.experiment import cell as cells
from memvirt.experiment import plan
from memvirt.host import Host
from memvirt.inputs import synthetic
from memvirt.metrics import registry
from memvirt.names import HOST_STATES, SAMPLED_COUNTS, SAMPLED_OF_VM, SAMPLED_STATES
from memvirt.policies import Targets
from memvirt.results import record as records
from memvirt.results.timeline import MOST_ROWS, STEP_NS, Sample, Stretch, Timeline, timeline

SUITE = suite(
    scenario(
        ratios=(200,),
        warm_up='workload = "uniform", accesses = 500',
        measured='workload = "uniform", accesses = 3000, write_percent = 50',
        fleet="freed_percent = 20",
    ),
    scenario("c", (200,), measured='workload = "clone-storm", accesses = 500', fleet='origin = "clone"'),
    presets=("all",),
)


def batch_of(count):
    return np.arange(count, dtype=np.uint32) % 200, np.ones(count, np.uint8)


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "one.toml"
    path.write_text(SUITE)
    return {cell.name: cell for cell in plan.make(str(path)).in_order()}


@pytest.fixture(scope="module")
def run():
    return cells.prepare(synthetic(400, seed=1))


@pytest.fixture(scope="module")
def record(plans, run):
    return cells.run_cell(run, plans["u-200--all--s1"])


def sampled(times, rows):
    """(step, times of the rows) of a phase in which the host could be looked at at these times."""
    with Host(memory="1MiB") as host:
        samples = Samples(host.engine, rows, STEP_NS)
        due = STEP_NS
        for now in times:
            if now >= due:  # as a run asks: not before it is due
                due = samples.look(now)
                assert due > now
        told = samples.end(times[-1])
    return samples.step_ns, [row[0] for row in told]


@given(st.lists(st.integers(0, 40 * STEP_NS), min_size=1), st.integers(4, 9))
def test_rows_are_those_of_the_last_step_from_the_start(gaps, rows):
    times, now = [], 0
    for gap in gaps:
        now += gap
        times.append(now)
    step, found = sampled(times, rows)
    wanted = {0: 0}
    for now in times:
        wanted.setdefault(now // step, now)
    assert found[:-1] == [0, *(now for now in wanted.values() if 0 < now < times[-1])]
    assert found[-1] == times[-1] and len(found) <= rows
    assert step == STEP_NS or 2 * len(found) > rows // 2  # no coarser than it had to be


def test_what_is_sampled_is_what_is_counted(run):
    with Host(memory="2MiB", swap="4MiB", zpool_percent=20, sharing="hash", corpus=run.corpus) as host:
        vms = [host.create_vm(name, "2MiB", guest=True) for name in ("a", "b")]
        for vm in vms:
            vm.access(range(400), [2] * 400, range(1, 401))
            vm.access(range(0, 450, 3), [True] * 150)
        vms[0].balloon("256KiB")
        host.harvest()
        host.scan()
        host.begin_samples(4, STEP_NS)
        step, [*_, (now, numbers, named, of_vms)] = host.end_samples()
        assert (step, now) == (STEP_NS, host.sim_ns)
        numbers, of_vms = np.frombuffer(numbers, np.int64), np.frombuffer(of_vms, np.int64).reshape(2, -1)
        found = dict(zip((*SAMPLED_STATES, *SAMPLED_COUNTS), numbers.tolist(), strict=True))
        counted = {**host.counters(), **host.stall()}
        counted |= {f"cpu_ns.{name}": count for name, count in host.cpu_ns().items()}
        counted |= {f"usage.{use}": count for use, count in host.usage().items()}
        counted |= {f"stores.{place}": count for place, count in host.stores().items()}
        counted |= {"decider_state": 0}  # it has none
        assert found == {name: counted[name] for name in found}
        assert sum(1 for value in found.values() if value) > 15  # or the order of names would not matter
        views = {view.name: view for view in host.snapshot().vms}
        wanted = {name: [getattr(view, part) for part in SAMPLED_OF_VM] for name, view in views.items()}
        assert (
            dict(zip(named, of_vms.tolist(), strict=True)) == wanted and wanted["a"][2] == 64 and all(wanted["b"][:2])
        )


class Names:
    """High in the first 3 ms, soft from then on."""

    interval_ns = 10**6

    def decide(self, snapshot):
        return Targets(state="high" if snapshot.now_ns < 4 * 10**6 else "soft")


def test_states_that_a_decider_names_are_counted_from_decision_to_decision_and_sampled():
    """Decisions at 1, 2, ... 10 ms: high from 1 to 4, soft from 4 to 10. Without names nothing is counted or sampled."""
    found = {}
    for decider in (Names(), lambda snapshot: Targets()):
        with Host(memory="4MiB") as host:
            vm = host.create_vm("a", "1MiB")
            host.begin_samples(64, STEP_NS)
            host.run({vm: iter([batch_of(100_100)])}, until_ns=10_100_000, decider=decider)
            _, rows = host.end_samples()
            line = timeline([("measured", STEP_NS, [Sample(*row) for row in rows])])
            found[type(decider)] = (host.counters(), line)
    counters, line = found.pop(Names)
    assert {name: counters[f"state_ns.{name}"] // 10**6 for name in HOST_STATES} == {
        "high": 3, "clear": 0, "soft": 6, "hard": 0, "low": 0,
    }  # fmt: skip
    numbers = line.host["decider_state"]
    assert sorted(set(numbers)) == [0, 1, 3] and numbers == sorted(numbers)
    assert all((number == 3) == (now >= 4 * 10**6) for now, number in zip(line.sim_ns, numbers, strict=True))
    ((counters, line),) = found.values()
    assert "decider_state" not in line.host and not [name for name in counters if name.startswith("state_ns")]


def test_every_column_is_explained():
    assert registry.unregistered([*SAMPLED_STATES, *SAMPLED_COUNTS, *SAMPLED_OF_VM]) == []


def test_what_a_phase_gained_is_what_it_counted(record):
    assert record.status == "done" and record.verified
    line = record.timeline
    assert [stretch.phase for stretch in line.phases] == ["fill", "warm-up", "measured"]
    rows = line.of_phase("measured")
    assert len(rows) > 10 and rows.stop == len(line.sim_ns)
    counted = {**record.counters, **{f"cpu_ns.{name}": ns for name, ns in record.cpu_ns.items()}, **record.derived}
    for name in SAMPLED_COUNTS:
        assert sum(line.host.get(name, [0] * rows.stop)[row] for row in rows) == counted[name], name
    for use, frames in record.usage.items():
        assert line.host.get(f"usage.{use}", [0])[-1] == frames
    for row in range(rows.stop):
        assert sum(column[row] for name, column in line.host.items() if name.startswith("usage.")) == 1024
    assert all(line.host[name][rows.start] == 0 for name in line.host if name in SAMPLED_COUNTS)
    assert set(line.vms) == set(record.vms) and all("held_pages" in columns for columns in line.vms.values())
    gaps = [line.sim_ns[row + 1] - line.sim_ns[row] for row in rows[:-1]]
    step = line.phases[-1].step_ns
    assert min(gaps) > 0 and sorted(gaps)[len(gaps) * 3 // 4] < 2 * step  # even, but where a VM is alone


def test_a_look_changes_nothing(record, plans, run, monkeypatch):
    monkeypatch.setattr(cells, "FEW_ROWS", 4)
    monkeypatch.setattr(cells, "MOST_ROWS", 4)
    fewer = cells.run_cell(run, plans["u-200--all--s1"])
    assert [stretch.rows for stretch in fewer.timeline.phases] <= [4, 4, 4]
    monkeypatch.setattr(Host, "begin_samples", lambda self, rows, step_ns: None)
    monkeypatch.setattr(Host, "end_samples", lambda self: None)
    none = cells.run_cell(run, plans["u-200--all--s1"])
    assert none.timeline == Timeline()
    told = [{**records.comparable(each), "timeline": {}} for each in (record, fewer, none)]
    assert told[0] == told[1] == told[2]
    again = cells.run_cell(run, plans["u-200--all--s1"])
    assert again.timeline == none.timeline


def test_equal_runs_have_equal_time_lines(record, plans, run):
    assert cells.run_cell(run, plans["u-200--all--s1"]).timeline == record.timeline


def test_a_vm_that_is_not_there_holds_nothing(plans, run):
    line = cells.run_cell(run, plans["c-200--all--s1"]).timeline
    first, *clones = line.vms
    assert len(clones) == 3 and line.vms[first]["held_pages"][line.of_phase("fill")[-1]] > 0
    for clone in clones:
        held = line.vms[clone]["held_pages"]
        assert held[0] == 0 and held[-1] > 0


def test_rows_name_the_vms_that_were_there():
    """Also where others came in place of those that went, of the same name even."""
    with memvirt.Host(memory="4MiB") as host:
        first, other = (host.create_vm(name, "1MiB") for name in "ab")
        host.begin_samples(8, STEP_NS)
        host.run({first: [batch_of(200)]})
        host.run({}, until_ns=2 * STEP_NS)
        other.destroy()
        host.run({first: [batch_of(100)]})
        host.run({}, until_ns=4 * STEP_NS)
        first.destroy()
        again, third = (host.create_vm(name, "1MiB") for name in "ac")
        host.run({third: [batch_of(50)]})
        host.run({}, until_ns=6 * STEP_NS)
        _, told = host.end_samples()
        held = [
            dict(zip(names, np.frombuffer(rows, np.int64).reshape(-1, 3)[:, 0].tolist(), strict=True))
            for _, _, names, rows in told
        ]
        assert held[0] == {"a": 0, "b": 0} and held[-1] == {"a": 0, "c": 50} and {"a": 200} in held
        assert again.name == "a"


def test_no_samples_are_taken_before_they_are_begun_nor_after():
    with memvirt.Host(memory="4MiB") as host:
        vm = host.create_vm("a", "1MiB")
        with pytest.raises(ConfigError, match="no samples were begun"):
            host.end_samples()
        host.begin_samples(8, STEP_NS)
        host.run({vm: [batch_of(2000)] * 5})
        before = host.end_samples()
        host.run({vm: [batch_of(2000)] * 5})
        host.begin_samples(8, STEP_NS)
        _, after = host.end_samples()
        assert len(before[1]) > 1 and [row[0] for row in after] == [host.sim_ns, host.sim_ns]
        host.check()


def test_a_phase_has_room_for_a_few_rows_at_least():
    with memvirt.Host(memory="4MiB") as host:
        for rows, step_ns in ((2, STEP_NS), (2**31, STEP_NS), (8, 0), (8, 2**62 + 1)):
            with pytest.raises(ConfigError, match=f"{rows} rows, {step_ns} ns apart; 3 to"):
                host.begin_samples(rows, step_ns)
        with pytest.raises(ConfigError, match="rows: 8589934592"):
            host.begin_samples(2**33, STEP_NS)


# ---- in records


def rows_of(count, **changes):
    parts = {"phases": [Stretch(phase="measured", rows=count, step_ns=STEP_NS)], "sim_ns": [*range(count)]}
    return {"host": {"usage.free": [1] * count}, **parts, **changes}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (rows_of(3, sim_ns=[0, 1]), "3.* rows, but 2 times"),
        (rows_of(3, sim_ns=[0, 2, 1]), "must not go back"),
        (rows_of(3, host={"usage.free": [1]}), "usage.free has 1 rows, not 3"),
        (rows_of(3, vms={"a": {"held_pages": []}}), "a.held_pages has 0 rows"),
        (rows_of(3, host={"usage.free": [1, 0.5, 2]}), "usage.free"),
        (rows_of(MOST_ROWS + 1), "more than 512 rows"),
        (rows_of(0, host={}), "0.* rows, but 0 times"),
        ({"colour": []}, "colour"),
    ],
)
def test_what_no_time_line_may_be(line, said):
    with pytest.raises((ValueError, TypeError), match=said):
        Timeline(**line)


def test_columns_of_nothing_are_left_out():
    zeros = np.zeros(len(SAMPLED_STATES) + len(SAMPLED_COUNTS), np.int64)
    zeros[0] = 7
    line = timeline([("fill", 1, [Sample(0, zeros.tobytes(), ("a",), bytes(24))]), ("measured", 1, [])])
    assert line == Timeline(
        phases=[Stretch(phase="fill", rows=1, step_ns=1)], sim_ns=[0], host={SAMPLED_STATES[0]: [7]}, vms={"a": {}}
    )
    assert line.of_phase("measured") == range(0) and line.of_phase("fill") == range(1)


def test_records_of_the_schema_before_have_no_time_line():
    record = made()
    plain = records.as_dict(record)
    assert plain["schema"] == records.SCHEMA
    del plain["timeline"]
    old = records.loads(json.dumps({**plain, "schema": 2}), "x")
    assert old == record and old.timeline == Timeline()
    assert records.loads(records.dumps(old), "x") == record
