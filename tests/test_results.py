"""A results folder is one run and nothing else."""

import json

import pytest

from memvirt.results import run_folder
from memvirt.results.manifest import Asked, Manifest, Shown
from memvirt.results.record import Record, RecordError, dumps, sha256_of
from memvirt.results.run_folder import FolderError, Results

CONFIG = {"scenario": {"name": "a"}}
SHA256 = sha256_of(CONFIG)
CELLS = {f"{scenario}--swap--s1": SHA256 for scenario in ("b", "a", "c")}


def run(**changes):
    fields = {"suite": "s", "tier": "smoke", "asked": Asked(suite="s", tier="smoke", presets=["swap"]), "cells": CELLS}
    return Manifest(**{**fields, **changes})


RUN = run()


def made(**changes):
    fields = {
        "suite": "s", "scenario": "a", "preset": "swap", "role": "column", "kind": "fleet",
        "seed": 1, "tier": "smoke", "status": "done", "ratio": "1.50",
        "config": CONFIG, "config_sha256": SHA256, "inputs": {}, "versions": {},
    }  # fmt: skip
    return Record(**{**fields, **changes})


def test_a_run_is_kept_and_read_in_its_order(tmp_path):
    with Results(tmp_path / "out", RUN) as folder:
        for scenario in ("a", "b"):
            folder.write(made(scenario=scenario))
    assert [record.scenario for record in run_folder.load(tmp_path / "out")] == ["b", "a"]
    assert run_folder.unfinished(tmp_path / "out") == (1, 3)
    assert run_folder.read_manifest(tmp_path / "out") == RUN


def test_a_record_of_another_cell_or_run_is_named(tmp_path):
    with Results(tmp_path / "out", RUN) as folder:
        path = folder.write(made(scenario="a"))
        other = folder.write(made(scenario="extra"))
    with pytest.raises(FolderError, match="extra--swap--s1.json: is no cell of this run"):
        run_folder.load(tmp_path / "out")
    other.rename(tmp_path / "out" / "cells" / "b--swap--s1.json")
    with pytest.raises(RecordError, match="b--swap--s1.json: holds cell extra--swap--s1; run it again with --resume"):
        run_folder.load(tmp_path / "out")
    (tmp_path / "out" / "cells" / "b--swap--s1.json").unlink()
    changed = {"scenario": {"name": "a"}, "seed": 2}
    path.write_text(dumps(made(config=changed, config_sha256=sha256_of(changed))))
    with pytest.raises(RecordError, match="holds the same cell in another configuration"):
        run_folder.load(tmp_path / "out")


def test_only_whole_records_of_the_same_configuration_are_finished(tmp_path):
    record = made(scenario="a")
    with Results(tmp_path / "out", RUN) as folder:
        path = folder.write(record)
        assert folder.finished(record.cell, SHA256) == record
        assert folder.finished(record.cell, "another") is None
        assert folder.finished("a--swap--s2", SHA256) is None
        path.rename(path.with_name("b--swap--s1.json"))
        assert folder.finished("b--swap--s1", SHA256) is None
        folder.write(record)
        path.write_text(path.read_text()[:50])
        assert folder.finished(record.cell, SHA256) is None
        folder.write(made(scenario="a", status="failed", reason="disk"))
        assert folder.finished(record.cell, SHA256) is None


def test_a_folder_is_taken_up_only_by_the_same_run_and_on_request(tmp_path):
    Results(tmp_path / "out", RUN).close()
    with pytest.raises(FolderError, match="--resume"):
        Results(tmp_path / "out", RUN)
    with pytest.raises(FolderError, match="another run, which cannot be resumed .suite: s there, t now"):
        Results(tmp_path / "out", run(suite="t"), resume=True)
    for cells, said in (
        ({**CELLS, "a--swap--s1": "h3"}, "configuration of a--swap--s1 changed"),
        ({**CELLS, "d--swap--s1": "h3"}, "cells d--swap--s1 now only"),
        ({"a--swap--s1": SHA256}, "cells b--swap--s1, c--swap--s1 there only"),
    ):
        with pytest.raises(FolderError, match=said):
            Results(tmp_path / "out", run(cells=cells), resume=True)
    Results(tmp_path / "out", run(title="Another title", shown=Shown(learned="survival")), resume=True).close()
    with Results(tmp_path / "out", RUN, resume=True), pytest.raises(FolderError, match="writing into it"):
        Results(tmp_path / "out", RUN, resume=True)


def test_what_a_run_killed_at_birth_leaves_is_taken_up(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / ".run.json.tmp").write_text("{")
    Results(tmp_path, RUN).close()
    assert json.loads((tmp_path / "run.json").read_text())["suite"] == "s"


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", '{"format": "other"}', '{"format": "memvirt-run", "schema": 9}',
        '{"format": "memvirt-run", "schema": 1}', '{"format": "memvirt-run", "schema": 2, "cells": []}', "\udcff",
    ],
)  # fmt: skip
def test_a_foreign_or_damaged_manifest_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content, errors="surrogateescape")
    for resume in (False, True):
        with pytest.raises(FolderError, match=r"run\.json"):
            Results(tmp_path, RUN, resume=resume)
    assert (tmp_path / "run.json").read_text(errors="surrogateescape") == content


def test_no_cell_is_no_table(tmp_path):
    Results(tmp_path / "out", RUN).close()
    again = f"memvirt run s --tier smoke --preset swap --out {tmp_path / 'out'} --resume"
    with pytest.raises(FolderError, match=f"no cell is finished; go on with '{again}'"):
        run_folder.load(tmp_path / "out")


def test_folders_are_numbered(tmp_path):
    assert run_folder.next_folder(tmp_path, "quick").name == "quick-001"
    with pytest.raises(FolderError, match="no run of suite 'quick'"):
        run_folder.latest_folder(tmp_path, "quick")
    for name in ("quick-001", "quick-010", "quick-x", "other-011"):
        (tmp_path / name).mkdir()
    assert run_folder.next_folder(tmp_path, "quick").name == "quick-011"
    assert run_folder.latest_folder(tmp_path, "quick").name == "quick-010"
