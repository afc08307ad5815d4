"""A sweep: every column of a suite with every combination of some settings' values.

    [sweep]                                   --sweep zpool_percent=5,10,20 --sweep codec=lz4,zstd
    zpool_percent = [5, 10, 20]
    codec = ["lz4", "zstd"]

Six columns come of each one there was, named zcache@zpool_percent=5,codec=lz4 and so on. A value is an override as
`--set` has it, checked in the same way, so whatever can be set can be swept: vm.guest.swap and decider_options.samples,
too. Options are swept in the columns that have them; the others stand there once. What is swept on the command line takes
the place of what the suite sweeps under the same name. A record says its point under `asked.sweep`; tables lay rows out
by it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any

from memvirt.errors import ConfigError
from memvirt.experiment.overrides import sort_out

MOST_CELLS = 2000  # of a run, unless the user says otherwise: a product is written down faster than it is run
MOST_NAME = 100  # characters of a column's name: it is part of a file's name
BARE = re.compile(r"[A-Za-z][\w./:-]*|\d+[A-Za-z]+")  # texts that an override needs no quotes for
OPENING, CLOSING, QUOTES = "[{(", "]})", "\"'"

Axes = Mapping[str, Sequence[str]]  # setting -> the texts of its values
Point = tuple[tuple[str, str], ...]  # (setting, text) of each axis
NO_POINT: Point = ()


def axes(own: Mapping[str, Sequence[Any]], asked: Sequence[str], problems: list[str]) -> dict[str, list[str]]:
    """The settings to sweep, in order, with their values: the suite's, then those that are asked for ("key=a,b").

    What is no sweep is added to the problems.
    """
    found = {key: [_text(value) for value in values] for key, values in own.items()}
    given: dict[str, list[str]] = {}
    for text in asked:
        key, equals, rest = text.partition("=")
        listed = split(rest)
        if not equals or not key.strip() or not all(listed):
            problems.append(f"--sweep {text}: is not KEY=A,B,…; write it like --sweep zpool_percent=5,10,20")
        elif key.strip() in given:
            problems.append(f"--sweep {text}: {key.strip()} is swept twice; give all its values in one")
        else:
            given[key.strip()] = listed
    found |= given
    for key, values in found.items():
        if double := next((value for value, times in Counter(values).items() if times > 1), None):
            problems.append(f"--sweep {key}: {double} is given twice")
    return found


def split(text: str) -> list[str]:
    """The values in "a,b,{x=1,y=2}": commas in brackets and quotes part nothing."""
    values, depth, quote, value = [], 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        elif letter in OPENING + CLOSING:
            depth += 1 if letter in OPENING else -1
        if letter == "," and not depth and not quote:
            values.append(value.strip())
            value = ""
        else:
            value += letter
    return [*values, value.strip()]


def check(swept: Axes, overrides: Sequence[str], taken: Collection[str]) -> list[str]:
    """What no column can take of a sweep; `overrides` are the --set, `taken` the settings that cells of the suite have."""
    fixed = {text.partition("=")[0].strip() for text in overrides}
    problems = [f"--sweep {key}: is set by --set, too; leave one of them out" for key in swept if key in fixed]
    for key, values in swept.items():
        for value in values:
            _, wrong = sort_out([f"{key}={value}"], taken)
            problems += [text.replace("--set", "--sweep", 1).replace("write --set", "write --sweep") for text in wrong]
    return list(dict.fromkeys(problems))


def points(swept: Axes) -> list[Point]:
    """Every combination of values, the last axis running fastest; one empty point where nothing is swept."""
    return [tuple(zip(swept, values, strict=True)) for values in product(*swept.values())]


def column_name(name: str, point: Point) -> str:
    """The name of a column at a point: what a file can be named by, and different for different points."""
    if not point:
        return name
    told = ",".join(f"{key}={value}" for key, value in point)
    plain = re.sub(r"[^A-Za-z0-9._+=,-]", "-", told)
    if plain != told or len(plain) > MOST_NAME:
        plain = f"{plain[: MOST_NAME // 2]}~{hashlib.sha256(told.encode()).hexdigest()[:10]}"
    return f"{name}@{plain}"


def overrides_of(point: Point) -> list[str]:
    """The point as "key=value" texts."""
    return [f"{key}={value}" for key, value in point]


def require_few(cells: int, most: int) -> None:
    """ConfigError for more cells than were thought of."""
    if cells > most:
        raise ConfigError(
            f"the sweep makes {cells} cells, and {most} is the limit: sweep fewer values, choose columns by --preset, "
            f"or raise the limit by --most-cells {cells}"
        )


def _text(value: Any) -> str:
    """A TOML value as an override spells it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_text_inside(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text_inside, value)) + "]"
    bare = isinstance(value, str) and BARE.fullmatch(value) and value not in ("true", "false")
    return value if bare else json.dumps(value)


def _text_inside(value: Any) -> str:
    """The same within a table or a list, where texts have quotes."""
    return json.dumps(value) if isinstance(value, str) else _text(value)
