"""Time between accesses: work, due times, sleep, the paces of a suite, and traces that are replayed at their own times."""

import json
from itertools import pairwise

import numpy as np
import pytest

import memvirt as library
from helpers.world import PAGE
from memvirt.errors import ConfigError, CorpusError
from memvirt.experiment import cell as cells
from memvirt.experiment import plan, suite
from memvirt.experiment.pace import Pace, paced, whole_requests
from memvirt.inputs import synthetic
from memvirt.inputs.traces import Wanted, import_trace
from memvirt.results import run_folder
from memvirt.workloads import Batch, Space, Stream, parse

MS, SECOND = 10**6, 10**9
HIT = 100


def reads(pages, work_ns=0, due_ns=None):
    return np.asarray(pages, np.uint32), np.zeros(len(pages), np.uint8), None, work_ns, due_ns


@pytest.fixture
def warm():
    """A host with memory for all, a VM whose page 0 is there, and its clock."""
    host = library.Host(memory="4MiB", harvest_interval="1000s")
    vm = host.create_vm("a", "1MiB")
    vm.access([0], [1])
    return host, vm, host.sim_ns


# ---- the library's face


def test_a_vm_works_after_each_access(warm):
    host, vm, start = warm
    worked = vm.work_ns
    host.run({vm: [reads(np.zeros(1000), work_ns=9_900)]})
    assert vm.sim_ns - start == 10 * MS == vm.work_ns - worked and vm.stall_ns == 0
    assert host.cpu_ns()["access"] == 1001 * HIT, "what a VM computes is no business of the host's processors"


def test_a_vm_sleeps_until_its_accesses_are_due(warm):
    host, vm, start = warm
    worked = vm.work_ns
    due = start + np.array([5 * MS, 5 * MS + 70, 80 * MS])
    assert host.run({vm: [reads([0, 0, 0], due_ns=due)]})[vm] == (3, "done")
    assert vm.sim_ns == start + 80 * MS + HIT and vm.work_ns - worked == 3 * HIT
    requests = vm.requests()
    assert requests["behind_ns"] == 0, "the second was due when the first was under way, and began 30 ns late"
    assert requests["latency"]["buckets"] == [[100, 2], [130, 1]] and requests["latency"]["sum_ns"] == 330
    assert host.histograms()["request"] == requests["latency"]


def test_who_is_behind_has_a_backlog_and_latency_counts_from_the_due_time(warm):
    """Requests of 10 accesses and 1 us of work each come twice as fast as they are served."""
    host, vm, start = warm
    due = start + 5_500 * np.arange(100)
    outcome = host.run({vm: [reads(np.zeros(1000), work_ns=1000, due_ns=due)]}, until_ns=start + 500_000)
    assert outcome[vm].reason == "until"
    done = outcome[vm].done // 10
    assert vm.requests()["behind_ns"] == vm.sim_ns - int(due[done])
    latency = vm.requests()["latency"]
    assert latency["count"] == done
    assert latency["sum_ns"] == sum(11_000 * (i + 1) - 5_500 * i for i in range(done))


def test_one_time_for_a_whole_batch(warm):
    host, vm, start = warm
    host.run({vm: [reads(np.zeros(10), due_ns=start + MS)]})
    assert vm.sim_ns == start + MS + 10 * HIT and vm.requests()["latency"]["count"] == 1


def test_a_sleeping_vm_takes_no_turn_and_stalls_nobody():
    host = library.Host(memory="2MiB", swap="16MiB")
    busy, asleep = host.create_vm("busy", "8MiB"), host.create_vm("asleep", "1MiB")
    due = np.array([0, 50 * MS])
    host.run({busy: [(np.arange(1500), np.ones(1500))], asleep: [reads([0, 1], due_ns=due)]})
    assert 0 < host.stall()["stall_full_ns"] == host.stall()["stall_some_ns"], "who sleeps does not work beside a stall"
    assert asleep.sim_ns >= 50 * MS and asleep.work_ns < MS
    assert busy.work_ns + busy.stall_ns == busy.sim_ns
    host.check()


def test_sleep_until(warm):
    host, vm, start = warm
    worked = vm.work_ns
    vm.sleep_until(start + 7 * MS)
    vm.sleep_until(start)
    assert vm.sim_ns == start + 7 * MS and host.sim_ns == start
    vm.access([0], [0])
    assert vm.sim_ns == host.sim_ns == start + 7 * MS + HIT and vm.work_ns == worked + HIT
    for wrong in (-1, 2**60, 1.5):
        with pytest.raises(ConfigError, match="sim_ns"):
            vm.sleep_until(wrong)
    host.check()


def test_a_vm_keeps_no_time_when_it_ends(warm):
    host, vm, start = warm
    host.run({vm: [reads([0, 0], work_ns=MS, due_ns=start + np.array([0, SECOND]))]}, until_ns=start + 5 * MS)
    assert host.sim_ns >= start + 5 * MS
    work, now = vm.work_ns, host.sim_ns
    vm.destroy()
    assert vm.work_ns == work and host.sim_ns == now
    host.check()


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (([0],), "a batch of 1 parts"),
        (([0], [0], None, 0, None, 0), "a batch of 6 parts"),
        (([0], [0], None, -1), "work_ns: -1"),
        (([0], [0], None, 1.5), "work_ns: 1.5"),
        (([0], [0], None, 10**12 + 1), "work of 1000000000001 ns"),
        (([0, 0], [0, 0], None, 0, [5, 4]), "part 1 is due at 4 ns"),
        (([0, 0], [0, 0], None, 0, [-1, 4]), "due_ns: -1 to 4"),
        (([0, 0], [0, 0], None, 0, [0, 2**63]), "due_ns"),
        (([0, 0], [0, 0], None, 0, [0, 2**61]), "part 1 is due"),
        (([0, 0, 0], [0, 0, 0], None, 0, [1, 2]), "3 accesses cannot be due at 2 times"),
        (([0], [0], None, 0, []), "due"),
        (([0], [0], None, 0, [0.5]), "whole ns are needed"),
        (([0], [0], None, 0, [[1]]), "2 dimensions"),
    ],
)
def test_times_that_are_none_are_refused(warm, batch, message):
    host, vm, _ = warm
    with pytest.raises(ConfigError, match=message):
        host.run({vm: [batch]})
    host.check()
    assert host.run({vm: [reads([0])]})[vm] == (1, "done")


# ---- paces


def batch_of(*lengths):
    at = np.cumsum([0, *lengths])
    return [Batch(np.arange(a, b, dtype=np.uint32), np.zeros(b - a, np.uint8)) for a, b in pairwise(at)]


def test_whole_requests_keep_the_order_and_only_the_last_is_short():
    made = list(whole_requests(iter(batch_of(7, 1, 2, 30, 3)), 4))
    assert np.concatenate([batch.pages for batch in made]).tolist() == list(range(43))
    assert [len(batch.pages) % 4 for batch in made] == [0] * (len(made) - 1) + [3]
    assert list(whole_requests(iter([]), 4)) == []


def test_requests_arrive_at_their_rate_and_vms_do_not_beat_together():
    pace = Pace.model_validate({"per_second": 3, "request": 4, "think": "1us"})
    firsts = set()
    for vm in range(5):
        made = list(paced(iter(batch_of(10, 11, 20)), pace, Stream(1, vm, "measured")))
        due = np.concatenate([batch.due_ns for batch in made])
        assert len(due) == 11 and all(batch.work_ns == 1000 for batch in made)
        assert due.tolist() == [int(due[0]) + i * SECOND // 3 for i in range(11)]
        assert 0 <= due[0] <= SECOND // 3
        firsts.add(int(due[0]))
    assert len(firsts) == 5


SUITE = """
schema = 1
name = "paced"
title = "t"
description = "d"
presets = ["swap"]
[host]
memory = "4MiB"
swap = "8MiB"
[tiers.smoke]
accesses_percent = 50
[[scenarios]]
name = "s"
description = "d"
overcommit_percent = [100, 200]
fleet = {{ vms = 2, memory = "2MiB" }}
{}
"""


@pytest.fixture(scope="module")
def context():
    return cells.prepare(synthetic(400, seed=1))


def records_of(context, folder, text, tier="quick"):
    path = folder / "paced.toml"
    path.write_text(SUITE.format(text))
    made = plan.make(str(path), tier)
    return [cells.run_cell(context, cell) for cell in made.cells], made


def test_a_phase_lasts_as_long_as_its_pace_says(context, tmp_path):
    text = """
    warm_up = { workload = "uniform", accesses = 1000000 }
    measured = { workload = "uniform", accesses = 1000000, write_percent = 50 }
    pace = { think = "4us", warm_up = "5ms", measured = "40ms" }
    """
    (fits, swaps), made = records_of(context, tmp_path, text)
    for record in (fits, swaps):
        assert (record.status, record.reason, record.verified) == ("done", "", True)
        for vm in record.vms.values():
            assert abs(vm["sim_ns"] - 40 * MS) < MS and abs(vm["work_ns"] + vm["stall_ns"] - vm["sim_ns"]) < MS
    assert fits.accesses > swaps.accesses and fits.derived["slowdown"] == "1.000"
    work, stall = (sum(vm[part] for vm in swaps.vms.values()) for part in ("work_ns", "stall_ns"))
    assert abs(float(swaps.derived["slowdown"]) - (work + stall) / work) <= 0.0005 and stall > 0
    assert made.cells[0].spec.pace.measured == 40 * MS and fits.config["scenario"]["pace"]["measured"] == "40ms"
    (half, _), _ = records_of(context, tmp_path, text, "smoke")
    assert abs(next(iter(half.vms.values()))["sim_ns"] - 20 * MS) < MS


def test_an_open_loop_has_latencies_of_requests_that_waiting_for_memory_shows_in(context, tmp_path):
    text = """
    measured = { workload = "uniform", accesses = 4000, write_percent = 50 }
    pace = { per_second = 10000, request = 20, think = "1us" }
    """
    (fits, swaps), _ = records_of(context, tmp_path, text)
    for record in (fits, swaps):
        assert (record.status, record.verified) == ("done", True)
        assert sum(count for _, count in record.histograms["request"]) == 200 * len(record.vms)
    assert 20_000 < fits.derived["sim_ns.request.p99"] < 40_000 < swaps.derived["sim_ns.request.p99"]
    assert "request" not in fits.derived["fault_p99_us"] and fits.vms["vm0"]["sim_ns"] < 25 * MS


@pytest.mark.parametrize(
    ("pace", "message"),
    [
        ("think = '-1us'", "negative"),
        ("per_second = 0", "per_second"),
        ("request = 5", "need per_second"),
        ("think = '2000s'", "more than 1000s"),
        ("think = '1ms', per_second = 2000", "2 times more than a processor can serve"),
        ("warm_up = '1s'", "no warm-up that could last"),
        ("thinks = '1us'", "think"),
    ],
)
def test_paces_that_cannot_be_are_sentences(tmp_path, pace, message):
    path = tmp_path / "paced.toml"
    path.write_text(SUITE.format(f'measured = {{ workload = "uniform", accesses = 10 }}\npace = {{ {pace} }}'))
    with pytest.raises(ConfigError, match=message):
        suite.load(path)


def test_aging_has_no_pace(tmp_path):
    path = tmp_path / "paced.toml"
    path.write_text(SUITE.format("aging = { cycles = 5 }\npace = { think = '1us' }"))
    with pytest.raises(ConfigError, match="aging has no pace"):
        suite.load(path)


# ---- traces


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Times in ms, imported: a burst of 20 ms, a pause of 880 ms, then a slow walk in which one stamp goes back."""
    folder = tmp_path_factory.mktemp("imported")
    stamps = [1000 + i // 10 for i in range(200)] + [1900 + 3 * i for i in range(99)] + [2000, 2200]
    rows = [f"{stamp},{i * 7 % 40 * PAGE},{'W' if i % 3 else 'R'},{i % 2}" for i, stamp in enumerate(stamps)]
    (folder / "t.csv").write_text("\n".join(["time_ms,address,op,stream", *rows]) + "\n")
    import_trace(str(folder / "t.csv"), folder / "t.parquet", Wanted(format="csv"))
    return folder / "t.parquet", np.maximum.accumulate(np.array(stamps) - 1000) * MS


@pytest.mark.parametrize("speed", [1, 30, 100, 700, 10**6])
@pytest.mark.parametrize("streams", ["all", "each"])
def test_touches_are_due_at_their_stamps(imported, speed, streams):
    file, stamps = imported
    load = parse({"workload": "trace", "file": str(file), "times": True, "speed_percent": speed, "streams": streams})
    for vm in (0, 1):
        made = list(load.batches(Space(100), Stream(1, vm, "measured")))
        due = np.concatenate([batch.due_ns for batch in made])
        wanted = stamps if streams == "all" else stamps[vm::2]
        assert due.tolist() == (wanted * 100 // speed).tolist() and all(batch.work_ns == 0 for batch in made)


def test_a_trace_drives_simulated_time_at_two_speeds(imported, memvirt, tmp_path):
    """From an imported file to records, by the command line: sim_ns follows the stamps."""
    file, stamps = imported
    path = tmp_path / "paced.toml"
    path.write_text(SUITE.format('measured = { workload = "uniform", accesses = 10 }'))
    last_ns, found = int(stamps[-1]), {}
    for speed in (100, 400):
        out = tmp_path / str(speed)
        words = ["run", path, "--corpus", "synthetic", "--trace", file, "--jobs", 1, "--out", out]
        code, _, err = memvirt(*words, "--times", *(() if speed == 100 else ("--speed", speed)))
        assert code == 0, err
        records = run_folder.load(out)
        found[speed] = records
        for record in records:
            assert record.verified and record.accesses == 301 * len(record.vms)
            for vm in record.vms.values():
                assert 0 <= vm["sim_ns"] - last_ns * 100 // speed < 2 * MS, (record.cell, speed)
                assert vm["work_ns"] + vm["stall_ns"] < 20 * MS, "the rest of the time it sleeps"
            assert sum(count for _, count in record.histograms["request"]) == record.accesses
            assert record.config["scenario"]["measured"]["speed_percent"] == speed
        assert json.loads((out / "run.json").read_text())["asked"]["times"] is True
    assert {record.cell: record.counters["harvests"] for record in found[100]} != {
        record.cell: record.counters["harvests"] for record in found[400]
    }
    code, _, err = memvirt(*words, "--times", "--speed", 400, "--resume")
    assert code == 0, err


def test_a_rate_drives_a_trace_without_times(memvirt, tmp_path):
    np.save(tmp_path / "t.npy", np.arange(300) % 40)
    path = tmp_path / "paced.toml"
    path.write_text(SUITE.format('measured = { workload = "uniform", accesses = 10 }'))
    words = ["run", path, "--corpus", "synthetic", "--trace", tmp_path / "t.npy", "--jobs", 1]
    code, _, err = memvirt(*words, "--per-second", 1000, "--out", tmp_path / "out")
    assert code == 0, err
    for record in run_folder.load(tmp_path / "out"):
        for vm in record.vms.values():
            assert 299 * MS <= vm["sim_ns"] < 302 * MS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--times",), "it has no times that could say when touches are due"),
        (("--speed", "200"), "add --times"),
        (("--times", "--per-second", "5"), "give one of them"),
        (("--times", "--speed", "0"), "--speed"),
        (("--per-second", "0"), "--per-second"),
    ],
)
def test_replays_that_cannot_be_are_sentences(memvirt, tmp_path, words, message):
    np.save(tmp_path / "t.npy", np.arange(300) % 40)
    code, _, err = memvirt("run", "quick", "--trace", tmp_path / "t.npy", *words, "--dry-run")
    assert code == 2 and message in err and "Traceback" not in err
    code, _, err = memvirt("run", "quick", "--per-second", "5", "--dry-run")
    assert code == 2 and "name it with --trace" in err


def test_times_of_a_trace_and_what_contradicts_them(imported, tmp_path):
    file, _ = imported
    trace = f'workload = "trace", file = "{file}", times = true'
    path = tmp_path / "paced.toml"
    for text, message in (
        (f"measured = {{ {trace} }}\npace = {{ per_second = 5 }}", "either those or a rate"),
        (f'measured = {{ workload = "trace", file = "{file}", speed_percent = 50 }}', "set times = true as well"),
        (f"measured = {{ {trace}, speed_percent = 0 }}", "speed_percent"),
    ):
        path.write_text(SUITE.format(text))
        with pytest.raises(ConfigError, match=message):
            suite.load(path)
    slowest = parse({"workload": "trace", "file": str(file), "times": True})
    beyond = slowest.model_copy(update={"speed_percent": 1})
    late = type("Late", (), {"info": type("Info", (), {"first_ns": 0, "last_ns": 2**61})})
    with pytest.raises(CorpusError, match="replay it faster"):
        beyond.check_times(late)


@pytest.mark.parametrize("name", ["pace.per_second", "pace.think", "trace", "slowdown", "sim_ns.request"])
def test_what_time_is_made_of_is_described(memvirt, name):
    code, out, _ = memvirt("describe", name)
    assert code == 0 and any(word in out for word in ("request", "computes", "times", "work"))
