"""pyperf: a clone of 4 GiB, its parent idle or busy; per clone.    python bench/bench_clone.py -o FILE"""

import pyperf
from programs import bench
from rows.clone import GIB, clone_ns
from rows.common import all_pages, host, touch, touched, writes


def main() -> None:
    runner = pyperf.Runner()
    for name, busy in (("clone_idle", False), ("clone_busy", True)):

        def prepare(busy: bool = busy):
            parent = touched(host(GIB * 1024, content="fingerprint", spare_percent=20), "parent", GIB * 1024)
            pages, ops = all_pages(parent.pages), writes(parent.pages)

            def work() -> float:
                if busy:
                    touch(parent, pages, ops)
                return clone_ns(parent)

            return work

        bench(runner, name, prepare, 1)


if __name__ == "__main__":
    main()
