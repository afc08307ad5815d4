"""pyperf: pages to swap and back, in random order; per page.    python bench/bench_swap.py -o FILE"""

import pyperf
from programs import bench
from rows.common import shuffled
from rows.contents import PAGES
from rows.swap import swapping


def main() -> None:
    runner = pyperf.Runner()
    for out in (True, False):

        def prepare(out: bool = out):
            ours, order = swapping(), shuffled(PAGES)

            def work() -> float:
                spent = ours.out(), ours.back(order)
                return spent[not out] * PAGES

            return work

        bench(runner, "swap_out" if out else "swap_in", prepare, PAGES)


if __name__ == "__main__":
    main()
