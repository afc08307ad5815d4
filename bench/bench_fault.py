"""pyperf: first touch, 4 KiB and 2 MiB at once; nanoseconds per page.    python bench/bench_fault.py -o FILE"""

import pyperf
from programs import bench
from rows.common import MIB_PAGES, host
from rows.fault import MIB, first_touch


def main() -> None:
    runner = pyperf.Runner()
    pages = MIB * MIB_PAGES
    for name, provisioning in (("first_touch", "thin"), ("first_touch_huge", "thin-huge")):

        def prepare(provisioning: str = provisioning):
            owner = host(MIB, provisioning=provisioning)
            return lambda: first_touch(owner) * pages

        bench(runner, name, prepare, pages)


if __name__ == "__main__":
    main()
