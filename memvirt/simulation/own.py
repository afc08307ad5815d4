"""Orders written in Python: to try an idea before it is written in Cython.

A class with the five calls of the engine's own loop (replay.pxi) is an order for `simulate`:

    class Mine:
        def __init__(self, capacity):   # pages; and whatever options simulate is given
        def expect(self, page):         # page will come in next, before anyone is asked to go: look for its ghost
        def insert(self, page):         # page came in
        def touch(self, page):          # page, which is in, was requested
        def candidate(self):            # who should go? returns a page that is in, and changes nothing else sees
        def take(self, page):           # page goes: remember it as a ghost, if the order keeps some

    simulate(Mine, pages, 1000)
    simulate("mine.py:Mine", pages, capacities=[1000, 2000])

The order is asked for a page to go when a page is missing and `capacity` are in, and exactly then. Who is in is kept
here, so an order that names a page that is not in is found at once, and the message names the request.

Only simulate takes such an order. A host asks its order at every fault and every harvested mark, from code that holds no
interpreter lock; a million calls a second would leave nothing of the engine's speed, and a host needs four answers more
(spare, forget, rename, forget_key: see ext/memvirt/engine/replacement/order.pyx).
"""

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from memvirt.errors import ConfigError, absence
from memvirt.simulation.trace import Pages
from memvirt.units import suggest
from memvirt.untrusted import require_runnable

METHODS = ("expect", "insert", "touch", "candidate", "take")


class OwnOrder(Protocol):
    """What an order written in Python has; pages are ints."""

    def expect(self, page: int) -> None: ...
    def insert(self, page: int) -> None: ...
    def touch(self, page: int) -> None: ...
    def candidate(self) -> int: ...
    def take(self, page: int) -> None: ...


Maker = Callable[..., OwnOrder]


def is_own(replacement: object) -> bool:
    """Whether this is no name of the engine's: a class, or "file.py:Class"."""
    return not isinstance(replacement, str) or ".py:" in replacement


def load_order(replacement: object) -> tuple[str, Maker]:
    """The name of an order written in Python, and what makes one. Raises ConfigError, which says what is missing."""
    if isinstance(replacement, str):
        replacement = _from_file(*replacement.rsplit(":", 1))
    name = getattr(replacement, "__name__", type(replacement).__name__)
    if not callable(replacement):
        raise ConfigError(
            f"replacement: {replacement!r} is neither the name of an order nor a class; "
            "see memvirt.simulation.own for what an order written in Python has"
        )
    if inspect.isclass(replacement):
        _check_methods(name, replacement)
    return name, cast(Maker, replacement)


def own_misses(name: str, make: Maker, pages: Pages, capacity: int, options: dict[str, object]) -> int:
    """Misses of demand paging through an order written in Python.

    Raises ConfigError when the order cannot be made, lacks a method, or names a page to go that is not in. What its own
    methods raise passes through, with a note that says at which request.
    """
    try:
        order = make(capacity, **options)
    except TypeError as error:
        raise ConfigError(
            f"order {name} cannot be made with capacity={capacity}, options {options}: {error}"
        ) from error
    _check_methods(name, order)
    resident = bytearray(int(pages.max()) + 1 if pages.size else 0)
    expect, insert, touch, take = order.expect, order.insert, order.touch, order.take
    misses = held = request = 0
    try:
        for request, page in enumerate(pages.tolist()):
            if resident[page]:
                touch(page)
                continue
            misses += 1
            expect(page)
            if held == capacity:
                victim = _victim(name, order, resident, request, page)
                take(victim)
                resident[victim] = 0
                held -= 1
            insert(page)
            resident[page] = 1
            held += 1
    except ConfigError:
        raise
    except Exception as error:
        error.add_note(f"order {name}: at request {request}, for page {int(pages[request])}, {held} of {capacity} in")
        raise
    return misses


def _victim(name: str, order: OwnOrder, resident: bytearray, request: int, page: int) -> int:
    """Whom the order names, who must be in."""
    victim = order.candidate()
    if isinstance(victim, bool) or not isinstance(victim, (int, np.integer)):
        wrong = f"returned {victim!r}, which is no page number"
    elif not 0 <= victim < len(resident) or not resident[victim]:
        wrong = f"returned {victim}, which is not in"
    else:
        return int(victim)
    raise ConfigError(
        f"order {name}: candidate() {wrong}; at request {request}, to make room for page {page}. It must return a page "
        "that was inserted and not taken since"
    )


def _check_methods(name: str, order: object) -> None:
    missing = [method for method in METHODS if not callable(getattr(order, method, None))]
    if missing:
        raise ConfigError(
            f"order {name} has no {', '.join(f'{method}()' for method in missing)}; "
            f"an order written in Python has {', '.join(METHODS)}"
        )


def _from_file(path: str, class_name: str) -> object:
    """The named class of a user's file, run as a module of its own."""
    file = Path(path)
    if why := absence(file):
        raise ConfigError(f"order file '{path}' {why} (looked in {Path.cwd()})")
    try:
        require_runnable(file)
    except OSError as error:
        raise ConfigError(f"order file '{path}' {error.strerror}") from None
    spec = importlib.util.spec_from_file_location(f"memvirt_user_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"order file '{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's own code may raise anything
        raise ConfigError(f"order file '{path}' fails to run: {type(error).__name__}: {error}") from error
    own = [key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__]
    if class_name not in own:
        raise ConfigError(
            f"order file '{path}' has no class '{class_name}'{suggest(class_name, own)} "
            f"(it has: {', '.join(own) or 'none'})"
        )
    return getattr(module, class_name)
