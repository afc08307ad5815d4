"""Processes that are captured: started, looked at, followed to their end."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memvirt.errors import CorpusError

if TYPE_CHECKING:
    from . import Target

GRACE_S = 2.0
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) *(.*)")
ANONYMOUS = re.compile(r"|\[heap\]|\[stack\]|\[anon:.*\]")
DEFAULT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping of a process: bytes start to end - 1."""

    start: int
    end: int
    rights: str
    name: str
    private_memory: bool  # no file behind it, not shared


def found(command: Sequence[str]) -> list[str]:
    """The command, whose program is there; CorpusError where it is not."""
    if shutil.which(command[0]) is None:
        raise CorpusError(f"there is no program '{command[0]}' that could be started")
    return list(command)


def require_process(pid: int | None) -> int:
    """The number of a process that runs; CorpusError where there is none."""
    if pid is None or pid <= 0 or not os.path.exists(f"/proc/{pid}"):
        raise CorpusError(f"there is no process {pid}; see 'ps' for the numbers of those that run")
    return pid


def mappings(pid: int) -> list[Mapping]:
    """What a process has mapped now; nothing when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except PermissionError as error:
        raise CorpusError(
            f"the mappings of process {pid} may not be read: be its user and let it be traced "
            "(kernel.yama.ptrace_scope), or be root"
        ) from error
    except OSError:
        return []
    found = []
    for line in lines:
        if (match := MAPPING.match(line)) is not None:
            start, end, rights, inode, name = match.groups()
            own = inode == "0" and rights[3] == "p" and ANONYMOUS.fullmatch(name) is not None
            found.append(Mapping(int(start, 16), int(end, 16), rights, name, own))
    return found


class Watched:
    """A process that is looked at again and again, through a file descriptor that names it and no later one."""

    def __init__(self, target: Target) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        if target.command:
            try:
                self.child = subprocess.Popen(found(target.command))
            except OSError as error:
                raise CorpusError(f"{target.command[0]} cannot be started: {error.strerror or error}") from error
            self.pid = self.child.pid
        else:
            self.pid = require_process(target.pid)
        try:
            self.handle = os.pidfd_open(self.pid)
        except OSError as error:
            raise CorpusError(f"process {self.pid} cannot be opened: {error.strerror or error}") from error

    def runs(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self.handle], [], [], 0)[0]

    def wait(self, seconds: float) -> bool:
        """Wait for a time, or until it ends. Returns whether it still runs."""
        return not select.select([self.handle], [], [], max(0.0, seconds))[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.handle)
        if self.child is not None:
            _end(self.child)


def intervals(watched: Watched, target: Target, look: Callable[[], bool]) -> Iterator[int]:
    """Nanoseconds since the beginning, at the end of each interval. `look` is called at the beginning of each; it says
    whether the process could still be looked at."""
    began, number = time.monotonic_ns(), 0
    limit = target.seconds if target.seconds is not None or target.command else DEFAULT_SECONDS
    running = True
    while running and look():
        number += 1
        due = began + number * target.interval_ms * 1_000_000
        running = watched.wait((due - time.monotonic_ns()) / 1e9)
        now = time.monotonic_ns() - began
        if running:
            yield now
        running = running and (limit is None or now < limit * 1e9)


@contextmanager
def stopped(watched: Watched) -> Iterator[None]:
    """Within it the process stands still, all its threads."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(watched.handle, signal.SIGSTOP)
    try:
        end = time.monotonic() + GRACE_S
        while watched.runs() and not _stands_still(watched.pid) and time.monotonic() < end:
            time.sleep(0.0005)
        yield
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(watched.handle, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    try:
        states = [path.read_text().rpartition(") ")[2][:1] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # a thread has just ended
        return False
    return all(state in "TtZX" for state in states)


@contextmanager
def ended(child: subprocess.Popen[bytes], seconds: float | None = None) -> Iterator[None]:
    """A context in which the child runs, for a number of seconds at most; afterwards it has ended."""
    timer = None
    if seconds is not None:
        import threading

        timer = threading.Timer(seconds, child.terminate)
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for it where it has ended, else end it: first in a friendly way."""
    with suppress(subprocess.TimeoutExpired):
        child.wait(0 if child.poll() is None else None)
        return
    child.terminate()
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
