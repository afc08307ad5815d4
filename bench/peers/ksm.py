"""Kernel samepage merging of one process's pages. The memory lives in a Worker; the settings are changed under a Guard.

ksmd's time is what its scheduler statistics say it ran, so that other load on the machine and its sleeps do not count.
"""

import os
import time
from pathlib import Path
from typing import Any

from harness import Absent
from limits.build import load

from peers.guard import Guard, read
from peers.worker import Worker

KSM = Path("/sys/kernel/mm/ksm")
SETTINGS = ("pages_to_scan", "sleep_millisecs", "smart_scan", "use_zero_pages", "advisor_mode")
DEADLINE_S = 60.0

_memory: Any = None  # in the worker


def hold(path: str) -> None:
    """In the worker: fill memory from an .npy file and offer it for merging. An empty path: let go of it."""
    import numpy as np

    global _memory
    _memory = None
    if path:
        pages = np.load(path, mmap_mode="r")
        _memory = load("kernel_peer").Memory(len(pages))
        _memory.load(pages)
        _memory.mergeable()


def _ksmd() -> str:
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and (process / "comm").exists() and read(process / "comm") == "ksmd":
            return process.name
    raise Absent("no ksmd thread")


class Ksm:
    """KSM at full speed over what the worker holds; nobody else's pages must be in it."""

    def __init__(self, guard: Guard, worker: Worker) -> None:
        if os.geteuid() or not KSM.exists():
            raise Absent("KSM needs root and a kernel that has it")
        if read(KSM / "run") != "0" or read(KSM / "pages_shared") != "0":
            raise Absent("KSM is in use on this machine")
        self._worker = worker
        self._schedstat = f"/proc/{_ksmd()}/schedstat"
        guard.will_undo("write", str(KSM / "run"), "0")
        values = {"pages_to_scan": 5000, "sleep_millisecs": 0, "smart_scan": 0, "use_zero_pages": 0}
        for name, value in values.items():
            if (KSM / name).exists():
                guard.set(KSM / name, value)
        guard.will_undo("write", str(KSM / "run"), "2")  # undone first: nothing stays merged

    def count(self, name: str) -> int:
        return int(read(KSM / name))

    def cpu_ns(self) -> int:
        return int(read(self._schedstat).split()[0])

    def _until(self, done: Any) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not done():
            if time.monotonic() > deadline:
                raise Absent(f"ksmd did not get there in {DEADLINE_S:g} s")
            time.sleep(0.005)

    def passes(self, n: int) -> None:
        target = self.count("full_scans") + n
        self._until(lambda: self.count("full_scans") >= target)

    def merge_ns(self, path: str, sharing: int) -> float:
        """ksmd's time per page until `pages` pages share another's frame."""
        self._worker(hold, path)
        try:
            before = self.cpu_ns()
            (KSM / "run").write_text("1")
            self._until(lambda: self.count("pages_sharing") >= sharing)
            return (self.cpu_ns() - before) / sharing
        finally:
            self._let_go()

    def scan_ns(self, path: str, passes: int = 3) -> float:
        """ksmd's time per page scanned, pages that all differ and do not change, once it has seen them twice."""
        self._worker(hold, path)
        try:
            (KSM / "run").write_text("1")
            self.passes(3)
            cpu, scanned = self.cpu_ns(), self.count("pages_scanned")
            self.passes(passes)
            return (self.cpu_ns() - cpu) / (self.count("pages_scanned") - scanned)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        (KSM / "run").write_text("2")
        self._worker(hold, "")
