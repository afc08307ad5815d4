"""Run as a child process: build a realistic Python heap, then write its own resident pages to standard output.

    python -m memvirt.inputs.heap PAGES SEED

What is captured are the heap and the anonymous writable mappings, read through /proc/self/mem; pages the kernel never
had to provide (pagemap: neither present nor swapped) are left out, since nobody would hold memory for them. Addresses
are randomised by the kernel, so two captures differ, as two processes do.
"""

import json
import mmap
import os
import random
import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PAGE_SIZE = mmap.PAGESIZE
HELD = 0b11 << 62  # pagemap bits: present, swapped
CHUNK = 256


def vocabulary() -> list[str]:
    """Words of this interpreter's own library."""
    folder = Path(sysconfig.get_path("stdlib"))
    text = " ".join(
        (folder / name).read_text("utf-8", "replace") for name in ("argparse.py", "inspect.py", "typing.py")
    )
    return sorted(set(text.split()))


def records(rng: random.Random, words: list[str]) -> Iterator[object]:
    """Endless structures of the kinds that long-running Python programs hold."""
    serial = 0
    while True:
        serial += 1
        row = {
            "id": serial,
            "name": f"{rng.choice(words)}-{serial}",
            "tags": rng.sample(words, 5),
            "score": rng.random(),
            "history": [rng.randrange(1 << 40) for _ in range(12)],
            "parent": None,
        }
        yield row
        yield json.loads(json.dumps(row))
        yield (serial, " ".join(rng.choices(words, k=40)))
        yield {rng.choice(words): rng.randrange(1000) for _ in range(8)}
        if serial % 64 == 0:
            yield np.array([rng.gauss(0.0, 1.0) for _ in range(512)])
            yield np.arange(rng.randrange(1 << 20), rng.randrange(1 << 20) + 2048)[:1024]
        if serial % 256 == 0:
            histogram = np.full(8192, 0)  # most bins stay empty: where the zero pages of a heap come from
            histogram[: rng.randrange(2048)] += 1
            yield histogram


def resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def build(pages: int, seed: int) -> list[object]:
    """Hold structures until this process has grown by `pages` pages; every fourth is dropped again, leaving holes."""
    rng = random.Random(seed)
    held: list[object] = []
    target = resident_pages() + pages + pages // 3
    for count, item in enumerate(records(rng, vocabulary())):
        held.append(item)
        if count % 512 == 0 and resident_pages() >= target:
            break
    return [item for item in held if rng.randrange(4)]


def regions() -> list[tuple[int, int]]:
    """Page ranges of the heap and of anonymous writable mappings, from /proc/self/maps."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, mode, _, _, inode, *path = line.split(None, 5)
        if mode[:2] == "rw" and inode == "0" and (not path or path[0] == "[heap]" or path[0].startswith("[anon")):
            first, last = (int(end, 16) // PAGE_SIZE for end in span.split("-"))
            found.append((first, last))
    return found


def held_pages(first: int, last: int) -> list[bool]:
    """Which pages of a range the kernel holds; all of them where it does not tell."""
    try:
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            raw = os.pread(pagemap.fileno(), 8 * (last - first), 8 * first)
    except OSError:
        raw = b""
    if len(raw) != 8 * (last - first):
        return [True] * (last - first)
    return [bool(entry & HELD) for (entry,) in struct.iter_unpack("=Q", raw)]


def dump(out: int) -> None:
    """Write the held pages of all regions to a file descriptor."""
    ranges = [(first, held_pages(first, last)) for first, last in regions()]
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        for first, held in ranges:
            for start in range(0, len(held), CHUNK):
                part = held[start : start + CHUNK]
                try:
                    raw = os.pread(memory.fileno(), len(part) * PAGE_SIZE, (first + start) * PAGE_SIZE)
                except OSError:  # the allocator gave the mapping back in the meantime
                    continue
                for index in range(len(raw) // PAGE_SIZE):
                    if part[index]:
                        os.write(out, raw[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])


def main(pages: int, seed: int) -> None:
    held = build(pages, seed)
    dump(sys.stdout.fileno())
    del held


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
