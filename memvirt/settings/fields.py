"""The kinds of values that settings are made of: sizes, times, shares, names.

A size is held in pages and a time in nanoseconds, and both are written back as exact text ("64MiB", "50us"): what a
config dumps reads like what a user types, and gives the same config when read again. Nothing here is a float.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WrapValidator

from memvirt.settings import orders
from memvirt.settings.wording import NAME_PATTERN
from memvirt.units import format_pages, format_time, parse_pages, parse_percent, parse_time

Pages = Annotated[int, BeforeValidator(parse_pages), PlainSerializer(format_pages, return_type=str)]
PagesOrZero = Annotated[
    int,
    BeforeValidator(lambda value: parse_pages(value, allow_zero=True)),
    PlainSerializer(format_pages, return_type=str),
]
Nanoseconds = Annotated[int, BeforeValidator(parse_time), PlainSerializer(format_time, return_type=str)]
Percent = Annotated[int, BeforeValidator(parse_percent)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Shares = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
NAME = re.compile(NAME_PATTERN)
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Replacement = Annotated[str, BeforeValidator(orders.known)]


class Model(BaseModel):
    """A table of settings: frozen, and no key that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
