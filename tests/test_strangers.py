"""Results that strangers have made: nothing in them is run, sent, overwritten or waited for, and all of it ends in words."""

import json
import os
import shutil
import signal

import pytest

from helpers import made_records
from memvirt import policies
from memvirt.backends import comparison
from memvirt.errors import ConfigError, FolderError, RecordError
from memvirt.report import terminal
from memvirt.report.bundle.contents import Wish, bundle
from memvirt.results import manifest, record, run_folder, shards
from memvirt.simulation.own import load_order
from memvirt.untrusted import Excess, file_bytes, looking

made = made_records.made


@pytest.fixture(autouse=True)
def in_time():
    """What waits for a pipe is interrupted."""

    def late(number, frame):
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def run(tmp_path):
    return made_records.folder(tmp_path / "run", [made(preset="swap"), made(preset="zcache")])


def changed(folder, **config):
    """The first record of a folder with parts of its configuration replaced, its hash and run.json set right."""
    told = json.loads((folder / "run.json").read_text())
    path = sorted((folder / "cells").iterdir())[0]
    parts = json.loads(path.read_text())
    for key, value in config.items():
        whole = key in parts and not (key == "scenario" and isinstance(value, dict))
        (parts if whole else parts["config"])[key] = value
    parts["config_sha256"] = record.sha256_of(parts["config"])
    told["cells"][path.stem] = parts["config_sha256"]
    (folder / "run.json").write_text(json.dumps(told))
    path.write_text(json.dumps(parts))
    return folder


COMMANDS = ("table", "report", "export", "plot", "bundle", "compare")


def commands(folder, out, command):
    words = {
        "table": ["table", folder],
        "report": ["report", folder, "-o", out / "r.html"],
        "export": ["export", folder, "--format", "bencher"],
        "plot": ["plot", folder, "--out", out / "figures"],
        "bundle": ["bundle", folder, "-o", out / "b.zip"],
        "compare": ["compare", folder, out / "again"],
    }
    if command == "compare":
        shutil.copytree(folder, out / "again")
    return words[command]


@pytest.mark.parametrize(
    "config",
    [
        {"host": []},
        {"host": "x"},
        {"host": {"balloon": [1]}},
        {"host": {"decider_options": [1]}},
        {"guest": "x"},
        {"guest": [1]},
        {"files": [1]},
        {"scenario": {"name": "zipf", "groups": [1]}},
        {"scenario": {"name": "zipf", "groups": "x"}},
        {"scenario": {"name": 3}},
        {"measured": {"wall_ns": "abc"}},
        {"measured": {"wall_ns": {"measured": "x"}}},
        {"measured": {"wall_ns": [1]}},
        {"scenario": "../../zipf-150"},
        {"preset": "../swap"},
        {"preset": "a\0b"},
        {"preset": "x" * 300},
        {"ratio": "0"},
        {"ratio": "-1.5"},
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["table", "report", "export", "bundle"])
def test_a_record_whose_parts_have_other_shapes_is_a_sentence(run, tmp_path, memvirt, config, command):
    code, _, err = memvirt(*commands(changed(run, **config), tmp_path, command))
    assert code == 2 and "not a valid record" in err and "Traceback" not in err


@pytest.mark.parametrize("samples", [[{"unusable_9": 1}], [{}] * 9, [{"unusable_9": 1, "compact_moved": 1}] * 9])
@pytest.mark.parametrize("scenario", [{"name": "zipf"}, {"name": "zipf", "aging": {"measured_cycles": 3}}])
def test_samples_that_tell_too_little_are_left_out(run, memvirt, samples, scenario):
    code, out, err = memvirt("table", changed(run, samples=samples, scenario=scenario))
    assert code == 0 and "swap" in out, err


@pytest.mark.parametrize("place", ["host", "guest"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_program_that_a_record_names_is_run(run, tmp_path, memvirt, command, place):
    evil = tmp_path / "evil.py"
    evil.write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine:\n    interval_ns = 5\n    def decide(self, snapshot): ...\n"
    )
    path = next((run / "cells").iterdir())
    config = json.loads(path.read_text())["config"]
    changed(run, **{place: {**(config.get(place) or {}), "balloon": f"{evil}:Mine"}})
    code, _, err = memvirt(*commands(run, tmp_path, command))
    assert "Traceback" not in err and not (tmp_path / "ran").exists(), err
    assert code == 0, err


@pytest.mark.parametrize("load", [policies.load, load_order])
def test_whoever_looks_at_results_runs_no_user_s_class(tmp_path, load):
    """A decider's file, or an order's: both ways that there are."""
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n")
    with looking(), pytest.raises(ConfigError, match="is a program, and is not run"):
        load(f"{evil}:Mine")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ConfigError):
        load(f"{evil}:Mine")
    assert (tmp_path / "ran").exists(), "it would have been"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["nonsense"], "no metric is called 'nonsense'"),
        ([""], "no metric is called ''"),
    ],
)
def test_columns_that_no_table_can_have_are_refused_in_run_json(run, columns, said):
    told = json.loads((run / "run.json").read_text())
    told["shown"]["columns"] = columns
    (run / "run.json").write_text(json.dumps(told))
    with pytest.raises(FolderError, match=said):
        terminal.table_command(run)


def test_claims_that_do_not_go_together_are_told_of_run_json(run):
    told = json.loads((run / "run.json").read_text())
    told["shown"]["claims"] = [{"id": "a", "statement": "s", "cells": ["a--b"], "minutes": 1}]
    (run / "run.json").write_text(json.dumps(told))
    with pytest.raises(FolderError, match="give either a metric or an outcome"):
        terminal.table_command(run)


@pytest.mark.parametrize("name", ["../../x/cells/zipf-150--swap--s1", "a/b", ".hidden", "x" * 300, ""])
def test_a_cell_that_could_be_no_file_is_none(run, name):
    """Else merging would write where the name leads to."""
    told = json.loads((run / "run.json").read_text())
    for cells in ([name], ["", name], ["zipf-150--swap--s1", name]):
        with pytest.raises(FolderError, match="can be no cell"):
            manifest.loads(json.dumps({**told, "cells": dict.fromkeys(cells, "0" * 64)}), "run.json")
    if not set(name) & {"/", "x"}:
        return  # with a preset's name behind it, it can
    parts = record.as_dict(made())
    with pytest.raises(RecordError, match="can be no cell"):
        record.loads(json.dumps({**parts, "scenario": name}), "x")


@pytest.mark.parametrize(
    "place", ["CLAIMS.toml", "timings/zipf-150--swap--s1.json", "cells/zipf-150--swap--s1.json", "run.json"]
)
def test_what_a_link_in_a_folder_names_is_not_sent(run, tmp_path, place):
    secret, link = tmp_path / "secret", run / place
    link.parent.mkdir(exist_ok=True)
    if link.exists():
        shutil.move(link, secret)
    else:
        secret.write_text("schema = 1\n")
    link.symlink_to(secret)
    with pytest.raises(FolderError, match="is a link"):
        bundle(run, tmp_path / "b.zip", Wish())
    if link.parent.name != "cells" and place != "run.json":
        with pytest.raises(FolderError, match="is a link"):
            shards.merge([run], tmp_path / "out")
    assert not (tmp_path / "b.zip").exists()


def test_a_folder_that_is_a_link_is_not_sent(run, tmp_path):
    """Whose files are what it names, whatever they are."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "zipf-150--swap--s1.json").write_text("{}")
    (run / "timings").symlink_to(secret)
    with pytest.raises(FolderError, match="is a link"):
        bundle(run, tmp_path / "b.zip", Wish())
    with pytest.raises(FolderError, match="is a link"):
        shards.merge([run], tmp_path / "out")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_plain_file_is_said_and_not_waited_for(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = "/dev/zero"
    with pytest.raises(OSError, match="is a (pipe|folder)"):
        file_bytes(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "x").write_bytes(b"12345")
    assert file_bytes(tmp_path / "x", 5) == b"12345"
    with pytest.raises(Excess, match="more than 4 bytes"):
        file_bytes(tmp_path / "x", 4)
    assert b"Linux" in file_bytes("/proc/version"), "of which the kernel tells no size"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "{}.toml"),
        ("run", "quick", "--preset", "{}.toml"),
        ("run", "quick", "--set", "costs={}.toml", "--dry-run"),
        ("run", "quick", "--corpus", "{}.mvcorpus"),
        ("run", "quick", "--corpus", "{}.json"),
        ("run", "quick", "--trace", "{}.parquet"),
        ("run", "quick", "--policy", "{}.py:Mine"),
        ("explain", "{}.toml"),
        ("trace", "info", "{}.parquet"),
        ("verify", "{}.zip"),
    ],
    ids=" ".join,
)
def test_no_command_waits_for_a_pipe_in_a_file_s_place(tmp_path, memvirt, words):
    place = tmp_path / "x"
    for ending in ("toml", "mvcorpus", "json", "parquet", "py", "zip"):
        os.mkfifo(f"{place}.{ending}")
    code, _, err = memvirt(*(word.format(place) for word in words))
    assert code == 2 and "is a pipe" in err and "Traceback" not in err


@pytest.mark.parametrize("place", ["run.json", "CLAIMS.toml", "cells/zipf-150--swap--s1.json"])
def test_no_pipe_in_a_results_folder_is_waited_for(run, place, memvirt):
    (run / place).unlink(missing_ok=True)
    os.mkfifo(run / place)
    code, _, err = memvirt("table", run)
    assert code == 2 and "is a pipe" in err


@pytest.mark.parametrize("value", ["²", "9" * 5000, "-3", "", "x"])
@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
def test_a_width_of_the_environment_that_is_none_is_none(run, memvirt, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, out, _ = memvirt("table", run)
    assert code == 0 and "swap" in out


@pytest.mark.parametrize("number", [(1 << 63) - 1, -(1 << 63), 0])
def test_a_report_of_any_numbers_is_made(tmp_path, memvirt, number):
    parts = record.as_dict(made(preset="swap"))

    def worst(value):
        if isinstance(value, dict):
            return {key: worst(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return value
        return str(number) if isinstance(value, str) and value else number

    parts["derived"], parts["stores"], parts["usage"] = (worst(parts[key]) for key in ("derived", "stores", "usage"))
    parts["counters"] = {key: max(0, number) for key in parts["counters"]}
    found = record.loads(json.dumps(parts), "x")
    folder = made_records.folder(tmp_path / "run", [found, made(preset="zcache")])
    code, _, err = memvirt("report", folder, "-o", tmp_path / "r.html")
    assert code == 0 and "Traceback" not in err, err


ESCAPE = "\x1b]0;X\x07"


def validated(folder, **row):
    folder.mkdir()
    first = {"mechanism": "ksm", "what": "pages", "unit": "", "ways": 1, "engine": 5, "kernel": 4, "difference": 1}
    first |= {"tolerance": 0.0, "verdict": "differs", "covered": 0.0, "reason": ""}
    about = {
        "format": comparison.FORMAT,
        "schema": comparison.SCHEMA,
        "rows": [first | row],
        "asked": ["ksm"],
        "seed": 1,
    }
    about |= {"pages": 1, "trace": "", "versions": {}, "commit": "", "environment": {}}
    (folder / comparison.FILE).write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize("name", ["mechanism", "what", "unit", "reason"])
def test_a_comparison_moves_no_cursor(tmp_path, memvirt, name):
    code, out, err = memvirt("table", validated(tmp_path / "v", **{name: ESCAPE}))
    assert code == 0 and "\x1b" not in out and "\\x1b" in out, err


@pytest.mark.parametrize("row", [{"engine": 10**299}, {"kernel": -(1 << 63)}, {"ways": 0}])
def test_a_comparison_of_numbers_that_no_column_holds_is_refused(tmp_path, memvirt, row):
    code, _, err = memvirt("table", validated(tmp_path / "v", **row))
    assert code == 2 and "is no comparison" in err and "Traceback" not in err


@pytest.mark.parametrize("form", ["hdr", "openmetrics", "bencher"])
def test_an_export_moves_no_cursor(tmp_path, memvirt, form):
    parts = record.as_dict(made(preset="swap"))
    parts["preset"] = f"a{ESCAPE}"
    parts["counters"][f"b{ESCAPE}"] = 3
    parts["histograms"] = {f"c{ESCAPE}": [[1, 2]]}
    folder = made_records.folder(tmp_path / "run", [record.loads(json.dumps(parts), "x")])
    code, out, err = memvirt("export", folder, "--format", form)
    assert code == 0 and "\x1b" not in out, err


def test_a_file_that_is_no_archive_is_not_replaced_by_a_bundle(run, tmp_path, memvirt):
    (tmp_path / "letter.zip").write_text("dear")
    code, _, err = memvirt("bundle", run, "-o", tmp_path / "letter.zip")
    assert code == 2 and "no zip archive" in err and (tmp_path / "letter.zip").read_text() == "dear"
    os.mkfifo(tmp_path / "pipe.zip")
    assert memvirt("bundle", run, "-o", tmp_path / "pipe.zip")[0] == 2
    (tmp_path / "made.zip").touch()
    assert memvirt("bundle", run, "-o", tmp_path / "made.zip")[0] == 0


def test_a_file_that_is_no_trace_is_not_replaced_by_one(tmp_path, memvirt):
    (tmp_path / "t.csv").write_text("time_ns,address,op\n1,4096,R\n")
    (tmp_path / "letter.txt").write_text("dear")
    code, _, err = memvirt("trace", "import", tmp_path / "t.csv", "-o", tmp_path / "letter.txt")
    assert code == 2 and "is no trace" in err and (tmp_path / "letter.txt").read_text() == "dear"
    for _ in range(2):
        assert memvirt("trace", "import", tmp_path / "t.csv", "-o", tmp_path / "t.parquet")[0] == 0


@pytest.mark.parametrize("name", ["columns", "preset", "scenario", "ratio"])
def test_an_option_that_names_nothing_is_refused(run, memvirt, name):
    code, _, err = memvirt("table", run, f"--{name}", "")
    assert code == 2 and f"--{name}: names nothing" in err


def test_what_would_be_ignored_is_refused(run, memvirt):
    for words, said in (
        (("run", "quick", "--streams", "each", "--dry-run"), "--streams says how a trace is replayed"),
        (("run", "quick", "--most-cells", 5, "--dry-run"), "nothing is swept"),
        (("compare", run, run, "--threshold", ""), "give a percentage"),
        (("run", "quick", "--set", 'zpool_percent=5\nmemory="8MiB"', "--dry-run"), "control character"),
        (("run", "quick", "--out", "x" * 300, "--dry-run"), "more than 255 bytes"),
    ):
        code, _, err = memvirt(*words)
        assert code == 2 and said in err, err


def test_a_dry_run_finds_what_the_run_would(tmp_path, memvirt, monkeypatch):
    (tmp_path / "file").touch()
    for name, said in (("MEMVIRT_CACHE", "no folder that can be written to"), ("MEMVIRT_SWAP_DIR", "it is no folder")):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(tmp_path / "file"))
            code, _, err = memvirt("run", "quick", "--dry-run")
            assert code == 2 and said in err, err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise GeneratorExit", "fails to run: GeneratorExit (mine.py:1)"),
        ("class B(BaseException): pass\nraise B('x')", "fails to run: B: x (mine.py:2)"),
        (
            "class Mine:\n    interval_ns = 5\n    time_limit_s = 'x'\n    def decide(self, s): ...",
            "time_limit_s is 'x'",
        ),
    ],
)
def test_a_decider_s_file_that_cannot_be_is_told_before_anything_runs(tmp_path, memvirt, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(text)
    code, _, err = memvirt("run", "quick", "--policy", "mine.py:Mine", "--dry-run")
    assert code == 2 and said in err, err


def test_a_damaged_record_of_a_pack_is_not_to_be_deleted(run):
    with pytest.raises(RecordError) as error:
        record.loads("{", f"{run}/run.jsonl.gz (cell)")
    assert "delete" not in str(error.value) and "--resume" in str(error.value)


def test_folders_of_this_file_are_whole(run):
    """Else the tests above would be refused for another reason."""
    assert len(run_folder.load(run)) == 2
