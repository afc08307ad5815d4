"""memvirt.simulate beside libcachesim, with equal miss counts; see bench/replacement.py."""

from collections.abc import Iterator

import replacement
from harness import Row


def rows(repeats: int) -> Iterator[Row]:
    for row in replacement.rows(quick=False):
        yield Row(**row)
