"""Capturing the pages of a live process: the time of the whole command, by the GiB of memory that the process holds.

Beside it stands what is demanded, as a fixed time: 0.3 GB/s. The peer copies the same memory out of /proc/PID/mem with dd,
up to the disk. Ours finds out what there is, hashes it, and starts a Python.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import Absent, Measure, Reference, Row, compare

from memvirt.inputs import load

GIB = 1 << 30
DEMANDED_S = GIB / 0.3e9  # of a GiB
AS_FAST_AS_DD = 0.5  # the least ratio
# Holds 1 GiB, a quarter each of random bytes, of pages of one number, of repeated text, and of zeros that were written.
HOLDER = f"""
import mmap, os, sys
memory = mmap.mmap(-1, {GIB})
for page in range({GIB // 4096}):
    number = page.to_bytes(8, "little")
    content = (os.urandom(4096), number * 512, number + b"the quick brown fox " * 205, bytes(4096))[page // {GIB // 16384}]
    memory[page * 4096 : page * 4096 + 4096] = content[:4096]
print("ready", flush=True)
sys.stdin.readline()
"""


def rows(repeats: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, held() as pid:
        place = Path(folder)
        references = [
            Reference(name="0.3 GB/s, as demanded", measure=lambda: DEMANDED_S, target=1.0),
            Reference(name="dd of /proc/PID/mem, conv=fsync", measure=copied(pid, place / "dd"), target=AS_FAST_AS_DD),
        ]
        what = "corpus capture of a process that holds 1 GiB"
        yield from compare(what, captured(pid, place / "a.mvcorpus"), references, unit="s/GiB", repeats=repeats)


@contextmanager
def held() -> Iterator[int]:
    """The number of a process that holds a GiB."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER], text=True, stdin=pipe, stdout=pipe) as child:
        try:
            if child.stdout is None or child.stdout.readline().strip() != "ready":
                raise RuntimeError("the process that is to be captured did not come up")
            yield child.pid
        finally:
            child.kill()


def captured(pid: int, out: Path) -> Measure:
    command = [sys.executable, "-m", "memvirt", "corpus", "capture", f"pid:{pid}", "--out", str(out)]

    def measure() -> float:
        out.unlink(missing_ok=True)
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took = time.perf_counter() - began
        assert len(load(out, mapped=True)) > GIB // 4096
        return took

    return measure


def copied(pid: int, out: Path) -> Measure:
    def measure() -> float:
        spans = (line.split(None, 1)[0].split("-") for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
        start = next((int(first, 16) for first, last in spans if int(last, 16) - int(first, 16) == GIB), None)
        if start is None:
            raise Absent("the memory lies beside other memory")
        out.unlink(missing_ok=True)
        words = [
            f"if=/proc/{pid}/mem",
            f"of={out}",
            "bs=1M",
            f"skip={start}",
            f"count={GIB}",
            "conv=fsync",
            "status=none",
        ]
        began = time.perf_counter()
        try:
            subprocess.run(["dd", "iflag=skip_bytes,count_bytes,fullblock", *words], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Absent(f"dd: {error}") from None
        return time.perf_counter() - began

    return measure
