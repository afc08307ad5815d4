"""The buddy allocator beside classic doubly linked lists, 4 GiB, order 0."""

from collections.abc import Iterator

from harness import Reference, Row, compare
from limits.build import load

from memvirt.engine.memory.buddy import Buddy

PAGES = 1 << 20  # 4 GiB


def rows(repeats: int) -> Iterator[Row]:
    limit = load("buddy_limit")
    buddy = Buddy(PAGES)
    for pattern in limit.PATTERNS:
        reference = Reference(
            name="classic lists",
            measure=lambda pattern=pattern: limit.classic_ns(PAGES, pattern, 0),
            target=None if pattern == "whole" else 0.5,
        )
        yield from compare(
            f"buddy, {pattern}",
            lambda pattern=pattern: limit.ours_ns(buddy, pattern, 0),
            [reference],
            unit="ns/pair",
            repeats=repeats,
        )
