"""pyperf: the hash scanner over unique pages, steady; per page.    python bench/bench_scan.py -o FILE"""

import pyperf
from programs import bench
from rows.common import MIB_PAGES, random_bytes
from rows.sharing import MIB, filled, scan_ns

PAGES = MIB * MIB_PAGES


def main() -> None:
    def prepare():
        owner = filled(random_bytes(PAGES))
        scan_ns(owner)
        return lambda: scan_ns(owner) * PAGES

    bench(pyperf.Runner(), "scan_unique", prepare, PAGES)


if __name__ == "__main__":
    main()
