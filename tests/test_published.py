"""What is published is true: README's table is made from the records in results/, and those come out again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memvirt.experiment import plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.inputs import keep, make_default, synthetic
from memvirt.report import terminal
from memvirt.report.export import WRITERS
from memvirt.results import run_folder
from memvirt.results.record import comparable

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "results" / "quick"
MAY_DIFFER = {"commit", "versions"}
MEND = "results/README.md says how to make them again"


@pytest.fixture(scope="module")
def published():
    return {record.cell: record for record in run_folder.load(FOLDER)}


def test_readme_prints_the_table_of_the_published_records(published):
    block = re.search(r"```\n(zipf: .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    lines = iter(terminal.text(list(published.values()), shown=run_folder.read_manifest(FOLDER).shown).splitlines())
    for line in block.splitlines():
        assert line in lines, f"not in the table, or not at this place: {line!r}; {MEND}"


def test_the_table_in_results_is_that_of_the_records(published):
    assert (ROOT / "results" / "quick.md").read_text().rstrip() == WRITERS["md"](
        list(published.values()), run_folder.read_manifest(FOLDER).shown
    ).rstrip(), MEND


def test_the_published_run_is_whole(published):
    assert run_folder.unfinished(FOLDER) == (0, len(published)) and len(published) == plan.make("quick").count()
    assert all(record.verified for record in published.values() if record.status == "done")


def test_readme_s_commands_run_as_they_stand(tmp_path, monkeypatch):
    """One after the other, only smaller: the preset that refuses most, a smoke run, a corpus of 1 MiB."""
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    make_default(keep(synthetic(4096, seed=1), tmp_path / "cache"))
    using = (ROOT / "README.md").read_text().split("## Using it")[1].split("As a library")[0]
    commands = re.findall(r"^    memvirt (.*?)\s*(?:#.*)?$", using, re.MULTILINE)
    assert {command.split()[0] for command in commands} >= {"run", "table", "compare", "explain", "corpus", "doctor"}
    first = "run quick --corpus synthetic --out results/quick"  # what compare finds in a checkout
    less = {"run": "--tier smoke --preset none", "corpus capture": "--size 1MiB --classes heap,numeric"}
    for command in [first, *commands]:
        asked = re.sub(r"--preset \S+ ?", "", command).split()
        asked += less.get(asked[0], less.get(" ".join(asked[:2]), "")).split()
        done = subprocess.run([sys.executable, "-m", "memvirt", *asked], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"memvirt {command}: {done.stderr}"


@pytest.mark.parametrize("name", ["zipf-150--all--s1", "clone-storm-100--swap--s1"])
def test_published_records_come_out_again(published, name):
    made, run = plan.make("quick"), prepare(synthetic(8192, seed=1))
    told = published[name]
    ours = ("lz4", "lz4_route")
    if {key: run.versions[key] for key in ours} != {key: told.versions[key] for key in ours}:
        pytest.skip("another LZ4, or another route to it: compressed sizes may differ")
    cell = next(cell for cell in made.cells if cell.name == name)
    again = comparable(run_cell(run, cell, published[made.baseline_of(cell).name]))
    then = comparable(told)
    assert {key for key in then if again[key] != then[key]} <= MAY_DIFFER, MEND
