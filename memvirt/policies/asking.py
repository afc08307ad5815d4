"""Asking a decider: what it is called, how often, and whether what it answers can be done.

A decider may be a user's code. What it does wrong ends in one sentence that names the decider and the line, and it ends
the run of its host, never the program: an exception, an exit, an answer that is no `Targets`, a VM that does not exist, a
number that cannot be. Being told to stop (Ctrl-C, --timeout) is not the decider's doing and passes through.

`Asked.answer` returns the targets with all numbers as plain integers: NumPy's would be cut to 64 bits somewhere.
"""

import inspect
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import index
from pathlib import Path
from typing import Any

from memvirt.errors import ConfigError, DeciderError, InvariantError, Stopped
from memvirt.names import HOST_STATES
from memvirt.policies.base import Snapshot, Targets
from memvirt.units import suggest

USUAL_INTERVAL_NS = 1_000_000  # of a plain function
MOST_SECONDS = 10.0  # of this machine's clock, that a decider of a user's may think; its time_limit_s says otherwise
AGAIN_SECONDS = 0.1  # one that catches the end of its time is told again
MOST_NS = 1 << 62
MOST_SCAN_PAGES = (1 << 32) - 2
MOST_MEMO = 1 << 63


class Asked:
    """A decider (an object with `decide`, or a function) about to be asked. ConfigError for what is none, or has no
    interval that can be kept."""

    def __init__(self, decider: object) -> None:
        rule = getattr(decider, "decide", decider)
        if not callable(rule):
            raise ConfigError(f"decider: {decider!r} has no method decide(snapshot) -> Targets, and is no function")
        self.name = name_of(decider)
        self._rule: Callable[[Snapshot], object] = rule
        self._file = file_of(decider)
        self.interval_ns = interval_of(decider)
        own = not self._file.startswith(_OWN)
        self.limit_s = _seconds(decider) if own else 0.0  # 0: those of memvirt end
        self._seen: set[str] = set()  # names of all VMs that it was ever shown
        self.wants_ages = bool(getattr(decider, "wants_ages", True))  # they are most of what a snapshot costs

    def answer(self, snapshot: Snapshot) -> Targets:
        """What it wants. DeciderError for whatever it does wrong."""
        self._seen.update(vm.name for vm in snapshot.vms)
        with guarded(f"decider {self.name}", self._file), limited(self.limit_s):
            targets = self._rule(snapshot)
        if not isinstance(targets, Targets):
            raise DeciderError(
                f"decider {self.name}: decide() returned {_shown(targets)}; return memvirt.policies.Targets, "
                "Targets() where nothing is to change"
            )
        try:
            return _checked(targets, snapshot, self._seen)
        except ValueError as error:
            raise DeciderError(f"decider {self.name}: {error}") from None


def name_of(decider: object) -> str:
    """ "mine.py:Mine", or the name alone of what comes with memvirt."""
    kind = decider if inspect.isroutine(decider) or inspect.isclass(decider) else type(decider)
    file, name = file_of(decider), getattr(kind, "__qualname__", type(decider).__qualname__)
    return f"{Path(file).name}:{name}" if file and not file.startswith(_OWN) else name


def file_of(decider: object) -> str:
    """The file its rule is written in; "" where there is none."""
    rule = getattr(decider, "decide", decider)
    code = getattr(getattr(rule, "__func__", rule), "__code__", None)
    return str(getattr(code, "co_filename", ""))


def interval_of(decider: object) -> int:
    """How often to ask it, ns. ConfigError for anything but a whole number that a simulated clock can add."""
    with guarded(f"decider {name_of(decider)}: interval_ns", file_of(decider), ConfigError):
        interval = getattr(decider, "interval_ns", USUAL_INTERVAL_NS)
    try:
        return _whole(interval, 1, MOST_NS)
    except ValueError as error:
        hint = "; 1 ms is 1_000_000" if isinstance(interval, str) else ""
        raise ConfigError(f"decider {name_of(decider)}: interval_ns {error}{hint}") from None


@contextmanager
def guarded(what: str, file: str, kind: type[Exception] = DeciderError) -> Iterator[None]:
    """Turn whatever the code of a decider raises into one `kind` of error: what, the exception, and the line of `file`.
    What is no Exception and was not raised in that file is a signal's, by a handler of the program: that passes."""
    try:
        yield
    except (InvariantError, KeyboardInterrupt, Stopped):  # memvirt itself is broken, or is to end
        raise
    except TooLong as error:
        raise kind(f"{what} {error}") from None
    except BaseException as error:
        if not isinstance(error, (Exception, SystemExit)) and not _raised_in(error, file):
            raise
        said = str(error.msg if isinstance(error, SyntaxError) else error)
        text = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise kind(f"{what}: {' '.join(text.split())}{_line(error, file)}") from error


class TooLong(BaseException):
    """A decider has thought for too long. No Exception, so that it is not caught by the way."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLong in what runs when it has taken so long on this machine's clock; 0: never. Signals end it, so there is
    no limit outside a program's main thread, nor where a sooner alarm ends the program, as --timeout's does."""
    left, every = signal.getitimer(signal.ITIMER_REAL)
    if not seconds or threading.current_thread() is not threading.main_thread() or 0 < left <= seconds:
        yield
        return

    def over(number: int, frame: object) -> None:
        raise TooLong(f"has not answered within {seconds:g} s; time_limit_s of its class says how long it may")

    before = signal.signal(signal.SIGALRM, over)
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, left - (time.monotonic() - began)), every)


def _seconds(decider: object) -> float:
    """time_limit_s of a user's decider; ConfigError for what is no time."""
    seconds = getattr(decider, "time_limit_s", MOST_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
        raise ConfigError(f"decider {name_of(decider)}: time_limit_s is {_shown(seconds)}; seconds above 0 are needed")
    return float(seconds)


_OWN = str(Path(__file__).parent)


def _line(error: BaseException, file: str) -> str:
    """ " (mine.py:5)": the innermost line of the file that the exception passed, or of any file but memvirt's."""
    lines: list[tuple[str, int | None]]
    if isinstance(error, SyntaxError) and error.filename:
        lines = [(error.filename, error.lineno)]
    else:
        lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    theirs = [line for line in lines if line[0] == file] or [line for line in lines if not line[0].startswith(_OWN)]
    return f" ({Path(theirs[-1][0]).name}:{theirs[-1][1]})" if theirs and file else ""


def _raised_in(error: BaseException, file: str) -> bool:
    return [frame.filename for frame in traceback.extract_tb(error.__traceback__)][-1:] == [file]


def _checked(targets: Targets, snapshot: Snapshot, seen: set[str]) -> Targets:
    """The targets in plain integers; ValueError names the first that cannot be."""
    vms = {vm.name: vm.configured_pages for vm in snapshot.vms}
    pages = {
        what: _pages(what, getattr(targets, what), vms, seen) for what in ("balloon_pages", "reclaim_pages")
    }  # of each VM
    pace: dict[str, int | None] = {}
    for what, most in (("scan_pages", MOST_SCAN_PAGES), ("scan_sleep_ns", MOST_NS)):
        value = getattr(targets, what)
        pace[what] = None if value is None else _number(what, value, 0, most)
    return Targets(
        **pages,
        scan_pages=pace["scan_pages"],
        scan_sleep_ns=pace["scan_sleep_ns"],
        state=_state(targets.state),
        memo=_memo(targets.memo),
    )


def _state(state: object) -> str | None:
    if state is None or (isinstance(state, str) and state in HOST_STATES):
        return state
    near = suggest(state, list(HOST_STATES)) if isinstance(state, str) else ""
    raise ValueError(f"state is {_shown(state)}{near}; one of {', '.join(HOST_STATES)} is needed, or None")


def _pages(what: str, wanted: object, vms: Mapping[str, int], seen: set[str]) -> dict[str, int]:
    if not isinstance(wanted, Mapping):
        raise ValueError(f"{what} is {_shown(wanted)}; a dict from names of VMs to pages is needed")
    for name in wanted:
        if name not in vms:
            known = list(vms)
            if name in seen:
                raise ValueError(
                    f"{what} names {name!r}, which has ended; name VMs of the snapshot that is being answered"
                )
            near = suggest(name, known) if isinstance(name, str) else ""
            raise ValueError(
                f"{what} names {name!r}; there is no such VM{near} (there are {', '.join(known) or 'none'})"
            )
    return {
        name: value
        if type(value) is int and 0 <= value <= vms[name]
        else _number(f"{what} of VM '{name}'", value, 0, vms[name])
        for name, value in wanted.items()
    }


def _memo(memo: object) -> dict[str, tuple[int, ...]]:
    if not isinstance(memo, Mapping):
        raise ValueError(f"memo is {_shown(memo)}; a dict from text to tuples of integers is needed")
    kept = {}
    for key, values in memo.items():
        if not isinstance(key, str) or not isinstance(values, tuple):
            raise ValueError(f"memo has {key!r}: {_shown(values)}; text and a tuple of integers are needed")
        if all(type(value) is int and -MOST_MEMO <= value < MOST_MEMO for value in values):
            kept[key] = values  # as nearly always: a policy of 1,000 VMs remembers thousands of numbers
            continue
        kept[key] = tuple(_number(f"memo {key!r}", value, -MOST_MEMO, MOST_MEMO - 1) for value in values)
    return kept


def _number(what: str, value: object, least: int, most: int) -> int:
    try:
        return _whole(value, least, most)
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None


def _whole(value: Any, least: int, most: int) -> int:
    """The number as a plain integer; ValueError for any other, and for what is no integer."""
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None:
        raise ValueError(f"is {_shown(value)}; a whole number is needed, {least} to {most}")
    if not least <= number <= most:
        raise ValueError(
            f"is {number if number.bit_length() < 200 else 'beyond all bounds'}; {least} to {most} is the range"
        )
    return number


def _shown(value: object) -> str:
    """A value in a message: short, and whatever its __repr__ does."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) < 40 else value[:37] + "...")
    return f"a {type(value).__name__}"
