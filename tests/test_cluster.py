"""Cells elsewhere, with real processes on loopback: nothing lost, nothing twice, whoever goes and whenever."""

import os
import signal
import socket
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial

import pytest
from same_records import content, kept, program, ways

from helpers.cluster import Cluster, Direct, kill, stalling, until
from helpers.suites import scenario, suite
from memvirt.errors import ConfigError, ExecutorLost, WorkerDied
from memvirt.experiment import elsewhere, executors, plan, pool
from memvirt.experiment.cell import blank, prepare, run_cell
from memvirt.experiment.elsewhere import MOST_IN_VAIN, TRIES, Elsewhere, routes, terms_of
from memvirt.experiment.loop import manifest, run_plan, run_plan_beside
from memvirt.inputs import keep, synthetic
from memvirt.results.run_folder import Results, load

pytest.importorskip("distributed")
SUITE = suite(
    scenario("zipf", (100, 150), measured='workload = "zipf", accesses = ACCESSES, write_percent = 30'),
    name="tiny",
    presets=("swap", "zcache"),
    swap="16MiB",
)
CELLS = 6  # of it, two of them baselines
QUICK = ("run", "quick", "--tier", "smoke", "--preset", "zcache", "--corpus", "synthetic")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler; each test that takes a worker away adds one first."""
    made = Cluster(tmp_path_factory.mktemp("cluster")).add().ready(1)
    yield made
    made.end()


@pytest.fixture(scope="module")
def corpus():
    return synthetic(1024, seed=1)


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.toml").write_text(SUITE.replace("ACCESSES", "4000"))
    return plan.make(str(tmp_path / "tiny.toml"))


def run(tmp_path, *words):
    """(exit code, stderr) of the program."""
    process = program(tmp_path, *words)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, err


def slow(tmp_path, url, out, *more):
    """A run of cells that take a while each, on a cluster."""
    (tmp_path / "slow.toml").write_text(SUITE.replace("ACCESSES", "800000"))
    return ("run", tmp_path / "slow.toml", "--corpus", "synthetic", "--out", out, "--executor", url, *more)


def over(inner, context, corpus, tmp_path, **more):
    """Cells through an executor, as the program has them run."""
    shared = pool.Shared(
        keep(corpus, tmp_path / "client"), dict(context.versions), context.commit, {}, context.make_host
    )
    return Elsewhere(inner, shared, terms_of(shared, corpus, {}), **more)


# ---- with real processes


def test_quick_is_the_same_alone_beside_in_parts_and_on_a_cluster_that_loses_a_worker(cluster, tmp_path):
    whole = None
    for way, records in ways(tmp_path, QUICK[1:], cluster):
        whole = whole or records
        assert records == whole and len(whole) > 4, way
    assert all("wall_ns" not in record.measured for record in load(tmp_path / "dask"))
    hosts = {record.environment["hostname"] for record in load(tmp_path / "dask")}
    assert hosts == {os.uname().nodename}


def test_a_cell_in_whose_middle_the_worker_is_killed_is_run_by_another(cluster, corpus, tiny, tmp_path):
    context = prepare(corpus)
    cluster.add().ready(2)
    inner, aim = executors.open_executor(cluster.url)
    executor = over(inner, context, corpus, tmp_path, aim=aim)
    killer = ThreadPoolExecutor(1)
    killed = killer.submit(lambda: kill(int(until(lambda: _who(tmp_path)))))
    with Results(tmp_path / "out", manifest(tiny, context)) as results:
        steps = list(run_plan_beside(tiny, context, results, executor, partial(stalling, str(tmp_path))))
    killed.result()
    executor.shutdown(wait=False, cancel_futures=True)
    with Results(tmp_path / "alone", manifest(tiny, context)) as results:
        list(run_plan(tiny, context, results))
    assert len(steps) == tiny.count() and content(tmp_path / "out") == content(tmp_path / "alone")


def _who(tmp_path):
    path = tmp_path / "who"
    return path.read_text() if path.exists() else ""


def test_a_scheduler_that_is_killed_ends_in_resume(tmp_path):
    own = Cluster(tmp_path / "own").add().ready(1)
    try:
        process = program(tmp_path, *slow(tmp_path, own.url, "out"))
        until(lambda: kept(tmp_path / "out") >= 2)
        kill(own.scheduler)
        began = time.monotonic()
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1 and time.monotonic() - began < 20
    finally:
        own.end()
    assert "the executor is lost: its scheduler does not answer any more" in err and "Traceback" not in err
    assert "cells are kept in out; go on with: " in err and "--executor dask://" in err and "--resume" in err
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/cells").glob("*.json")}
    words = [*slow(tmp_path, "", "out", "--resume", "--jobs", "1")]
    words = [word for word in words if word not in ("--executor", "")]
    assert run(tmp_path, *words)[0] == 0
    assert kept(tmp_path / "out") == CELLS
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/cells").glob("*.json")}
    assert before.items() <= after.items()  # what was kept was not run again


def test_a_client_that_is_killed_is_resumed_and_a_second_one_is_refused(cluster, tmp_path):
    process = program(tmp_path, *slow(tmp_path, cluster.url, "out"))
    until(lambda: kept(tmp_path / "out") >= 2)
    cluster.signal(signal.SIGSTOP)
    code, err = run(tmp_path, *slow(tmp_path, cluster.url, "out", "--resume"))
    kill(process)
    process.communicate()
    cluster.signal(signal.SIGCONT)
    assert code == 2 and "another memvirt run is writing into it" in err
    before = kept(tmp_path / "out")
    assert 2 <= before < CELLS
    code, err = run(tmp_path, *slow(tmp_path, cluster.url, "out", "--resume"))
    assert code == 0 and kept(tmp_path / "out") == CELLS and err.count(": kept,") >= 1
    assert {record.status for record in load(tmp_path / "out")} == {"done"}


def test_a_worker_of_another_version_runs_no_cell(cluster, tmp_path):
    cluster.add(other=True).ready(2)
    try:
        (tmp_path / "tiny.toml").write_text(SUITE.replace("ACCESSES", "4000"))
        words = ("run", "tiny.toml", "--corpus", "synthetic", "--executor", cluster.url)
        code, err = run(tmp_path, *words, "--out", "out")
        assert code == 0 and kept(tmp_path / "out") == CELLS
        assert err.count("note: no cell is run by the worker tcp://127.0.0.1:") == 1
        assert "it has memvirt 0.0.9, this run " in err
    finally:
        kill(cluster.workers[-1])


def test_no_worker_that_could_run_a_cell(tmp_path):
    own = Cluster(tmp_path / "own").add(other=True).ready(1)
    try:
        (tmp_path / "tiny.toml").write_text(SUITE.replace("ACCESSES", "4000"))
        code, err = run(tmp_path, "run", "tiny.toml", "--corpus", "synthetic", "--executor", own.url, "--out", "out")
    finally:
        own.end()
    assert code == 1 and kept(tmp_path / "out") == 0
    assert "none of its workers can run these cells: it has memvirt 0.0.9" in err and "--resume" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--jobs", "0"), "--jobs 0: give auto, or a number"),
        (("--shard", "0/4"), "--shard 0/4: parts are numbered 1 to 4"),
        (("--shard", "5/4"), "--shard 5/4: parts are numbered 1 to 4"),
        (("--executor", "no.such:thing"), "--executor no.such:thing: cannot be imported: ModuleNotFoundError"),
        (("--executor", "dask://127.0.0.1:1"), "no dask scheduler answers at 127.0.0.1:1"),
        (("--executor", "os:getcwd", "--jobs", "2"), "leave out one of the two"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(tmp_path, words, said):
    code, err = run(tmp_path, "run", "quick", "--tier", "smoke", "--corpus", "synthetic", "--out", "out", *words)
    assert code == 2 and said in err and not (tmp_path / "out").exists()


def test_any_executor(tmp_path):
    """Threads of the client's own process do; its cache folder is theirs."""
    (tmp_path / "tiny.toml").write_text(SUITE.replace("ACCESSES", "4000"))
    words = ("run", "tiny.toml", "--corpus", "synthetic", "--out", "out")
    assert run(tmp_path, *words, "--executor", "helpers.cluster:threads")[0] == 0
    assert kept(tmp_path / "out") == CELLS


# ---- of an executor's text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "give dask://HOST:PORT, or module:callable"),
        ("json", "give dask://HOST:PORT, or module:callable"),
        ("json:", "give dask://HOST:PORT, or module:callable"),
        (":x", "give dask://HOST:PORT, or module:callable"),
        ("a b:c", "give dask://HOST:PORT, or module:callable"),
        ("tcp://127.0.0.1:8786", "give dask://HOST:PORT, or module:callable"),
        ("dask://", "names no place"),
        ("dask://host", "names no place"),
        ("dask:8786", "names no place"),
        ("dask://host:99999999", "names no place"),
        ("dask://127.0.0.1:99999", "no dask scheduler answers"),
        ("json:nothing", "cannot be imported: AttributeError"),
        ("helpers.cluster:nothing", "gave a int, which is no concurrent.futures.Executor"),
        ("helpers.cluster:failing", "failing() raised RuntimeError: no allocation"),
    ],
)
def test_texts_that_name_no_executor(text, said):
    with pytest.raises(ConfigError, match="--executor .*" + said.replace("(", "\\(").replace(")", "\\)")):
        executors.open_executor(text)


def test_somebody_else_at_the_schedulers_place(monkeypatch):
    """A port that accepts and says nothing."""
    assert executors.CONNECT_S <= 8  # of the ten seconds in which it has to be said
    monkeypatch.setattr(executors, "CONNECT_S", 1)
    refused = pytest.raises(ConfigError, match="no dask scheduler answers at 127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server, refused:
        executors.open_executor(f"dask://127.0.0.1:{server.getsockname()[1]}")


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"needs the package distributed: pip install 'memvirt\[cluster\]'"):
        executors.open_executor("dask://127.0.0.1:1")


# ---- what becomes of a cell, with an executor that answers as it is told


@pytest.fixture
def direct(corpus, tmp_path, monkeypatch):
    """Makes (executor over one that gives these answers, that one, what it told)."""
    monkeypatch.setenv("MEMVIRT_CACHE", str(tmp_path / "there"))
    monkeypatch.setattr(elsewhere, "UNLIKE_WAIT_S", 0)
    context = prepare(corpus)
    made = []

    def make(*answers):
        inner, told = Direct(*answers), []
        made.append(over(inner, context, corpus, tmp_path, tell=told.append))
        return made[-1], inner, told

    yield make
    for each in made:
        each.shutdown(cancel_futures=True)


def broken(*_):
    raise BrokenProcessPool("A process was terminated")


def lost(*_):
    raise ConnectionError("node 7 is gone")


def unlike(*_):
    return "unlike", "node", "node:1", "it has lz4 0.1"


def test_a_missing_corpus_is_sent_once(direct, corpus, tmp_path):
    executor, inner, _ = direct()
    assert [executor.submit(divmod, 7, 2).result(10) for _ in range(3)] == [(3, 1)] * 3
    assert [name for name, _ in inner.calls].count("take_corpus") == 1
    assert list((tmp_path / "there").glob("corpus-*"))


def test_a_corpus_that_came_damaged_is_not_kept(direct, tmp_path):
    def damaged(terms, file):
        return elsewhere.take_corpus(terms, file[:-1] + b"\xff")

    def missing(*_):
        return "missing", "node", "node:1"

    executor, inner, _ = direct()
    inner.submit = lambda call, /, *args, **more: Direct(missing if call is elsewhere.take else damaged).submit(
        call, *args
    )
    with pytest.raises(ExecutorLost, match="none of its workers can run these cells: .*do not match their hash"):
        executor.submit(divmod, 7, 2).result(10)
    assert not list((tmp_path / "there").glob("*"))


def test_a_damaged_corpus_there_is_sent_again(direct, corpus, tmp_path):
    executor, inner, _ = direct()
    executor.submit(divmod, 7, 2).result(10)
    (path,) = (tmp_path / "there").glob("corpus-*")
    path.write_bytes(path.read_bytes()[:-4096])
    assert executor.submit(divmod, 9, 2).result(10) == (4, 1)
    assert [name for name, _ in inner.calls].count("take_corpus") == 2


def test_a_broken_executor_ends_the_run(direct):
    executor, _, _ = direct(broken)
    futures = [executor.submit(divmod, 7, 2) for _ in range(3)]
    for future in futures:
        with pytest.raises(ExecutorLost, match="the executor is lost: it is broken: BrokenProcessPool"):
            future.result(10)


def test_what_an_executor_loses_goes_out_again_and_not_for_ever(direct):
    executor, inner, _ = direct(None, None, None, lost, lost, None)
    assert executor.submit(divmod, 7, 2).result(10) == (3, 1)
    assert executor.submit(divmod, 9, 2).result(10) == (4, 1)
    executor, inner, _ = direct(lost)
    with pytest.raises(WorkerDied, match=f"its executor lost it {TRIES} times: ConnectionError: node 7 is gone"):
        executor.submit(divmod, 7, 2).result(10)
    assert len(inner.calls) == TRIES


def test_unlike_workers_are_told_of_once_and_not_asked_for_ever(direct):
    executor, inner, told = direct(unlike)
    with pytest.raises(ExecutorLost, match="none of its workers can run these cells: it has lz4 0.1"):
        executor.submit(divmod, 7, 2).result(10)
    assert len(inner.calls) == MOST_IN_VAIN
    assert told == ["note: no cell is run by the worker node:1 on node: it has lz4 0.1"]


def test_a_bug_in_a_cell_comes_through(direct):
    executor, _, _ = direct()
    with pytest.raises(WorkerDied, match="its worker raised ZeroDivisionError"):
        executor.submit(divmod, 1, 0).result(10)


def test_an_executor_without_workers_is_told_of_once(corpus, tmp_path, monkeypatch):
    class Nobody(Executor):
        def submit(self, call, /, *args, **kwargs):
            return Future()

        def shutdown(self, wait=True, *, cancel_futures=False):
            pass

    monkeypatch.setattr(elsewhere, "SILENT_S", 0.05)
    told = []
    executor = over(Nobody(), prepare(corpus), corpus, tmp_path, tell=told.append)
    executor.submit(divmod, 1, 1)
    until(lambda: told, seconds=10)
    time.sleep(0.2)
    executor.shutdown(wait=False, cancel_futures=True)
    assert told == ["note: nothing has come back for 0.05 s: either cells take so long, or the executor has no worker"]


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("versions", {"memvirt": "9"}, "it has memvirt .*, this run 9"),
        ("versions", {"lz4_route": "another"}, "it has lz4_route .*, this run another"),
        ("versions", {"zfs": "1"}, "it has zfs absent, this run 1"),
        ("commit", "0" * 40, "its source is at .*, this run's at 000000000000"),
        ("codecs", {"lz4": "none"}, "its codec lz4 is .*, this run's none"),
        ("codecs", {"lzma": "none"}, "its codec lzma is absent, this run's none"),
    ],
)
def test_what_a_worker_must_agree_in(corpus, part, value, said, monkeypatch, tmp_path):
    context = prepare(corpus)
    monkeypatch.setattr(elsewhere, "source_commit_here", lambda: "1" * 40)
    terms = {"versions": dict(context.versions), "commit": "", "codecs": {}, "corpus": corpus.sha256, "file": "x"}
    assert elsewhere.disagreement(terms) == ""
    import re

    assert re.fullmatch(said, elsewhere.disagreement({**terms, part: value}))


def test_the_codecs_of_cells(tiny):
    assert list(routes(tiny.in_order())) == ["lz4"] and "absent" not in routes(tiny.in_order()).values()


def test_a_baseline_whose_worker_died_fails_what_is_held_against_it(corpus, tiny, tmp_path):
    """So that --resume runs them again: their slowdown would be missing for ever."""
    context = prepare(corpus)

    class Dying(Direct):
        def submit(self, call, cell, baseline):
            def answer(*_):
                if cell.is_baseline:
                    raise WorkerDied("its worker process was killed by SIGKILL")
                raise AssertionError("held against nothing")

            return Direct(answer).submit(call, cell, baseline)

    with Results(tmp_path / "out", manifest(tiny, context)) as results:
        steps = list(run_plan_beside(tiny, context, results, Dying()))
    assert len(steps) == tiny.count() and steps[-1].done == tiny.count()
    assert {step.record.status for step in steps} == {"failed"}
    assert "not run: zipf-150--baseline--s1--baseline has failed" in {step.record.reason for step in steps}


@pytest.mark.parametrize("beside", [False, True])
def test_a_baseline_that_failed_fails_what_is_held_against_it(corpus, tiny, tmp_path, beside):
    """Not for good: --resume runs them all, and every column has its slowdown."""
    context = prepare(corpus)

    def measured(run, cell, baseline):
        return (
            replace(blank(run, cell), reason="MemoryError: no") if cell.is_baseline else run_cell(run, cell, baseline)
        )

    with Results(tmp_path / "out", manifest(tiny, context)) as results:
        if beside:
            steps = list(run_plan_beside(tiny, context, results, Direct(partial(measured, context))))
        else:
            steps = list(run_plan(tiny, context, results, measure=measured))
    assert {step.record.status for step in steps} == {"failed"} and len(steps) == tiny.count()
    with Results(tmp_path / "out", manifest(tiny, context), resume=True) as results:
        steps = list(run_plan(tiny, context, results))
    columns = [step.record for step in steps if step.record.role == "column"]
    assert columns and all(record.derived["slowdown"] for record in columns)
