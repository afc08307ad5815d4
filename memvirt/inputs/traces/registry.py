"""Trace formats by name, and which one a file is in. A format is one file in `formats`, and one line in
memvirt.names.TRACE_FORMATS.

A format is a class with its parameters as fields. `recognise` looks at the first bytes of a file: it says yes only to
what a file of another format would hardly hold, since a trace that is read wrongly is worse than one that is refused.
`read` yields the requests of a source in the order of the file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from memvirt.errors import ConfigError, CorpusError
from memvirt.names import TRACE_FORMATS
from memvirt.units import suggest

from .requests import Reading, Requests
from .source import HEAD, Source

RECORDS = 1 << 17  # read at a time
FOLDER = "memvirt.inputs.traces.formats"


@dataclass(frozen=True, slots=True)
class Head:
    """The first bytes of a file, expanded; `whole` when it has no more."""

    data: bytes
    whole: bool

    def lines(self) -> list[bytes]:
        """The lines that are there in full, but for what ends them."""
        lines = self.data.replace(b"\r\n", b"\n").split(b"\n")
        return lines[:-1] if not self.whole or not lines[-1] else lines

    def is_text(self) -> bool:
        """No control characters, and UTF-8 but for a character that may be cut at the end."""
        try:
            text = self.data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.whole or error.start < len(self.data) - 3:
                return False
            text = self.data[: error.start].decode("utf-8")
        return bool(text) and not any(ord(character) < 32 and character not in "\t\r\n" for character in set(text))

    def records(self, dtype: np.dtype[Any], offset: int = 0) -> NDArray[Any]:
        """What the bytes are as whole records of this kind."""
        count = max(0, len(self.data) - offset) // dtype.itemsize
        return np.frombuffer(self.data, dtype=dtype, count=count, offset=offset) if count else np.empty(0, dtype)


class Certainty(IntEnum):
    """What a format is known by. A file is in the format that is most certain of it."""

    GENERAL = 0  # much else looks so too
    PLAUSIBLE = 1  # records without a mark, whose values could be those of this format
    SHAPE = 2  # every line or record shows it
    MAGIC = 3  # the first bytes are its own


class Format(BaseModel):
    """A format, with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: ClassVar[str]
    time_unit: ClassVar[str] = ""  # in words; empty where the format has no times
    certainty: ClassVar[Certainty] = Certainty.SHAPE

    @classmethod
    @abstractmethod
    def recognise(cls, head: Head) -> bool:
        """Whether a file that begins so is in this format."""

    @abstractmethod
    def read(self, source: Source, reading: Reading) -> Iterator[Requests]:
        """The requests. CorpusError names the record (from 0) or the line (from 1) that cannot be one."""


def names() -> list[str]:
    """All formats."""
    return sorted(TRACE_FORMATS)


@cache
def lookup(name: str) -> type[Format]:
    """The format of that name; ConfigError with a suggestion."""
    if name not in TRACE_FORMATS:
        raise ConfigError(f"unknown trace format {name!r}{suggest(name, names())} (formats: {', '.join(names())})")
    return cast(type[Format], TRACE_FORMATS[name].load(FOLDER))


def made(cls: type[Format], options: Mapping[str, Any]) -> Format:
    """The format with these parameters; ConfigError with all that is wrong in them."""
    try:
        return cls.model_validate_strings(dict(options))
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            place = ".".join(str(step) for step in problem["loc"])
            if problem["type"] == "extra_forbidden":
                fields = list(cls.model_fields)
                hint = f"; it has: {', '.join(fields)}" if fields else ": it has none"
                problems.append(f"format '{cls.name}' has no option '{place}'{suggest(place, fields)}{hint}")
            else:
                problems.append(f"format '{cls.name}', option {place} = {problem['input']!r}: {problem['msg']}")
        raise ConfigError("; ".join(problems)) from None


def recognised(source: Source) -> type[Format]:
    """The one format that knows the file by its first bytes; CorpusError when there is none, or more than one."""
    data = source.peek(HEAD)
    if not data:
        raise CorpusError("the file is empty; there is nothing to import")
    head = Head(data, len(data) < HEAD)
    for certainty in sorted(Certainty, reverse=True):
        found = [cls for cls in map(lookup, names()) if cls.certainty == certainty and cls.recognise(head)]
        if len(found) > 1:
            both = " or ".join(f"'{cls.name}'" for cls in found)
            raise CorpusError(f"this can be {both}; say which: --format NAME")
        if found:
            return found[0]
    raise CorpusError(
        f"no format known here begins like this; if it is one of these, say --format: {', '.join(names())}"
    )


def records(source: Source, dtype: np.dtype[Any], first_byte: int = 0) -> Iterator[tuple[int, NDArray[Any]]]:
    """(number of the first, records) until the source ends; CorpusError when it ends within a record."""
    done = 0
    while data := source.read(RECORDS * dtype.itemsize):
        whole, rest = divmod(len(data), dtype.itemsize)
        if rest:
            number = done + whole
            raise CorpusError(
                f"record {number} has {rest} of {dtype.itemsize} bytes (from byte {first_byte + number * dtype.itemsize} "
                "on): the file is cut; copy it again, or cut it to whole records"
            )
        yield done, np.frombuffer(data, dtype=dtype)
        done += whole
