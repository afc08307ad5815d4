"""Comparisons: what is refused, what is found, and when the exit code is 3."""

import json
from dataclasses import replace

import pyperf
import pytest
from typer.testing import CliRunner

from helpers import made_records
from memvirt.cli import APP
from memvirt.cli.compare import share
from memvirt.errors import ConfigError, TimingError
from memvirt.report.comparison import WALL, compare
from memvirt.report.comparison_text import compare_command
from memvirt.report.statistics import Verdict

made, folder = made_records.made, made_records.folder


def two(tmp_path, before, after):
    return [folder(tmp_path / "a", before), folder(tmp_path / "b", after)]


def found(paths):
    return {(each.case.cell, each.case.metric): each for each in compare(paths).differences}


def pyperf_file(path, benchmarks, **metadata):
    """A pyperf file; {name: [[values of a process], ...]}."""
    about = {"hostname": "here", "unit": "second", "python_version": "3.12", **metadata}
    pyperf.BenchmarkSuite(
        [
            pyperf.Benchmark(
                [pyperf.Run(values, metadata={**about, "name": name}, collect_metadata=False) for values in processes]
            )
            for name, processes in benchmarks.items()
        ]
    ).dump(str(path))
    return path


def test_equal_runs_are_equal_digit_for_digit(tmp_path):
    text, code = compare_command(two(tmp_path, [made()], [made()]), 0.0)
    assert code == 0 and "7 equal digit for digit" in text and "verdict" not in text


def test_a_worse_slowdown_is_found_and_gated(tmp_path):
    paths = two(tmp_path, [made(), made(preset="all")], [made(slowdown="2.200"), made(preset="all")])
    each = found(paths)["zipf-150--swap", "slowdown"]
    assert each.verdict is Verdict.WORSE and each.case.comparison.ratio == pytest.approx(1.1)
    assert compare_command(paths)[1] == 0, "no threshold, no gate"
    assert compare_command(paths, 0.05)[1] == 3
    assert compare_command(paths, 0.11)[1] == 0
    assert "Below 5 seeds" in compare_command(paths)[0]


def test_more_is_better_for_effective_overcommit(tmp_path):
    paths = two(tmp_path, [made(overcommit="1.500")], [made(overcommit="1.200")])
    assert found(paths)["zipf-150--swap", "effective overcommit"].verdict is Verdict.WORSE
    assert compare_command(paths, 0.20)[1] == 3 and compare_command(paths, 0.30)[1] == 0
    assert found(paths[::-1])["zipf-150--swap", "effective overcommit"].verdict is Verdict.BETTER


def test_within_a_hundredth_is_no_difference(tmp_path):
    paths = two(tmp_path, [made(slowdown="2.000")], [made(slowdown="2.010")])
    assert found(paths)["zipf-150--swap", "slowdown"].verdict is Verdict.SAME
    assert compare_command(paths, 0.0)[1] == 0


def test_from_zero_has_no_ratio_but_a_verdict(tmp_path):
    paths = two(tmp_path, [made(swap_pages=0)], [made(swap_pages=512)])
    text, code = compare_command(paths, 10.0)
    assert found(paths)["zipf-150--swap", "swap traffic"].verdict is Verdict.WORSE and code == 3
    row = next(line for line in text.splitlines() if "swap traffic" in line)
    assert row.split() == ["zipf-150--swap", "swap", "traffic", "0", "MiB", "2", "MiB", "–", "–", "1", "worse"]


def test_to_zero_is_better(tmp_path):
    paths = two(tmp_path, [made(faults=10)], [made(faults=0)])
    assert found(paths)["zipf-150--swap", "faults"].verdict is Verdict.BETTER
    assert compare_command(paths, 0.0)[1] == 0


def test_seeds_are_paired(tmp_path):
    """Seeds differ widely, each is slower by 10 %: paired, that is plain; unpaired it would drown."""
    before = [made(seed=seed, slowdown=f"{2.0**seed:.3f}") for seed in range(1, 7)]
    after = [made(seed=seed, slowdown=f"{2.0**seed * (1.1 + seed / 1000):.3f}") for seed in range(1, 7)]
    each = found(two(tmp_path, before, after))["zipf-150--swap", "slowdown"]
    assert each.verdict is Verdict.WORSE and each.case.comparison.n == 6
    assert 1.09 < each.case.comparison.interval.low < each.case.comparison.interval.high < 1.12


def test_seeds_that_disagree_are_inconclusive(tmp_path):
    before = [made(seed=seed, slowdown="2.000") for seed in range(1, 7)]
    after = [made(seed=seed, slowdown="3.000" if seed % 2 else "1.500") for seed in range(1, 7)]
    paths = two(tmp_path, before, after)
    assert found(paths)["zipf-150--swap", "slowdown"].verdict is Verdict.INCONCLUSIVE
    assert compare_command(paths, 0.0)[1] == 0


def test_a_cell_that_no_longer_ends_is_a_regression(tmp_path):
    stopped = made(status="exhausted", reason="vm1 stopped in phase fill after 9 accesses: no_frame")
    paths = two(tmp_path, [made()], [stopped])
    text, code = compare_command(paths, 10.0)
    assert code == 3 and "zipf-150--swap--s1: done before, exhausted after" in text
    assert compare_command(paths[::-1], 0.0)[1] == 0


def test_baselines_are_not_compared(tmp_path):
    records = [made(preset="baseline", role="baseline"), made()]
    assert all("baseline" not in cell for cell, _ in found(two(tmp_path, records, records)))


def test_several_are_each_compared_with_the_first(tmp_path):
    paths = [
        folder(tmp_path / name, [made(slowdown=slowdown)])
        for name, slowdown in zip("abc", ("2", "2", "4"), strict=True)
    ]
    verdicts = {e.case.other[-1]: e.verdict for e in compare(paths).differences if e.case.metric == "slowdown"}
    assert verdicts == {"b": Verdict.SAME, "c": Verdict.WORSE}


UNLIKE = {
    "suite": ({"suite": "other"}, "suite: tiny and other"),
    "tier": ({"tier": "full"}, "tier: quick and full"),
    "corpus": ({"inputs": {"corpus": "ff"}}, "input corpus: [0-9a-f]+ and ff"),
    "codec": ({"versions": {**made_records.VERSIONS, "lz4": "4.5"}}, "codec lz4: 4.4.5 and 4.5"),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_unlike_runs_are_refused_by_name(what, tmp_path):
    change, said = UNLIKE[what]
    with pytest.raises(ConfigError, match=f"unlike runs:\n{said}"):
        compare(two(tmp_path, [made()], [replace(made(), **change)]))


def test_every_unlikeness_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as refused:
        compare(two(tmp_path, [made()], [replace(made(), suite="other", tier="full")]))
    assert "suite" in str(refused.value) and "tier" in str(refused.value)


def test_a_scenario_that_does_something_else_is_refused_by_its_key(tmp_path):
    one, two_ = ({"scenario": {"name": "zipf", "measured": {"accesses": size}}} for size in (10, 20))
    with pytest.raises(ConfigError, match=r"cell zipf-150--swap--s1: scenario\.measured\.accesses: 10 and 20"):
        compare(two(tmp_path, [made(config=one)], [made(config=two_)]))


def test_the_file_of_a_decider_is_a_setting_and_told_by_its_hash(tmp_path):
    one, two_ = ({"scenario": {"name": "zipf"}, "files": {"host.balloon": sha}} for sha in ("a" * 64, "b" * 64))
    text, _ = compare_command(two(tmp_path, [made(config=one)], [made(config=two_)]), width=400)
    assert f"setting files.host.balloon: sha256 {'a' * 12} and sha256 {'b' * 12}, in every cell" in text.splitlines()[1]


def test_settings_that_differ_are_said_first_with_their_origin(tmp_path):
    one, two_ = ({"scenario": {"name": "zipf"}, "host": {"zpool_percent": size, "swap": "1MiB"}} for size in (10, 40))
    before = [made(config=one), made(preset="all")]
    after = [made(config=two_, origins={"zpool_percent": "--set"}, slowdown="3.000"), made(preset="all")]
    text, code = compare_command(two(tmp_path, before, after), 0.05, width=400)
    first = text.splitlines()[1]
    assert "setting host.zpool_percent: 10 (default of memvirt 0.1.0) and 40 (--set), in 1 of 2 cells" in first
    assert code == 3 and "swap: " not in first


def test_a_setting_that_older_records_do_not_have_is_no_default(tmp_path):
    one, two_ = ({"scenario": {"name": "zipf"}, "host": host} for host in ({}, {"psi": "linux"}))
    text, _ = compare_command(two(tmp_path, [made(config=one)], [made(config=two_)]), width=400)
    assert "setting host.psi: not recorded and linux (default of memvirt 0.1.0), in every cell" in text


def test_many_settings_are_counted(tmp_path):
    one, two_ = ({"scenario": {"name": "z"}, "host": {f"k{i}": value for i in range(9)}} for value in (1, 2))
    said = " ".join(compare_command(two(tmp_path, [made(config=one)], [made(config=two_)]))[0].split())
    assert "and 4 settings more" in said and said.count(" in every cell") == 5


def test_another_machine_is_told_and_the_moment_is_not(tmp_path):
    one = made(environment={"cpu_model": "A", "load_1min": "1", "kernel": "6"})
    two_ = made(environment={"cpu_model": "B", "load_1min": "9", "kernel": "6"})
    said = " ".join(compare_command(two(tmp_path, [one], [two_]))[0].split())
    assert "cpu model: A and B" in said and "load" not in said and "kernel" not in said


def test_memory_of_machines_is_told_in_gib_and_what_reads_alike_does_not_differ(tmp_path):
    one = made(environment={"memory_total_bytes": 25276510208, "cgroup_memory_max": "max"})
    two_ = made(environment={"memory_total_bytes": 2527651840, "cgroup_memory_max": "1073741824"})
    said = " ".join(compare_command(two(tmp_path, [one], [two_]))[0].split())
    assert "cgroup memory max: max and 1.0 GiB; memory total: 23.5 GiB and 2.4 GiB" in said
    near = made(environment={"memory_total_bytes": 25276518400, "cgroup_memory_max": "max"})
    assert "another machine" not in compare_command(two(tmp_path / "near", [one], [near]))[0]


def with_percentiles(median):
    record = made()
    return replace(record, derived={**record.derived, "sim_ns.swap.p50": median, "sim_ns.swap.p999": 9000})


def test_percentiles_of_every_fault_kind_are_compared(tmp_path):
    paths = two(tmp_path, [with_percentiles(1000)], [with_percentiles(2000)])
    each = found(paths)["zipf-150--swap", "swap fault p50"]
    assert each.verdict is Verdict.WORSE and each.case.unit == "ns" and each.case.comparison.ratio == 2
    assert found(paths)["zipf-150--swap", "swap fault p99.9"].case.equal
    assert compare_command(paths, 0.05)[1] == 3


def test_regressions_are_listed_the_worst_first(tmp_path):
    before = [made(preset=name) for name in "abcd"]
    after = [
        made(preset="a", slowdown="2.300"),
        made(preset="b", slowdown="9.000", faults=101),
        made(preset="c", slowdown="1.000"),
        made(preset="d", status="exhausted", reason="vm1: no_frame"),
    ]
    text, code = compare_command(two(tmp_path, before, after), 0.05, width=300)
    told = [line for line in text.splitlines() if line.startswith("regression: ")]
    assert code == 3 and len(told) == 3
    assert told[0].startswith("regression: zipf-150--d--s1: done before, exhausted after")
    assert "zipf-150--b: slowdown: 2 × before, 9 × after, ratio 4.500, n = 1" in told[1] and "--a: slowdown" in told[2]
    assert "regression:" not in compare_command(two(tmp_path / "x", before, before), 0.05)[0]


def test_the_mean_is_over_cells_that_all_runs_have_and_the_rest_is_named(tmp_path):
    stopped = made(preset="c", status="refused", reason="no")
    runs = [
        [made(preset="a"), made(preset="b"), made(preset="c"), made(preset="d"), made(preset="e", swap_pages=0)],
        [made(preset="a", slowdown="4.000"), made(preset="b"), stopped, made(preset="d"), made(preset="e")],
        [made(preset="a"), made(preset="b", slowdown="8.000"), made(preset="c"), made(preset="e")],
    ]
    paths = [folder(tmp_path / name, records) for name, records in zip("xyz", runs, strict=True)]
    outcome = compare(paths)
    means = {(each.other[-1], each.metric): each for each in outcome.overall}
    assert means["y", "slowdown"].ratio == pytest.approx(2 ** (1 / 3)) and means["y", "slowdown"].cells == 3
    assert means["z", "slowdown"].ratio == pytest.approx(4 ** (1 / 3))
    assert means["y", "swap traffic"].cells == 2 and means["y", "swap traffic"].without == ("zipf-150--e--s1",)
    assert [name.split(" ")[0] for name in outcome.left_out] == ["zipf-150--c--s1", "zipf-150--d--s1"]
    said = " ".join(compare_command(paths, width=400)[0].split())
    assert f"zipf-150--c--s1 (refused in {paths[1]})" in said and f"zipf-150--d--s1 (not in {paths[2]})" in said
    assert "over 3 cells that all have: " in said and "slowdown 1.260" in said
    assert "swap traffic" in said and "(of 2)" in said and "(of N): the other cells have no such number" in said
    data = json.loads(compare_command(paths, form="json")[0])
    assert data["schema"] == 2 and len(data["left_out"]) == 2 and data["overall"]


def test_another_memvirt_is_what_is_compared(tmp_path):
    other = replace(made(), versions={**made_records.VERSIONS, "memvirt": "0.2.0"}, commit="f" * 40)
    text, _ = compare_command(two(tmp_path, [made()], [other]))
    assert "another memvirt: memvirt 0.2.0, commit ffffffffffff" in " ".join(text.split())


def test_runs_without_a_common_cell_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="no cell in common: the first has zipf-150--a--s1, the second zipf-150--b--s1"
    ):
        compare(two(tmp_path, [made(preset="a")], [made(preset="b")]))
    with pytest.raises(ConfigError, match="the second none that is a column"):
        compare(two(tmp_path / "x", [made()], [made(role="baseline")]))


def test_paths_that_cannot_be_compared_are_refused(tmp_path):
    run = folder(tmp_path / "a", [made()])
    file = pyperf_file(tmp_path / "t.json", {"x": [[1.0]]})
    for paths, said in (
        ([run], "needs two"),
        ([run, file], "not one with the other"),
        ([run, run], "named twice"),
        ([run, tmp_path / "none"], "does not exist"),
    ):
        with pytest.raises(ConfigError, match=said):
            compare(paths)
    with pytest.raises(ConfigError, match="threshold of -1"):
        compare_command([run, run], -1.0)
    with pytest.raises(ConfigError, match="unknown format 'xml'"):
        compare_command([run, run], form="xml")


SLOW = [[1.20 + i / 1000] for i in range(10)]
FAST = [[1.00 + i / 1000] for i in range(10)]


def test_pyperf_files_are_compared_by_process_means(tmp_path):
    paths = [pyperf_file(tmp_path / "a.json", {"x": FAST}), pyperf_file(tmp_path / "b.json", {"x": SLOW})]
    each = found(paths)["x", WALL]
    assert each.verdict is Verdict.WORSE and each.case.comparison.n == 10 and each.case.ranks.delta == 1.0
    assert compare_command(paths, 0.1)[1] == 3 and compare_command(paths, 0.3)[1] == 0
    assert compare_command(paths[::-1], 0.0)[1] == 0


def test_equal_timings_are_not_called_equal_digit_for_digit(tmp_path):
    paths = [pyperf_file(tmp_path / f"{name}.json", {"x": [[1.0]] * 6}) for name in "ab"]
    text, code = compare_command(paths, 0.0)
    assert "1 no difference" in text and "digit" not in text and code == 0


def test_few_processes_are_inconclusive_and_never_gate(tmp_path):
    paths = [pyperf_file(tmp_path / "a.json", {"x": FAST[:3]}), pyperf_file(tmp_path / "b.json", {"x": SLOW[:3]})]
    assert found(paths)["x", WALL].verdict is Verdict.INCONCLUSIVE
    text, code = compare_command(paths, 0.0)
    assert code == 0 and "no verdict below 5 processes a side" in " ".join(text.split())


def test_five_processes_decide_however_many_rows_there_are(tmp_path):
    """The exact rank test never could: 2 / C(10, 5) * 30 rows = 0.24."""
    one = {f"x{row}": FAST[:5] for row in range(30)}
    two_ = {f"x{row}": SLOW[:5] for row in range(30)}
    paths = [pyperf_file(tmp_path / "a.json", one), pyperf_file(tmp_path / "b.json", two_)]
    differences = compare(paths).differences
    assert len(differences) == 30 and {each.verdict for each in differences} == {Verdict.WORSE}
    assert not any(each.disputed for each in differences)


def test_before_after_and_ratio_are_of_one_kind(tmp_path):
    """Of skewed times, too: geometric means, so that the columns of a row agree."""
    one, two_ = [[1.0], [1.0], [1.0], [1.0], [9.0]], [[2.0], [2.0], [2.0], [8.0], [2.0]]
    case = found([pyperf_file(tmp_path / f"{n}.json", {"x": v}) for n, v in (("a", one), ("b", two_))])["x", WALL].case
    assert case.after / case.before == pytest.approx(case.comparison.ratio)
    assert case.before == pytest.approx(9 ** (1 / 5))


def test_the_rank_test_is_heard_and_decides_nothing(tmp_path):
    """Fourteen times hardly differ, five are slower by half, one is the fastest of all: in ranks that is next to nothing."""
    one = [[1 + i / 1e4] for i in range(20)]
    two_ = [[1 + (i + 1) / 1e4] for i in range(14)] + [[1.5], [1.55], [1.45], [1.5], [1.52], [0.99]]
    paths = [pyperf_file(tmp_path / f"{n}.json", {"x": v}) for n, v in (("a", one), ("b", two_))]
    each = found(paths)["x", WALL]
    assert each.case.ranks.p > 0.05 > each.case.comparison.p
    assert each.verdict is Verdict.WORSE and each.disputed
    text = compare_command(paths)[0]
    assert "x: worse by Welch's test, but Mann-Whitney's sees no difference (p = " in text
    data = json.loads(compare_command(paths, form="json")[0])["differences"][0]
    assert data["rank_p"] == each.case.ranks.p and data["p"] == data["corrected_p"] < 0.05


def test_p_values_are_corrected_across_the_table(tmp_path):
    paths = [
        pyperf_file(tmp_path / f"{name}.json", dict.fromkeys(("x", "y", "z"), values))
        for name, values in (("a", FAST), ("b", [[value + 0.004] for [value] in FAST]))
    ]
    for each in compare(paths).differences:
        assert each.corrected_p == pytest.approx(3 * each.case.comparison.p)


def test_many_values_in_one_process_are_one(tmp_path):
    paths = [
        pyperf_file(tmp_path / "a.json", {"x": [[1.0] * 50]}),
        pyperf_file(tmp_path / "b.json", {"x": [[2.0] * 50]}),
    ]
    assert found(paths)["x", WALL].verdict is Verdict.INCONCLUSIVE


def test_timings_of_unlike_machines_are_refused(tmp_path):
    paths = [
        pyperf_file(tmp_path / "a.json", {"x": FAST}),
        pyperf_file(tmp_path / "b.json", {"x": FAST}, hostname="there"),
    ]
    with pytest.raises(ConfigError, match="hostname: here and there"):
        compare(paths)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"version": "1.0", "benchmarks": []}', "\0"])
def test_what_is_no_pyperf_file_is_refused(content, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text(content)
    with pytest.raises(TimingError, match=r"bad\.json"):
        compare([pyperf_file(tmp_path / "a.json", {"x": FAST}), bad])


def test_a_time_without_end_is_refused_by_name(tmp_path):
    """pyperf writes and reads it."""
    paths = [pyperf_file(tmp_path / f"{n}.json", {"x": [[1.0], [v]]}) for n, v in (("a", 1.0), ("b", float("inf")))]
    with pytest.raises(TimingError, match=r"b\.json: benchmark x holds a value that is not finite"):
        compare(paths)


def test_timings_in_folders_are_compared_too(tmp_path):
    paths = two(tmp_path, [made()], [made()])
    for path, values in zip(paths, (FAST, SLOW), strict=True):
        (path / "timings").mkdir()
        pyperf_file(path / "timings" / "zipf-150--swap--s1.json", {"zipf-150--s1": values}, mv_preset="swap")
    assert found(paths)["zipf-150--s1 swap", WALL].verdict is Verdict.WORSE
    (paths[1] / "timings" / "zipf-150--swap--s1.json").unlink()
    (paths[1] / "timings").rmdir()
    assert "wall times are not compared" in compare_command(paths)[0]


def test_json_says_the_same(tmp_path):
    text, code = compare_command(two(tmp_path, [made()], [made(slowdown="2.200")]), 0.05, form="json")
    data = json.loads(text)
    slowdown = next(each for each in data["differences"] if each["metric"] == "slowdown")
    assert (code, data["regressions"], slowdown["verdict"], slowdown["equal"]) == (3, 1, "worse", False)


def test_the_command_says_it_and_ends_with_its_code(tmp_path):
    a, b = map(str, two(tmp_path, [made()], [made(slowdown="2.200")]))
    run = CliRunner()
    said = run.invoke(APP, ["compare", a, b, "--threshold", "5%"])
    assert said.exit_code == 3 and "worse" in said.stdout
    assert run.invoke(APP, ["compare", a, b, "--threshold", "20%"]).exit_code == 0
    assert json.loads(run.invoke(APP, ["compare", a, b, "--json"]).stdout)["regressions"] == 0


@pytest.mark.parametrize("threshold", ["0.05", "x%", "5", "%"])
def test_a_threshold_is_a_percentage(threshold):
    with pytest.raises(ConfigError, match="as in 5%"):
        share(threshold)


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_fits_its_terminal(width, tmp_path):
    text, _ = compare_command(two(tmp_path, [made()], [made(slowdown="3", faults=7)]), width=width)
    rows = [line for line in text.splitlines() if "/" not in line]
    assert max(map(len, rows)) <= width


def test_metrics_that_lack_the_same_cells_are_told_together_in_one_line(tmp_path):
    """And one cell stands for all of them."""
    idle = [made(preset="idle", seed=seed, faults=0, p99_ns=0, swap_pages=0) for seed in range(1, 9)]
    both = [made(), made(seed=2)]
    text, _ = compare_command(two(tmp_path, [*both, *idle], [made(slowdown="3.000"), both[1], *idle]), width=400)
    told = [line for line in text.splitlines() if "(of N)" in line]
    assert told == ["(of N): the other cells have no such number, or nothing of it on one side (--json names them)"]
