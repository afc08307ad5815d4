"""memvirt.simulate beside libcachesim: the time of both on one trace, with equal miss counts. Then a whole lru curve of
ours beside one size of theirs.

Both get the same requests: memvirt an array of dense 32-bit page numbers (the call is timed whole, with its checks and
allocations), libcachesim a binary trace file of them in the page cache, read by `process_trace` (timed without making
the cache). Mind when quoting: dense numbers index arrays, where libcachesim hashes 64-bit object ids. Its hash table
has 2**24 entries by default, and that is what runs here, as it installs; one cut to the trace makes it up to twice as
fast.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import Measure, Reference, Row, Unlike, compare

from memvirt import simulate
from rows.common import Pages, zipf

try:
    import libcachesim  # type: ignore[import-untyped]
except ImportError:
    libcachesim = None

PAGES, REQUESTS = 1_000_000, 20_000_000
CAPACITY = PAGES // 10
HASHPOWER = 24
CURVE_SIZES = 1000  # of one lru curve, which may take no longer than libcachesim takes for one size
CURVE_TARGET = 1

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
    ("slru", "SLRU", 8),
    ("mq", "MQ", 4),
    ("w-tinylfu", "WTinyLFU", 2),
    ("lirs", "LIRS", 8),
    ("clock-pro", "ClockPro", 8),
)
ANOTHER = {"LIRS", "ClockPro"}  # they differ from the papers, which ours follow: see the orders' own modules


def rows(repeats: int) -> Iterator[Row]:
    trace = zipf(PAGES, REQUESTS, seed=1)
    with ExitStack() as stack:
        reader = None if libcachesim is None else stack.enter_context(Reader(trace))
        for name, peer, target in PEERS:
            reference = libcachesim_at(reader, peer, target, simulate(name, trace, CAPACITY))
            what = f"simulate {name}, {REQUESTS // 10**6} M zipf(1.0) over {PAGES // 10**6} M pages, cache 10 %"
            run = per_request(trace, lambda name=name: simulate(name, trace, CAPACITY))
            yield from compare(what, run, [reference], unit="ns/request", repeats=repeats)
        sizes = [max(1, CAPACITY * size // CURVE_SIZES) for size in range(1, CURVE_SIZES + 1)]
        misses = simulate("lru", trace, capacities=sizes).misses[-1]
        reference = libcachesim_at(reader, "LRU", CURVE_TARGET, int(misses), "one size")
        what = f"simulate lru at {CURVE_SIZES} sizes, the same trace"
        run = per_request(trace, lambda: simulate("lru", trace, capacities=sizes))
        yield from compare(what, run, [reference], unit="ns/request", repeats=repeats)


class Reader:
    """The requests as libcachesim reads them: every object of size one."""

    def __init__(self, trace: Pages) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "trace.bin"
        trace.astype("<u4").tofile(path)
        params = libcachesim.ReaderInitParam(binary_fmt_str="<I", ignore_obj_size=True)
        params.obj_id_field = 1
        self.requests = len(trace)
        self.reader = libcachesim.TraceReader(str(path), libcachesim.TraceType.BIN_TRACE, params)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._folder.cleanup()


def per_request(trace: Pages, work: Callable[[], Any]) -> Measure:
    """Nanoseconds per request of one run; a request counts once, however many sizes there are."""

    def run() -> float:
        start = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - start) / len(trace)

    return run


def libcachesim_at(reader: Reader | None, peer: str, target: float, misses: int, sizes: str = "") -> Reference:
    """Their order of this name at CAPACITY, which has to miss as often."""
    name = f"libcachesim {peer}" + (f", {sizes}" if sizes else "")
    if peer in ANOTHER:
        return Reference(name=name, measure=None, target=target, note="that one is another algorithm")
    if reader is None:
        return Reference(name=name, measure=None, target=target, note="libcachesim is not installed")
    note = "equal miss counts; dense page numbers against hashed 64-bit ids"
    return Reference(name=name, measure=theirs(reader, peer, misses), target=target, note=note)


def theirs(reader: Reader, name: str, misses: int) -> Measure:
    """The same of theirs, through a new cache. Unlike when it misses another number of times."""

    def run() -> float:
        cache = getattr(libcachesim, name)(CAPACITY, hashpower=HASHPOWER)
        reader.reader.reset()
        start = time.perf_counter_ns()
        miss_ratio = cache.process_trace(reader.reader)[0]
        spent = time.perf_counter_ns() - start
        found = round(miss_ratio * reader.requests)
        if found != misses:
            raise Unlike(f"DIFFERENT miss counts: {misses} of ours, {found} of theirs")
        return spent / reader.requests

    return run
