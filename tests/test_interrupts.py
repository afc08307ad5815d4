"""Ctrl-C at any moment: one line, exit code 130, nothing half-written, nothing left running."""

import os
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress

import pytest

from memvirt import interrupts
from memvirt.errors import Stopped, TimeUp
from memvirt.experiment import plan
from memvirt.experiment.cell import prepare, run_cell
from memvirt.experiment.loop import manifest, run_plan
from memvirt.inputs import synthetic
from memvirt.results.run_folder import Results
from memvirt.timing import samples

# The program, which tells when it has begun to watch; before that, Python itself is starting.
PROGRAM = """
import os, sys
from memvirt import interrupts
from memvirt.__main__ import main
def watch(begin=interrupts.watch):
    begin()
    os.write({told}, b".")
interrupts.watch = watch
{prepared}
sys.argv = ["memvirt", *{words}]
main()
"""


def start(*words, prepared="", **options):
    hears, tells = os.pipe()
    text = PROGRAM.format(words=[str(word) for word in words], prepared=prepared, told=tells)
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", text], stdout=pipe, stderr=pipe, text=True, pass_fds=(tells,), **options
    )
    os.close(tells)
    assert os.read(hears, 1) == b"."
    os.close(hears)
    return process


@pytest.fixture
def watched(monkeypatch):
    """Ctrl-C as the program takes it, and as it was afterwards."""
    before = {number: signal.getsignal(number) for number in interrupts.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(interrupts, "_asked", None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    interrupts.watch()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("after_s", [0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25, 0.4, 0.6, 1.0])
def test_at_any_moment_from_the_start(after_s, tmp_path):
    process = start("run", "quick", "--tier", "smoke", "--corpus", "synthetic", "--out", tmp_path / "out")
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and out == "" and "interrupted" in err and "Traceback" not in err
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_other_signals_end_a_run_as_ctrl_c_does(number, tmp_path):
    """What is finished is kept, and the run goes on from there."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("it is ignored here, as nohup has it, and so by what runs from here")
    out = tmp_path / "out"
    words = ["run", "quick", "--tier", "smoke", "--corpus", "synthetic", "--preset", "swap", "--out", out]
    process = start(*words)
    while not list(out.glob("cells/*.json")):
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130 and "interrupted" in err and "--resume" in err and "Traceback" not in err
    assert not list(tmp_path.rglob(".*.json*"))


def test_an_ignored_hangup_stays_ignored(tmp_path):
    """nohup memvirt run … goes on when the terminal closes."""
    process = start("list", "presets", prepared="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate()
    assert process.returncode == 0 and "zcache" in out


NOW = "(os.kill(os.getpid(), signal.SIGINT), time.sleep(10))"
MOMENTS = {
    "reading": f"capture._read = lambda *_: {NOW}",
    "between two classes": f"capture.SOURCES['numeric'] = lambda *_: {NOW}",
    "written, not yet moved": f"""
beside = store.write_beside
store.write_beside = lambda path, write, move: beside(path, lambda file: (write(file), {NOW}), move)
""",
}


@pytest.mark.parametrize("words", [["run", "quick", "--tier", "smoke"], ["corpus", "capture", "--size", "4MiB"]])
@pytest.mark.parametrize("moment", MOMENTS)
def test_while_the_corpus_is_captured(words, moment, tmp_path):
    prepared = f"import signal, time\nfrom memvirt.inputs import capture, store\n{MOMENTS[moment]}"
    process = start(
        *words, prepared=prepared, env={**os.environ, "MEMVIRT_CACHE": str(tmp_path / "cache")}, cwd=tmp_path
    )
    out, err = process.communicate()
    assert process.returncode == 130 and out == "" and "interrupted" in err and "Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_while_a_file_of_memory_is_captured(tmp_path):
    """Its first half is on its way to the disk then."""
    (tmp_path / "vm.raw").write_bytes(os.urandom(16 << 20))
    prepared = f"""
import signal, time
from memvirt.inputs.sources import files
read = files.File.read
files.File.read = lambda self, at, rows: read(self, at, rows) if at < 8 << 20 else {NOW}
"""
    (tmp_path / "out").mkdir()
    words = ("corpus", "capture", tmp_path / "vm.raw", "--out", tmp_path / "out" / "vm.mvcorpus")
    process = start(*words, prepared=prepared)
    out, err = process.communicate()
    assert process.returncode == 130 and out == "" and "interrupted" in err and "Traceback" not in err
    assert not list((tmp_path / "out").iterdir())


def test_while_the_table_is_printed(tmp_path):
    prepared = "import signal\nfrom memvirt.report import terminal\n"
    prepared += "terminal.text = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)"
    words = ("run", "quick", "--tier", "smoke", "--preset", "swap", "--corpus", "synthetic", "--out", tmp_path / "out")
    process = start(*words, prepared=prepared)
    out, err = process.communicate()
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert err.endswith("memvirt: interrupted\n") and f"memvirt table {tmp_path / 'out'}" in err


def test_where_python_can_raise_nothing_it_is_remembered_and_not_told(watched, capsys):
    class Held:
        pass

    held = Held()
    fallen = weakref.ref(held, lambda _: signal.raise_signal(signal.SIGINT))
    del held
    assert fallen() is None and isinstance(interrupts.asked(), Stopped)
    assert capsys.readouterr() == ("", "")
    held = Held()
    fallen = weakref.ref(held, lambda _: [].pop())
    del held
    assert fallen() is None and "IndexError" in capsys.readouterr().err


def test_what_an_import_makes_of_it_is_no_matter(tmp_path):
    prepared = (
        "import signal, memvirt.cli as cli\n"
        "def broken():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except BaseException:\n"
        "        raise ImportError('multiarray failed to import') from None\n"
        "cli.main = broken"
    )
    process = start("list", prepared=prepared)
    assert process.communicate() == ("", "memvirt: interrupted\n") and process.returncode == 130


def test_ignored_from_the_start_it_stays_ignored():
    shell = f'trap "" INT; exec {sys.executable} -c "$0"'
    text = "import os, signal\nfrom memvirt import interrupts\ninterrupts.watch()\nos.kill(os.getpid(), signal.SIGINT)"
    assert subprocess.run(["sh", "-c", shell, text]).returncode == 0


def test_a_cell_that_took_it_for_a_failure_is_not_kept(watched, tmp_path):
    """An engine call that is interrupted may end in an error of its own, or the interrupt be dropped."""
    made, context = plan.make("clone-storm", "smoke", only=["swap"]), prepare(synthetic(8192, 1))

    def spoiled(run, cell, baseline):
        if cell.is_baseline:
            return run_cell(run, cell, baseline)
        with suppress(BaseException):  # as a destructor does
            os.kill(os.getpid(), signal.SIGINT)
        return run_cell(run, cell, baseline)

    with Results(tmp_path / "out", manifest(made, context)) as results:
        with pytest.raises(Stopped):
            list(run_plan(made, context, results, measure=spoiled))
        assert results.kept() == ["dirty-10-200--baseline--s1--baseline"]


def test_time_that_is_up_is_not_lost_either(watched):
    with interrupts.alarm(1):
        try:
            time.sleep(5)
        except BaseException as why:
            assert why.code == 124
        with pytest.raises(TimeUp):
            interrupts.check()


def gone(pid):
    """Whether a process has ended, reaped or not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("how", ["interrupt", "timeout"])
def test_no_worker_of_a_sample_goes_on(how, watched, tmp_path, monkeypatch):
    """The worker is a child of the process that we start, as pyperf's are."""
    note = tmp_path / "pid"
    command = ["sh", "-c", f"sleep 60 & echo $! > {note}.tmp; mv {note}.tmp {note}; wait"]
    if how == "interrupt":
        subprocess.Popen(["sh", "-c", f"while ! [ -e {note} ]; do sleep 0.01; done; kill -INT {os.getpid()}"])
    monkeypatch.setattr(samples, "TIMEOUT_S", 60 if how == "interrupt" else 1)
    with pytest.raises(Stopped if how == "interrupt" else subprocess.TimeoutExpired):
        samples._finish(command)
    worker = int(note.read_text())
    end = time.monotonic() + 5
    while not gone(worker):
        assert time.monotonic() < end
        time.sleep(0.01)
