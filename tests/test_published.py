"""What is published is true: README's table is made from the records in results/, and those come out again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import reproduce

from memvirt.experiment import plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.inputs import keep, make_default, synthetic
from memvirt.results import run_folder
from memvirt.results.record import comparable

ROOT = Path(__file__).parents[1]
MAY_DIFFER = {"commit", "versions"}
MEND = "'make reproduce' makes it again"

PACKED = sorted(path.name.removesuffix(".tar.xz") for path in (ROOT / "results").glob("*.tar.xz"))
EVERY = [reproduce.WHOLE, *PACKED]


@pytest.fixture(scope="module")
def published():
    """The records of a suite, by cell; of every suite once."""
    found = {}

    def of(name):
        if name not in found:
            with reproduce.records_of(name) as folder:
                found[name] = {record.cell: record for record in run_folder.load(folder)}
                assert run_folder.unfinished(folder) == (0, len(found[name])), MEND
        return found[name]

    return of


@pytest.mark.parametrize("name", EVERY)
def test_tables_and_readme_follow_from_the_records(name):
    assert reproduce.differing(name) == [], MEND


@pytest.mark.parametrize("name", EVERY)
def test_published_claims_held(name):
    assert reproduce.claims_failed(name) == []


@pytest.mark.parametrize("name", EVERY)
def test_the_published_run_is_whole(name, published):
    wanted = {cell.name: cell.sha256() for cell in plan.make(name).in_order()}
    assert {cell: record.config_sha256 for cell, record in published(name).items()} == wanted, MEND
    assert all(record.verified for record in published(name).values() if record.status == "done")


def test_a_folder_packs_into_the_same_bytes_and_comes_back(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "mine"
    (run / "cells").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "cells" / "a.json").write_text("[1]")
    packed = reproduce.pack(run)
    (run / "run.json").touch()
    assert reproduce.pack(run) == packed
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    (tmp_path / "mine.tar.xz").write_bytes(packed)
    with reproduce.records_of("mine") as folder:
        assert (folder / "cells" / "a.json").read_text() == "[1]"


def test_what_readme_quotes_is_replaced_and_nothing_else():
    readme = "# A\n\n```\nold\n```\n\n```\nother\n```\n"
    assert reproduce.with_quote(readme, "new") == readme.replace("old", "new")


def cells_to_repeat():
    """Two of quick, and of the others the one whose VMs ran for the shortest time."""
    yield from ((reproduce.WHOLE, name) for name in ("zipf-150--all--s1", "clone-storm-100--swap--s1"))
    yield from ((name, "") for name in PACKED)


def test_readme_s_commands_run_as_they_stand(tmp_path, monkeypatch):
    """One after the other, only smaller: the preset that refuses most, a smoke run, a corpus of 1 MiB."""
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    make_default(keep(synthetic(4096, seed=1), tmp_path / "cache"))
    using = (ROOT / "README.md").read_text().split("## Using it")[1].split("As a library")[0]
    commands = re.findall(r"^    memvirt (.*?)\s*(?:#.*)?$", using, re.MULTILINE)
    assert {command.split()[0] for command in commands} >= {"run", "table", "compare", "explain", "corpus", "doctor"}
    first = "run quick --corpus synthetic --out results/quick"  # what compare finds in a checkout
    less = {
        "run": "--tier smoke --preset none",
        "capacity": "--tier smoke --preset swap",
        "corpus capture": "--size 1MiB --classes heap,numeric",
    }
    for command in [first, *commands]:
        asked = re.sub(r"--preset \S+ ?", "", command).split()
        asked += less.get(asked[0], less.get(" ".join(asked[:2]), "")).split()
        done = subprocess.run([sys.executable, "-m", "memvirt", *asked], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"memvirt {command}: {done.stderr}"


@pytest.mark.parametrize(("suite", "name"), list(cells_to_repeat()))
def test_published_records_come_out_again(suite, name, published):
    made, run, there = plan.make(suite), prepare(synthetic(8192, seed=1)), published(suite)
    done = [record for record in there.values() if record.status == "done" and record.role == "column"]
    told = there[name] if name else min(done, key=lambda record: (record.sim_ns, record.cell))
    ours = ("lz4", "lz4_route")
    if {key: run.versions[key] for key in ours} != {key: told.versions[key] for key in ours}:
        pytest.skip("another LZ4, or another route to it: compressed sizes may differ")
    cell = next(cell for cell in made.cells if cell.name == told.cell)
    baseline = there[made.baseline_of(cell).name] if cell.spec.has_baseline else None
    again, then = comparable(run_cell(run, cell, baseline)), comparable(told)
    assert {key for key in then if again[key] != then[key]} <= MAY_DIFFER, MEND
