"""A small process of its own for the kernel's peers: fork() copies all of its parent, and a memory limit limits all of
it, so neither may happen in the process that holds the hosts under measurement.

    with Worker() as worker:
        spent = worker(function, argument, ...)

The function is a module's own, and runs there; what it keeps in its module stays until the worker ends.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Any, Self


class Worker:
    """One process, started afresh, that serves calls one at a time."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(function, *arguments).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()
