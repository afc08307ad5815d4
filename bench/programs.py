"""What the pyperf programs share: set up outside the timed part, once per process and only in the one that measures."""

import sys
from collections.abc import Callable
from pathlib import Path

import pyperf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

Work = Callable[[], float]


def bench(runner: pyperf.Runner, name: str, prepare: Callable[[], Work], inner_loops: int) -> None:
    """Benchmark one mechanism. `prepare` sets up and returns the work: a call that does `inner_loops` operations, says
    how many nanoseconds they took, and leaves everything ready for the next call."""
    ready: list[Work] = []

    def run(loops: int) -> float:
        if not ready:
            ready.append(prepare())
        return sum(ready[0]() for _ in range(loops)) * 1e-9

    runner.bench_time_func(name, run, inner_loops=inner_loops)
