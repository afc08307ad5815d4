"""What would keep a run from its end is said before its first cell, all at once, and by --dry-run as well."""

import json
import os
import subprocess
import sys

import pytest

from memvirt import environment
from memvirt.cli.compare import share
from memvirt.errors import ConfigError
from memvirt.experiment import plan, pool, prediction
from memvirt.experiment.overrides import sort_out
from memvirt.experiment.prediction import need
from memvirt.experiment.preflight import shortages
from memvirt.results import run_folder
from memvirt.settings.config import HostConfig
from memvirt.settings.costs import load

QUICK = ("run", "quick", "--tier", "smoke", "--corpus", "synthetic", "--preset", "swap,zcache")

OWN = """
schema = 1
name = "own"
title = "Own"
description = "A column that lacks something"
variants = [{ name = "low", preset = "swap", set = { watermarks = { low = 9 } } }]
[host]
memory = "8MiB"
swap = "32MiB"
[[scenarios]]
name = "zipf"
description = "Few pages are hot."
overcommit_percent = [150]
fleet = { vms = 2, memory = "4MiB", touched_percent = 90 }
measured = { workload = "zipf", accesses = 4000, write_percent = 30 }
"""


def memvirt(*words, cwd, **environment_):
    command = [sys.executable, "-m", "memvirt", *words]
    env = {**os.environ, **environment_}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--corpus", "nosuch"), "corpus nosuch"),
        (("--out", "file"), "file: is a file, not a folder; use another --out"),
        (("--out", "file/x"), "cannot be made"),
        (("--resume",), "no run of suite 'quick' to resume"),
        (("--out", "full"), "full: holds something else (notes.txt)"),
        (("--set", "swap=1TiB"), "of disk in"),
        (("--set", "memory=512GiB"), "of this machine's memory"),
        (("--seed", "99999999999999999999999"), "--seed 99999999999999999999999: a seed is a whole number, 0 to"),
        (("--seed", "1,x"), "--seed x: a seed is a whole number"),
        (("--preset", "nosuch", "--set", "nosuch=1"), "no setting is called 'nosuch'"),
        (("--executor", "nosuch:x"), "--executor nosuch:x: cannot be imported: ModuleNotFoundError"),
        (("--executor", "dask://nowhere"), "--executor dask://nowhere: names no place"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_it_ends_with_2_before_a_cell_runs(tmp_path, words, said, dry):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    done = memvirt(*QUICK, *words, *(["--dry-run"] if dry else []), cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "" and said in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"], "nothing was made"


def test_all_of_it_is_said_at_once(tmp_path):
    (tmp_path / "file").touch()
    words = ("--out", "file", "--corpus", "nosuch", "--set", "memory=512GiB", "--dry-run")
    done = memvirt(*QUICK, *words, cwd=tmp_path)
    assert [word in done.stderr for word in ("is a file", "corpus nosuch", "machine's memory")] == [True] * 3


def test_a_dry_run_captures_no_corpus(tmp_path):
    words = ("run", "quick", "--tier", "smoke", "--preset", "swap", "--dry-run")
    done = memvirt(*words, cwd=tmp_path, MEMVIRT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0 and "nothing was run" in done.stderr and not (tmp_path / "cache").exists()


def test_a_dry_run_for_programs_has_numbers(tmp_path):
    (cell, *_) = json.loads(memvirt(*QUICK, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert isinstance(cell["accesses"], int) and isinstance(cell["seconds"], float)


def test_a_class_that_the_corpus_lacks_is_found_by_a_dry_run(tmp_path):
    words = ("run", "quick", "--tier", "smoke", "--corpus", "synthetic", "--fill", "image=kernel", "--dry-run")
    done = memvirt(*words, cwd=tmp_path)
    assert done.returncode == 2 and "it has no class 'kernel'" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("guest.swappiness=10", "is a guest's; write --set vm.guest.swappiness=10"),
        ("swappiness=10", "is a guest's; write --set vm.guest.swappiness=10"),
        ("fleet.vms=3", r"belongs to a scenario; put it under \[scenarios.fleet\]"),
        ("touched_percent=3", r"belongs to a scenario; put it under \[scenarios.fleet\]"),
        ("aging.cycles=3", r"belongs to a scenario; put it under \[scenarios.aging\]"),
        ("host.zpool_percent=3", "write --set zpool_percent=3"),
        ("host.x=1", "no setting is called 'x'"),
        ("host.guest=true", "is a VM's; write --set vm.guest=true, or put it under"),
        ("limit_percent=90", "is a VM's; write --set vm.limit_percent=90"),
        ("warm_up.accesses=3", r"belongs to a scenario; put it under \[scenarios.warm_up\]"),
        ("costs.hit=3", "is one number of a cost model, and a model is whole"),
        ("seed=5", "write --seed 5"),
        ("zpool_percnt=3", "no setting is called 'zpool_percnt'; did you mean 'zpool_percent'"),
        ("zpool_percent", "is not KEY=VALUE"),
    ],
)
def test_a_setting_in_the_wrong_place_is_told_the_right_one_once(text, said):
    with pytest.raises(ConfigError, match=f"^--set {text}: {said}") as caught:
        plan.make("quick", "smoke", overrides=[text])
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


def test_a_remedy_that_is_named_works():
    assert (
        plan.make("quick", "smoke", only=["balloon"], overrides=["vm.guest.swappiness=10"]).cells[0].guest.swappiness
        == 10
    )


def test_who_refuses_a_setting_is_named_and_the_others_run_without_it():
    """quick's fleet has epochs of 6 s; its other scenarios have no objection to marks every second."""
    setting = ["harvest_interval=1s"]
    with pytest.raises(
        ConfigError, match="^scenario fleet: harvest_interval 1s is shorter .*; give 30s or more, .*--scenario$"
    ):
        plan.make("quick", "smoke", overrides=setting)
    rest = [scenario.name for scenario in plan.make("quick", "smoke").suite.scenarios if scenario.name != "fleet"]
    made = plan.make("quick", "smoke", scenarios=rest, overrides=setting)
    assert {cell.host.harvest_interval for cell in made.cells} == {10**9}
    assert made.asked.words()[4:] == [word for name in rest for word in ("--scenario", name)] + ["--set", *setting]


def test_a_scenario_alone_has_the_cells_that_it_has_in_its_suite():
    for name in ("quick", "sharing"):
        whole = {cell.name: cell.sha256() for cell in plan.make(name, "smoke").in_order()}
        one = plan.make(name, "smoke").suite.scenarios[1].name
        alone = {cell.name: cell.sha256() for cell in plan.make(name, "smoke", scenarios=[one]).in_order()}
        assert alone.items() < whole.items() and len({cell.rpartition("-s")[0] for cell in alone}) > 1
    with pytest.raises(
        ConfigError, match=r"^--scenario zpf: suite 'quick' has none .*; did you mean 'zipf'\? \(there are: fl"
    ):
        plan.make("quick", "smoke", scenarios=["zpf"])


def test_the_command_line_takes_scenarios(tmp_path):
    words = ("run", "quick", "--tier", "smoke", "--preset", "swap", "--dry-run", "--json", "--corpus", "synthetic")
    done = memvirt(*words, "--scenario", "zipf,scan", "--set", "harvest_interval=1s", cwd=tmp_path)
    assert done.returncode == 0 and '"zipf-100--swap--s1"' in done.stdout and "fleet" not in done.stdout, done.stderr
    done = memvirt(*words, "--scenario", ",", cwd=tmp_path)
    assert done.returncode == 2 and "--scenario: names no scenario; leave it out" in done.stderr


def test_a_key_given_twice_is_refused():
    usable, problems = sort_out(["zpool_percent=1", "swap=0", " zpool_percent =2"], set(HostConfig.model_fields))
    assert usable == ["swap=0"] and len(problems) == 2 and "is set twice; keep one of them" in problems[0]


@pytest.mark.parametrize("text", ["memory=1MiB", "zpool_percent=1", "vm.guest.swappiness=3"])
def test_what_does_nothing_to_traces_is_refused(text):
    with pytest.raises(ConfigError, match="does nothing in a suite of traces"):
        plan.make("replacement", "smoke", overrides=[text])
    assert plan.make("replacement", "smoke", only=["lru"], overrides=["replacement=lru"])


def test_guests_settings_without_guests_are_refused():
    with pytest.raises(ConfigError, match="no column has guests; add --set vm.guest=true"):
        plan.make("quick", "smoke", only=["swap"], overrides=["vm.guest.swappiness=10"])


def test_the_error_of_a_nested_override_names_the_override():
    with pytest.raises(ConfigError, match=r"^--set decider_options.foo=3: given, but no decider is"):
        plan.make("quick", "smoke", only=["swap"], overrides=["decider_options.foo=3"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("watermarks.low=3", ["watermarks.min: is required", "watermarks.high: is required"]),
        ("watermarks={min=3}", ["watermarks.low: is required", "watermarks.high: is required"]),
        ("swap_device.read_latency_ns=3", ["swap_device.write_latency_ns: is required"]),
        ("sharing_options={foo=1}", ["given, but sharing is off"]),
    ],
)
def test_what_an_override_lacks_is_told_of_it_and_of_no_shipped_file(text, said):
    with pytest.raises(ConfigError) as caught:
        plan.make("quick", "smoke", only=["swap", "sharing"], overrides=[text])
    assert all(f"--set {text}: {each}" in str(caught.value) for each in said) and ".toml" not in str(caught.value)


def test_what_a_suite_sets_is_told_of_its_column(tmp_path):
    suite = tmp_path / "own.toml"
    suite.write_text(OWN)
    with pytest.raises(ConfigError, match="^column low of suite own: watermarks.min: is required") as caught:
        plan.make(str(suite), "smoke")
    assert "presets/" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    interval_ns = 0\n    def decide(self, snapshot): ...\n", "interval_ns is 0"),
        ("    def decide(self): ...\n", "decide(self, snapshot) is needed"),
        (
            "    interval_ns = 9\n    def __init__(self): raise ValueError('no')\n    def decide(self, snapshot): ...\n",
            "ValueError: no (own.py:3)",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_told_of_the_option_that_named_it(tmp_path, body, said):
    file = tmp_path / "own.py"
    file.write_text(f"class Mine:\n{body}")
    with pytest.raises(ConfigError) as caught:
        plan.make("quick", "smoke", only=[f"{file}:Mine"])
    assert str(caught.value).startswith(f"--policy {file}:Mine: ") and said in str(caught.value)
    assert ".toml" not in str(caught.value)


def test_two_columns_of_one_name_are_told_by_what_was_typed(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("class Mine:\n    def decide(self, snapshot): ...\n")
    with pytest.raises(
        ConfigError, match=r"two columns 'Mine': .*a.py:Mine and .*b.py:Mine; rename one, or leave it out"
    ):
        plan.make("quick", "smoke", only=[f"{tmp_path}/a.py:Mine", f"{tmp_path}/b.py:Mine"])
    with pytest.raises(ConfigError, match="two columns 'swap': swap, twice; leave one out"):
        plan.make("quick", "smoke", only=["swap", "swap"])


def test_two_runs_at_once_have_a_folder_each(tmp_path):
    names = {run_folder.claimed_folder(tmp_path / "results", "quick").name for _ in range(3)}
    assert names == {"quick-001", "quick-002", "quick-003"}
    assert run_folder.next_folder(tmp_path / "results", "quick").name == "quick-004"


def test_cells_that_cannot_be_read_are_no_missing_cells(tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(run_folder, "read_manifest", lambda folder: None)
    with pytest.raises(run_folder.FolderError, match="cells: cannot be read: No such file"):
        run_folder.load(tmp_path)


def test_a_baseline_that_is_too_large_asks_for_a_smaller_fleet(monkeypatch):
    cells = list(plan.make("quick", "smoke", only=["swap"]).in_order())
    monkeypatch.setattr("memvirt.experiment.preflight.memory_problem", lambda needed: "needs more")
    (said,) = shortages(cells)
    assert "baseline" in said and "smaller fleet" in said and "--set memory" not in said


def test_cells_beside_each_other_have_to_fit_together(monkeypatch):
    """Fingerprint hosts take no memory for pages, and much for what is known of them: a host of 32 GiB takes gigabytes."""
    cells = list(plan.make("day", "full", only=["swap"]).in_order())
    each = max(need(cell).memory_bytes for cell in cells)
    assert each > 4 << 30
    monkeypatch.setattr(environment, "meminfo", lambda root: {"MemAvailable": 2 * each})
    monkeypatch.setattr(pool, "memory_limit", lambda: 2 * each)
    monkeypatch.setattr(pool, "cores", lambda: 16)
    assert pool.auto_jobs(cells) == 2 and shortages(cells, 2) == []
    (said,) = shortages(cells, 3)
    assert "3 cells at a time" in said and "fewer --jobs, or auto" in said


def test_disk_is_that_of_the_folder_of_swap_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path))
    assert environment.disk_problem(1 << 20) == ""
    assert f"of disk in {tmp_path}" in environment.disk_problem(1 << 60)
    monkeypatch.setenv("MEMVIRT_SWAP_DIR", str(tmp_path / "nowhere"))
    assert "No such file" in environment.disk_problem(0)


def test_what_is_slow_is_predicted_to_be(monkeypatch):
    """Of processor time measured on this suite: lz4 half again as much as swap, zstd three, lz4hc six to ten times."""
    cells = list(plan.make("compress-vs-swap", "quick", only=["swap", "lz4", "zstd", "lz4hc"]).in_order())
    spent = {
        column: sum(prediction.seconds(cell) for cell in cells if cell.preset == column)
        for column in ("swap", "lz4", "zstd", "lz4hc", "baseline")
    }
    assert spent["baseline"] < spent["swap"] < spent["lz4"] < spent["zstd"] < spent["lz4hc"]
    assert 1.2 < spent["lz4"] / spent["swap"] < 3 and 4 < spent["lz4hc"] / spent["swap"] < 16


def test_the_samples_of_tier_full_are_counted():
    cells = list(plan.make("quick", "full", only=["swap"]).in_order())
    first = [cell for cell in cells if cell.seed == 1 and cell.spec.times_wall]
    assert prediction.timings_s(cells, 20) == pytest.approx(20 * sum(prediction.seconds(cell) + 1.5 for cell in first))


def test_what_cells_know_of_the_pages_that_they_are_filled_from_is_found_out_once():
    """Of the cells that are filled from the same pages only the first makes a table; where content is bytes, none does."""
    for suite, column, firsts in (
        ("noisy-neighbour", "swap", {"leak-100--swap--s1", "greedy-100--swap--s1"}),
        ("sharing", "ksm", None),
    ):
        cells = list(plan.make(suite, "quick", only=[column]).in_order())
        for cell, each in zip(cells, prediction.seconds_after_another(cells), strict=True):
            alone = prediction.seconds(cell)
            if firsts is None or cell.name in firsts:
                assert each == alone
            else:
                assert 0.5 < alone - each < 0.8 and 0.4 < each < 0.6


def test_a_run_that_is_slower_than_predicted_takes_longer_to_its_end():
    cells = list(plan.make("quick", "smoke", only=["swap"]).in_order())
    pace = prediction.Forecast(cells)
    whole = pace.left_s(0)
    pace.note(0, 3 * prediction.seconds(cells[0]))
    assert pace.left_s(1) == pytest.approx(3 * (whole - prediction.seconds(cells[0])))


@pytest.mark.parametrize("text", ["5", "-5%", "nan%", "inf%", "x%", "%"])
def test_a_threshold_that_is_no_percentage_is_shown_as_it_was_typed(text):
    with pytest.raises(ConfigError, match=f"^--threshold {text}: give a percentage from 0 up, as in 5%"):
        share(text)
    assert share("5%") == 0.05 and share("0%") == 0


def test_what_a_slowdown_means_is_said(tmp_path):
    said = memvirt("describe", "slowdown", cwd=tmp_path, COLUMNS="100").stdout
    assert "nothing is computed in between" in said and "(T + 100 s) / (T + 100)" in said
    assert f"(hit, {load('default').hit} ns" in said


def test_a_decider_that_is_asked_often_is_predicted_to_take_long():
    """Of day at 1.00 in tier quick: 12 VMs, ten minutes, and a decision each ms: 600,000 of 124 us, 74 s."""
    often, never = (plan.make("day", only=[preset], seeds=[1]).cells[0] for preset in ("balloon", "swap"))
    assert 70 < prediction.seconds(often) - prediction.seconds(never) < 80
