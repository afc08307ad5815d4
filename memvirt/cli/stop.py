"""Being told to stop: by Ctrl-C, or because the time of --timeout is over.

A signal's handler raises in the middle of whatever runs. That may be a library which hands the exception on as one of
its own (pydantic's serializers turn a KeyboardInterrupt into a PydanticSerializationError), or swallows it. So the
handler also notes what was asked for, and the note decides: whatever arrives after it is the end that was asked for.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TIMEOUT, INTERRUPTED = 124, 130

_asked = 0


class TimeUp(BaseException):
    """The time of --timeout is over. No Exception: what runs a cell must not take it for a failure of the cell."""


def asked() -> int:
    """The exit code of the end that was asked for; 0: none was."""
    return _asked


def check() -> None:
    """Raise again what was asked for, if something swallowed it."""
    if _asked:
        raise TimeUp if _asked == TIMEOUT else KeyboardInterrupt


def watch() -> None:
    """From now on note a Ctrl-C, too. One that is ignored (nohup, a shell's background job) stays so."""
    global _asked
    _asked = 0
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum: int, frame: Any) -> None:
    global _asked
    _asked = INTERRUPTED
    raise KeyboardInterrupt


def _time_is_up(signum: int, frame: Any) -> None:
    global _asked
    _asked = TIMEOUT
    raise TimeUp


@contextmanager
def alarm(seconds: int | None) -> Iterator[None]:
    """Raise TimeUp in the middle of what runs when so many seconds are over."""
    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, _time_is_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
