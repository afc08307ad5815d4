"""The kernel's anonymous memory: first touch, COW after fork, fork. Runs inside a Worker."""

from functools import cache
from typing import Any

from limits.build import load


@cache
def _peer() -> Any:
    return load("kernel_peer")


def first_touch_ns(pages: int, huge: bool = False) -> float:
    """Per page, of fresh memory."""
    return _peer().Memory(pages, huge).touch() / pages


@cache
def _held(pages: int, huge: bool) -> Any:
    """Touched memory that stays, alone, until another size is asked for."""
    memory = _peer().Memory(pages, huge)
    memory.touch()
    return memory


def cow_break_ns(pages: int) -> float:
    """Per page, of a forked child that writes them all."""
    return _held(pages, False).cow() / pages


def fork_ns(pages: int, huge: bool) -> float:
    """Time of fork() with `pages` pages touched, less that of fork() without."""
    _held.cache_clear()
    bare = min(_peer().fork_ns() for _ in range(5))
    _held(pages, huge)
    return min(_peer().fork_ns() for _ in range(3)) - bare
