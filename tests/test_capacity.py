"""memvirt capacity: its answer where the answer is known in closed form, resumption, what it says to who is wrong."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from memvirt import interrupts
from memvirt.cli import capacity as command
from memvirt.errors import ConfigError, Stopped
from memvirt.experiment import plan, searching, sizing
from memvirt.experiment.cell import blank, prepare, run_cell
from memvirt.experiment.loop import run_plan
from memvirt.experiment.objectives import judge, parse
from memvirt.inputs import save, synthetic
from memvirt.report import capacity as report
from memvirt.report import terminal
from memvirt.report.bundle.again import is_of, run_again
from memvirt.report.figures import data
from memvirt.report.figures.catalog import KINDS, make
from memvirt.report.figures.drawing import draw
from memvirt.report.page.content import learned
from memvirt.report.runs import read_runs
from memvirt.report.summary import groups
from memvirt.results.run_folder import Results, load, read_manifest
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import validate

SUITE = """
schema = 1
name = "shop"
title = "A shop"
description = "For tests"
presets = ["none"]
[host]
memory = "16MiB"
swap = "32MiB"
[[scenarios]]
name = "open"
description = "Web servers and batch work."
overcommit_percent = [100, 150]
time = { settle = "2s", duration = "4s", epoch = "1s" }
[scenarios.loads.all]
busy_percent = 50
parts = [{ percent = 100, every = "1s" }]
[scenarios.loads.none]
busy_percent = 1
parts = [{ percent = 1, every = "1s" }]
[[scenarios.groups]]
name = "web"
level = "gold"
vms = 3
memory = "1MiB"
load = "LOAD"
touched_percent = TOUCHED
content = { zero_percent = 0, image_percent = 0 }
[[scenarios.groups]]
name = "batch"
level = "bronze"
vms = 2
memory = "2MiB"
load = "none"
touched_percent = 10
"""
CORPUS = "small.mvcorpus"  # of few pages: every host makes fingerprints of all of them
ALIKE = ("--set", "harvest_interval=10s", "--corpus", CORPUS, "--jobs", "1", "--seeds", "1")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A function that writes the suite, and gives its path."""
    monkeypatch.chdir(tmp_path)
    save(synthetic(512, seed=1), tmp_path / CORPUS)

    def made(touched=50, load="none", change=lambda text: text):
        text = SUITE.replace("TOUCHED", str(touched)).replace("LOAD", load)
        (tmp_path / "shop.toml").write_text(change(text))
        return str(tmp_path / "shop.toml")

    return made


def search(file, **asked):
    usual = {"vary": "web.vms", "slo": ["gold.p99=1.05"], "settings": ["harvest_interval=10s"], "presets": ["swap"]}
    return sizing.make(sizing.Question(suite=file, corpus="synthetic", **{**usual, **asked}))


def made_up(slowdown, done=None):
    """A crew whose cells come to a slowdown that a function of size, seed and column says; None: exhausted."""

    def measure(run, cell, baseline):
        size = int(cell.asked["sweep"]["web.vms"])
        if done is not None:
            done(cell.name)
        value = slowdown(size, cell.seed, cell.preset)
        if value is None:
            return replace(blank(run, cell), status="exhausted", reason="web-0 stopped at 1 s: no_frame")
        text = f"{value:.3f}"
        told = {"slowdown": text, "slowdown_p99.gold": text, "effective_overcommit": "1.500"}
        vms = {"web-0": {"accesses": 1, "sim_ns": 10, "stall_ns": 4, "work_ns": 6}}
        return replace(blank(run, cell), status="done", reason="", derived=told, vms=vms, histograms={"swap": [(2, 2)]})

    return lambda plan, run, results: run_plan(plan, run, results, measure=measure)


def searched(made, folder, slowdown, done=None, resume=False):
    """What a search comes to whose cells do."""
    run = prepare(synthetic(512, seed=1))
    there = made.named(read_manifest(folder).cells) if resume else []
    with Results(folder, searching.first_manifest(made, run, there), resume=True) as results:
        *_, (_, found) = searching.run_search(made, run, results, made_up(slowdown, done), there)
    return found


# ---- answers in closed form


def test_nominal_commitment_admits_what_memory_divides_into(shop, memvirt):
    """Without swap: (16 MiB - 2 batch VMs of 2 MiB) / 1 MiB."""
    words = ("--vary", "web.vms", "--slo", "p99=1.5", *ALIKE, "--set", "commit=nominal", "--json")
    code, out, err = memvirt("capacity", shop(touched=5), *words, "--out", "r")
    (none,) = json.loads(out)["columns"]
    assert code == 0 and none["answer"] == 12 and none["outcome"] == "found", err
    assert none["beyond"]["status"] == "refused" and "commit='nominal'" in none["beyond"]["reason"]
    assert none["n_plus_1"] == {"hosts": 4, "answer": 9, "how": "arithmetic"} and none["ratio"] == "1.0000"


def test_with_a_host_lost_the_others_take_its_vms_of_all_groups(shop, memvirt):
    """Nominal commitment again: m + ceil(m / 3) web VMs of 1 MiB, and 2 + ceil(2 / 3) batch VMs of 2 MiB, in 16 MiB."""
    words = ("--vary", "web.vms", "--slo", "p99=1.5", *ALIKE, "--set", "commit=nominal", "--json", "--failover")
    file = shop(touched=5)
    code, out, err = memvirt("capacity", file, *words, "--out", "r")
    (none,) = json.loads(out)["columns"]
    spare = none["n_plus_1"]
    assert code == 0 and none["answer"] == 12, err
    assert (spare["hosts"], spare["answer"], spare["how"], spare["outcome"]) == (4, 7, "searched", "found")
    assert spare["beyond"]["status"] == "refused" and "-moved-" in spare["beyond"]["reason"]
    assert {group.scenario for group in groups(load("r"))} == {"open", "open-failover"}
    told, records = read_manifest("r"), load("r")
    assert any("hosts may hold 7 if one of them may fail" in text for text in report.sentences(told.asked, records))
    assert is_of(told, file) and set(told.cells) == {record.cell for record in records}
    again = memvirt("capacity", file, *words, "--out", "r", "--resume")
    cells = [line for line in again[2].splitlines() if ", seed 1: " in line]
    assert again[:2] == (0, out) and cells and all(line.endswith("(kept)") for line in cells)
    assert memvirt("report", "r", "-o", "r.html")[0] == 0


def test_who_arrives_from_a_lost_host_comes_within_the_measured_time(shop):
    cell = search(shop(), failover=True).cell("swap, one host lost", 4, 1)
    ours, theirs = cell.spec.groups[:2], cell.spec.groups[2:]
    assert [(group.name, group.count(100)) for group in theirs] == [("web-moved", 2), ("batch-moved", 1)]
    assert [group.level for group in ours] == [group.level for group in theirs]
    time = cell.spec.time
    assert all(time.settle < group.comes_ns(0) < time.settle + time.duration for group in theirs)
    assert {group.boot.per_second for group in theirs} == {(256 << 20) // 4096}
    assert cell.name == "open-failover-web.vms=4--swap--s1" and cell.spec.name == "open-failover"


def test_a_failed_hosts_vms_boot_and_work_like_those_that_were_there(shop):
    cell = search(shop(touched=100, load="all"), failover=True).cell("swap, one host lost", 3, 1)
    record = run_cell(prepare(synthetic(256, seed=1)), cell)
    ours, theirs = record.vms["web-0"], record.vms["web-moved-0"]
    assert record.status == "done" and ours["accesses"] == 4 * 256
    assert theirs["accesses"] >= 256 + 2 * 256 and theirs["work_ns"] > ours["work_ns"] // 2  # boots, then works


@pytest.mark.parametrize("memory", [12, 16])
def test_nobody_waits_until_what_is_used_all_the_time_is_more_than_the_host_has(shop, memvirt, memory):
    """Every web VM touches all of its 256 pages each second, so all of them must stay, with two tables and a frame of
    metadata a VM; the batch VMs' pages are idle and go. Reclaim begins where less than the low watermark is free, and a
    worst window of 1 is no waiting at all."""
    file = shop(touched=100, load="all", change=lambda text: text.replace("16MiB", f"{memory}MiB"))
    words = ("--vary", "web.vms", "--slo", "gold.worst=1", *ALIKE, "--preset", "swap", "--json", "--out", "r")
    code, out, _ = memvirt("capacity", file, *words)
    (swap,) = json.loads(out)["columns"]
    usage = {int(record.swept["web.vms"]): record.usage for record in load("r")}
    fewest, answer, beside = min(usage), swap["answer"], 2 + 1
    metadata = {size: used["fixed"] + used["table"] for size, used in usage.items()}
    assert metadata[answer] - metadata[fewest] == beside * (answer - fewest)
    low = validate(HostConfig, {"memory": f"{memory}MiB"}).watermarks.low
    assert code == 0 and answer == (memory * 256 - low - metadata[fewest] + beside * fewest) // (256 + beside)
    assert (
        swap["beyond"]["status"] == "done" and swap["beyond"]["stall_ns"] > 0 and "swap" in swap["beyond"]["waits_ns"]
    )


# ---- the search and its folder


def test_each_column_and_seed_has_its_answer_and_the_folder_says_it(shop, tmp_path):
    made = search(shop(), presets=["swap", "zcache"])
    limits = {"swap": 20, "zcache": 31}
    found = searched(made, tmp_path / "r", lambda size, seed, column: 1 + size / 20 / (limits[column] + seed))
    swap, zcache = (found.answer(column) for column in ("swap", "zcache"))
    assert swap.by_seed == {1: 21, 2: 22, 3: 23} and zcache.by_seed == {1: 32, 2: 33, 3: 34}
    told, records = read_manifest(tmp_path / "r"), load(tmp_path / "r")
    assert set(told.cells) == {record.cell for record in records}
    sentence = report.sentences(told.asked, records)[0]
    assert sentence.startswith("swap: 21 web VMs meet gold.p99=1.05; 21 to 23 by seed; each of 4 hosts may hold 15")
    assert report.beyond(found, "swap") == "at 22 gold.p99 is 1.052, seed 1; VMs waited 0.00 s: read from swap 100 %"
    text = terminal.text(records, 120, told.shown, remarks=terminal.opened(tmp_path / "r")[2])
    assert "web.vms" in text and "21 web VMs meet gold.p99=1.05" in " ".join(text.split())
    (run,) = read_runs([tmp_path / "r"])
    assert learned(run)[0][0] == sentence


def test_an_interrupted_search_goes_on_without_running_a_cell_twice(shop, tmp_path):
    made, ran = search(shop()), []

    def slowdown(size, seed, column):
        return 1 + size / 400

    def stop_at_sixth(name):
        if len(ran) == 5:
            raise Stopped
        ran.append(name)

    with pytest.raises(Stopped):
        searched(made, tmp_path / "r", slowdown, stop_at_sixth)
    assert report.sentences(read_manifest(tmp_path / "r").asked, load(tmp_path / "r")) == [
        "swap: the search has not ended; go on with it by --resume"
    ]
    first, found = list(ran), searched(made, tmp_path / "r", slowdown, ran.append, resume=True)
    whole = searched(made, tmp_path / "whole", slowdown)
    assert len(ran) == len(set(ran)) > len(first) == 5
    assert found.answer("swap") == whole.answer("swap") and found.answer("swap").size == 20
    assert read_manifest(tmp_path / "r").cells == read_manifest(tmp_path / "whole").cells


def test_a_stricter_question_uses_the_cells_there_are(shop, tmp_path):
    def slowdown(size, seed, column):
        return 1 + size / 400

    searched(search(shop()), tmp_path / "r", slowdown)
    ran = []
    found = searched(search(shop(), slo=["gold.p99=1.04"]), tmp_path / "r", slowdown, ran.append, resume=True)
    there = {record.cell for record in load(tmp_path / "r")}
    assert found.answer("swap").size == 16 and 0 < len(ran) < len(there)


def test_what_is_not_monotone_is_said_and_the_answer_stays_below(shop, tmp_path):
    made = search(shop(), between=(1, 40))
    found = searched(made, tmp_path / "r", lambda size, seed, column: 1.2 if size > 30 or size == 25 else 1.0)
    answer = found.answer("swap")
    if 25 in found.known("swap")[1]:
        assert answer.size == 24 and any("larger is not harder" in text for text in report.doubts(found, "swap"))
    again = searched(search(shop(), between=(1, 40)), tmp_path / "s", lambda size, *_: 1.2 if size in (20, 30) else 1.0)
    assert all(meets for size, meets in again.known("swap")[1].items() if size <= again.answer("swap").size)


def test_cells_that_do_not_end_count_as_not_meeting_and_are_said(shop, tmp_path):
    found = searched(search(shop()), tmp_path / "r", lambda size, *_: None if size > 7 else 1.0)
    assert found.answer("swap").size == 7 and report.beyond(found, "swap").startswith(
        "at 8 exhausted, seed 1: web-0 stopped"
    )
    assert any("exhausted" in row[-1] for row in report.curve(found, "swap"))


def test_a_size_is_an_ordinary_cell_of_the_scenario_with_so_many_vms(shop):
    made = search(shop())
    cell = made.cell("swap", 5, 2)
    assert cell.name == "open-web.vms=5--swap--s2" and cell.ratio == "0.5625"
    assert [group.count(100) for group in cell.spec.groups] == [5, 2]
    assert cell.asked["sweep"] == {"web.vms": "5"} and cell.host == made.cell("swap", 9, 2).host
    assert made.named([cell.name]) == [cell]
    with pytest.raises(ConfigError, match="of another search"):
        made.named(["open-batch.vms=5--swap--s2"])


def guessed(file, **asked):
    return search(file, **{"settings": ["harvest_interval=10s", "swap=32MiB"], **asked}).search.starts


def test_without_swap_the_first_guess_is_where_memory_is_full(shop):
    """(4096 frames - 2 VMs x 51 pages) / 128 pages."""
    assert guessed(shop(), presets=["none"], settings=["harvest_interval=10s"]) == {"none": (4096 - 2 * 51) // 128}


def test_what_is_used_between_two_collections_of_marks_stays_in_the_first_guess(shop):
    """Web VMs use all of their 256 pages each second; of the batch VMs' 51 pages half a page is used, the rest may go."""
    assert guessed(shop(touched=100, load="all")) == {"swap": (4096 - 1) // 256}


def test_what_nobody_uses_fills_swap_in_the_first_guess(shop):
    assert guessed(shop()) == {"swap": (4096 + 8192 - 2 * 51) // 128}


@pytest.mark.parametrize(("limit", "waits_ms"), [("1.02", 10), ("1.01", 5)])
def test_as_much_is_out_in_the_first_guess_as_vms_may_wait_for(shop, limit, waits_ms):
    """256 pages used every 100 s are 2.56 faults a second and VM, of 68 us each; a disk's take 12.7 ms."""
    slow = shop(touched=100, load="all", change=lambda text: text.replace('every = "1s" }]', 'every = "100s" }]', 1))
    settings = ["harvest_interval=10s", "swap_device=hdd"]
    disk = {"read_latency_ns": 12_670_000, "read_page_ns": 25_600}
    fault_ns = search(slow, settings=settings).cell("swap", 1, 1).host.costs.fault + sum(disk.values())
    kept = 256 * (1 - waits_ms * 1e6 / (2.56 * fault_ns))
    others = 2 * 51 * (1 - waits_ms * 1e6 / (2.56 * fault_ns))  # the same share of what they do not use
    (guess,) = guessed(slow, slo=[f"gold.p99={limit}"], settings=settings).values()
    assert abs(guess - (4096 - others) / kept) <= 1 and guess > 16


def test_an_image_counts_once_in_the_first_guess_where_pages_are_shared(shop):
    file = shop(touched=100, load="all", change=lambda text: text.replace("image_percent = 0", "image_percent = 50"))
    found = guessed(file, presets=["swap", "sharing"], slo=["gold.worst=1"])
    assert found["swap"] == (4096 - 102) // 256 and found["sharing"] in range(27, 31)  # 128 pages each, and 128 once


# ---- the command


def test_the_command_searches_tells_and_goes_on(shop, memvirt):
    words = ("capacity", shop(touched=100, load="all"), "--vary", "web.vms", "--slo", "gold.p99=1.01", *ALIKE)
    words += ("--preset", "swap", "--between", "8,24", "--out", "r")
    code, out, err = memvirt(*words)
    assert code == 0 and "what breaks first beyond" in out and "the answer" in out and "fails, gold.p99" in err
    code, again, err = memvirt(*words, "--resume")
    assert code == 0 and again == out and "(kept)" in err and "seed 1: meets, gold.p99" in err
    code, _, err = memvirt(*words)
    assert code == 2 and "go on with it by --resume" in err
    assert memvirt("table", "r")[0] == 0 and memvirt("table", "r", "--format", "csv")[0] == 0


def test_json_says_all_of_it(shop, memvirt):
    words = (
        "--vary",
        "web.vms",
        "--slo",
        "gold.p99=1.01,p50=1.1",
        *ALIKE,
        "--preset",
        "swap",
        "--between",
        "8,20",
        "--json",
    )
    code, out, _ = memvirt("capacity", shop(touched=100, load="all"), *words, "--out", "r")
    found = json.loads(out)
    assert code == 0
    assert set(found) == {"suite", "tier", "folder", "scenario", "vary", "objectives", "seeds", "bounds", "columns"}
    assert found["objectives"][1] == {"name": "p50", "metric": "slowdown_p50", "at_most": "1.1"}
    assert found["bounds"] == {"low": 8, "high": 20, "limit": "--between"} and found["seeds"] == [1]
    (column,) = found["columns"]
    assert set(column) == {
        "preset", "outcome", "answer", "ratio", "by_seed", "interval", "n_plus_1", "violations", "doubts", "beyond", "curve",
    }  # fmt: skip
    assert set(column["interval"]) == {"low", "high", "holds_median"}
    assert set(column["beyond"]) >= {"size", "seed", "cell", "status", "broken", "values", "stall_ns", "waits_ns"}
    assert {size["size"] for size in column["curve"]} >= {column["answer"], column["answer"] + 1}
    assert column["answer"] == max(point["size"] for point in column["curve"] if point["meets"])


@pytest.mark.parametrize(
    ("slo", "code", "said"),
    [
        ("gold.worst=1", 4, "not even 30 web VMs meet gold.worst=1 with seed 1"),
        ("gold.p99=1000", 2, "every size from 30 to 31 meets gold.p99=1000; the limit is of --between"),
    ],
)
def test_objectives_that_no_size_or_every_size_meets(shop, memvirt, slo, code, said):
    words = ("--vary", "web.vms", "--slo", slo, *ALIKE, "--preset", "swap", "--between", "30,31", "--out", "r")
    ended, out, err = memvirt("capacity", shop(touched=100, load="all"), *words)
    assert ended == code and said in err and "web" in out


def test_neighbours_of_a_large_fleet_are_rows_of_their_own(shop, tmp_path):
    file = shop(change=lambda text: text.replace('"1MiB"', '"256KiB"').replace('"16MiB"', '"256MiB"'))
    made = search(file, between=(1, 900))
    searched(made, tmp_path / "r", lambda size, *_: 1.0 if size <= 700 else 1.2)
    sizes = [group.rows[0].value_of("web.vms") for group in groups(load(tmp_path / "r"))]
    assert sizes == sorted(set(sizes), key=int) and {"700", "701"} <= set(sizes)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--vary": "wed.vms"}, "no group is called 'wed'; did you mean 'web'? (groups: web, batch)"),
        ({"--vary": "web"}, "names no number of VMs; write GROUP.vms, as in --vary web.vms"),
        ({"--vary": "web.memory"}, "write GROUP.vms"),
        ({"--slo": "silver.p99=2"}, "no group of the scenario is of that level (it has gold, bronze)"),
        ({"--slo": "glod.p99=2"}, "no level is called 'glod'; did you mean 'gold'?"),
        ({"--slo": "gold.p98=2"}, "no quantile is called 'p98'; did you mean 'p99'?"),
        ({"--slo": "gold.p99"}, "write LEVEL.QUANTILE=SLOWDOWN"),
        ({"--slo": "gold.p99=0.5,gold.p99=nan,gold.p50=x"}, "'x' is no number"),
        ({"--slo": "gold.p99=0.5"}, "give 1 to 1000, where 1 is no waiting at all"),
        ({"--slo": "gold.p99=2,gold.p99=3"}, "gold.p99 is given twice"),
        ({"--slo": "gold.p97=2", "--vary": "wed.vms"}, "no group is called 'wed'"),
        ({"--slo": "gold.p97=2", "--between": "9,3"}, "the smaller one first"),
        ({"--slo": "gold.p97=2", "--between": "9,3"}, "no quantile is called 'p97'"),
        ({"--between": "9"}, "give two numbers of VMs, as in --between 1,40"),
        ({"--between": "9,3"}, "the smaller one first, 1 to 4096"),
        ({"--between": "0,3"}, "1 to 4096"),
        ({"--scenario": "closed"}, "no scenario with a group 'web' is called so"),
        ({"--preset": "swop"}, "unknown preset 'swop'"),
        ({"--set": "zpool=1", "suite": "day", "--slo": "gold.p99=2"}, "no setting is called 'zpool'"),
        ({"--set": "harvest_interval=1s"}, "is shorter than 5 epochs of 1s"),
        ({"suite": "clone-storm"}, "take one of: boot-storm, "),
        ({"suite": "dai"}, "did you mean 'day'?"),
    ],
)
def test_bad_input_is_said_with_place_and_remedy(shop, memvirt, tmp_path, changed, said):
    words = {
        "--vary": "web.vms",
        "--slo": "gold.p99=1.5",
        "--corpus": CORPUS,
        "--out": "r",
        "--set": "harvest_interval=10s",
        **changed,
    }
    suite = words.pop("suite", None) or shop()
    code, _, err = memvirt("capacity", suite, *(word for pair in words.items() for word in pair))
    assert code == 2 and said in err and "Traceback" not in err and not (tmp_path / "r").exists()


def test_several_scenarios_with_the_group_want_a_choice(shop, memvirt):
    def twice(text):
        scenario = text[text.index("[[scenarios]]") :]
        return text + scenario.replace('name = "open"', 'name = "late"')

    words = ("capacity", shop(change=twice), "--vary", "web.vms", "--slo", "p99=2", *ALIKE, "--dry-run")
    code, _, err = memvirt(*words)
    assert code == 2 and "choose one by --scenario: open, late" in err
    assert memvirt(*words, "--scenario", "late")[0] == 0


def test_a_fleet_beyond_this_machines_memory_is_predicted(shop, memvirt, monkeypatch):
    monkeypatch.setattr(sizing, "memory_problem", lambda needed: f"needs {needed} B" if needed > 230 << 20 else "")
    words = ("capacity", shop(), "--vary", "web.vms", "--slo", "p99=2", *ALIKE)
    code, out, err = memvirt(*words, "--dry-run")
    assert code == 0 and "limit: this machine's memory" in err
    most = int(out.splitlines()[-1].split()[0])
    code, _, err = memvirt(*words, "--between", "1,4000")
    assert code == 2 and "4000 VMs of group 'web' are beyond this machine's memory: needs" in err
    assert f"at most {most} do" in err


def test_vms_that_would_come_after_the_end_are_no_larger_fleet(shop, memvirt):
    file = shop(change=lambda text: text.replace('level = "gold"', 'level = "gold"\nboot = { every = "1s" }'))
    words = ("capacity", file, "--vary", "web.vms", "--slo", "p99=2", *ALIKE)
    _, out, err = memvirt(*words, "--dry-run")
    assert "VMs that come before the scenario ends" in err and out.splitlines()[-1].split()[0] == "6"
    code, _, err = memvirt(*words, "--between", "1,9")
    assert code == 2 and "9 VMs of group 'web' are beyond VMs that come before the scenario ends; at most 6 do" in err


def test_a_folder_of_another_kind_is_left_alone(shop, memvirt):
    file = shop()
    assert memvirt("run", file, *ALIKE[:-2], "--set", "commit=always", "--out", "r")[0] == 0
    words = ("capacity", file, "--slo", "p99=2", *ALIKE, "--resume", "--out", "r", "--vary")
    code, _, err = memvirt(*words, "web.vms")
    assert code == 2 and "holds a run of suite 'shop'; use another --out" in err


def test_a_search_that_is_stopped_names_the_command_that_goes_on(shop, memvirt, monkeypatch):
    def stopped(progress, found):
        interrupts._stop(Stopped())

    monkeypatch.setattr(command, "_say_cell", stopped)
    monkeypatch.setattr(interrupts, "_asked", None)
    words = ("capacity", shop(), "--vary", "web.vms", "--slo", "gold.p99=1.5", *ALIKE, "--out", "r")
    code, _, err = memvirt(*words)
    monkeypatch.undo()
    assert code == 130 and "1 cells are kept in r; go on with:" in err
    assert (
        "capacity" in err and "--vary web.vms --slo gold.p99=1.5 --seeds 1" in err and err.rstrip().endswith("--resume")
    )


# ---- objectives, and what may be done with the folder


def test_objectives_are_held_against_the_decimals_of_records(shop):
    gold, every = parse(["gold.p99=1.05", "p50=1.2"], ["gold"])
    cell = search(shop()).cell("swap", 3, 1)
    record = blank(prepare(synthetic(256, seed=1)), cell)
    done = replace(record, status="done", reason="", derived={"slowdown_p99.gold": "1.050", "slowdown_p50": "1.201"})
    judged = judge(done, [gold, every])
    assert judged.values == (Decimal("1.050"), Decimal("1.201")) and judged.broken == (1,) and not judged.meets
    idle = replace(done, derived={"slowdown_p99.gold": "", "slowdown_p50": "1.000"})
    assert judge(idle, [gold, every]).meets
    assert not judge(record, [gold]).meets and judge(record, [gold]).broken == ()


def test_a_search_is_planned_again_from_its_folder_and_its_cells_run_again(shop, memvirt):
    file = shop(touched=100, load="all")
    words = ("--vary", "web.vms", "--slo", "gold.p99=1.01", *ALIKE, "--preset", "swap", "--between", "10,18")
    assert memvirt("capacity", file, *words, "--out", "r")[0] == 0
    told, records = read_manifest("r"), load("r")
    assert is_of(told, file) and not is_of(told, str(plan.suite.SUITES.file("day")))
    (check,) = run_again(told, records, 1, file, lambda corpus: synthetic(512, seed=1), CORPUS)
    assert check.standing.name in ("PASS", "SKIP"), check


def test_the_figure_shows_every_size_its_limit_and_the_answer(shop, tmp_path):
    made = search(shop(), presets=["swap", "zcache"], slo=["gold.p99=1.05"])
    found = searched(made, tmp_path / "r", lambda size, seed, _: None if size > 30 else 1 + size / (400 + seed))
    ((scene,),) = data.scenes(read_runs([tmp_path / "r"]))
    figure = make(KINDS["capacity"], [scene]).figure
    rows = figure["data"]["values"]
    sizes = {size for column in found.columns for seed in found.known(column).values() for size in seed}
    assert {row["size"] for row in rows} == {size for size in sizes if size <= 30}
    assert {row["limit"] for row in rows} == {1.05} and max(row["value"] for row in rows) <= 1 + 2.5 * 0.05 + 1e-9
    assert [row["size"] for row in rows if row["answer"]] == [20, 20]
    assert "is ringed: swap 20, zcache 20" in figure["description"]
    drawn = draw(figure, "svg", 1)
    assert b"gold.p99, at most 1.05" in drawn


def test_pages_of_other_runs_say_nothing_of_a_search(shop, memvirt, tmp_path):
    searched(search(shop()), tmp_path / "r", lambda size, *_: 1 + size / 400)
    assert memvirt("report", "r", "-o", "r.html")[0] == 0
    page = (tmp_path / "r.html").read_text()
    assert "How large the fleet may be" in page and ">web.vms<" in page and "20 web VMs meet gold.p99=1.05" in page
    assert "memvirt capacity" in page and "--vary web.vms" in page
    assert memvirt("run", "quick", "--tier", "smoke", "--preset", "swap", "--corpus", CORPUS, "--out", "q")[0] == 0
    assert memvirt("report", "q", "-o", "q.html")[0] == 0
    assert "fleet may be" not in (tmp_path / "q.html").read_text()
    assert memvirt("plot", "q", "--figure", "capacity", "--out", "f")[0] == 2
