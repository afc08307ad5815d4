"""Run as a child process: build a realistic Python heap, say so, and hold it until the parent has captured it.

    python -m memvirt.inputs.heap PAGES SEED

Addresses are randomised by the kernel, so two captures differ, as two processes do.
"""

import json
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np

READY = "ready"


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


def main(pages: int, seed: int) -> None:
    held = build(pages, seed)
    print(READY, flush=True)
    sys.stdin.readline()  # until the parent has read the memory
    del held


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
