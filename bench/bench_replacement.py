"""pyperf: memvirt.simulate, 1 M zipf(1.0) requests over 100 000 pages, cache 10 %; per request.

python bench/bench_replacement.py -o FILE
"""

import time

import pyperf
from programs import bench
from rows.common import zipf
from rows.simulate import PEERS

from memvirt import simulate

PAGES, REQUESTS = 100_000, 1_000_000


def main() -> None:
    runner = pyperf.Runner()
    for name, _, _ in PEERS:

        def prepare(name: str = name):
            trace = zipf(PAGES, REQUESTS, seed=1)

            def work() -> float:
                start = time.perf_counter_ns()
                simulate(name, trace, PAGES // 10)
                return time.perf_counter_ns() - start

            return work

        bench(runner, f"simulate_{name}", prepare, REQUESTS)


if __name__ == "__main__":
    main()
