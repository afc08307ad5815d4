"""The first touch of every page, by perf: each page fault is sampled with its address.

A program that is started is seen from its first instruction on; of a process that runs, only pages that it has not touched
before, or that were taken from it, fault.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memvirt.errors import CorpusError

from ..formats.perf import PerfFaults
from ..requests import Reading, Requests
from ..source import Source
from .process import ended, found, require_process

if TYPE_CHECKING:
    from . import Target

FIELDS = "comm,pid,tid,time,event,addr"
PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
MOST_PARANOID = 2  # with which user space may be sampled without privilege


@contextmanager
def requests(target: Target, reading: Reading) -> Iterator[Iterator[Requests]]:
    """The faults of a program, or of a process for some seconds."""
    if shutil.which("perf") is None:
        raise CorpusError("capturing by faults needs perf, which is not installed (Debian: apt-get install linux-perf)")
    if os.geteuid() and os.path.exists(PARANOID) and int(PARANOID.read_text()) > MOST_PARANOID:
        raise CorpusError(f"perf is not allowed here: {PARANOID} is above {MOST_PARANOID}; lower it, or be root")
    event = "page-faults" if os.geteuid() == 0 else "page-faults:u"
    with tempfile.TemporaryDirectory(prefix="memvirt-") as folder:
        data = os.path.join(folder, "perf.data")
        if target.command:
            watched = ["--", *found(target.command)]
        else:
            pid = require_process(target.pid)
            if os.geteuid() not in (0, os.stat(f"/proc/{pid}").st_uid):
                raise CorpusError(f"process {pid} belongs to another user: run as that user, or as root")
            watched = ["-p", str(pid), "--", "sleep", str(target.seconds or 10)]
        _record(["perf", "record", "-q", "-e", event, "-c", "1", "-d", "-o", data, *watched], target)
        script = subprocess.Popen(
            ["perf", "script", "-i", data, "-F", FIELDS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert script.stdout is not None
        with open(script.stdout.fileno(), "rb", closefd=False) as pipe, script.stdout, ended(script):
            yield PerfFaults().read(Source(pipe, "perf script"), reading)


def _record(command: list[str], target: Target) -> None:
    """Run perf record to its end."""
    child = subprocess.Popen(command, stderr=None if target.command else subprocess.PIPE)
    with ended(child, target.seconds if target.command else None):
        _, said = child.communicate()
    if child.returncode and not target.command:
        raise CorpusError(f"perf record failed: {_reason(said.decode(errors='replace')) or child.returncode}")


def _reason(said: str) -> str:
    """What went wrong, of a page that ends in advice: its first sentence."""
    lines = (line.strip() for line in said.splitlines())
    return next((line.rstrip(".") for line in lines if line not in ("", "Error:")), "")
