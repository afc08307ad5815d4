"""What others wrote, read within bounds: plain files, JSON, TOML, gzip members and whole numbers.

A file may be damaged, or made by somebody who means harm. Python's own readers then take the program with them: text that
nests deep ends in a RecursionError, a number of many digits in an OverflowError wherever it becomes a float, and a kilobyte
of gzip in a gigabyte of memory. So whatever reads such text asks here. What is beyond the bounds is `Excess`, a ValueError
as is that of text that is no JSON or TOML at all: who asks catches ValueError, and says whose text it was.

And nothing of it is run: who looks at results does so in `looking`, where a decider that lies in a file is refused.
"""

import json
import os
import re
import stat
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

MOST_DEPTH = 64  # lists and tables in one another; memvirt's own files have 8
MOST_DIGITS = 300  # of a whole number in a file: a float can still stand for it
MOST_FILE = 1 << 30  # bytes of a file that is read whole
MOST_TOML = 4 << 20  # characters, which take seconds; memvirt's own files have thousands
CHUNK = 1 << 15  # bytes inflated at once

_BOUND = 10**MOST_DIGITS
_PART = r"[^\s.=\[\]{},#]"  # of a key of tables, for which tomllib takes the square of its length
_DOTTED = re.compile(rf"(?<!{_PART}){_PART}+(?:[ \t]*\.[ \t]*{_PART}+){{{MOST_DEPTH}}}")


PROGRAM = "is a program, and is not run when results are looked at"  # said of a decider in a file
_LOOKING: ContextVar[bool] = ContextVar("looking", default=False)


@contextmanager
def looking() -> Iterator[None]:
    """Meanwhile results are looked at, which may be anybody's: no program that they name, a decider's file, is run. Of
    this thread alone; also a decorator."""
    before = _LOOKING.set(True)
    try:
        yield
    finally:
        _LOOKING.reset(before)


def require_runnable(path: str | os.PathLike[str]) -> None:
    """OSError for a user's program that is not to be run: results are looked at, or it is no plain file."""
    if _LOOKING.get():
        raise OSError(None, PROGRAM, os.fspath(path))
    require_plain(path)


class Excess(ValueError):
    """More than any file of memvirt's has, in the words of a message's end."""


def require_plain(path: str | os.PathLike[str]) -> None:
    """OSError for what is there and is no plain file: a pipe is waited for until somebody writes, a device never ends."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind):
        what = "a folder" if stat.S_ISDIR(kind) else "a pipe, a socket or a device"
        raise OSError(None, f"is {what}, not a file", os.fspath(path))


def file_bytes(path: str | os.PathLike[str], most: int = MOST_FILE) -> bytes:
    """What is in a plain file. OSError where it cannot be read, Excess where it has more than `most` bytes."""
    require_plain(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        parts = [b"" if size > most else file.read(size + 1)]  # a read takes memory for all it may give
        while parts[-1] and size <= most:  # it grows meanwhile, or is of a file system that tells no sizes
            size = max(size, sum(map(len, parts)))
            parts.append(file.read(CHUNK))
    if size > most:
        raise Excess(f"it has more than {most} bytes")
    return b"".join(parts)


def json_value(text: str | bytes) -> Any:
    """What a JSON text says. ValueError where it says nothing, Excess where it is beyond the bounds."""
    try:
        return _bounded(json.loads(text))
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _as_excess(error) from None


def toml_table(text: str) -> dict[str, Any]:
    """What a TOML text says. TOMLDecodeError where it says nothing, Excess where it is beyond the bounds."""
    if len(text) > MOST_TOML:
        raise Excess(f"it has {len(text)} characters, and {MOST_TOML} are the most")
    if _DOTTED.search(text):
        raise _too_deep()
    try:
        table: dict[str, Any] = _bounded(tomllib.loads(text))
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _as_excess(error) from None
    return table


def gzip_member(data: bytes, start: int, most: int) -> tuple[bytes, int]:
    """What the gzip member that begins at `start` inflates to, and where it ends. Excess where that is more than `most`
    bytes, of which no more are ever held; another ValueError for a member that is torn or damaged."""
    parts: list[bytes] = []
    _, end = gzip_size(data, start, most, parts)
    return b"".join(parts), end


def gzip_size(data: bytes, start: int, most: int, parts: list[bytes] | None = None) -> tuple[int, int]:
    """The same with how many bytes these are in their place, which go to `parts`, or are let go."""
    inflater, size, at = zlib.decompressobj(31), 0, start
    try:
        while not inflater.eof and at < len(data):
            part = inflater.decompress(data[at : at + CHUNK], most + 1 - size)
            size += len(part)
            if parts is not None:
                parts.append(part)
            if size > most:
                raise Excess(f"it inflates to more than {most} bytes")
            at = min(at + CHUNK, len(data))
    except zlib.error as error:
        raise ValueError(f"it is damaged: {error}") from None
    if not inflater.eof:
        raise ValueError("it is torn")
    return size, at - len(inflater.unused_data)


def whole(text: str, most: int) -> int | None:
    """The number from 0 to `most` that decimal digits spell; None for any other text, however long."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    number = int(digits or "0") if len(digits) <= len(str(most)) else most + 1
    return number if number <= most else None


def _bounded(tree: Any) -> Any:
    """The value again. Excess where it is beyond the bounds; this looks at it level by level, so depth costs no stack."""
    level: list[Any] = [[tree]]
    for _ in range(MOST_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            for value in each.values() if type(each) is dict else each:
                kind = type(value)
                if kind is dict or kind is list:
                    inner.append(value)
                elif kind is int and not -_BOUND < value < _BOUND:
                    raise _too_long()
        if not inner:
            return tree
        level = inner
    raise _too_deep()


def _as_excess(error: ValueError) -> ValueError:
    """Of both libraries a plain ValueError is Python's refusal to read thousands of digits."""
    return _too_long() if type(error) is ValueError else error


def _too_deep() -> Excess:
    return Excess(f"lists and tables stand in one another more than {MOST_DEPTH} deep")


def _too_long() -> Excess:
    return Excess(f"a whole number has more than {MOST_DIGITS} digits")
