"""The kinds of values that settings are made of: sizes, times, shares, names.

A size is held in pages and a time in nanoseconds, and both are written back as exact text ("64MiB", "50us"): what a
config dumps reads like what a user types, and gives the same config when read again. Nothing here is a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WrapValidator

from memvirt.errors import ConfigError
from memvirt.settings import orders
from memvirt.settings.wording import NAME_PATTERN
from memvirt.units import format_pages, format_time, parse_interval, parse_pages, parse_percent, parse_time, suggest

Pages = Annotated[int, BeforeValidator(parse_pages), PlainSerializer(format_pages, return_type=str)]
PagesOrZero = Annotated[
    int,
    BeforeValidator(lambda value: parse_pages(value, allow_zero=True)),
    PlainSerializer(format_pages, return_type=str),
]
Nanoseconds = Annotated[int, BeforeValidator(parse_time), PlainSerializer(format_time, return_type=str)]
Interval = Annotated[int, BeforeValidator(parse_interval), PlainSerializer(format_time, return_type=str)]
Lasting = Annotated[Interval, AfterValidator(lambda time: _lasts(time))]  # an interval that is not nothing
Percent = Annotated[int, BeforeValidator(parse_percent)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Shares = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
NAME = re.compile(NAME_PATTERN)
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Replacement = Annotated[str, BeforeValidator(orders.known)]


def _lasts(time: int) -> int:
    if not time:
        raise ConfigError("lasts nothing; give a time, as 2s or 500ms, or leave the key out where it may be")
    return time


def _distinct(values: Sequence[Any]) -> Sequence[Any]:
    doubles = [value for index, value in enumerate(values) if value in values[:index]]
    if doubles:
        raise ConfigError(f"{doubles[0]} is given twice")
    return values


DISTINCT = AfterValidator(_distinct)


class Model(BaseModel):
    """A table of settings: frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def one_of(names: Iterable[str]) -> tuple[AfterValidator, Any]:
    """What makes a text one of the names of a table: a check, and what `describe` says of it."""
    known = list(names)

    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise ConfigError(f"unknown value {value!r}{suggest(value, known)} (known: {', '.join(known)})")
        return value

    return AfterValidator(check), Field(json_schema_extra={"enum": [*known]})


def none_from_text(value: object) -> object:
    """TOML has no null: "none" stands for it."""
    return None if value == "none" else value


def _unless_none(value: Any, handler: Any) -> Any:
    return None if none_from_text(value) is None else handler(value)


# A setting that may be left open, as None or "none": its model gives it a value once all others are known.
LEFT_OPEN = WrapValidator(_unless_none)
OPEN: Any = None  # its default


def form(value: object) -> str:
    """Which member of a union a value is meant for: a table or one word."""
    return "table" if isinstance(value, (dict, BaseModel)) else "word"
