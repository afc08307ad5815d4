"""pyperf: hits in the translation cache.    python bench/bench_hit.py [pyperf options] -o FILE"""

import pyperf
from programs import bench  # before memvirt: it knows where that is
from rows.common import half_writes, host, reads, touch, touched, zipf

ACCESSES = 1_000_000
MIB = 256


def main() -> None:
    runner = pyperf.Runner()
    for name, content, ops in (("hit", "fingerprint", reads), ("hit_bytes", "bytes", half_writes)):

        def prepare(content: str = content, ops=ops):
            vm = touched(host(MIB, content=content), "guest", MIB)
            pages, kinds = zipf(vm.pages, ACCESSES, seed=1), ops(ACCESSES)
            return lambda: touch(vm, pages, kinds) * ACCESSES

        bench(runner, name, prepare, ACCESSES)


if __name__ == "__main__":
    main()
