"""pyperf: the buddy allocator, order 0, 4 GiB; per take and give.    python bench/bench_buddy.py -o FILE"""

import pyperf
from limits.build import load
from programs import bench
from rows.buddy import PAGES

from memvirt.engine.memory.buddy import Buddy


def main() -> None:
    runner = pyperf.Runner()
    limit = load("buddy_limit")
    for pattern in limit.PATTERNS:

        def prepare(pattern: str = pattern):
            buddy = Buddy(PAGES)
            return lambda: limit.ours_ns(buddy, pattern, 0) * PAGES

        bench(runner, f"buddy_{pattern}", prepare, PAGES)


if __name__ == "__main__":
    main()
