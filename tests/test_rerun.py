"""Cells of a bundle, run again: digit for digit, or with the reason why a difference would mean nothing."""

import json
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from helpers.bundles import repacked
from helpers.suites import scenario, suite
from memvirt.cli import APP
from memvirt.experiment import cell as cells
from memvirt.experiment import plan
from memvirt.experiment.loop import manifest, run_plan
from memvirt.inputs import synthetic
from memvirt.report.bundle import again, contents
from memvirt.report.bundle.contents import PAGES, Wish, bundle
from memvirt.report.bundle.verify import Rerun, verify
from memvirt.results.run_folder import Results, load

pytest.importorskip("rocrate")
pytest.importorskip("tabulate")

SUITE = suite(
    scenario(ratios=(200,), measured='workload = "uniform", accesses = 2000, write_percent = 50'),
    presets=("none", "zcache"),
)


def corpus_of(name):
    """What the command line makes of a name, smaller."""
    from memvirt.inputs import load as load_corpus

    return load_corpus(name) if "/" in str(name) else synthetic(400, seed=1)


@pytest.fixture(scope="module", autouse=True)
def without_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(contents.MADE, "figures")
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    place = tmp_path_factory.mktemp("rerun")
    (place / "one.toml").write_text(SUITE)
    made, run = plan.make(str(place / "one.toml"), corpus="synthetic"), cells.prepare(corpus_of("synthetic"))
    with Results(place / "run", manifest(made, run)) as kept:
        for _ in run_plan(made, run, kept):
            pass
    return place / "run"


@pytest.fixture(scope="module")
def packed(results, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "a.crate.zip"
    bundle(results, path, Wish())
    (results.parent / "one.toml").unlink()  # whoever checks has only the bundle
    return path


def reruns(path, count=9, corpus="", open_corpus=corpus_of):
    found = list(verify(path, Rerun(open_corpus, count, corpus)))
    return {each.name: (each.standing.value, each.evidence) for each in found if each.name.startswith("rerun")}


def test_cells_come_out_digit_for_digit(packed):
    found = reruns(packed)
    assert {name: standing for name, (standing, _) in found.items()} == {
        "rerun u-200--zcache--s1": "PASS",
        "rerun u-200--none--s1": "PASS",  # refused, again
    }
    assert list(reruns(packed, 1)) == list(found)[:1]


def test_a_digit_that_nobody_counted_is_found(packed, tmp_path):
    """By someone who sets everything else right: sums, description and tables."""
    name = "run/cells/u-200--zcache--s1.json"

    def forge(files):
        told = json.loads(files[name])
        told["cpu_ns"]["reclaim"] += 1
        files[name] = json.dumps(told).encode()

    standing, evidence = reruns(repacked(packed, tmp_path / "b.zip", forge, mend=True))["rerun u-200--zcache--s1"]
    assert standing == "FAIL" and "cpu_ns.reclaim is" in evidence and "commit" in evidence


def test_another_lz4_tells_nothing(packed, monkeypatch):
    monkeypatch.setattr(again, "versions", lambda: {"memvirt": "0", "lz4": "9.9", "lz4_route": "smoke"})
    ((standing, evidence),) = reruns(packed).values()
    assert standing == "SKIP" and "9.9 here" in evidence and "smoke here" in evidence


def test_other_pages_tell_nothing(packed):
    ((standing, evidence),) = reruns(packed, open_corpus=lambda name: synthetic(400, seed=2)).values()
    assert standing == "SKIP" and "--corpus" in evidence and "--with-pages" in evidence


def test_a_corpus_that_is_not_there_is_said(packed):
    ((standing, evidence),) = reruns(packed, corpus="/nowhere/a.mvcorpus").values()
    assert standing == "SKIP" and "/nowhere/a.mvcorpus" in evidence


def test_pages_in_a_bundle_are_used(results, tmp_path):
    from memvirt.inputs import store

    (results.parent / "one.toml").write_text(SUITE)
    bundle(results, tmp_path / "b.zip", Wish(pages=lambda path: store.save(synthetic(400, seed=1), path)))
    with zipfile.ZipFile(tmp_path / "b.zip") as inside:
        assert inside.getinfo(PAGES).file_size > 400 * 4096

    def from_file_only(name):
        assert name.endswith(PAGES)
        return corpus_of(name)

    assert reruns(tmp_path / "b.zip", 1, open_corpus=from_file_only)["rerun u-200--zcache--s1"][0] == "PASS"


@pytest.mark.parametrize("place", ["settings", "sweep", "presets", "suite", "spelled", "variant", "preset of a suite"])
def test_programs_that_results_name_are_not_run(packed, tmp_path, place):
    """A decider in --set or --sweep, in the suite's file, whatever its spelling, or in a preset's file."""
    evil, preset = tmp_path / "evil.py", tmp_path / "p.toml"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine:\n    pass\n")
    preset.write_text(f'description = "p"\n[host]\nballoon = "{evil}:Mine"\n')
    asked = {"settings": f"balloon={evil}:Mine", "sweep": f"balloon={evil}:Mine,proportional", "presets": str(preset)}
    variant = '[[variants]]\nname = "mine"\npreset = "swap"\nset = {{ balloon = "{}:Mine" }}\n[[scenarios]]'
    written = {
        "suite": ("[[scenarios]]", variant.format(evil)),
        "spelled": ("[[scenarios]]", variant.format(str(evil).replace(".", "\\u002e"))),
        "variant": ("[[scenarios]]", variant.format(evil).replace('preset = "swap"', f'preset = "{preset}"')),
        "preset of a suite": ('"zcache"', f'"{preset}"'),
    }

    def forge(files):
        told = json.loads(files["run/run.json"])
        if place in asked:
            told["asked"][place] = [asked[place]]
        else:
            old, new = (text.encode() for text in written[place])
            assert old in files["settings/suite.toml"]
            files["settings/suite.toml"] = files["settings/suite.toml"].replace(old, new, 1)
        files["run/run.json"] = json.dumps(told).encode()

    ((standing, evidence),) = reruns(repacked(packed, tmp_path / "b.zip", forge, mend=True)).values()
    assert standing == "SKIP" and "is a program, and is not run" in evidence and "if you trust" in evidence
    assert not (tmp_path / "ran").exists()


def test_another_configuration_is_told_by_its_settings(packed, tmp_path):
    def forge(files):
        files["settings/suite.toml"] = files["settings/suite.toml"].replace(b'"4MiB"', b'"5MiB"')

    found = reruns(repacked(packed, tmp_path / "b.zip", forge, mend=True))
    standing, evidence = found["rerun u-200--zcache--s1"]
    assert standing == "FAIL" and "host.memory 4MiB there, 5MiB here" in evidence


def test_a_results_folder_is_rerun_as_well(results, tmp_path):
    (results.parent / "one.toml").write_text(SUITE)
    assert {standing for standing, _ in reruns(results).values()} == {"PASS"}
    assert len(load(results)) == 3


def test_pages_are_bundled_with_a_warning(results, tmp_path, monkeypatch):
    monkeypatch.setattr("memvirt.cli.corpora.opened", lambda name, capture=True: synthetic(400, seed=1))
    done = CliRunner().invoke(APP, ["bundle", str(results), "-o", str(tmp_path / "a.zip"), "--with-pages"])
    assert done.exit_code == 0 and "warning" in done.stderr and "passwords" in done.stderr


def test_a_trace_is_looked_for_where_it_was_named_from_and_is_the_same_file(tmp_path, monkeypatch):
    """The path of a trace is what was typed: somewhere else the file is not there, and another file is no rerun."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "one.toml").write_text(SUITE)
    np.save(there / "t.npy", np.arange(500, dtype=np.uint32) % 40)
    monkeypatch.chdir(there)
    made, run = (
        plan.make(str(there / "one.toml"), corpus="synthetic", trace="t.npy"),
        cells.prepare(corpus_of("synthetic")),
    )
    with Results(there / "run", manifest(made, run)) as kept:
        for _ in run_plan(made, run, kept):
            pass
    assert {standing for standing, _ in reruns(there / "run", 1).values()} == {"PASS"}
    np.save(there / "t.npy", np.arange(500, dtype=np.uint32) % 41)
    ((standing, evidence),) = reruns(there / "run", 1).values()
    assert standing == "FAIL" and "another configuration" in evidence and "files" in evidence
    monkeypatch.chdir(tmp_path)
    ((standing, evidence),) = reruns(there / "run", 1).values()
    assert standing == "SKIP" and "t.npy" in evidence
