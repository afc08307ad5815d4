"""pyperf: COW breaks of a clone whose leaf tables are its own; per page.    python bench/bench_cow.py -o FILE"""

import pyperf
from programs import bench
from rows.common import MIB_PAGES, host, touched
from rows.fault import MIB, cow_break

PAGES = MIB * MIB_PAGES * 511 // 512  # the first of each leaf copies the table: not timed


def main() -> None:
    def prepare():
        parent = touched(host(2 * MIB), "parent", MIB)
        return lambda: cow_break(parent) * PAGES

    bench(pyperf.Runner(), "cow_break", prepare, PAGES)


if __name__ == "__main__":
    main()
