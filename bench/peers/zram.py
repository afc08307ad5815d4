"""A zram device of our own: as a block device that is written and read, or as swap under a memory limit."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Absent
from limits.build import load

from peers.guard import Guard, read

CONTROL = Path("/sys/class/zram-control")
WRITE_BYTES = 1 << 20
HANDLE_BYTES = 8  # of each object, outside of the pool: ZS_HANDLE_SIZE in the kernel's mm/zsmalloc.c


class Zram:
    """A new device with LZ4; the kernel names its number. Removed by the guard."""

    def __init__(self, guard: Guard, pages: int) -> None:
        if os.geteuid() or not CONTROL.exists():
            raise Absent("zram needs root and a kernel that has it")
        self.number = int(read(CONTROL / "hot_add"))
        guard.will_undo("zram", self.number)
        self.block = Path(f"/sys/block/zram{self.number}")
        if "lz4" not in read(self.block / "comp_algorithm"):
            raise Absent("this kernel's zram has no lz4")
        (self.block / "comp_algorithm").write_text("lz4")
        (self.block / "disksize").write_text(str(pages * 4096))
        self.device = f"/dev/zram{self.number}"
        if not Path(self.device).exists():
            major, minor = (int(part) for part in read(self.block / "dev").split(":"))
            guard.will_undo("unlink", self.device)
            os.mknod(self.device, 0o600 | 0o060000, os.makedev(major, minor))
        self._guard = guard

    def write_ns(self, pages: Any) -> float:
        """Per page, written in order, 1 MiB at a time, past the page cache."""
        return self._with_device(os.O_WRONLY, lambda file: self._write(file, pages))

    def _write(self, file: int, pages: Any) -> float:
        per = WRITE_BYTES // 4096
        order = np.arange(len(pages) // per, dtype=np.uint32)
        return load("kernel_peer").transfer_ns(file, True, WRITE_BYTES, order, pages) / (len(order) * per)

    def read_ns(self, order: Any) -> float:
        """Per page, one at a time in this order."""
        return self._with_device(
            os.O_RDONLY, lambda file: load("kernel_peer").transfer_ns(file, False, 4096, order) / len(order)
        )

    def _with_device(self, mode: int, use: Callable[[int], float]) -> float:
        file = os.open(self.device, mode | os.O_DIRECT | os.O_CLOEXEC)
        try:
            return use(file)
        finally:
            os.close(file)

    def overhead(self) -> float:
        """Pool bytes, the table of handles among them, over compressed bytes."""
        stored, compressed, used, _, _, same, *_ = (int(field) for field in read(self.block / "mm_stat").split())
        return (used + HANDLE_BYTES * (stored // 4096 - same)) / compressed

    def swap_on(self) -> None:
        """Use it as the swap area that is filled first."""
        subprocess.run(["mkswap", self.device], check=True, capture_output=True)
        self._guard.will_undo("swapoff", self.device)
        subprocess.run(["swapon", "-p", "32767", self.device], check=True, capture_output=True)
