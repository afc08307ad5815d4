"""Damage on disk: whatever a file of memvirt's becomes, its reader gives a value or one sentence.

Each kind of file is cut at every byte and mutated. Its reader may return, or raise a MemvirtError that names the file and
has no line of code in it. Anything else is a defect: another exception, a reader that does not come back, a file written.

MEMVIRT_EXAMPLES=N mutates each kind N times (a long search: 20000); the seed is printed when one fails.
"""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from helpers.bundles import CLAIMS
from helpers.damage import cuts, mutants
from helpers.made_records import folder, made
from memvirt.errors import InvariantError, MemvirtError
from memvirt.experiment import plan
from memvirt.report import terminal
from memvirt.report.bundle.contents import MADE, Wish, bundle
from memvirt.report.bundle.verify import Rerun, verify
from memvirt.report.terminal import WRITERS
from memvirt.results import claims
from memvirt.results.record import read
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
    read(path)
    terminal.table_command(path.parents[1])


def read_costs(path):
    """A cost model, and the disk that a calibration puts beside it."""
    costs.load(str(path))
    validate(HostConfig, {"memory": "4MiB", "costs": str(path)})
    validate(HostConfig, {"memory": "4MiB", "swap": "4MiB", "swap_device": str(path)})


def read_bundle(path):
    verify(path, Rerun(lambda name: None))


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
    path = tmp_path / name
    if callable(data):
        pytest.importorskip("rocrate")
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
