"""A memory control group, version 1 or 2, with a Worker in it that thrashes."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from harness import Absent
from limits.build import load

from peers.guard import Guard

NAME = "memvirt-bench"
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
SLACK = 4 << 20  # page tables and what the worker itself touches


class Group:
    """A group of our own with a hard limit. Removed by the guard, when the worker has left it."""

    def __init__(self, guard: Guard, bytes_: int) -> None:
        if os.geteuid():
            raise Absent("a memory control group needs root")
        if (V1 / "memory.limit_in_bytes").exists() or (V1 / "cgroup.procs").exists():
            self.parent, limit = V1, "memory.limit_in_bytes"
        elif "memory" in (V2 / "cgroup.subtree_control").read_text().split():
            self.parent, limit = V2, "memory.max"
        else:
            raise Absent("no memory controller")
        self.path = self.parent / f"{NAME}-{os.getpid()}"
        guard.will_undo("rmdir", str(self.path))
        self.path.mkdir()
        (self.path / limit).write_text(str(bytes_ + SLACK))


@cache
def _memory(path: str) -> Any:
    import numpy as np

    pages = np.load(path, mmap_mode="r")
    memory = load("kernel_peer").Memory(len(pages))
    memory.load(pages)
    return memory


def join(group: str) -> None:
    """In the worker."""
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))


def leave(parent: str) -> None:
    """In the worker: give the memory back and go."""
    _memory.cache_clear()
    (Path(parent) / "cgroup.procs").write_text(str(os.getpid()))


def stores_ns(path: str, order_path: str) -> float:
    """In the worker: nanoseconds per store to random pages of memory that holds the pages of an .npy file."""
    import numpy as np

    order = np.load(order_path)
    return _memory(path).stores(order) / len(order)
