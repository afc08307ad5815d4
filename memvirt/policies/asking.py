"""Asking a decider: what it is called, how often, and whether what it answers can be done.

A decider may be a user's code. What it does wrong ends in one sentence that names the decider and the line, and it ends
the run of its host, never the program: an exception, an exit, an answer that is no `Targets`, a VM that does not exist, a
number that cannot be. Being told to stop (Ctrl-C, --timeout) is not the decider's doing and passes through.

So is all that comes from it, and runs when it is looked at: the mappings and numbers of an answer, the text of an exception.
They are looked at where exceptions are caught and time is limited (`guarded`, `limited`), and nothing of them goes further:
`Asked.answer` returns targets of plain dicts, names, tuples and integers. NumPy's would be cut to 64 bits somewhere.
"""

import inspect
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from operator import index
from pathlib import Path
from typing import Any

from memvirt.errors import ConfigError, DeciderError, InvariantError, Stopped
from memvirt.names import HOST_STATES
from memvirt.policies.base import Snapshot, Targets
from memvirt.policies.columns import columns_of
from memvirt.units import suggest

USERS_MODULE = "memvirt_user_"  # and its name: the module that a user's file is run as
USUAL_INTERVAL_NS = 1_000_000  # of a plain function
MOST_SECONDS = 10.0  # of this machine's clock, that a decider of a user's may think; its time_limit_s says otherwise
WORDS_SECONDS = 1.0  # for what an exception says of itself
MOST_WORDS = 500  # characters of that
AGAIN_SECONDS = 0.1  # one that catches the end of its time is told again
SYNTAX_ERRORS = (SyntaxError, IndentationError, TabError)  # that tell a line of their own
MOST_NS = 1 << 62
MOST_SCAN_PAGES = (1 << 32) - 2
MOST_MEMO = 1 << 63


class Asked:
    """A decider (an object with `decide`, or a function) about to be asked. ConfigError for what is none, or has no
    interval that can be kept."""

    def __init__(self, decider: object) -> None:
        if isinstance(decider, type):
            name = name_of(decider)
            raise ConfigError(f"decider {name}: a class cannot be asked; give an instance, {_class_name(decider)}()")
        self._decider, self.name, self._file = decider, name_of(decider), file_of(decider)
        self.interval_ns = interval_of(decider)
        self.is_users = users = not self._file.startswith(_OWN)
        with guarded("decider", self._file, ConfigError):
            rule = getattr(decider, "decide", decider)
            if not callable(rule):
                raise Unfit(f"{_shown(decider)} has no method decide(snapshot) -> Targets, and is no function")
        self._rule: Callable[[Snapshot], object] = rule
        with guarded(f"decider {self.name}", self._file, ConfigError):
            self.limit_s = _seconds(decider) if users else 0.0  # 0: those of memvirt end
            self.wants_ages = bool(getattr(decider, "wants_ages", True))  # they cost a snapshot something
        self._seen: set[str] = set()  # names of all VMs that it was ever shown
        self._answers = 0 if _module(kind_of(decider)).startswith(USERS_MODULE) else None  # of one in a file

    def goes_on_from(self, before: "Asked") -> bool:
        """Whether a memo of that one is one of this: they are one object, or of one class, with equal options if it is
        memvirt's. What a user's class makes of its memo is its own business."""
        if self._decider is before._decider:
            return True
        kind = type(self._decider)
        is_class = kind is type(before._decider) and not inspect.isroutine(self._decider)
        return is_class and (self.is_users or self._decider == before._decider)

    def answer(self, snapshot: Snapshot) -> Targets:
        """What it wants. DeciderError for whatever it does wrong. One of a user's file, whose cells others are to run again,
        is asked twice the first time, the second, the fourth and so on: equal snapshots have equal answers."""
        vms = columns_of(snapshot)
        configured = dict(zip(vms.names, vms.configured_pages.tolist(), strict=True))
        self._seen.update(configured)
        targets = self._answer(snapshot, configured)
        if self._answers is not None:
            self._answers += 1
            if self._answers & (self._answers - 1) == 0 and self._answer(snapshot, configured) != targets:
                raise DeciderError(
                    f"decider {self.name} answers one snapshot in two ways: what it has to remember goes into Targets.memo, "
                    "and chance has to follow from the snapshot"
                )
        return targets

    def _answer(self, snapshot: Snapshot, configured: Mapping[str, int]) -> Targets:
        with guarded(f"decider {self.name}", self._file), limited(self.limit_s):
            targets = self._rule(snapshot)
            if not isinstance(targets, Targets):
                raise Unfit(
                    f"decide() returned {_shown(targets)}; return memvirt.policies.Targets, "
                    "Targets() where nothing is to change"
                )
            return _checked(targets, snapshot.total_pages, configured, self._seen)


def kind_of(decider: object) -> Any:
    """Its class; a function's is itself."""
    return decider if isinstance(decider, type) or inspect.isroutine(decider) else type(decider)


def name_of(decider: object) -> str:
    """ "mine.py:Mine", or the name alone of what comes with memvirt."""
    kind = kind_of(decider)
    name = (
        _class_name(kind, "__qualname__") if isinstance(kind, type) else str(getattr(kind, "__qualname__", "function"))
    )
    file = file_of(decider)
    return f"{Path(file).name}:{name}" if file and not file.startswith(_OWN) else name


def file_of(decider: object) -> str:
    """The file its rule is written in; "" where there is none."""
    rule = inspect.getattr_static(decider, "decide", decider)  # as it is written: nothing of a user's is run
    if isinstance(rule, property):
        rule = rule.fget
    with suppress(Exception):  # a rule that is an object of the user's may answer in any way when it is looked at
        code = getattr(getattr(rule, "__func__", rule), "__code__", None)
        return str(getattr(code, "co_filename", ""))
    return ""


def interval_of(decider: object) -> int:
    """How often to ask it, ns. ConfigError for anything but a whole number that a simulated clock can add."""
    with guarded(f"decider {name_of(decider)}: interval_ns", file_of(decider), ConfigError):
        interval = getattr(decider, "interval_ns", USUAL_INTERVAL_NS)
    with guarded(f"decider {name_of(decider)}", file_of(decider), ConfigError):
        return _number("interval_ns", interval, 1, MOST_NS, "; 1 ms is 1_000_000" if type(interval) is str else "")


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
    except Unfit as error:
        raise kind(f"{what}: {error}") from None
    except BaseException as error:
        if _passes(error, file):
            raise
        said = _words(error, file)
        name = _class_name(type(error))
        raise kind(f"{what}: {f'{name}: {said}' if said else name}{_line(error, file)}") from error


class Unfit(Exception):
    """What a decider answered, or is, that cannot be: the end of a sentence on it."""


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
    """time_limit_s of a user's decider; Unfit for what is no time."""
    seconds = getattr(decider, "time_limit_s", MOST_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e6:
        raise Unfit(f"time_limit_s is {_shown(seconds)}; seconds above 0 are needed")
    return float(seconds)


_OWN = str(Path(__file__).parent)


def _line(error: BaseException, file: str) -> str:
    """ " (mine.py:5)": the innermost line of the file that the exception passed, or of any file but memvirt's."""
    lines: list[tuple[str, int | None]]
    if type(error) in SYNTAX_ERRORS and isinstance(error, SyntaxError) and type(error.filename) is str:
        lines = [(error.filename, error.lineno)]
    else:
        lines = [(frame.filename, frame.lineno) for frame in _frames(error)]
    theirs = [line for line in lines if line[0] == file] or [line for line in lines if not line[0].startswith(_OWN)]
    return f" ({Path(theirs[-1][0]).name}:{theirs[-1][1]})" if theirs and file else ""


def _passes(error: BaseException, file: str) -> bool:
    """Whether it is no doing of the decider's: the end of the program, by a signal."""
    return not isinstance(error, (Exception, SystemExit, TooLong)) and not _raised_in(error, file)


def _words(error: BaseException, file: str) -> str:
    """What an exception says of itself in one line; "" where that fails, for its class may be a user's, too."""
    try:
        with limited(WORDS_SECONDS):
            said = error.msg if isinstance(error, SyntaxError) else str(error)
            line = " ".join(str.split(said[:MOST_WORDS]))
    except (InvariantError, KeyboardInterrupt, Stopped):
        raise
    except BaseException as another:
        if _passes(another, file):
            raise
        return ""
    return line.encode(errors="backslashreplace").decode()  # a record's file cannot hold half a pair of surrogates


def _module(kind: Any) -> str:
    """Of a class, as _class_name; "" of a function."""
    return _class_name(kind, "__module__") if isinstance(kind, type) else ""


def _class_name(kind: type, what: str = "__name__") -> str:
    """Its name as it was written: a class of a class of a user's may say anything else."""
    return str(type.__dict__[what].__get__(kind))


def _raised_in(error: BaseException, file: str) -> bool:
    return [frame.filename for frame in _frames(error)][-1:] == [file]


def _frames(error: BaseException) -> traceback.StackSummary:
    """Where it passed, which its class cannot hide."""
    return traceback.extract_tb(BaseException.__dict__["__traceback__"].__get__(error))


def _checked(targets: Targets, total_pages: int, vms: Mapping[str, int], seen: set[str]) -> Targets:
    """The targets in plain integers; Unfit names the first that cannot be. `vms`: the pages each was configured with."""
    pages = {
        what: _pages(what, getattr(targets, what), vms, seen)
        for what in ("balloon_pages", "reclaim_pages", "block_above_pages")
    }  # of each VM
    pace: dict[str, int | None] = {}
    for what, most in (("scan_pages", MOST_SCAN_PAGES), ("scan_sleep_ns", MOST_NS)):
        value = getattr(targets, what)
        pace[what] = None if value is None else _number(what, value, 0, most)
    return Targets(
        **pages,
        scan_pages=pace["scan_pages"],
        scan_sleep_ns=pace["scan_sleep_ns"],
        wake_below_pages=_number("wake_below_pages", targets.wake_below_pages, 0, total_pages),
        state=_state(targets.state),
        memo=_memo(targets.memo),
    )


def _state(state: object) -> str | None:
    if state is None:
        return None
    name = _plain(state)
    if name in HOST_STATES:
        return name
    near = suggest(name, list(HOST_STATES)) if name is not None else ""
    raise Unfit(f"state is {_shown(state)}{near}; one of {', '.join(HOST_STATES)} is needed, or None")


def _pages(what: str, wanted: object, vms: Mapping[str, int], seen: set[str]) -> dict[str, int]:
    if not isinstance(wanted, Mapping):
        raise Unfit(f"{what} is {_shown(wanted)}; a dict from names of VMs to pages is needed")
    kept: dict[str, int] = {}
    for key, value in wanted.items():
        name = _plain(key)
        if name is None or name not in vms:
            known = list(vms)
            if name in seen:
                raise Unfit(f"{what} names '{name}', which has ended; name VMs of the snapshot that is being answered")
            near = suggest(name, known) if name is not None else ""
            raise Unfit(
                f"{what} names {_shown(key)}; there is no such VM{near} (there are {', '.join(known) or 'none'})"
            )
        fine = type(value) is int and 0 <= value <= vms[name]
        kept[name] = value if fine else _number(f"{what} of VM '{name}'", value, 0, vms[name])
    return kept


def _memo(memo: object) -> dict[str, tuple[int, ...] | bytes]:
    if not isinstance(memo, Mapping):
        raise Unfit(f"memo is {_shown(memo)}; a dict from text to tuples of integers, or bytes, is needed")
    if type(memo) is dict and _is_plain(copy := memo.copy()):
        return copy
    kept: dict[str, tuple[int, ...] | bytes] = {}
    for key, values in memo.items():
        name = _plain(key)
        if name is None or not isinstance(values, (tuple, bytes)):
            raise Unfit(f"memo has {_shown(key)}: {_shown(values)}; text and a tuple of integers, or bytes, are needed")
        if isinstance(values, bytes):
            kept[name] = bytes.__getitem__(values, slice(None))
            continue
        numbers = tuple.__getitem__(values, slice(None))  # as it is, whatever a class of a user's says it is
        kept[name] = tuple(_number(f"memo {_shown(key)}", value, -MOST_MEMO, MOST_MEMO - 1) for value in numbers)
    return kept


def _is_plain(memo: dict[Any, Any]) -> bool:
    """Whether it is nothing but text, and bytes or tuples of 64-bit integers, as nearly always: a policy of 1,000 VMs
    remembers thousands of numbers, so they are looked at all at once. Types are asked for as such: a user's may say
    anything."""
    rows = [each for each in memo.values() if type(each) is not bytes]
    if [name for name in memo if type(name) is not str] or [each for each in rows if type(each) is not tuple]:
        return False
    numbers = list(chain.from_iterable(rows))
    if [number for number in numbers if type(number) is not int]:
        return False
    return not numbers or (min(numbers) >= -MOST_MEMO and max(numbers) < MOST_MEMO)


def _plain(text: object) -> str | None:
    """The text without what a class of a user's adds to it; None for what is none."""
    return str.__str__(text) if isinstance(text, str) else None


def _number(what: str, value: Any, least: int, most: int, hint: str = "") -> int:
    """The number as a plain integer; Unfit for any other, and for what is no integer."""
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    if number is None:
        raise Unfit(f"{what} is {_shown(value)}; a whole number is needed, {least} to {most}{hint}")
    if not least <= number <= most:
        raise Unfit(f"{what} is {_shown(number)}; {least} to {most} is the range")
    return number


def _shown(value: object) -> str:
    """A value in a message: short, and without its __repr__ where its class may be a user's."""
    if type(value) is int and value.bit_length() >= 200:
        return "beyond all bounds"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if type(value) is str:
        return repr(value if len(value) < 40 else value[:37] + "...")
    return f"a {_class_name(type(value))}"
