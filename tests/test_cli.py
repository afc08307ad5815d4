"""The command line: help, names, and what it says to a user who is wrong. One line or several, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from memvirt.cli import catalog
from memvirt.cli.catalog_entry import SINGULAR
from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec
from memvirt.inputs import Corpus, save, synthetic
from memvirt.settings.config import HostConfig
from memvirt.settings.vm_config import GuestOptions

COMMANDS = ["", "run", "table", "list", "describe", "explain", "doctor", "corpus", "corpus capture", "corpus info"]
COMMANDS += [
    "capacity",
    "merge",
    "timeline",
    "export",
    "bundle",
    "verify",
    "corpus fingerprint",
    "corpus fit",
    "corpus make",
    "trace",
    "trace import",
    "validate",
    "restore",
]
HEAVY = {"numpy", "pandas", "pydantic", "scipy", "rich"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_two_examples(memvirt, command):
    code, out, _ = memvirt(*command.split(), "--help")
    assert code == 0
    examples = out.split("Examples:")[1].split("\n")
    assert len([line for line in examples if line.strip().startswith("memvirt ")]) == 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['memvirt', '--help']\nfrom memvirt.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"found = {HEAVY} & set(sys.modules)\nprint(sorted(found), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_version_names_package_commit_and_codec(memvirt):
    code, out, _ = memvirt("--version")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["memvirt", "commit", "codec"]


@pytest.mark.parametrize("kind", SINGULAR)
def test_what_is_listed_can_be_described(memvirt, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path))
    code, out, _ = memvirt("list", kind, "--json")
    rows = json.loads(out)
    assert code == 0 and rows and all(row["summary"] for row in rows)
    code, out, _ = memvirt("describe", rows[0]["name"])
    assert code == 0 and rows[0]["name"] in out and SINGULAR[kind] in out


def test_every_setting_is_described_with_its_default_and_bounds(memvirt, tmp_path, monkeypatch):
    """Of hosts and guests, fleets and aging: what a suite, a preset or --set may say can be looked up."""
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path))
    entries = {entry.name: entry for entry in catalog.entries("settings")}
    assert set(HostConfig.model_fields) <= set(entries)
    assert {f"guest.{name}" for name in GuestOptions.model_fields} <= set(entries)
    assert {f"fleet.{name}" for name in FleetSpec.model_fields} <= set(entries)
    assert {f"aging.{name}" for name in AgingSpec.model_fields} <= set(entries)
    assert all(entry.summary and entry.rows[0][0] == "default" for entry in entries.values())
    for name, said in (
        ("zpool_chain_rule", "waste, used"), ("readahead", "0 to 5"), ("swap_areas", "key priority"),
        ("guest.swappiness", "0 to 200"), ("zpool_accept_percent", "90"), ("swap_device", "key read_latency_ns"),
        ("zstd", "-1, 1, 3"), ("sata-ssd", "channels"), ("fleet.vms", "required"), ("fleet.shares", "in turn"),
        ("2q", "libcachesim"),
    ):  # fmt: skip
        code, out, _ = memvirt("describe", name)
        assert code == 0 and said in out, name


def test_list_shows_every_kind(memvirt, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path))
    _, out, _ = memvirt("list")
    assert all(kind in out.splitlines() for kind in SINGULAR)


def test_a_name_of_two_things_is_described_as_both(memvirt):
    _, out, _ = memvirt("describe", "clone-storm", "--json")
    assert {entry["kind"] for entry in json.loads(out)} == {"suites", "workloads"}


def test_a_file_is_explained_or_run_and_not_described(memvirt):
    code, _, said = memvirt("describe", "own/mine.toml")
    assert code == 2 and "'memvirt explain own/mine.toml' explains a preset's file" in said


def test_what_the_package_offers_is_what_can_be_completed():
    import memvirt

    assert {name for name in dir(memvirt) if not name.startswith("__")} == set(memvirt.__all__)


def test_an_option_is_described_by_what_has_it(memvirt):
    _, out, _ = memvirt("describe", "smart_scan", "--json")
    (ksm,) = json.loads(out)
    assert ksm["name"] == "ksm" and all(row["meaning"] for row in ksm["rows"])
    _, out, _ = memvirt("describe", "salting", "--json")
    assert {entry["name"] for entry in json.loads(out)} == {"hash", "ksm", "esx", "inline"}


def test_explain_gives_every_setting_with_its_source(memvirt):
    _, out, _ = memvirt("explain", "zcache", "--json")
    rows = {row["key"]: row for row in json.loads(out)}
    assert rows["zpool_percent"]["tag"] == "verified" and rows["swap"]["source"]
    assert rows["codec"]["default"] and rows["replacement"]["origin"] == "preset swap"


def test_doctor_answers(memvirt):
    code, out, _ = memvirt("doctor", "--json")
    assert code == 0 and {"what", "ok", "found", "remedy"} == set(json.loads(out)[0])


def test_a_dry_run_runs_nothing(memvirt, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _err = memvirt("run", "quick", "--tier", "smoke", "--preset", "swap", "--dry-run", "--json")
    cells = json.loads(out)
    assert code == 0 and len(cells) == 1 + 2 * 12 and not list(tmp_path.iterdir())
    assert len({cell["config_sha256"] for cell in cells}) == len(cells)


def test_corpus_capture_and_info(memvirt, tmp_path):
    file = tmp_path / "numbers.mvcorpus"
    code, out, _ = memvirt(
        "corpus", "capture", "--size", "1MiB", "--classes", "numeric,random", "--out", file, "--json"
    )
    captured = json.loads(out)
    assert code == 0 and [row["name"] for row in captured["classes"]] == ["numeric", "random"]
    _, out, _ = memvirt("corpus", "info", file, "--json", "--codecs", "lz4:2")
    found = json.loads(out)
    assert [(row["name"], row["pages"]) for row in found["classes"]] == [("numeric", 192), ("random", 64)]
    assert found["pages"] == captured["pages"] == 257 and list(found["codecs"]) == ["lz4:2"]
    assert [each["unit_bytes"] for each in found["all"]["sizes"]["lz4:2"]] == [4096, 16384, 65536]
    _, out, _ = memvirt("corpus", "info", file)
    assert "ratio 4 KiB" in out and "100.0 %" in out


def test_a_file_is_not_overwritten_unasked(memvirt, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    words = ("corpus", "capture", "--size", "1MiB", "--classes", "random", "--out")
    code, _, err = memvirt(*words, file)
    assert code == 2 and "is there already" in err and "--force" in err and file.read_text() == "mine"
    code, _, err = memvirt(*words, tmp_path / "deep" / "a.mvcorpus")
    assert code == 2 and "there is no folder" in err and list(tmp_path.iterdir()) == [file]
    code, _, _ = memvirt(*words, file, "--force")
    assert code == 0 and file.read_bytes()[:8] == b"MVCORPUS"


def test_a_process_and_a_file_are_captured_under_names(memvirt, tmp_path):
    (tmp_path / "vm.raw").write_bytes(b"\1" * 9000)
    out = tmp_path / "a.mvcorpus"
    words = ("corpus", "capture", f"me=pid:{os.getpid()}", tmp_path / "vm.raw", "--size", "1MiB", "--out")
    code, text, err = memvirt(*words, out, "--json")
    if code == 2 and "cannot be read" in err:
        pytest.skip(err)
    found = json.loads(text)
    assert code == 0 and {row["name"] for row in found["classes"]} <= {"me", "vm"} and found["pages"] <= 257
    assert any(line.startswith("me: process") for line in found["provenance"])
    prints = tmp_path / "a.mvprints"
    code, text, _ = memvirt(
        "corpus", "capture", f"vm={tmp_path / 'vm.raw'}", "--fingerprints", "--out", prints, "--json"
    )
    assert code == 0 and prints.read_bytes()[:8] == b"MVPRINTS" and json.loads(text)["pages"] == 4


def test_fingerprints_are_made_told_of_and_run_on(memvirt, tmp_path):
    corpus, prints, key = tmp_path / "a.mvcorpus", tmp_path / "a.mvprints", tmp_path / "key"
    save(synthetic(4000, 1), corpus)
    code, out, _ = memvirt("corpus", "fingerprint", corpus, "--keep-key", key, "--codecs", "lz4", "--json")
    assert code == 0 and json.loads(out)["corpus"] == str(prints) and key.stat().st_mode & 0o077 == 0
    code, _, err = memvirt("corpus", "fingerprint", corpus, "--key", key, "--codecs", "lz4")
    assert code == 2 and "is there already" in err
    code, out, _ = memvirt("corpus", "fingerprint", corpus, "--key", key, "--out", tmp_path / "b.mvprints")
    _, out, _ = memvirt("corpus", "info", prints, tmp_path / "b.mvprints", "--json")
    found = json.loads(out)
    assert {pair["one"].split("/")[0] for pair in found["common"]} == {"a"} and len(found["common"]) == 6
    run = ("run", "quick", "--tier", "smoke", "--preset", "sharing", "--corpus", prints, "--out", tmp_path / "run")
    code, _, err = memvirt(*run)
    assert code == 2 and "--set content=fingerprint" in err and not (tmp_path / "run").exists()
    code, out, _ = memvirt(*run, "--set", "content=fingerprint", "--json")
    assert code == 0 and {row["status"] for row in json.loads(out)} == {"done"}


def test_a_model_is_fitted_made_and_run(memvirt, tmp_path):
    corpus, model = tmp_path / "a.mvcorpus", tmp_path / "a.json"
    save(synthetic(1000, 1), corpus)
    code, out, _ = memvirt("corpus", "fit", corpus, "--later", corpus, "--out", model, "--codecs", "lz4")
    assert code == 0 and "changed in between" in out and model.stat().st_size > 1000
    code, _, err = memvirt("corpus", "fit", corpus, "--out", model)
    assert code == 2 and "is there already" in err
    code, out, _ = memvirt("corpus", "make", model, "--size", "2MiB", "--out", tmp_path / "b.mvcorpus", "--json")
    assert code == 0 and json.loads(out)["pages"] == 513
    _, again, _ = memvirt("corpus", "make", model, "--size", "2MiB", "--out", tmp_path / "c.mvcorpus", "--json")
    assert json.loads(again)["sha256"] == json.loads(out)["sha256"]
    words = ("run", "quick", "--tier", "smoke", "--preset", "none", "--json", "--out")
    for name, more in ((model, ()), ("debian-12", ("--fill", "image=libraries", "--fill", "private=heap,source"))):
        code, out, _ = memvirt(*words, tmp_path / Path(name).name.replace(".", "-"), "--corpus", name, *more)
        assert code == 0 and "done" in {row["status"] for row in json.loads(out)}


def test_a_corpus_without_the_suites_classes_is_told_before_the_run(memvirt, tmp_path):
    save(Corpus.of([("vm", np.ones((9, 4096), np.uint8))]), tmp_path / "a.mvcorpus")
    code, _, err = memvirt(
        "run", "quick", "--tier", "smoke", "--corpus", tmp_path / "a.mvcorpus", "--out", tmp_path / "r"
    )
    assert code == 2 and "no class 'heap'" in err and "--fill image=vm" in err and not (tmp_path / "r").exists()


BAD = [
    (["run", "quikc"], "no suite is called 'quikc'; did you mean 'quick'?"),
    (["run", "--preset", "zcahe"], "unknown preset 'zcahe'; did you mean 'zcache'?"),
    (["run", "--set", "zpool_percen=3"], "no setting is called 'zpool_percen'; did you mean 'zpool_percent'?"),
    (["run", "--set", "memory=64MB"], "did you mean 64MiB?"),
    (["run", "--set", "memory=0"], "is zero"),
    (["run", "--set", "memory=-4KiB"], "is negative"),
    (["run", "--set", "memory=5000"], "is not a multiple of the page size"),
    (["run", "--set", "memory=900GiB", "--corpus", "synthetic"], "are available"),
    (["run", "--set", "memory=8TiB", "--corpus", "synthetic"], "the most is 268435456 (1TiB)"),
    (["run", "--set", "memory=17TiB"], "larger than 32-bit page numbers"),
    (["run", "--set", "memory=4KiB"], "the least is 16KiB"),
    (["run", "--preset", ","], "names no preset"),
    (["run", "--set", "seed"], "is not KEY=VALUE"),
    (["run", "--set", "balloon=propotional"], "did you mean 'proportional'?"),
    (["run", "--tier", "huge"], "'smoke', 'quick', 'full'"),
    (["run", "--seed", "-1"], "--seed"),
    (["run", "missing.toml"], "cannot be read"),
    (["run", "--resume"], "no run of suite 'quick' to resume"),
    (["run", "--corpus", "missing.mvcorpus"], "memvirt corpus capture"),
    (["list", "preset s"], "did you mean 'presets'?"),
    (["describe", "zcahe"], "did you mean 'zcache'?"),
    (["explain", "swpa"], "did you mean 'swap'?"),
    (["table", "nowhere"], "not a memvirt results folder"),
    (["table", "now\u202ehere\x1b[2J"], "now\\u202ehere\\x1b[2J: not a memvirt results folder, it has no run.json"),
    (["table", __file__], "is a file; give a results folder"),
    (["corpus", "info", "missing"], "cannot be read"),
    (["corpus", "info", "synthetic", "synthetic"], "two of the files are called synthetic"),
    (["corpus", "info", "synthetic", "--codecs", "lz5"], "--codecs lz5: unknown codec 'lz5'"),
    (["corpus", "info", "synthetic", "--codecs", "zstd:2"], "must be one of -1, 1, 3"),
    (["corpus", "info", "synthetic", "--codecs", "zstd:x"], "a level is a number"),
    (["corpus", "info", "synthetic", "--codecs", ","], "names no codec"),
    (["corpus", "capture", "pid:0"], "'0' is no number of a process"),
    (["corpus", "capture", "nowhere", "zero=pid:1"], "nowhere cannot be read"),
    (["corpus", "capture", "nowhere", "zero=pid:1"], "class 'zero' is the zero page's"),
    (["corpus", "capture", "x", "--format", "elfcore"], "did you mean 'elf-core'?"),
    (["corpus", "capture", "x", "--classes", "heap"], "as in heap=pid:1234"),
    (["run", "--fill", "heap=x"], "--fill heap=x: write image=CLASS"),
    (["run", "--fill", "image="], "--fill image=: write image=CLASS"),
    (["run", "--dry-run", "--corpus", "missing"], "missing cannot be read"),
    (["run", "--dry-run", "--corpus", "synthetic", "--fill", "image=heep"], "did you mean 'heap'?"),
    (["corpus", "make", "debian-21"], "did you mean 'debian-12'?"),
    (["corpus", "make", "./nowhere.json"], "nowhere.json cannot be read"),
    (["corpus", "make", "debian-12", "--size", "8KiB"], "6 to 16777216 pages, not 2"),
    (["corpus", "fit", "synthetic", "--codecs", "no"], "unknown codec 'no'"),
    (["corpus", "fingerprint"], "say where to write"),
    (["corpus", "fingerprint", "synthetic", "--key", "k", "--keep-key", "k"], "leave one of them away"),
    (["corpus", "fingerprint", "synthetic", "--key", "k"], "key k cannot be read"),
    (["corpus", "capture", "--size", "1MB"], "did you mean 1MiB?"),
    (["corpus", "capture", "--classes", "heep"], "did you mean 'heap'?"),
    (["corpus", "capture", "--size", "4KiB"], "384KiB to 64GiB, not 4KiB"),
    (["corpus", "capture", "--size", "65TiB"], "under 16TiB"),
    (["frobnicate"], "frobnicate"),
]


@pytest.mark.parametrize(
    ("words", "said"), BAD, ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else ""
)
def test_bad_input_ends_with_2_and_a_remedy(memvirt, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = memvirt(*words)
    assert code == 2 and out == ""
    assert said in err and "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_all_problems_are_told_at_once(memvirt):
    code, _, err = memvirt("run", "--preset", "swpa,swap,zcahe", "--set", "memory=64MB", "--set", "replacment=lru")
    assert code == 2
    for said in ("'swpa'", "'zcahe'", "did you mean 64MiB?", "did you mean 'replacement'?"):
        assert said in err


def test_unknown_presets_do_not_hide_what_else_is_wrong(memvirt):
    code, _, err = memvirt("run", "--preset", "zcahe", "--set", "memroy=64MiB", "--set", "swap=1MB")
    assert code == 2
    for said in ("did you mean 'zcache'?", "did you mean 'memory'?", "did you mean 1MiB?"):
        assert said in err


def test_all_problems_of_a_capture_are_told_at_once(memvirt, tmp_path):
    words = ("--size", "1MB", "--classes", "heep,noise,noise", "--default", "--out", tmp_path / "x")
    code, _, err = memvirt("corpus", "capture", *words)
    assert code == 2 and not list(tmp_path.iterdir())
    for said in ("did you mean 1MiB?", "did you mean 'heap'?", "'noise' is named twice", "--default"):
        assert said in err


def test_a_corpus_beyond_memory_is_not_begun(memvirt, monkeypatch, tmp_path):
    monkeypatch.setattr("memvirt.environment.meminfo", lambda *_: {"MemAvailable": 1 << 30})
    code, _, err = memvirt("corpus", "capture", "--size", "1GiB", "--out", tmp_path / "x")
    assert code == 2 and "capturing 1GiB needs 3072 MiB" in err and "make the corpus smaller" in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["list", "metrics"], ["--version"]])
def test_output_that_cannot_be_written_is_told(words, unbuffered):
    """Long or short: what fits into a buffer fails only when that is emptied."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memvirt", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr


def test_problems_of_a_suite_file_have_their_lines(memvirt, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'schema = 1\nname = "mine"\ntitle = "t"\ndescription = "d"\npresets = ["swap"]\n[host]\nmemory = "16MB"\n'
        '[[scenarios]]\nname = "a"\ndescription = "d"\novercommit_percent = [100]\n'
        'measured = { workload = "ziff", accesses = 10 }\nfleet = { vms = 4, memory = "4MiB", imagepercent = 3 }\n'
    )
    code, _, err = memvirt("run", file)
    assert code == 2
    assert f"{file}:7: host.memory" in err and "did you mean 16MiB?" in err
    assert f"{file}:12: scenarios[0].measured" in err and "unknown workload 'ziff'" in err
    assert f"{file}:13: scenarios[0].fleet" in err and "'image_percent'" in err


def test_folders_that_hold_something_else_are_left_alone(memvirt, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    code, _, err = memvirt("run", "--tier", "smoke", "--corpus", "synthetic", "--out", tmp_path)
    assert code == 2 and "holds something else (thesis.tex)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    code, _, err = memvirt("run", "--tier", "smoke", "--corpus", "synthetic", "--out", tmp_path / "thesis.tex")
    assert code == 2 and "is a file" in err


@pytest.mark.parametrize("cut", [4, 40, 3000, -1, -5000])
def test_a_truncated_corpus_is_named(memvirt, tmp_path, cut):
    file = tmp_path / "short.mvcorpus"
    save(synthetic(200, 1), file)
    file.write_bytes(file.read_bytes()[:cut])
    code, _, err = memvirt("run", "--corpus", file, "--out", tmp_path / "out")
    assert code == 2 and str(file) in err and "memvirt corpus capture" in err
    assert not (tmp_path / "out").exists()


def test_a_damaged_corpus_is_named(memvirt, tmp_path):
    file = tmp_path / "damaged.mvcorpus"
    save(synthetic(200, 1), file)
    data = np.frombuffer(file.read_bytes(), np.uint8).copy()
    data[-4000] ^= 1
    file.write_bytes(data.tobytes())
    code, _, err = memvirt("corpus", "info", file)
    assert code == 2 and "do not match their hash" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_corpus_is_named(memvirt, tmp_path):
    file = tmp_path / "secret.mvcorpus"
    save(synthetic(200, 1), file)
    file.chmod(0)
    code, _, err = memvirt("corpus", "info", file)
    assert code == 2 and "Permission denied" in err


def test_a_missing_compiler_is_named_at_install(tmp_path):
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PATH": str(tmp_path)}
    environment.pop("CC", None)
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path)],
        cwd=root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and "no C compiler" in done.stderr and "apt-get install gcc" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["list"], ["describe", "quick"], ["explain", "esx-2002"]])
def test_columns_wraps_what_is_listed(memvirt, monkeypatch, words, tmp_path):
    """A width that is known is kept; into a pipe each row stays one line, for grep."""
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path))  # corpora of this machine come and go
    monkeypatch.delenv("COLUMNS", raising=False)
    _, piped, _ = memvirt(*words)
    assert max(map(len, piped.splitlines())) > 100
    monkeypatch.setenv("COLUMNS", "100")
    _, wrapped, _ = memvirt(*words)
    assert max(len(line) for line in wrapped.splitlines() if "  " in line.strip()) <= 110
    assert sorted("".join(wrapped.split())) == sorted("".join(piped.split()))


def test_columns_fills_paragraphs_again(memvirt, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    _, piped, _ = memvirt("describe", "slowdown")
    monkeypatch.setenv("COLUMNS", "60")
    _, filled, _ = memvirt("describe", "slowdown")
    assert max(map(len, piped.splitlines())) > 100 and max(map(len, filled.splitlines())) <= 60
    assert filled.split() == piped.split()
    _, example, _ = memvirt("describe", "decider-file")  # what is indented stays
    monkeypatch.delenv("COLUMNS")
    assert [line for line in memvirt("describe", "decider-file")[1].splitlines() if line.startswith("    ")] == [
        line for line in example.splitlines() if line.startswith("    ")
    ]


def test_the_table_is_as_wide_as_asked(memvirt, monkeypatch):
    folder = Path(__file__).parents[1] / "results" / "quick"
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, memvirt("table", folder)[1].splitlines())) <= 80
    assert 100 < max(map(len, memvirt("table", folder, "--width", "140")[1].splitlines())) <= 140
