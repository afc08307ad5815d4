"""pyperf: pages into the compressed cache and back, by class of content; per page.

python bench/bench_compress.py -o FILE
"""

import pyperf
from programs import bench
from rows.common import shuffled
from rows.compress import Ours
from rows.contents import CLASSES, PAGES, pages_of


def main() -> None:
    runner = pyperf.Runner()
    for name in CLASSES:
        for out in (True, False):

            def prepare(name: str = name, out: bool = out):
                ours, order = Ours(pages_of(name)), shuffled(PAGES)

                def work() -> float:
                    spent = ours.out(), ours.back(order)
                    return spent[not out] * PAGES

                return work

            bench(runner, f"{'compress' if out else 'load'}_{name}", prepare, PAGES)


if __name__ == "__main__":
    main()
