"""What others wrote, read within bounds: JSON, TOML, gzip members and whole numbers.

A file may be damaged, or made by somebody who means harm. Python's own readers then take the program with them: text that
nests deep ends in a RecursionError, a number of many digits in an OverflowError wherever it becomes a float, and a kilobyte
of gzip in a gigabyte of memory. So whatever reads such text asks here. What is beyond the bounds is `Excess`, a ValueError
as is that of text that is no JSON or TOML at all: who asks catches ValueError, and says whose text it was.
"""

import json
import re
import tomllib
import zlib
from typing import Any

MOST_DEPTH = 64  # lists and tables in one another; memvirt's own files have 8
MOST_DIGITS = 300  # of a whole number in a file: a float can still stand for it
MOST_TOML = 4 << 20  # characters, which take seconds; memvirt's own files have thousands
CHUNK = 1 << 15  # bytes inflated at once

_BOUND = 10**MOST_DIGITS
_PART = r"[^\s.=\[\]{},#]"  # of a key of tables, for which tomllib takes the square of its length
_DOTTED = re.compile(rf"(?<!{_PART}){_PART}+(?:[ \t]*\.[ \t]*{_PART}+){{{MOST_DEPTH}}}")


class Excess(ValueError):
    """More than any file of memvirt's has, in the words of a message's end."""


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
