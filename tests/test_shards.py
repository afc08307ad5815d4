"""A run in parts: every cell in one part, and merged it is the run that it would have been in one."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from helpers.suites import scenario, suite
from memvirt import cli
from memvirt.cli.jobs import part_of
from memvirt.errors import ConfigError
from memvirt.experiment import plan
from memvirt.experiment.cell import prepare
from memvirt.experiment.loop import manifest, run_plan
from memvirt.inputs import synthetic
from memvirt.results.manifest import FolderError
from memvirt.results.record import comparable
from memvirt.results.run_folder import Results, load, read_manifest, unfinished
from memvirt.results.shards import Shard, merge

SUITE = suite(
    scenario("zipf", (150,), measured='workload = "zipf", accesses = 2000, write_percent = 30'),
    name="tiny",
    presets=("swap", "zcache"),
    swap="16MiB",
    more="seeds = [1, 2]",
)
PARTS = 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders: the run in one, and its parts."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.toml").write_text(SUITE)
    whole, context = plan.make(str(folder / "tiny.toml")), prepare(synthetic(1024, seed=1))

    def run(made, path):
        with Results(path, manifest(made, context)) as results:
            list(run_plan(made, context, results))
        return path

    parts = []
    for number in range(1, PARTS + 1):
        part = dataclasses.replace(whole, shard=Shard(number, PARTS))
        if part.count():
            parts.append(run(part, folder / f"part-{number}"))
    return run(whole, folder / "whole"), parts


def test_every_cell_is_in_one_part_and_stays_there():
    names = [f"scenario-{number}--swap--s1" for number in range(2000)]
    for count in (1, 2, 7, 64):
        holders = [[number for number in range(1, count + 1) if Shard(number, count).holds(name)] for name in names]
        assert all(len(found) == 1 for found in holders)
        sizes = [sum(found == [number] for found in holders) for number in range(1, count + 1)]
        assert max(sizes) < 2 * len(names) / count
    assert Shard(3, 64).holds("scenario-62--swap--s1") == Shard.parse("3/64").holds("scenario-62--swap--s1")


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "0/0", "a/4", "1", "", "1/", "/4", "-1/4", "1/4/2", "1/1000000"])
def test_no_part(text):
    with pytest.raises(ConfigError, match=f"--shard {text}: "):
        Shard.parse(text)


def test_merged_parts_are_the_run_in_one(runs, tmp_path):
    whole, parts = runs
    assert len(parts) > 1
    kept, cells = merge([str(part) for part in parts[::-1]], tmp_path / "merged")
    assert kept == cells and unfinished(tmp_path / "merged") == (0, cells)
    merged = load(tmp_path / "merged")
    assert [comparable(record) for record in merged] == [comparable(record) for record in load(whole)]
    assert json.loads((tmp_path / "merged/run.json").read_text()) == json.loads((whole / "run.json").read_text())


def test_a_part_knows_what_it_runs(runs):
    _, parts = runs
    for part in parts:
        missing, cells = unfinished(part)
        assert missing == 0 and cells == len(load(part)) < len(json.loads((part / "run.json").read_text())["cells"])


def test_what_no_part_has_run_is_resumed(runs, tmp_path):
    whole, parts = runs
    kept, cells = merge([parts[0]], tmp_path / "merged")
    assert kept < cells
    tiny, context = plan.make(str(whole.parent / "tiny.toml")), prepare(synthetic(1024, seed=1))
    with Results(tmp_path / "merged", manifest(tiny, context), resume=True) as results:
        steps = list(run_plan(tiny, context, results))
    assert sum(step.resumed for step in steps) == kept and len(steps) == cells


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["versions"].update(lz4="0.0"), "versions: lz4: .* and 0.0"),
        (lambda data: data["inputs"].update(corpus="f" * 64), "inputs: corpus: "),
        (lambda data: data.update(commit="another"), "commit: .* and another"),
        (lambda data: data["cells"].update({"zipf-150--swap--s1": "0" * 64}), "cells: zipf-150--swap--s1: "),
    ],
)
def test_parts_of_unlike_runs_are_refused(runs, tmp_path, change, said):
    _, parts = runs
    other = tmp_path / "other"
    shutil.copytree(parts[1], other)
    data = json.loads((other / "run.json").read_text())
    change(data)
    (other / "run.json").write_text(json.dumps(data))
    with pytest.raises(FolderError, match=f"is not of the same run as .*{said}"):
        merge([parts[0], other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_two_records_of_a_cell_that_differ_are_refused(runs, tmp_path):
    whole, parts = runs
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    path = next(path for path in (other / "cells").iterdir() if (Path(parts[0]) / "cells" / path.name).exists())
    data = json.loads(path.read_text())
    data["sim_ns"] += 1
    path.write_text(json.dumps(data))
    with pytest.raises(FolderError, match=r"is not the one of .*sim_ns: \d+ and \d+"):
        merge([parts[0], other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_part_without_a_cell_is_no_error(runs, tmp_path, monkeypatch, capsys):
    """A batch system would try it again for ever."""
    tiny = plan.make(str(runs[0].parent / "tiny.toml"))
    empty = next(
        number for number in range(1, 65) if not any(Shard(number, 64).holds(cell.name) for cell in tiny.cells)
    )
    assert part_of(tiny, f"{empty}/64").count() == 0
    monkeypatch.chdir(tmp_path)
    words = ["memvirt", "run", str(runs[0].parent / "tiny.toml"), "--shard", f"{empty}/64", "--out", "out", "--json"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 0 and json.loads(said.out) == [] and not Path("out").exists()
    assert f"--shard {empty}/64: no cell of 4 is in this part; nothing was run" in said.err


def test_what_lies_beside_records_is_merged(runs, tmp_path):
    """Timings byte for byte, and claims; of two that are not the same neither is taken in silence."""
    _, originals = runs
    parts = [shutil.copytree(part, tmp_path / part.name) for part in originals]
    cells = [next(name for name in read_manifest(part).part if "baseline" not in name) for part in parts]
    for part, cell in zip(parts, cells, strict=True):
        (part / "timings").mkdir()
        (part / "timings" / f"{cell}.json").write_text(f"timed in {part.name}")
        (part / "timings" / ".half.json").write_text("killed")
        (part / "CLAIMS.toml").write_text("# none")
    merge(parts, tmp_path / "merged")
    merged = tmp_path / "merged"
    assert {file.name for file in (merged / "timings").iterdir()} == {f"{cell}.json" for cell in cells}
    assert (merged / "timings" / f"{cells[0]}.json").read_text() == f"timed in {parts[0].name}"
    assert (merged / "CLAIMS.toml").read_text() == "# none"
    for place, said in ((f"timings/{cells[0]}.json", "timings are not pooled"), ("CLAIMS.toml", "of a whole run")):
        one, other = parts[0] / place, parts[1] / place
        other.write_text("another")
        with pytest.raises(FolderError, match=f"{other}: is not the same as {one}; .*{said}: remove one"):
            merge(parts, tmp_path / "other")
        assert not (tmp_path / "other").exists()
        other.write_text(one.read_text())
    assert merge(parts, tmp_path / "other")[0] > 1


def test_a_part_of_tier_full_is_timed_when_it_is_merged(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = str(runs[0].parent / "tiny.toml")
    words = ["memvirt", "run", file, "--corpus", "synthetic", "--tier", "full", "--seed", "1", "--preset", "swap"]
    monkeypatch.setattr("sys.argv", [*words, "--shard", "1/1", "--out", "part", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 0 and not Path("part/timings").exists()
    assert (
        "when the parts are merged: " in said.err and "--tier full" in said.err and "--out WHOLE --resume" in said.err
    )
