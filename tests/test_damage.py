"""Damage on disk: whatever a file of memvirt's becomes, its reader gives a value or one sentence.

Each kind of file is cut at every byte and mutated. Its reader may return, or raise a MemvirtError that names the file and
has no line of code in it. Anything else is a defect: another exception, a reader that does not come back, a file written.

MEMVIRT_EXAMPLES=N mutates each kind N times (a long search: 20000); the seed is printed when one fails.
"""

import json
import os
import re
import shutil
import signal
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import pytest

from helpers.bundles import CLAIMS
from helpers.damage import cuts, mutants
from helpers.made_records import folder, made
from memvirt import untrusted
from memvirt.cli.run import parse_seeds
from memvirt.errors import ConfigError, FolderError, InvariantError, MemvirtError, RecordError
from memvirt.experiment import plan
from memvirt.report import terminal
from memvirt.report.bundle.contents import MADE, Wish, bundle
from memvirt.report.bundle.verify import Rerun, verify
from memvirt.report.comparison_text import compare_command
from memvirt.report.terminal import WRITERS
from memvirt.results import claims
from memvirt.results.record import read
from memvirt.results.run_folder import Results, read_manifest
from memvirt.results.shards import Shard, merge
from memvirt.results.shelf import HEAD, MOST_MANIFEST, PACK
from memvirt.settings import costs, presets
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import validate

ROOT = Path(__file__).parents[1]
QUICK = ROOT / "results" / "quick"
EXAMPLES = int(os.environ.get("MEMVIRT_EXAMPLES", "0")) or 250
SEED = int(os.environ.get("MEMVIRT_SEED", "1"))
CELLS = ("zipf-150--swap--s1", "zipf-150--baseline--s1--baseline")
SUITE = """
schema = 1
name = "tiny"
title = "Tiny"
description = "A small suite"
presets = ["swap", "zcache"]
[host]
memory = "8MiB"
swap = "32MiB"
[[scenarios]]
name = "zipf"
description = "Few pages are hot."
overcommit_percent = [100, 150]
fleet = { vms = 2, memory = "4MiB", touched_percent = 90 }
warm_up = { workload = "zipf", accesses = 2000 }
measured = { workload = "zipf", accesses = 4000, write_percent = 30 }
"""


def small_folder(path):
    """A results folder of two cells, as a run leaves it."""
    (path / "cells").mkdir(parents=True)
    for cell in CELLS:
        shutil.copyfile(QUICK / "cells" / f"{cell}.json", path / "cells" / f"{cell}.json")
    manifest = json.loads((QUICK / "run.json").read_text())
    manifest["cells"] = {cell: manifest["cells"][cell] for cell in CELLS if cell in manifest["cells"]}
    (path / "run.json").write_text(json.dumps(manifest, indent=1))
    return path


def read_folder(path):
    for form in ("text", *WRITERS):
        terminal.table_command(path.parent, form)


def read_preset(path):
    presets.explain(str(path))
    presets.vm_settings(str(path))


def read_cell(path):
    """A record, and all that shows its numbers but drawings, which take a second."""
    read(path)
    for form in ("text", *WRITERS):
        terminal.table_command(path.parents[1], form)
    list(verify(path.parents[1], Rerun(lambda name: None)))
    compare_command([path.parents[2] / "whole", path.parents[1]])


def read_member(path):
    """A packed run, whose records are checked as those of a folder."""
    for form in ("text", "csv"):
        terminal.table_command(path.parent, form)
    list(verify(path.parent, Rerun(lambda name: None)))


def small_pack():
    """The same run, in one file."""
    with tempfile.TemporaryDirectory() as name:
        folder_ = small_folder(Path(name) / "run")
        merge([folder_], Path(name) / "packed", packed=True)
        return (Path(name) / "packed" / PACK).read_bytes()


def read_costs(path):
    """A cost model, and the disk that a calibration puts beside it."""
    costs.load(str(path))
    validate(HostConfig, {"memory": "4MiB", "costs": str(path)})
    validate(HostConfig, {"memory": "4MiB", "swap": "4MiB", "swap_device": str(path)})


def read_bundle(path):
    list(verify(path, Rerun(lambda name: None)))  # each check is made as it is asked for


def small_bundle():
    """A bundle of one record, without figures, which take a second."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.delitem(MADE, "figures")
        bundle(folder(Path(name) / "run", [made()], title="A tiny run"), Path(name) / "a.zip", Wish())
        return (Path(name) / "a.zip").read_bytes()


COSTS = (
    (costs.DIRECTORY / "default.toml").read_bytes()
    + b"""
[swap_device]
read_latency_ns = 44000
write_latency_ns = 20000
read_page_ns = 2100
write_page_ns = 2100
channels = 16
"""
)

# Kind: (the file's name below the folder, its bytes, what makes them, or None for the folder's own, reader).
KINDS = {
    "record": (f"run/cells/{CELLS[0]}.json", None, read_cell),
    "run.json": ("run/run.json", None, read_folder),
    "preset": ("mine.toml", (ROOT / "memvirt/settings/presets/esx-2002.toml").read_bytes(), read_preset),
    "cost model": ("costs.toml", COSTS, read_costs),
    "claims": ("CLAIMS.toml", CLAIMS.format(most='0.9\nrelative_to = "swap"').encode(), claims.read),
    "bundle": ("a.crate.zip", small_bundle, read_bundle),
    "pack": (PACK, small_pack, read_member),
    "suite": ("tiny.toml", SUITE.encode(), lambda path: plan.make(str(path), "smoke")),
}


class TooLong(BaseException):
    """A reader that did not come back."""


@pytest.fixture
def within(monkeypatch):
    def ring(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def check(reader, path, data, what):
    """Read damaged `data`; fail for anything but a value or a sentence."""
    path.write_bytes(data)
    there = sorted(entry.name for entry in path.parent.iterdir())
    signal.alarm(20)
    try:
        reader(path)
    except InvariantError as error:
        pytest.fail(f"{what}: {error!r}")
    except MemvirtError as error:
        text = str(error)
        assert text and "Traceback" not in text and 'File "' not in text, f"{what}: {text}"
    except BaseException as error:
        path.with_name("damaged").write_bytes(data)
        raise AssertionError(f"{what}: {path.with_name('damaged')}: {error!r}") from error
    finally:
        signal.alarm(0)
    assert sorted(entry.name for entry in path.parent.iterdir()) == there, f"{what}: files were written"


def start(kind, tmp_path):
    name, data, reader = KINDS[kind]
    small_folder(tmp_path / "run")
    small_folder(tmp_path / "whole")
    path = tmp_path / name
    if data is small_bundle:
        pytest.importorskip("rocrate")
    if callable(data):
        data = data()
    return path, path.read_bytes() if data is None else data, reader


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_file_is_read(kind, tmp_path):
    """Or the tests below would look at nothing."""
    path, data, reader = start(kind, tmp_path)
    path.write_bytes(data)
    reader(path)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind, tmp_path, within):
    path, data, reader = start(kind, tmp_path)
    step = 1 if EXAMPLES > 250 else max(1, len(data) // 150)
    for number, cut in enumerate(cuts(data)):
        if number % step == 0 or number > len(data) - 20:
            check(reader, path, cut, f"{kind} cut after {number} of {len(data)} bytes")


@pytest.mark.parametrize("kind", KINDS)
def test_mutated(kind, tmp_path, within):
    path, data, reader = start(kind, tmp_path)
    for number, damaged in enumerate(mutants(data, SEED)):
        if number == EXAMPLES:
            break
        check(reader, path, damaged, f"{kind}, seed {SEED}, mutant {number}")


DEEP, LONG = "[" * 200_000, "9" * 5_000


@pytest.mark.parametrize("kind", ["record", "run.json", "claims", "preset", "cost model", "suite"])
def test_text_that_is_deep_or_a_number_that_is_long_is_damage_too(kind, tmp_path, within):
    """Each in the place of the first value of its file, and of all of it."""
    path, data, reader = start(kind, tmp_path)
    equals = b": " if data.lstrip().startswith(b"{") else b"= "
    head = data[: data.index(equals) + len(equals)]
    for text in (DEEP, '{"a":' * 200_000, "{a=" * 100_000, "a." * 20_000 + "b = 1", LONG, "0x" + "f" * 5_000):
        for whole in (text.encode(), head + text.encode()):
            check(reader, path, whole, f"{kind}, {text[:8]}...")


@pytest.mark.parametrize("value", [10**400, 10**100, "9" * 5000, "9" * 400, "1" * 30 + ".5", LONG])
@pytest.mark.parametrize("place", ["faults", "slowdown", "saved_same_frames"])
def test_numbers_that_no_engine_counts_are_no_record(tmp_path, value, place, within):
    path, data, reader = start("record", tmp_path)
    parts = json.loads(data)
    parts["derived"][place] = value
    check(reader, path, json.dumps(parts).encode(), f"{place} of {str(value)[:8]}..." if value != 10**400 else place)
    with pytest.raises(RecordError, match=rf"{CELLS[0]}\.json: "):
        read(path)


@pytest.mark.parametrize("text", [DEEP, LONG, '{"sim_ns": ' + LONG + "}"])
def test_a_damaged_record_is_run_again_and_does_not_stop_its_run(tmp_path, text):
    folder_ = small_folder(tmp_path / "run")
    manifest = read_manifest(folder_)
    (folder_ / "cells" / f"{CELLS[0]}.json").write_text(text)
    with Results(folder_, manifest, resume=True) as results:
        assert results.finished(CELLS[0], manifest.cells[CELLS[0]]) is None
        assert results.finished(CELLS[1], manifest.cells[CELLS[1]]) is not None


@pytest.mark.parametrize("value", [LONG, DEEP, "[" * 5000 + "]" * 5000, LONG + "GiB", LONG + ".5", "1e999999"])
@pytest.mark.parametrize("key", ["memory", "seed", "zpool_percent", "swap"])
def test_a_setting_of_many_digits_or_brackets_is_refused_in_words(key, value):
    with pytest.raises(ConfigError) as caught:
        presets.resolve("swap", [f"{key}={value}"])
    assert f"{key}" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("digits", [LONG, "0" * 20 + LONG, "²", "-1", "1_000", ""])
def test_a_number_of_a_word_is_small_or_none(digits):
    assert untrusted.whole(digits, 1 << 63) is None
    with pytest.raises(ConfigError, match="a seed is a whole number"):
        parse_seeds([digits])
    with pytest.raises(ConfigError, match="--shard "):
        Shard.parse(f"1/{digits}")
    assert untrusted.whole("0" * 5000 + "17", 17) == 17 and untrusted.whole("18", 17) is None


def test_what_a_member_inflates_to_is_bounded(tmp_path):
    """A kilobyte of gzip can ask for any memory: what is more than a run.json has is damage."""
    (tmp_path / "run").mkdir()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    blanks = b"".join(squeeze.compress(b" " * (1 << 20)) for _ in range((MOST_MANIFEST >> 20) + 1)) + squeeze.flush()
    (tmp_path / "run" / PACK).write_bytes(HEAD + b"\2\xff" + b"run.json\0" + blanks + bytes(8))
    tracemalloc.start()
    try:
        with pytest.raises(FolderError, match=r"run.jsonl.gz: damaged: .* inflates to more than"):
            read_manifest(tmp_path / "run")
        assert tracemalloc.get_traced_memory()[1] < 2 * MOST_MANIFEST
    finally:
        tracemalloc.stop()


def test_all_text_of_others_is_read_in_one_place():
    """The readers of Python's library have no bounds: memvirt.untrusted sets them."""
    own = {
        "untrusted.py",
        "heap.py",
        "drawing.py",
        "trace.py",
        "packing.py",
    }  # and what reads what memvirt has just made
    for path in sorted((ROOT / "memvirt").rglob("*.py")):
        found = re.findall(
            r"json\.loads?\(|\btomllib\b\.|zlib\.decompress\(|gzip\.(?:open|decompress)\(", path.read_text()
        )
        assert not found or path.name in own, f"{path.name}: {found}"


def test_a_folder_that_is_packed_is_named(tmp_path):
    (tmp_path / "day.tar.xz").write_bytes(b"")
    (tmp_path / "day").mkdir()
    for name, remedy in (("day", "unpack .*day.tar.xz first"), ("night", "'memvirt run' makes one")):
        with pytest.raises(FolderError, match=remedy):
            read_manifest(tmp_path / name)
