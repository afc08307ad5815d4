"""A memory control group of our own, of version 1 or 2, with a hard limit: a host that has so much memory."""

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
    """The group, empty. A process joins by writing its number to `joins`."""

    def __init__(self, changes: Changes, pages: int, version: int | None = None) -> None:
        kernel.require_root("a memory control group is made")
        parent, self.version = place() if version is None else place(version)
        self.path = parent / f"memvirt-{os.getpid()}-{secrets.token_hex(4)}"
        changes.will_undo("rmdir", str(self.path))
        try:
            self.path.mkdir()
        except OSError as error:
            raise Missing(f"no control group can be made in {parent}: {error.strerror}") from error
        self.joins = str(self.path / "cgroup.procs")
        limit = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        if not (self.path / limit).exists():
            raise Missing(f"control groups of {parent} have no memory limit: the controller is not given to them")
        write(self.path / limit, pages * PAGE_SIZE)

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Its statistics are kept fresh. The kernel decides by them which list to shrink, and adds them up every two
        seconds, or when somebody reads them: in a run of seconds it would matter when that falls, and the group might run
        out of memory for want of pages that are known to be inactive. Whoever reads must come between two batches of 32
        pages, on a busy machine, too: a reader that waits its turn for milliseconds moves major faults by 5 %."""
        done = Event()

        def reading() -> None:
            with suppress(PermissionError):  # of this thread alone
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            with suppress(Missing):  # then they are as fresh as they are
                while not done.is_set():
                    kernel.read(self.path / "memory.stat")
                    sleep(FRESH_S)

        reader = Thread(target=reading, daemon=True)
        reader.start()
        try:
            yield
        finally:
            done.set()
            reader.join()


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
