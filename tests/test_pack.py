"""A run in one compressed file: read like any other, whole after every crash, mended by --resume."""

import dataclasses
import gzip
import json
import os
import random

import pytest

from helpers.made_records import made
from memvirt import cli
from memvirt.errors import FolderError, RecordError
from memvirt.report import terminal
from memvirt.results import run_folder, shelf
from memvirt.results.manifest import Asked, Manifest
from memvirt.results.run_folder import Results, load, read_manifest, unfinished
from memvirt.results.shards import merge

RECORDS = [made(preset=preset, seed=seed) for preset in ("swap", "zcache") for seed in (1, 2, 3)]


def manifest(**about):
    cells = {record.cell: record.config_sha256 for record in RECORDS}
    return Manifest(**{"suite": "tiny", "tier": "quick", "asked": Asked(suite="tiny"), "cells": cells, **about})


def packed(path, records=RECORDS, **about):
    """A packed folder that holds these records."""
    with Results(path, manifest(**about), packed=True) as results:
        for record in records:
            results.write(record)
    return path / shelf.PACK


def starts(data):
    """Where the members of a pack begin."""
    return [each.start for each in shelf._members(data)]


def resume(path):
    return Results(path, manifest(), resume=True)


def test_one_file_holds_all_and_reads_like_any_folder(tmp_path):
    pack = packed(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == [shelf.PACK]
    with Results(tmp_path / "b", manifest()) as results:
        for record in RECORDS:
            results.write(record)
    assert load(tmp_path / "a") == load(tmp_path / "b") and unfinished(tmp_path / "a") == (0, len(RECORDS))
    assert read_manifest(tmp_path / "a") == read_manifest(tmp_path / "b")
    assert terminal.table_command(tmp_path / "a") == terminal.table_command(tmp_path / "b")
    lines = [json.loads(line) for line in gzip.decompress(pack.read_bytes()).splitlines()]
    assert (
        lines[0]["format"] == "memvirt-run" and [line["preset"] for line in lines[1:]] == ["swap"] * 3 + ["zcache"] * 3
    )
    assert pack.stat().st_size < sum(path.stat().st_size for path in (tmp_path / "b" / "cells").iterdir())


def test_a_run_goes_on_in_the_form_that_it_has(tmp_path):
    packed(tmp_path / "a", RECORDS[:2])
    with resume(tmp_path / "a") as results:
        assert [results.finished(each.cell, each.config_sha256) for each in RECORDS[:3]] == [*RECORDS[:2], None]
        for record in RECORDS[2:]:
            results.write(record)
        assert results.kept() == sorted(record.cell for record in RECORDS)
    assert load(tmp_path / "a") == RECORDS and not (tmp_path / "a" / "cells").exists()


def test_what_a_search_asks_next_leaves_what_it_found(tmp_path):
    """run.json is written anew before every round of a search: in a pack that took the records with it."""
    packed(tmp_path / "a", RECORDS[:4])
    with resume(tmp_path / "a") as results:
        results.extend(manifest(title="more"))
        assert results.kept() == sorted(record.cell for record in RECORDS[:4])
        results.write(RECORDS[4])
        assert results.finished(RECORDS[0].cell, RECORDS[0].config_sha256) == RECORDS[0]
    assert read_manifest(tmp_path / "a").title == "more"
    assert [record.cell for record in load(tmp_path / "a")] == [record.cell for record in RECORDS[:5]]


def test_of_two_records_of_a_cell_the_later_counts(tmp_path):
    failed = dataclasses.replace(RECORDS[0], status="failed", reason="its worker was killed")
    packed(tmp_path / "a", [failed, *RECORDS])
    assert load(tmp_path / "a") == RECORDS


def test_at_every_byte_where_a_crash_may_end_it(tmp_path):
    """Members before are read, the torn one is none, and a run that goes on leaves a whole file."""
    data = packed(tmp_path / "a").read_bytes()
    places = [*starts(data), len(data)]
    rng = random.Random(1)
    for size in sorted(
        {*places[2:], *(place + 1 for place in places[2:-1]), *rng.sample(range(places[1], len(data)), 40)}
    ):
        (tmp_path / "a" / shelf.PACK).write_bytes(data[:size])
        whole = [record for record, end in zip(RECORDS, places[2:], strict=True) if end <= size]
        if whole:
            assert load(tmp_path / "a") == whole, size
        with resume(tmp_path / "a") as results:
            for record in RECORDS:
                if results.finished(record.cell, record.config_sha256) is None:
                    results.write(record)
        assert (tmp_path / "a" / shelf.PACK).read_bytes() == data, size


def test_damage_in_the_middle_is_said_and_mended_by_running_its_cell_again(tmp_path):
    pack = packed(tmp_path / "a")
    data = pack.read_bytes()
    begin, end = starts(data)[2:4]
    for at in range(begin, end, 37):
        broken = bytearray(data)
        broken[at] ^= 0x55
        pack.write_bytes(broken)
        try:
            found = load(tmp_path / "a")
        except (FolderError, RecordError) as error:
            assert (str(pack) in str(error) and "--resume" in str(error)) or "no cell of this run" in str(error)
        else:  # a byte of the header that says nothing of the content
            assert found == RECORDS
            continue
        with resume(tmp_path / "a") as results:
            lost = [each.cell for each in RECORDS if results.finished(each.cell, each.config_sha256) is None]
            assert lost == [RECORDS[1].cell]
            results.write(RECORDS[1])
        assert load(tmp_path / "a") == RECORDS


def test_what_cannot_be_mended(tmp_path):
    pack = packed(tmp_path / "a")
    data = pack.read_bytes()
    for broken in (b"", data[: starts(data)[1] - 3], data[starts(data)[1] :], b"text"):
        pack.write_bytes(broken)
        for do in (lambda: read_manifest(tmp_path / "a"), lambda: load(tmp_path / "a"), lambda: resume(tmp_path / "a")):
            with pytest.raises(FolderError, match=shelf.PACK):
                do()


def test_a_full_device_changes_nothing(tmp_path, monkeypatch):
    pack = packed(tmp_path / "a", RECORDS[:2])
    before, write = pack.read_bytes(), os.write

    def half(handle, data):
        if len(data) < 100:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(data)[: len(data) // 2])

    with resume(tmp_path / "a") as results:
        monkeypatch.setattr(shelf.os, "write", half)
        with pytest.raises(RecordError, match="cannot be written: No space left on device; nothing was changed"):
            results.write(RECORDS[2])
        monkeypatch.undo()
        assert pack.read_bytes() == before
        results.write(RECORDS[3])
    assert load(tmp_path / "a") == [*RECORDS[:2], RECORDS[3]]


def test_parts_are_merged_from_either_form_into_either(tmp_path):
    packed(tmp_path / "a", RECORDS[:4])
    with Results(tmp_path / "b", manifest()) as results:
        for record in RECORDS[3:]:
            results.write(record)
    assert merge([tmp_path / "a", tmp_path / "b"], tmp_path / "c") == (6, 6)
    assert merge([tmp_path / "b", tmp_path / "a"], tmp_path / "d", packed=True) == (6, 6)
    assert load(tmp_path / "c") == load(tmp_path / "d") == RECORDS
    assert (tmp_path / "c" / "run.json").exists() and (tmp_path / "d" / shelf.PACK).exists()


def test_a_cell_that_failed_in_one_part_is_taken_from_the_other(tmp_path):
    failed = dataclasses.replace(RECORDS[0], status="failed", reason="its worker was killed")
    packed(tmp_path / "a", [failed, RECORDS[1]])
    packed(tmp_path / "b", RECORDS[:1])
    for order in (("a", "b"), ("b", "a")):
        out = tmp_path / "".join(order)
        assert merge([tmp_path / name for name in order], out) == (2, 6)
        assert load(out) == RECORDS[:2]


def test_a_foreign_record_and_an_unlike_run(tmp_path):
    packed(tmp_path / "a", [*RECORDS, made(preset="other")])
    with pytest.raises(FolderError, match=r"run.jsonl.gz \(zipf-150--other--s1\): is no cell of this run"):
        load(tmp_path / "a")
    with pytest.raises(FolderError, match="holds another run, which cannot be resumed"):
        Results(tmp_path / "a", manifest(commit="0" * 40), resume=True)
    with pytest.raises(FolderError, match="holds a run of suite 'tiny', 7 cells done"):
        run_folder.examine(tmp_path / "a", None, resume=False)


def test_the_program_packs_resumes_and_merges(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.toml").write_text(
        'schema = 1\nname = "tiny"\ntitle = "T"\ndescription = "D"\npresets = ["swap", "zcache"]\n'
        '[host]\nmemory = "4MiB"\nswap = "16MiB"\n[[scenarios]]\nname = "zipf"\ndescription = "S."\n'
        'overcommit_percent = [150]\nfleet = { vms = 2, memory = "2MiB" }\n'
        'measured = { workload = "zipf", accesses = 2000 }\n'
    )
    monkeypatch.chdir(tmp_path)

    def program(*words):
        monkeypatch.setattr("sys.argv", ["memvirt", *words])
        try:
            cli.main()
        except SystemExit as ended:
            assert not ended.code, capsys.readouterr().err
        return capsys.readouterr().out

    words = ("run", "tiny.toml", "--corpus", "synthetic", "--jobs", "1")
    table = program(*words, "--out", "a", "--pack")
    pack = tmp_path / "a" / shelf.PACK
    data = pack.read_bytes()
    pack.write_bytes(data[: starts(data)[-1] + 9])
    assert program(*words, "--out", "a", "--resume").split("simulator")[0] == table.split("simulator")[0]
    program("merge", "a", "--out", "b", "--pack")
    program("merge", "b", "--out", "c")
    assert load("a") == load("b") == load("c") and len(load("c")) == 3
    program("bundle", "a", "--out", "a.crate.zip")
    program("verify", "a.crate.zip")
    program("verify", "b")
