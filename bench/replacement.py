"""memvirt.simulate beside libcachesim: speed of both on one trace, interleaved in one process, and their miss counts.

    python bench/replacement.py [--quick]

Both get the same requests: memvirt an array of dense 32-bit page numbers (the call is timed whole, with its checks and
allocations), libcachesim a binary trace file of them in the page cache, read by `process_trace` (timed without making
the cache). Mind when quoting: dense numbers index arrays, where libcachesim hashes 64-bit object ids. Its hash table
has 2**24 entries by default, and that is what the full run uses, as it installs; one cut to the trace makes it up to
twice as fast. The quick run uses such a one, since first touching the large one would take longer than the trace.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from memvirt.simulation import simulate

try:
    import libcachesim  # type: ignore[import-untyped]
except ImportError:
    libcachesim = None

Row = dict[str, Any]
REPEATS = 3

# name of ours, class of theirs, how many times faster we want to be
PEERS = (
    ("fifo", "FIFO", 25),
    ("clock", "Clock", 25),
    ("lru", "LRU", 10),
    ("sieve", "Sieve", 10),
    ("s3fifo", "S3FIFO", 8),
    ("2q", "TwoQ", 8),
    ("arc", "ARC", 8),
    ("lfu", "LFU", 8),
)

CURVE_SIZES = 1000  # of one lru curve, which may take no longer than libcachesim takes for one size
CURVE_TARGET = 1


def zipf(pages: int, requests: int, seed: int) -> npt.NDArray[np.uint32]:
    """Zipf(1.0) requests; the popular pages lie anywhere."""
    rng = np.random.Generator(np.random.PCG64(seed))
    weight = np.cumsum(1.0 / np.arange(1, pages + 1))
    rank = np.searchsorted(weight, rng.random(requests) * weight[-1])
    numbers: npt.NDArray[np.uint32] = rng.permutation(pages).astype(np.uint32)
    return np.take(numbers, np.minimum(rank, pages - 1))


@contextmanager
def trace_reader(pages: npt.NDArray[np.uint32]) -> Iterator[Any]:
    """The requests as libcachesim reads them: every object of size one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.bin"
        pages.astype("<u4").tofile(path)
        params = libcachesim.ReaderInitParam(binary_fmt_str="<I", ignore_obj_size=True)
        params.obj_id_field = 1
        yield libcachesim.TraceReader(str(path), libcachesim.TraceType.BIN_TRACE, params)


def rows(quick: bool) -> list[Row]:
    """One row per order: ours and reference in million requests per second, ratio = how many times faster we are."""
    pages, requests, hashpower = (100_000, 1_000_000, 17) if quick else (1_000_000, 20_000_000, 24)
    trace, capacity = zipf(pages, requests, seed=1), pages // 10
    what = f"replacement simulation, {requests // 10**6} M zipf(1.0) requests over {pages} pages, cache 10 %"
    curve = f"{what}: lru at {CURVE_SIZES} sizes, against one size"
    if libcachesim is None:
        found = [_row(f"{what}: {name}", trace, capacity, name, target, None) for name, _, target in PEERS]
        return [*found, _row(curve, trace, capacity, "lru", CURVE_TARGET, None, sizes=CURVE_SIZES)]
    with trace_reader(trace) as reader:
        found = [
            _row(f"{what}: {name}", trace, capacity, name, target, _peer(peer, capacity, hashpower, reader))
            for name, peer, target in PEERS
        ]
        one_size = _peer("LRU", capacity, hashpower, reader)
        return [*found, _row(curve, trace, capacity, "lru", CURVE_TARGET, one_size, sizes=CURVE_SIZES)]


def _peer(name: str, capacity: int, hashpower: int, reader: Any) -> Callable[[], tuple[float, float]]:
    """A call that runs the trace through a new cache and says how long that took and the miss ratio."""

    def run() -> tuple[float, float]:
        cache = getattr(libcachesim, name)(capacity, hashpower=hashpower)
        reader.reset()
        start = time.perf_counter()
        miss_ratio = cache.process_trace(reader)[0]
        return time.perf_counter() - start, miss_ratio

    return run


def _row(
    what: str,
    trace: npt.NDArray[np.uint32],
    capacity: int,
    name: str,
    target: int,
    peer: Callable[[], tuple[float, float]] | None,
    sizes: int = 1,
) -> Row:
    """sizes: of a curve whose last size is `capacity`; a request counts once, however many sizes there are."""
    ours: list[float] = []
    theirs: list[float] = []
    equal = True
    capacities = [max(1, capacity * size // sizes) for size in range(1, sizes + 1)]
    misses = simulate(name, trace, capacities=capacities).misses[-1]  # warms up, too
    for _ in range(REPEATS):
        start = time.perf_counter()
        if sizes == 1:
            simulate(name, trace, capacity)
        else:
            simulate(name, trace, capacities=capacities)
        ours.append(time.perf_counter() - start)
        if peer is not None:
            seconds, miss_ratio = peer()
            theirs.append(seconds)
            equal &= misses == round(miss_ratio * len(trace))
    row: Row = {"what": what, "ours": _speed(trace, ours), "reference": None, "unit": "M requests/s", "ratio": None}
    row |= {"target": float(target), "spread": None, "met": None, "note": "absent: libcachesim is not installed"}
    if theirs:
        ratios = [slow / fast for fast, slow in zip(ours, theirs, strict=True)]
        row["reference"] = _speed(trace, theirs)
        row["ratio"] = statistics.median(ratios)
        row["spread"] = (max(ratios) - min(ratios)) / row["ratio"]
        row["met"] = equal and row["ratio"] >= target
        row["note"] = f"{'equal' if equal else 'DIFFERENT'} miss counts; dense page numbers against hashed 64-bit ids"
    return row


def _speed(trace: npt.NDArray[np.uint32], seconds: list[float]) -> float:
    return len(trace) / statistics.median(seconds) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the requests, a tenth of the pages")
    for row in rows(parser.parse_args().quick):
        verdict = {True: "met", False: "NOT MET", None: "-"}[row["met"]]
        beside = "" if row["ratio"] is None else f" / {row['reference']:.1f} = {row['ratio']:.1f} x"
        print(f"{row['what']}: {row['ours']:.1f}{beside} {row['unit']}, target {row['target']:g} x: {verdict}", end="")
        print("" if row["spread"] is None else f" (spread {row['spread']:.0%})", f"- {row['note']}")


if __name__ == "__main__":
    main()
