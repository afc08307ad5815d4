"""A results folder is one run and nothing else."""

import json

import pytest

from memvirt.results import run_folder
from memvirt.results.record import Record, sha256_of
from memvirt.results.run_folder import FolderError, Results

RUN = {"suite": "s", "cells": {"b--swap--s1": "h1", "a--swap--s1": "h2"}}


def made(**changes):
    fields = {
        "suite": "s", "scenario": "a", "preset": "swap", "seed": 1, "tier": "smoke", "status": "done", "ratio": "1.50",
        "config": {}, "config_sha256": sha256_of({}), "inputs": {}, "versions": {},
    }  # fmt: skip
    return Record(**{**fields, **changes})


def test_a_run_is_kept_and_read_in_its_order(tmp_path):
    with Results(tmp_path / "out", RUN) as folder:
        for scenario in ("a", "b", "extra"):
            folder.write(made(scenario=scenario))
    assert [record.scenario for record in run_folder.load(tmp_path / "out")] == ["b", "a", "extra"]


def test_only_whole_records_of_the_same_configuration_are_finished(tmp_path):
    record = made(scenario="a")
    with Results(tmp_path / "out", RUN) as folder:
        path = folder.write(record)
        assert folder.finished("a", "swap", 1, record.config_sha256) == record
        assert folder.finished("a", "swap", 1, "another") is None
        assert folder.finished("a", "swap", 2, record.config_sha256) is None
        path.write_text(path.read_text()[:50])
        assert folder.finished("a", "swap", 1, record.config_sha256) is None
        folder.write(made(scenario="a", status="failed", reason="disk"))
        assert folder.finished("a", "swap", 1, record.config_sha256) is None


def test_a_folder_is_taken_up_only_by_the_same_run_and_on_request(tmp_path):
    Results(tmp_path / "out", RUN).close()
    with pytest.raises(FolderError, match="--resume"):
        Results(tmp_path / "out", RUN)
    with pytest.raises(FolderError, match="another run, which cannot be resumed .suite: s there, t now"):
        Results(tmp_path / "out", {**RUN, "suite": "t"}, resume=True)
    with Results(tmp_path / "out", RUN, resume=True), pytest.raises(FolderError, match="writing into it"):
        Results(tmp_path / "out", RUN, resume=True)


def test_what_a_run_killed_at_birth_leaves_is_taken_up(tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / ".run.json.tmp").write_text("{")
    Results(tmp_path, RUN).close()
    assert json.loads((tmp_path / "run.json").read_text())["suite"] == "s"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other"}', '{"format": "memvirt-run", "schema": 9}'])
def test_a_foreign_or_damaged_manifest_is_refused(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    for resume in (False, True):
        with pytest.raises(FolderError, match=r"run\.json"):
            Results(tmp_path, RUN, resume=resume)
    assert (tmp_path / "run.json").read_text() == content


def test_no_cell_is_no_table(tmp_path):
    Results(tmp_path / "out", RUN).close()
    with pytest.raises(FolderError, match="no cell is finished"):
        run_folder.load(tmp_path / "out")


def test_folders_are_numbered(tmp_path):
    assert run_folder.next_folder(tmp_path, "quick").name == "quick-001"
    with pytest.raises(FolderError, match="no run of suite 'quick'"):
        run_folder.latest_folder(tmp_path, "quick")
    for name in ("quick-001", "quick-010", "quick-x", "other-011"):
        (tmp_path / name).mkdir()
    assert run_folder.next_folder(tmp_path, "quick").name == "quick-011"
    assert run_folder.latest_folder(tmp_path, "quick").name == "quick-010"
