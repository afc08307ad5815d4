"""Loads that follow a trace's own times: what is given of it, what becomes of it, what is refused."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

import memvirt as library
from memvirt.errors import ConfigError
from memvirt.experiment import cell as cells
from memvirt.experiment import plan, suite
from memvirt.experiment.filling import Filling
from memvirt.experiment.prediction import need
from memvirt.inputs import synthetic
from memvirt.inputs.files import file_sha256
from memvirt.inputs.traces import open_trace
from memvirt.inputs.traces.importer import Wanted, import_trace
from memvirt.results import run_folder
from memvirt.results.record import comparable
from memvirt.workloads import Batch, Space
from memvirt.workloads.load import WHOLE, place
from memvirt.workloads.recorded import SLICES, Recording, Replay

S = 10**9
MS = 10**6
PAGE = 4096
CORPUS = synthetic(1024, seed=1)

SUITE = """
schema = 1
name = "followed"
title = "t"
description = "d"
presets = ["swap"]
[host]
memory = "24MiB"
swap = "32MiB"
harvest_interval = "20s"
[tiers.smoke]
memory_percent = 25
[[scenarios]]
name = "traced"
description = "d"
overcommit_percent = [100]
time = { duration = "12s", epoch = "2s" }
[scenarios.loads.web]
busy_percent = 40
trace = { file = "t.parquet" }
[[scenarios.groups]]
name = "web"
vms = 1
memory = "8MiB"
touched_percent = 100
load = "web"
"""


def write_trace(folder, rows, name="t"):
    """Import rows of (ns, page, op[, stream])."""
    lines = [f"{ns},{page * PAGE},{'RW'[op]},{rest[0] if rest else 0}" for ns, page, op, *rest in rows]
    (folder / f"{name}.csv").write_text("\n".join(["time_ns,address,op,stream", *lines]) + "\n")
    import_trace(str(folder / f"{name}.csv"), folder / f"{name}.parquet", Wanted(format="csv"))
    return folder / f"{name}.parquet"


def random_rows(seed=1, touches=4000, pages=1500, lasts_ns=8 * S, streams=2):
    """Busy, then idle for 3 s, then busy again; some pages hot."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, lasts_ns, touches))
    times[times >= 3 * S] += 3 * S
    page = np.where(rng.random(touches) < 0.5, rng.integers(0, 40, touches), rng.integers(0, pages, touches))
    return [
        (7 * S + int(t), int(p), int(w), int(s))
        for t, p, w, s in zip(times, page, rng.random(touches) < 0.3, rng.integers(0, streams, touches), strict=True)
    ]


@pytest.fixture
def folder(tmp_path):
    write_trace(tmp_path, random_rows())
    (tmp_path / "s.toml").write_text(SUITE)
    return tmp_path


def made(folder, *changes, tier="quick", **asked):
    """The plan of the suite with texts changed."""
    text = SUITE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "s.toml").write_text(text)
    return plan.make(str(folder / "s.toml"), tier, **asked)


def records_of(planned):
    context = cells.prepare(CORPUS)
    records = [cells.run_cell(context, each) for each in planned.in_order()]
    assert all(record.status == "done" and record.verified for record in records), [r.reason for r in records]
    return records


def uses_of(file, epoch=2, window=1, lasts=100, **table):
    return Recording.model_validate({"file": str(file), **table}).uses(epoch * S, window * S, lasts * S)


def rows_of(uses):
    return list(zip(uses.due_ns.tolist(), uses.pages.tolist(), uses.ops.tolist(), strict=True))


# ---- what is given


@pytest.mark.parametrize("epoch", [1, 2, 5])
@pytest.mark.parametrize("streams", ["all", "each"])
def test_a_page_is_given_once_an_epoch_in_a_window_that_uses_it_and_writes_if_any_use_does(tmp_path, epoch, streams):
    rows = random_rows(streams=3)
    file = write_trace(tmp_path, rows)
    found = uses_of(file, epoch, streams=streams)
    assert len(found.streams) == (3 if streams == "each" else 1)
    order = list(dict.fromkeys(stream for *_, stream in rows))
    for number, uses in enumerate(found.streams):
        own = [row for row in rows if streams == "all" or row[3] == order[number]]
        names = {page: at for at, page in enumerate(dict.fromkeys(row[1] for row in own))}
        touched = [(ns - rows[0][0], names[page], op) for ns, page, op, _ in own]
        by_epoch = {}
        for ns, page, op in touched:
            by_epoch.setdefault((ns // (epoch * S), page), []).append((ns, op))
        given = rows_of(uses)
        assert len(given) == len(by_epoch) and sorted(given) == given
        windows = {}
        for ns, page, op in given:
            those = by_epoch[ns // (epoch * S), page]
            assert op == max(each for _, each in those)
            assert ns == min(at for at, _ in those if at // S == ns // S), "the first in its window"
            windows[ns // S] = windows.get(ns // S, 0) + 1
        for window, raw in enumerate(uses.raw.tolist()):
            assert raw == sum(ns // S == window for ns, *_ in touched)
            assert bool(raw) == bool(windows.get(window)), "who has something to do has something to touch"
        assert uses.footprint == len(names)


def test_where_an_epoch_is_a_window_it_is_the_first_use(tmp_path):
    rows = [(0, 5, 0), (10, 6, 0), (20, 5, 1), (S, 6, 0), (S + 5, 7, 1), (3 * S, 5, 0)]
    (uses,) = uses_of(write_trace(tmp_path, rows), epoch=1).streams
    assert rows_of(uses) == [(0, 0, 1), (10, 1, 0), (S, 1, 0), (S + 5, 2, 1), (3 * S, 0, 0)]
    assert uses.raw.tolist() == [3, 2, 0, 1] and uses.begins.tolist() == [0, 2, 4, 4, 5]


def test_pieces_of_an_epoch_come_to_the_same_as_the_whole(tmp_path, monkeypatch):
    file = write_trace(tmp_path, random_rows())
    whole = uses_of(file)
    monkeypatch.setattr("memvirt.workloads.recorded.RAW", 50)
    from memvirt.workloads import recorded

    recorded._read.cache_clear()
    pieces = uses_of(file)
    assert pieces is not whole
    for one, other in zip(whole.streams, pieces.streams, strict=True):
        assert rows_of(one) == rows_of(other) and np.array_equal(one.raw, other.raw)


@pytest.mark.parametrize("speed", [37, 100, 250])
def test_a_speed_moves_what_is_due(tmp_path, speed):
    rows = [(3, 1, 0), (S + 3, 2, 0), (2 * S + 5, 3, 1)]
    (uses,) = uses_of(write_trace(tmp_path, rows), speed_percent=speed).streams
    assert uses.due_ns.tolist() == [(ns - 3) * 100 // speed for ns, *_ in rows]


def test_what_lies_beyond_the_scenario_is_not_read(tmp_path):
    file = write_trace(tmp_path, [(0, 1, 0), (S, 2, 0), (2 * S, 3, 0), (3 * S - 1, 4, 0), (3 * S, 5, 0), (2**62, 6, 0)])
    for speed, lasts in ((100, 3), (200, 2), (1, 400)):
        (uses,) = uses_of(file, lasts=lasts, speed_percent=speed).streams
        assert len(uses.pages) == sum(ns * 100 // speed < lasts * S for ns in (0, S, 2 * S, 3 * S - 1, 3 * S))


def test_a_window_is_given_at_64_moments_and_takes_its_share_of_the_work(tmp_path):
    rows = [(i * 7 * MS, i, i % 2) for i in range(140)] + [(2 * S + i * MS, i, 0) for i in range(35)]
    recorded = uses_of(write_trace(tmp_path, rows), epoch=1)
    replay = Replay(recorded, Recording(file="t"), 0, Space(1000, 100), 50, since_ns=4 * S)
    parts = list(replay.window(4 * S))
    assert [len(part.pages) % len(part.due_ns) for part in parts] == [0, 0], "as the engine takes them"
    assert np.concatenate([part.pages for part in parts]).tolist() == list(range(100, 240))
    assert np.concatenate([part.ops for part in parts]).tolist() == [i % 2 for i in range(140)]
    due = np.concatenate([part.due_ns for part in parts])
    assert due.tolist() == [4 * S + i * 7 * MS for i in range(0, 140, 3)] and len(due) <= SLICES
    assert {part.work_ns for part in parts} == {S // 2 // 140}
    assert not list(replay.window(5 * S)), "idle"
    (third,) = replay.window(6 * S)
    assert third.work_ns == S // 2 * 35 // 140 // 35 and third.due_ns.tolist() == [6 * S + i * MS for i in range(35)]
    replay.resident = 110
    (third,) = replay.window(6 * S)
    assert third.pages.tolist() == list(range(100, 110)), "what was given up is left out"
    assert not list(replay.window(7 * S)) and not list(replay.window(400 * S))


def test_a_window_whose_uses_are_drawn_elsewhere_computes_all_the_same(tmp_path):
    """One page, used in every second and given once in an epoch of four."""
    file = write_trace(tmp_path, [(at * S, 5, 1) for at in range(8)])
    recording = Recording.model_validate({"file": str(file)})
    uses = recording.uses(4 * S, S, 100 * S)
    replay = Replay(uses, recording, 0, Space(32, 8), 40, 0)
    windows = [list(replay.window(second * S)) for second in range(9)]
    given = [[(batch.pages.tolist(), batch.ops.tolist()) for batch in window] for window in windows]
    assert given.count([([8], [1])]) == 2 and given.count([([0], [0])]) == 6 and given[8] == []
    assert [sum(batch.work_ns * len(batch.pages) for batch in window) for window in windows] == [400 * MS] * 8 + [0]


def test_beyond_its_end_a_trace_is_idle_or_begins_again_with_a_window(tmp_path):
    recorded = uses_of(write_trace(tmp_path, [(0, 0, 0), (2 * S + 1, 1, 0)]))
    assert recorded.period_ns == 3 * S
    idle, again = (
        Replay(recorded, Recording(file="t", at_end=what), 0, Space(10), 50, since_ns=S) for what in ("idle", "again")
    )
    given = [[[int(b.pages[0]) for b in each.window((1 + k) * S)] for k in range(7)] for each in (idle, again)]
    assert given == [[[0], [], [1], [], [], [], []], [[0], [], [1], [0], [], [1], [0]]]
    assert recorded.touches(0, 7 * S, again=True) == 5 and recorded.touches(0, 7 * S, again=False) == 2


# ---- on a host


def test_the_counters_are_those_of_a_stream_made_by_hand(folder):
    """One VM on a host that is too small for it: it boots, then in every second it uses what the rows say."""
    write_trace(folder, rows := random_rows(streams=1))
    planned = made(folder, ('epoch = "2s"', 'epoch = "1s"'), ('memory = "24MiB"', 'memory = "6MiB"'))
    (record,) = records_of(planned)
    group, filling = planned.cells[0].spec.groups[0], Filling(planned.cells[0].spec.groups[0], CORPUS)
    named = {page: filling.image + at for at, page in enumerate(dict.fromkeys(page for _, page, *_ in rows))}
    seconds = [[row for row in rows if (row[0] - rows[0][0]) // S == second] for second in range(12)]
    most = max(map(len, seconds))
    host = library.Host.of(planned.cells[0].host, corpus=CORPUS)
    vm, offset = host.create(group.vm(0)), S * place("web", 0) // WHOLE

    def stream():
        yield from filling.booting(0, 0, 0)
        begun = -(-(vm.sim_ns - offset) // S)
        for second in range(12 - begun):
            begins = (begun + second) * S + offset
            at, writes = {}, set()  # page -> when it is used first; those that are written
            for ns, page, op, _ in seconds[second]:
                at.setdefault(named[page], begins + ns - rows[0][0] - second * S)
                writes |= {named[page]} if op else set()
            pages, work_ns = list(at), S * 40 // 100 * len(seconds[second]) // most // max(1, len(at))
            each = -(-len(pages) // 64) or 1
            for some in cut(pages, each):
                ops = np.array([page in writes for page in some], np.uint8)
                yield Batch(np.array(some, np.uint32), ops, None, work_ns, np.array([at[some[0]]]))

    batches = stream()
    for second in range(12):
        host.run({vm: batches}, until_ns=(second + 1) * S)
    assert dict(host.counters()) == record.counters
    assert record.counters["fault_swap"] > 100 and record.derived["slowdown"] > "1.000"
    assert {"work_ns": vm.work_ns, "stall_ns": vm.stall_ns}.items() <= record.vms["web-0"].items()


def cut(pages, each):
    return [pages[first : first + each] for first in range(0, len(pages), each)]


TWO = ("vms = 1", "vms = 3")
EACH = ('file = "t.parquet"', 'file = "t.parquet", streams = "each"')


def test_vms_take_streams_in_turn_and_are_idle_where_the_trace_is(folder):
    """One stream ends after 2 s, the other goes on: its VM is idle from then on, and its seconds are not counted."""
    early = [(i * 2 * MS, i % 50, 0, 0) for i in range(1000)]
    late = [(5 * S + i * 2 * MS, i % 70, 1, 1) for i in range(1000)]
    write_trace(folder, early + late)
    (record,) = records_of(made(folder, TWO, EACH))
    first, second, third = (record.vms[f"web-{number}"] for number in range(3))
    recorded = uses_of(folder / "t.parquet", lasts=12, streams="each")
    filling = Filling(made(folder, TWO, EACH).cells[0].spec.groups[0], CORPUS)
    booted = 2 * filling.touched - filling.image - filling.zero
    for vm, number in ((first, 0), (second, 1), (third, 0)):
        assert vm["accesses"] == booted + len(recorded.of(number).pages)
    assert recorded.of(0).footprint == 50 and recorded.of(1).footprint == 70
    assert {vm["work_ns"] // (100 * MS) for vm in (first, second, third)} == {8}, "40 % of two seconds"
    made_up = made(folder, TWO, EACH).cells[0]
    assert abs(made_up.accesses() - record.accesses) < record.accesses // 5


def test_seconds_without_a_touch_are_no_seconds_of_a_vm(folder):
    write_trace(folder, [(0, 1, 0), (S, 2, 0), (5 * S, 3, 0)])
    planned = made(folder, ('"2s"', '"1s"'))
    once = records_of(planned)[0]
    again = records_of(made(folder, ('"2s"', '"1s"'), ('"t.parquet"', '"t.parquet", at_end = "again"')))[0]
    assert once.vms["web-0"]["work_ns"] // MS // 10 == 3 * 40
    assert again.vms["web-0"]["work_ns"] > once.vms["web-0"]["work_ns"]
    assert once.derived["slowdown"] == "1.000"


def test_a_trace_begins_when_its_load_does(folder):
    """A set-load at 5 s: the trace begins then, from its first touch; and again after another set-load."""
    write_trace(folder, [(i * 100 * MS, i, 1) for i in range(20)])
    idle = '[scenarios.loads.idle]\nbusy_percent = 1\nparts = [{ percent = 1, every = "1h" }]\n'
    events = (
        '[[scenarios.events]]\nat = "5s"\nwhat = "set-load"\ngroup = "web"\nload = "web"\n'
        '[[scenarios.events]]\nat = "8s"\nwhat = "restart"\ngroup = "web"\n'
    )
    grouped = ("[[scenarios.groups]]", idle + "[[scenarios.groups]]")
    change = ('load = "web"\n', 'load = "idle"\n' + events)
    (record,) = records_of(made(folder, grouped, change))
    (plain,) = records_of(made(folder, grouped, ('load = "web"\n', 'load = "idle"\n' + events[events.rindex("[[") :])))
    more = record.vms["web-0"]["accesses"] - plain.vms["web-0"]["accesses"]
    idle = 12 - 5  # seconds in which the other VM computes, and reads a page
    assert more == 2 * 20 - idle, "once since 5 s, once since it has booted again"
    (half,) = records_of(made(folder, grouped, change, ('"t.parquet"', '"t.parquet", speed_percent = 25')))
    assert half.vms["web-0"]["accesses"] < record.vms["web-0"]["accesses"], "the restart comes before its end"


# ---- what a record says


def test_a_record_has_the_hash_of_its_trace_and_not_its_place(folder, tmp_path_factory):
    cell = made(
        folder, ("[scenarios.loads.web]", '[scenarios.loads."web.1"]'), ('load = "web"', 'load = "web.1"')
    ).cells[0]
    assert cell.config()["files"] == {"scenario.loads.web.1.trace.file": file_sha256(folder / "t.parquet")}
    assert cell.config()["scenario"]["loads"]["web.1"]["trace"]["file"] == "t.parquet"
    other = tmp_path_factory.mktemp("other")
    shutil.copy(folder / "t.parquet", other)
    assert made(folder).cells[0].sha256() == made(other).cells[0].sha256()
    write_trace(other, random_rows(seed=2))
    assert made(folder).cells[0].sha256() != made(other).cells[0].sha256()


def test_a_trace_that_changes_after_planning_is_noticed(folder):
    planned = made(folder)
    write_trace(folder, random_rows(seed=2))
    record = cells.run_cell(cells.prepare(CORPUS), planned.cells[0])
    assert record.status == "failed" and "t.parquet has changed since the run was planned" in record.reason
    assert made(folder).cells[0].spec.time.uses_of(planned.cells[0].spec.loads["web"].trace) is not None


def test_files_of_workloads_are_looked_for_beside_the_suite_too(folder):
    np.save(folder / "w.npy", np.arange(300))
    (folder / "s.toml").write_text(
        SUITE[: SUITE.index("[[scenarios]]")]
        + '[[scenarios]]\nname = "s"\ndescription = "d"\novercommit_percent = [100]\n'
        + 'fleet = { vms = 2, memory = "4MiB" }\nmeasured = { workload = "trace", file = "w.npy" }\n'
    )
    (file,) = plan.make(str(folder / "s.toml")).cells[0].files
    assert file.path == str(folder / "w.npy") and file.place == "scenario.measured.file"
    assert suite.beside({"file": "/a", "b": [{"file": "c"}, {"file": {"file": "d"}}]}, folder) == {
        "file": "/a", "b": [{"file": str(folder / "c")}, {"file": {"file": str(folder / "d")}}]
    }  # fmt: skip


def test_the_command_line_runs_it_by_one_and_by_two_and_knows_it_before(folder, memvirt, monkeypatch):
    made(folder, TWO, EACH, ('title = "t"', 'title = "t"\nseeds = [1, 2]'))
    monkeypatch.chdir(folder.parent)
    words = ["run", os.path.join(folder.name, "s.toml"), "--corpus", "synthetic"]
    code, out, err = memvirt(*words, "--dry-run", "--json")
    assert code == 0, err
    asked = {row["cell"]: int(row["accesses"]) for row in json.loads(out)}
    found = {}
    for jobs in (1, 2):
        code, _, err = memvirt(*words, "--jobs", jobs, "--out", folder / str(jobs))
        assert code == 0, err
        found[jobs] = {record.cell: comparable(record) for record in run_folder.load(folder / str(jobs))}
        assert len(found[jobs]) == 2
    assert found[1] == found[2]
    for name, record in found[1].items():
        assert abs(asked[name] - record["accesses"]) < record["accesses"] // 5
    code, _, err = memvirt(*words, "--jobs", 2, "--out", folder / "2", "--resume")
    assert code == 0, err


def test_what_it_takes_of_this_machine_is_predicted(folder):
    cell = made(folder).cells[0]
    load = cell.spec.loads["web"].model_copy(update={"trace": None})
    plain = replace(cell, spec=cell.spec.model_copy(update={"loads": {"web": load}}))
    more = need(cell).memory_bytes - need(plain).memory_bytes
    assert more == cell.spec.trace_bytes() >= 13 * len(uses_of(folder / "t.parquet").streams[0].pages)


# ---- what is refused


TRACE = 'trace = { file = "t.parquet" }'


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("", r"s\.toml:18: scenarios\[0\]\.loads\.web\.parts: is required: how often which part is used, or a trace"),
        (TRACE + '\nparts = [{ percent = 1, every = "1s" }]', r"web\.parts: the trace says what is used; leave it out"),
        (TRACE + "\nwrite_percent = 20", r"web\.write_percent: the trace says which uses write; leave it out"),
        (TRACE + "\nday = {}", r"web\.day: the trace's own times say when there is little to do; leave it out, or the"),
        (TRACE + '\nbursts = { every = "5s", last = "1s" }', r"web\.bursts: the trace's own times say"),
        (TRACE + "\nrequests = { per_second = 1, touches = 1 }", r"web\.requests: they use parts, and a trace has none"),
        ("trace = {}", r"web\.trace\.file: is required"),
        ('trace = { file = "t.parquet", speed_percent = 0 }', r"web\.trace\.speed_percent: must be at least 1"),
        ('trace = { file = "t.parquet", at_end = "stop" }', r"web\.trace\.at_end: unknown value 'stop'"),
        ('trace = { file = "none.parquet" }', r"load web: trace .*none\.parquet: No such file or directory; its name "
         r"counts from the suite's file"),
        ('trace = { file = "s.toml" }', r"load web: trace .*s\.toml: this is no \.npy file.*memvirt trace import"),
        ('trace = { file = "t.npy" }', r"load web: trace .*t\.npy: it has no times that could say when pages are used; "
         r"import it from a source that has them, or say how often parts of memory are used: parts"),
        ('trace = { file = "back.parquet" }', r"load web: trace .*back\.parquet: touch 2 \(from 0\) goes back in time, "
         r"by 7 ns; sort its source by time and import it again"),
        ('trace = { file = "large.parquet" }', r"load web of group web: trace .*large\.parquet touches 2000 pages, and a VM "
         r"fills 1639 behind its image \(memory 8MiB, touched_percent 100, content.image_percent 20\); give the group more"),
    ],
)  # fmt: skip
def test_loads_that_cannot_be_are_sentences(folder, new, said):
    np.save(folder / "t.npy", np.arange(50))
    write_trace(folder, [(5, 1, 0), (10, 2, 0), (3, 3, 0)], "back")
    write_trace(folder, [(i, i, 0) for i in range(2000)], "large")
    with pytest.raises(ConfigError, match=said):
        made(folder, (TRACE, new))


def test_a_processor_serves_no_more_than_there_is_time_for(folder):
    """4,000 touches of 100 ns in a millisecond are 1.x times too many where the VM computes for most of it."""
    write_trace(folder, [(i * 100, i % 1600, 0) for i in range(4000)])
    window = ('time = { duration = "12s", epoch = "2s" }', 'time = { duration = "1s", epoch = "1ms", window = "1ms" }')
    busy = ("busy_percent = 40", "busy_percent = 90")
    with pytest.raises(
        ConfigError, match=r"is 1\.06 times .* in window 0 .*: 1600 touches take 160us, and .* for 900us"
    ):
        made(folder, window, busy)
    made(folder, window, busy, ('"t.parquet"', '"t.parquet", speed_percent = 5'))


def test_a_damaged_time_is_told(folder, monkeypatch):
    trace = open_trace(folder / "t.parquet")
    info = trace.info.model_copy(update={"last_ns": trace.info.first_ns + 1000})
    monkeypatch.setattr("memvirt.inputs.traces.trace.ParquetTrace.info", info)
    with pytest.raises(ConfigError, match="damaged: a time after what it calls its last"):
        made(folder)


def test_every_shipped_load_says_what_its_parts_are():
    for name in suite.names():
        for each in suite.load(name).scenarios:
            for load in getattr(each, "loads", {}).values():
                assert load.parts and load.trace is None
                assert "trace" not in load.model_dump(mode="json", exclude_none=True)
