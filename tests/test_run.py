"""A run from outside: the same records each time, also when it was interrupted or killed in between."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from memvirt.results.record import SEPARATE, as_dict, read
from memvirt.results.run_folder import load

SUITE = """
schema = 1
name = "small"
title = "A small suite"
description = "What the tests of a run need: pressure, a guest, merges, clones."
presets = ["none", "swap", "zcache", "all"]
[host]
memory = "8MiB"
swap = "16MiB"
[[scenarios]]
name = "phase"
description = "A moving working set."
overcommit_percent = [100, 200]
warm_up = { workload = "zipf", accesses = 2000, write_percent = 20 }
measured = { workload = "phase-change", accesses = 8000, set_percent = 25, period = 2000, write_percent = 20 }
fleet = { vms = 4, memory = "2MiB" }
[[scenarios]]
name = "storm"
description = "Clones come alive."
overcommit_percent = [200]
measured = { workload = "clone-storm", accesses = 4000, dirty_percent = 80 }
fleet = { vms = 4, memory = "2MiB", origin = "clone", image_percent = 10, freed_percent = 5, touched_percent = 95 }
"""
CELLS = 12 + 2 * 3  # and two baselines for each scenario and ratio


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "small.toml"
    path.write_text(SUITE)
    return path


def command(suite, out, *more):
    words = ["run", suite, "--corpus", "synthetic", "--out", out, *more]
    return [sys.executable, "-m", "memvirt", *map(str, words)]


def finish(suite, out, *more, **options):
    return subprocess.run(command(suite, out, *more), capture_output=True, text=True, timeout=120, **options)


def start(suite, out, *more):
    return subprocess.Popen(command(suite, out, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_cells(out, number, process):
    """Until the run has kept that many cells."""
    end = time.monotonic() + 60
    while len(list((out / "cells").glob("[!.]*.json"))) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


def digits(folder):
    """Every cell's record without the two parts that belong to this machine and moment, as text."""
    found = {}
    for path in sorted((Path(folder) / "cells").glob("*.json")):
        plain = as_dict(read(path))
        found[path.name] = json.dumps({key: plain[key] for key in plain if key not in SEPARATE}, sort_keys=True)
    return found


@pytest.fixture(scope="module")
def reference(suite, tmp_path_factory):
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("reference") / "out"
    done = finish(suite, out)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_run_prints_a_table_and_keeps_every_record(reference):
    out, done = reference
    assert "slowdown" in done.stdout and "Learned:" in done.stdout
    assert f"[{CELLS}/{CELLS}]" in done.stderr and f"memvirt table {out}" in done.stderr
    records = load(out)
    assert len(records) == CELLS
    assert Counter(record.status for record in records) == {"done": CELLS - 2, "refused": 2}
    assert {record.preset for record in records if record.status == "refused"} == {"none"}
    assert all(record.verified and record.verified_pages for record in records if record.status == "done")


def test_the_table_can_be_made_again(reference):
    out, done = reference
    again = subprocess.run(
        [sys.executable, "-m", "memvirt", "table", str(out)], capture_output=True, text=True, check=True
    )
    assert again.stdout == done.stdout


def test_a_table_of_half_a_run_says_so(reference, tmp_path):
    shutil.copytree(reference[0], tmp_path / "out")
    for path in list((tmp_path / "out" / "cells").glob("storm*")):
        path.unlink()
    words = [sys.executable, "-m", "memvirt", "table", str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert f"6 of {CELLS} cells are not run yet" in done.stdout and "storm:" not in done.stdout


def test_messages_name_the_program_as_it_was_called(suite, tmp_path):
    """It need not be on the path: `make run` calls it by its place."""
    script = tmp_path / "memvirt"
    script.write_text(f"#!{sys.executable}\nfrom memvirt.__main__ import main\nmain()\n")
    script.chmod(0o755)
    words = [*command(suite, tmp_path / "out")[3:], "--preset", "none", "--timeout", "60"]
    root = str(Path(__file__).parents[1])
    for place in ("", str(tmp_path)):
        path = os.pathsep.join(filter(None, [place, "/usr/bin", "/bin"]))
        environment = {**os.environ, "PATH": path, "PYTHONPATH": root}
        done = subprocess.run(["./memvirt", *words, "--resume"], cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == 0
        called = done.stderr.decode().rpartition("the table again: ")[2].split(" table ")[0]
        assert called == ("memvirt" if place else "./memvirt")


def test_two_runs_are_equal_digit_for_digit(suite, reference, tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    assert finish(suite, tmp_path / "out", env=environment).returncode == 0
    assert digits(tmp_path / "out") == digits(reference[0])


def test_another_seed_gives_other_numbers(suite, reference, tmp_path):
    assert finish(suite, tmp_path / "out", "--seed", "2", "--preset", "swap").returncode == 0
    sims = {record.sim_ns for record in load(tmp_path / "out") if record.cell.startswith("phase-200--swap")}
    assert not sims & {record.sim_ns for record in load(reference[0]) if record.cell.startswith("phase-200--swap")}


def test_killed_and_resumed_it_gives_the_same_records(suite, reference, tmp_path):
    out, dice = tmp_path / "out", random.Random()
    for stop in sorted(dice.sample(range(1, CELLS - 1), 3)):
        process = start(suite, out, "--resume")
        wait_for_cells(out, stop, process)
        time.sleep(dice.random() / 50)
        process.kill()
        process.communicate()
    done = finish(suite, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert digits(out) == digits(reference[0])
    assert not list((out / "cells").glob(".*"))
    assert done.stdout == reference[1].stdout


# Ctrl-C a moment after the fourth cell: sent from outside, it may come when a loaded machine has finished them all.
INTERRUPTED = """
import signal
from memvirt.__main__ import main
from memvirt.results.run_folder import Results
def write(results, record, keep=Results.write):
    keep(results, record)
    if len(results.kept()) == 4:
        signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
Results.write = write
main()
"""


def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(suite, reference, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-c", INTERRUPTED, *command(suite, out)[3:]]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 130 and ended.stdout == "" and "Traceback" not in ended.stderr
    kept = digits(out)
    assert len(kept) >= 4 and f"interrupted: {len(kept)} of {CELLS} cells are kept" in ended.stderr
    assert kept.items() <= digits(reference[0]).items()
    words = ended.stderr.split("; go on with: ")[1].split(" run ", 1)[1].split()
    done = subprocess.run([sys.executable, "-m", "memvirt", "run", *words], capture_output=True, text=True)
    assert done.returncode == 0 and digits(out) == digits(reference[0])


MASKED = """
import os, signal, sys, time
from memvirt.experiment.driver import Driver
from memvirt.__main__ import main
verify, calls = Driver.verify, []
def masked(driver, corpus):
    calls.append(1)
    if len(calls) == 3:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        except BaseException as error:
            {then}
    return verify(driver, corpus)
Driver.verify = masked
main()
"""


@pytest.mark.parametrize("then", ["raise ValueError('a library failed') from error", "pass"])
def test_an_interrupt_that_a_library_masks_or_swallows_is_one_all_the_same(suite, reference, tmp_path, then):
    out = tmp_path / "out"
    program = [sys.executable, "-c", MASKED.format(then=then), *command(suite, out)[3:], "--jobs", "1"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == 130 and done.stdout == "" and "Traceback" not in done.stderr
    assert f"interrupted: {len(digits(out))} of {CELLS} cells are kept" in done.stderr
    assert digits(out).items() <= digits(reference[0]).items()


def test_time_is_up(tmp_path):
    for seconds in (5, 20, 80):  # on a busy machine the first cell may not be finished in the first
        out = tmp_path / str(seconds)
        done = finish("quick", out, "--tier", "quick", "--timeout", str(seconds))
        assert done.returncode == 124 and "time is up" in done.stderr and "Traceback" not in done.stderr
        if list((out / "cells").glob("*.json")):
            break
    assert load(out)


def test_a_finished_run_is_not_overwritten_and_another_is_not_resumed(suite, reference):
    before = digits(reference[0])
    done = finish(suite, reference[0])
    assert done.returncode == 2 and "go on with it by --resume" in done.stderr
    done = finish(suite, reference[0], "--resume", "--seed", "5")
    assert done.returncode == 2 and "holds another run" in done.stderr
    assert digits(reference[0]) == before


def test_a_damaged_record_is_run_again(suite, reference, tmp_path):
    out = tmp_path / "out"
    assert finish(suite, out, "--preset", "swap").returncode == 0
    whole = digits(out)
    path = out / "cells" / "phase-200--swap--s1.json"
    path.write_text(path.read_text()[:-100])
    assert finish(suite, out, "--preset", "swap", "--resume").returncode == 0
    assert digits(out) == whole


def limited(file_bytes):
    """A process in which no file grows beyond this."""
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return limit


def test_no_room_for_the_swap_file_fails_the_cells_that_need_it(suite, tmp_path):
    done = finish(suite, tmp_path / "out", "--preset", "none,swap", preexec_fn=limited(4 << 20))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "swap file" in done.stderr and "MEMVIRT_SWAP_DIR" in done.stderr
    status = {record.cell: record.status for record in load(tmp_path / "out")}
    assert {status[name] for name in status if "--swap--" in name} == {"failed"}
    assert "failed" not in {status[name] for name in status if "--swap--" not in name}


def test_no_room_for_a_record_stops_the_run_with_nothing_half_written(suite, tmp_path):
    done = finish(suite, tmp_path / "out", "--preset", "none", preexec_fn=limited(6000))
    assert done.returncode == 1 and "cannot be written" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/cells/.*"))
    assert all(read(path).verified for path in tmp_path.glob("out/cells/*.json"))
