"""The records of one run, however it is made: cell by cell, two at a time, in parts, on a cluster that loses a worker.

    python -m pytest tests/test_cluster.py -k quick_is_the_same     of a small run, as every run of the tests does
    python tests/same_records.py [--tier quick] [--preset A,B]      of the whole suite quick, a job of its own

Prints a line for each way, and ends with 1 when one of them made another record.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from helpers.cluster import Cluster, environment, kill, until
from memvirt.results.record import comparable
from memvirt.results.run_folder import load

MOST_S = 4 * 3600


def program(folder, *words, **more):
    """memvirt in a process of its own, with a cache that is not the workers'."""
    command = [sys.executable, "-m", "memvirt", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment(folder / "client"), cwd=folder, **pipes, **more)


def content(folder):
    return {record.cell: comparable(record) for record in load(folder)}


def kept(folder):
    return len(list((Path(folder) / "cells").glob("[!.]*.json")))


def ways(folder, words, cluster):
    """(way, the records that it left) of each; `cluster` has one worker, gets another, and loses it half way."""

    def run(*more):
        process = program(folder, *more)
        _, err = process.communicate(timeout=MOST_S)
        assert process.returncode == 0, err

    run("run", *words, "--jobs", "1", "--out", "one")
    yield "a cell at a time", content(folder / "one")
    run("run", *words, "--jobs", "2", "--out", "two")
    yield "two beside each other", content(folder / "two")
    for part in ("1", "2"):
        run("run", *words, "--jobs", "1", "--shard", f"{part}/2", "--out", f"part{part}")
    run("merge", "part1", "part2", "--out", "merged")
    yield "two parts, merged", content(folder / "merged")
    victim = cluster.add().ready(2).workers[-1]
    process = program(folder, "run", *words, "--executor", cluster.url, "--out", "dask")
    until(lambda: kept(folder / "dask") >= kept(folder / "one") // 2, seconds=MOST_S)
    kill(victim)
    _, err = process.communicate(timeout=MOST_S)
    assert process.returncode == 0, err
    yield "a cluster that lost one of two workers half way", content(folder / "dask")


def main(words):
    """Exit code: 1 when a way made another record than the first."""
    first, failed, began = None, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        cluster = Cluster(Path(place) / "cluster").add().ready(1)
        try:
            for way, records in ways(Path(place), ["quick", "--corpus", "synthetic", *words], cluster):
                first = records if first is None else first
                unlike = sorted(cell for cell in first.keys() | records.keys() if first.get(cell) != records.get(cell))
                said = f"other records of {', '.join(unlike[:5])}" if unlike else "the same"
                print(f"{way}: {len(records)} cells, {said}, after {time.monotonic() - began:.0f} s", flush=True)
                failed += bool(unlike)
        finally:
            cluster.end()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
