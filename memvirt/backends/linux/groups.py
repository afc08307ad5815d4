"""A memory control group of our own, of version 1 or 2, with a hard limit: a host that has so much memory.

Pressure is told of groups of version 2 alone, whoever has the memory controller. So beside a group of version 1 there is one
of version 2 that limits nothing, for its memory.pressure; both are joined.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from time import sleep

from memvirt.backends.linux import kernel
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.undo import Changes, write
from memvirt.units import PAGE_SIZE

FRESH_S = 0.00005
MOUNTS = Path("/proc/self/mounts")


class Group:
    """The group, empty. A process joins by writing its number to each of `joins`."""

    def __init__(self, changes: Changes, pages: int, version: int | None = None) -> None:
        kernel.require_root("a memory control group is made")
        parent, self.version = place() if version is None else place(version)
        self.path = _made(changes, parent)
        self.joins = [str(self.path / "cgroup.procs")]
        limit = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        if not (self.path / limit).exists():
            raise Missing(f"control groups of {parent} have no memory limit: the controller is not given to them")
        write(self.path / limit, pages * PAGE_SIZE)
        self.limit = pages
        self._watched: Path | None = self.path
        if self.version == 1:
            self._watched = None
            with suppress(Missing):
                self._watched = _made(changes, unified())
                self.joins.append(str(self._watched / "cgroup.procs"))

    def squeeze(self) -> None:
        """All goes that can without swap: more is asked for than can. Then the group may have as much as before."""
        if self.version == 1:
            write(self.path / "memory.swappiness", 0)  # of a group that means never
            limit = self.path / "memory.limit_in_bytes"
            before = kernel.read(limit).strip()
            with suppress(Missing):  # it is busy: there is something that cannot go
                write(limit, 0)
            write(limit, before)
            return
        write(self.path / "memory.swap.max", 0)
        if not (self.path / "memory.reclaim").exists():
            raise Missing("groups of version 2 take pages when told to since Linux 5.19 (memory.reclaim)")
        with suppress(Missing):
            write(self.path / "memory.reclaim", kernel.read(self.path / "memory.current").strip())

    def pressure(self) -> dict[str, int]:
        """For how long, in ns, some tasks of the group have waited for memory, and all of them; nothing where the kernel does
        not say (Documentation/accounting/psi.rst)."""
        if self._watched is None:
            return {}
        try:
            lines = kernel.read(self._watched / "memory.pressure").splitlines()
            told = {line.split()[0]: int(line.rpartition("total=")[2]) * 1000 for line in lines}
            return {"some_ns": told["some"], "full_ns": told["full"]}
        except (Missing, ValueError, IndexError, KeyError):
            return {}

    def charged(self) -> int:
        """Pages that the group pays for, of the kernel's own, too, and those that a processor has been given in advance."""
        name = "memory.usage_in_bytes" if self.version == 1 else "memory.current"
        return int(kernel.setting(self.path / name)) // PAGE_SIZE

    def unmapped(self) -> int:
        """Pages of anonymous memory that are charged to the group and mapped by nobody: in the swap cache, on their way out
        or back. What is about to be written leaves memory only when it has been."""
        found = kernel.table(self.path / "memory.stat")
        mapped = found.get("rss" if self.version == 1 else "anon", 0)
        return max(0, found.get("inactive_anon", 0) + found.get("active_anon", 0) - mapped) // PAGE_SIZE

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Its statistics are kept fresh. The kernel decides by them which list to shrink. It adds them up every two
        seconds, or when they are read. A run of seconds would depend on when that happens, and the group might run out of
        memory because too few pages are known to be inactive. A read must come between two batches of 32 pages, on a busy
        machine, too: a reader that waits its turn for milliseconds moves major faults by 5 %."""
        done = Event()

        def reading() -> None:
            with suppress(PermissionError):  # of this thread alone
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            with suppress(OSError):  # then they are as fresh as they are
                file = os.open(self.path / "memory.stat", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    while not done.is_set():
                        os.pread(file, 64, 0)
                        sleep(FRESH_S)
                finally:
                    os.close(file)

        reader = Thread(target=reading, daemon=True)
        reader.start()
        try:
            yield
        finally:
            done.set()
            reader.join()


def _made(changes: Changes, parent: Path) -> Path:
    """A group of our own."""
    path = parent / f"memvirt-{os.getpid()}-{secrets.token_hex(4)}"
    changes.will_undo("rmdir", str(path))
    try:
        path.mkdir()
    except OSError as error:
        raise Missing(f"no control group can be made in {parent}: {error.strerror}") from error
    return path


def unified() -> Path:
    """Where groups of version 2 are made, whatever they control."""
    for line in kernel.read(MOUNTS).splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(folder)
    raise Missing("no control groups of version 2 are mounted")


def place(version: int | None = None) -> tuple[Path, int]:
    """Where groups with a memory controller are made, and of which version: the one that is asked for. Missing where there
    is none: the kernel gives a controller to one version at a time."""
    unified = None
    for line in kernel.read(MOUNTS).splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            if version in (None, 1):
                return Path(folder), 1
            raise Missing(f"the memory controller is bound to control groups of version 1 here ({folder})")
        if kind == "cgroup2":
            unified = Path(folder)
    if version == 1:
        raise Missing("no control groups of version 1 have the memory controller")
    if unified is None:
        raise Missing("no control groups are mounted")
    if "memory" not in kernel.read(unified / "cgroup.controllers").split():
        raise Missing(f"{unified} has no memory controller")
    if "memory" not in kernel.read(unified / "cgroup.subtree_control").split():
        raise Missing(f"{unified} gives the memory controller to none of its groups (cgroup.subtree_control)")
    return unified, 2
