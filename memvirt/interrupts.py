"""The end of a command by Ctrl-C, SIGTERM, SIGHUP or the clock: one line, an exit code of its own, whatever was running.

Python's KeyboardInterrupt appears in whatever line runs, and libraries do with it as they like. pydantic's serializers
turn it into a PydanticSerializationError, and a module that is being imported into an ImportError. A destructor or a weak
reference's callback drops it with a traceback. Parsers of command lines each have another exit code for it. So the program
`watch`es: its handlers raise Stopped, which is no KeyboardInterrupt, and remember it. What was remembered decides,
whatever arrives. Before anything is kept `check` asks whether it was lost on the way.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from memvirt.errors import Stopped, TimeUp

_asked: Stopped | None = None


# Asked by hand, by a batch system or `timeout`, by a terminal that closes: all three end a run in the same way.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def watch() -> None:
    """Each of SIGNALS raises Stopped from now on; one that the parent process had ignored (nohup) stays ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, lambda *_: _stop(Stopped()))
    sys.unraisablehook = _dropped


def unwatch() -> None:
    """The process ends: each of SIGNALS ends it at once and without a word."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def alarm(seconds: int | None) -> Iterator[None]:
    """Raise TimeUp in the middle of what runs when the time is over."""
    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: _stop(TimeUp()))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def asked() -> Stopped | None:
    """Why to stop; None when nothing asked for it."""
    return _asked


def check() -> None:
    """Raise Stopped again if it was raised and something dropped it."""
    if _asked is not None:
        raise _asked


def _dropped(what: "sys.UnraisableHookArgs") -> None:
    """What Python could raise nowhere: of Stopped it says nothing, for that is remembered."""
    if not isinstance(what.exc_value, Stopped):
        sys.__unraisablehook__(what)


def _stop(why: Stopped) -> None:
    global _asked
    _asked = _asked or why
    raise _asked
