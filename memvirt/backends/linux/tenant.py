"""A process that stands for a VM: it holds memory, does accesses, and says what faults they took.

It is started afresh, with nothing of this process in it: a fork would share its pages, and a memory limit would limit
what it holds. It serves one call after another over a pair of sockets, and ends when that is closed or when this
process ends, however that happens. A fork of it is served through it, by name.

    with Tenant(corpus) as tenant:
        tenant.ask("make", 1024)                    # its memory: 1024 pages
        tenant.ask("drive", pages, ops)             # (minor faults, major faults, ns)
        tenant.ask("fork", "twin")
        tenant.ask("relay", "twin", "drive", pages, ops)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memvirt.backends.linux import kernel
from memvirt.backends.linux.memory import Memory, end_with_parent, lock_present
from memvirt.errors import TenantError
from memvirt.units import PAGE_SIZE

ENDED_S = 10.0


class Tenant:
    """The process as its maker sees it."""

    def __init__(self, corpus: NDArray[np.uint8] | None = None) -> None:
        ours, theirs = Pipe()
        self._line: Connection[Any, Any] = ours
        words = [sys.executable, "-m", "memvirt.backends.linux.tenant", str(theirs.fileno())]
        self.process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        if corpus is not None:
            self.ask("hold", corpus)

    def ask(self, call: str, *arguments: Any) -> Any:
        """What the call of `_Served` by this name returns; it raises what that raises."""
        try:
            self._line.send((call, arguments))
            good, answer = self._line.recv()
        except (EOFError, OSError) as error:
            code = self.process.wait(ENDED_S)
            raise TenantError(f"a process that stands for a VM has ended with {code}: out of memory?") from error
        if not good:
            raise answer
        return answer

    def close(self) -> None:
        """It ends; its memory is free when this returns."""
        self._line.close()
        try:
            self.process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self.process.kill()
        self.close()


class _Served:
    """What the process can be asked for."""

    def __init__(self) -> None:
        self._corpus: NDArray[np.uint8] | None = None
        self._memory: Memory = Memory(1)
        self._file = -1
        self._kept: dict[str, tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint32] | None]] = {}
        self._twins: dict[str, tuple[int, Connection[Any, Any]]] = {}

    def hold(self, corpus: NDArray[np.uint8]) -> None:
        """Keep these pages, to fill memory from."""
        self._corpus = corpus

    def make(self, pages: int, tag_base: int = 0, huge: bool = False) -> None:
        """Memory of so many pages, in the place of what there was."""
        self._forget_file()
        self._memory = Memory(pages, huge=huge, tag_base=tag_base)

    def make_template(self, pages: int, tag_base: int = 0) -> None:
        """Memory that is a file of no name, shared with whoever maps it."""
        self._forget_file()
        self._file = kernel.memory_file("memvirt-template")
        os.ftruncate(self._file, pages * PAGE_SIZE)
        self._memory = Memory(pages, file=self._file, shared=True, tag_base=tag_base)

    def _forget_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def map_template(self) -> None:
        """A private mapping of that file is the memory from now on."""
        self._memory = Memory(self._memory.pages, file=self._file)

    def tag(self, tag_base: int, sequence: int) -> None:
        """What the next write stores: see Memory.tag."""
        self._memory.tag(tag_base, sequence)

    def punch(self, first: int, count: int) -> None:
        """Take pages out of the file."""
        kernel.punch_hole(self._file, first * PAGE_SIZE, count * PAGE_SIZE)

    def template_pages(self) -> int:
        """Pages that the file holds."""
        return os.fstat(self._file).st_blocks * 512 // PAGE_SIZE

    def drive(
        self, pages: NDArray[np.uint32], ops: NDArray[np.uint8], sources: NDArray[np.uint32] | None = None
    ) -> tuple[int, int, int]:
        """Accesses: (minor faults, major faults, ns)."""
        found: tuple[int, int, int] = self._memory.drive(pages, ops, sources, self._corpus)
        return found

    def keep(
        self, name: str, pages: NDArray[np.uint32], ops: NDArray[np.uint8], sources: NDArray[np.uint32] | None
    ) -> None:
        """Accesses for later: what a process holds before it joins a group is not charged to that."""
        self._kept[name] = pages, ops, sources

    def drive_kept(self, name: str, first: int, last: int) -> tuple[int, int, int, int]:
        """Accesses first .. last - 1 of what was kept by the name: as of `drive`, and the ns for which this process ran or
        waited for something else than a processor."""
        pages, ops, sources = self._kept[name]
        part = slice(first, last)
        began, queued = time.perf_counter_ns(), kernel.queued_ns()
        found = self.drive(pages[part], ops[part], None if sources is None else sources[part])
        queued = kernel.queued_ns() - queued
        return *found, time.perf_counter_ns() - began - queued

    def advise(self, first: int, count: int, advice: int) -> None:
        """madvise."""
        self._memory.advise(first, count, advice)

    def drive_timed(self, pages: NDArray[np.uint32], ops: NDArray[np.uint8]) -> int:
        """Accesses: the processor time that they took, in ns."""
        began = time.thread_time_ns()
        self._memory.drive(pages, ops)
        return time.thread_time_ns() - began

    def advise_timed(self, first: int, count: int, advice: int) -> int:
        """madvise: the processor time that it took, in ns."""
        began = time.thread_time_ns()
        self._memory.advise(first, count, advice)
        return time.thread_time_ns() - began

    def address(self) -> int:
        """Where its memory begins: others can look at the kernel's entries of it."""
        return self._memory.address

    def content(self) -> NDArray[np.uint8]:
        """Every page."""
        rows = np.empty((self._memory.pages, PAGE_SIZE), np.uint8)
        self._memory.copy(0, rows)
        return rows

    def pagemap(self) -> NDArray[np.uint64]:
        """The kernel's entry of every page."""
        return kernel.pagemap(self._memory.address, self._memory.pages)

    def resident(self) -> tuple[int, int]:
        """(pages that are present, of these the ones that nobody else maps)."""
        entries = self.pagemap()
        present = (entries & kernel.PAGEMAP_PRESENT) != 0
        own = present & ((entries & kernel.PAGEMAP_EXCLUSIVE) != 0)
        return int(present.sum()), int(own.sum())

    def kept(self) -> int:
        """Pages that are anywhere: present, or in swap."""
        return int(((self.pagemap() & (kernel.PAGEMAP_PRESENT | kernel.PAGEMAP_SWAPPED)) != 0).sum())

    def stay(self) -> None:
        """On one processor from now on: the kernel puts off for each of them what it does with the last few pages."""
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def join(self, groups: Sequence[str]) -> None:
        """Go into control groups, named by the files that take process numbers. What is held so far stays in memory."""
        lock_present()
        for path in groups:
            with open(path, "w", encoding="ascii") as file:
                file.write(str(os.getpid()))

    def fork(self, name: str) -> None:
        """A copy of this process, with all it holds, is served from now on by the name."""
        ours, theirs = Pipe()
        process = os.fork()
        if process == 0:
            ours.close()
            for _, line in self._twins.values():
                line.close()
            self._twins = {}
            serve(theirs, self)
            os._exit(0)
        theirs.close()
        self._twins[name] = process, ours

    def relay(self, name: str, call: str, *arguments: Any) -> Any:
        """What the copy answers."""
        line = self._twins[name][1]
        line.send((call, arguments))
        good, answer = line.recv()
        if not good:
            raise answer
        return answer

    def end(self, name: str) -> None:
        """The copy ends."""
        process, line = self._twins.pop(name)
        line.close()
        os.waitpid(process, 0)


def serve(line: Connection[Any, Any], served: _Served) -> None:
    """Answer calls until the line is closed."""
    end_with_parent(signal.SIGKILL)
    while True:
        try:
            call, arguments = line.recv()
        except (EOFError, OSError):
            return
        try:
            answer = True, getattr(served, call)(*arguments)
        except Exception as error:
            answer = False, error
        line.send(answer)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the maker decides when this process ends
        signal.signal(number, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), _Served())
