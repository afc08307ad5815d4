"""Dask schedulers and workers as real processes on loopback, and what tests have their workers call."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from memvirt.experiment import pool

ROOT = Path(__file__).parents[2]
OTHER = "import memvirt\nmemvirt.__version__ = '0.0.9'\n"


def environment(cache):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "MEMVIRT_CACHE": str(cache),
        "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error",
    }


def until(true, seconds=60):
    """Wait until it is so; what it gave."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


class Cluster:
    """A scheduler and workers of one thread each, which share a cache folder that is not the client's."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.cache = folder / "cache"
        self.workers = []
        self._file = folder / "scheduler.json"
        words = [
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--no-dashboard",
            "--no-show",
            "--scheduler-file",
            str(self._file),
        ]
        self.scheduler = self._start("dask_scheduler", *words)

    def add(self, number=1, other=False):
        """Start workers; `other`: of another version of memvirt."""
        for _ in range(number):
            name = f"w{len(self.workers)}"
            words = [
                "--scheduler-file",
                str(self._file),
                "--nthreads",
                "1",
                "--no-dashboard",
                "--no-nanny",
                "--name",
                name,
            ]
            if other:
                (self.folder / "other.py").write_text(OTHER)
                words += ["--preload", str(self.folder / "other.py")]
            self.workers.append(self._start("dask_worker", *words, "--local-directory", str(self.folder / name)))
        return self

    def _start(self, module, *words):
        command = [sys.executable, "-m", f"distributed.cli.{module}", *words]
        with (self.folder / f"{module}-{len(self.workers)}.log").open("w") as log:
            return subprocess.Popen(command, env=environment(self.cache), stdout=log, stderr=log, cwd=self.folder)

    @property
    def url(self):
        def address():
            with suppress(OSError, ValueError):
                return json.loads(self._file.read_text())["address"]
            return None

        return until(address).replace("tcp://", "dask://")

    def ready(self, number):
        """Wait until so many workers are there."""
        from distributed import Client

        with Client(self.url.replace("dask://", "tcp://"), timeout=30, set_as_default=False) as client:
            client.wait_for_workers(number, timeout=60)
        return self

    def signal(self, number):
        """To every worker that is left."""
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(number)

    def end(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


class Direct(Executor):
    """An executor without workers that can be told what to answer: a call each time, or a list of them in turn."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def submit(self, call, /, *args, **kwargs):
        self.calls.append((call.__name__, kwargs))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0] if self.answers else call
        future = Future()
        try:
            future.set_result((answer or call)(*args))
        except BaseException as error:
            future.set_exception(error)
        return future


def threads():
    """For --executor: two threads of this process."""
    return ThreadPoolExecutor(2)


def nothing():
    """For --executor: no executor at all."""
    return 7


def failing():
    """For --executor: an executor that cannot be had."""
    raise RuntimeError("no allocation")


def stalling(folder, cell, baseline):
    """In a worker: the first call for a marked cell says who runs it, and never ends."""
    mark = Path(folder) / "who"
    if "150--zcache" in cell.name:
        try:
            handle = os.open(mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return pool.run_here(cell, baseline)
        os.write(handle, str(os.getpid()).encode())
        os.close(handle)
        time.sleep(600)
    return pool.run_here(cell, baseline)


def kill(process):
    """SIGKILL, by id or process."""
    number = process if isinstance(process, int) else process.pid
    os.kill(number, signal.SIGKILL)
