"""A comparison as text, and as a file that it can be made from again.

The file holds the rows and what they depend on: seed, memory, the versions and this machine (`environment`). Text is made
from it and nothing else.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from memvirt.backends.rows import SKIPPED, VERDICTS, Row, counted
from memvirt.errors import ConfigError

SCHEMA = 1
HEADS = ("", "engine", "kernel", "difference", "tolerance", "verdict")


def as_file(rows: Sequence[Row], seed: int, pages: int) -> dict[str, Any]:
    """What the file holds."""
    from memvirt.environment import collect, source_commit
    from memvirt.versions import versions

    return {
        "schema": SCHEMA,
        "seed": seed,
        "pages": pages,
        "versions": versions(),
        "commit": source_commit(),
        "environment": collect(),
        "rows": [row.as_dict() for row in rows],
    }


def of_file(path: Path) -> list[Row]:
    """The rows of a file; ConfigError for one that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError("it is of another version")
        return [_row(entry) for entry in found["rows"]]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no file that 'memvirt validate --out' has written: {error}") from error


def _row(entry: dict[str, Any]) -> Row:
    names = ("mechanism", "what", "engine", "kernel", "tolerance", "reason")
    row = Row(**{name: entry[name] for name in names}, apart=entry["difference"])
    kinds: list[tuple[object, Any]] = [
        (row.mechanism, str),
        (row.what, str),
        (row.reason, str),
        (row.tolerance, float | int),
    ]
    kinds += [(number, int) for number in (row.engine, row.kernel, row.apart) if number is not None]
    if not all(isinstance(value, kind) for value, kind in kinds) or entry["verdict"] != row.verdict:
        raise ValueError(f"a row that cannot be: {entry}")
    return row


def text(rows: Sequence[Row], width: int) -> str:
    """A table for each mechanism, with what is known of differences below it; then how many rows have which verdict."""
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in [HEADS, *cells]) for column in range(len(HEADS))]
    left = iter(cells)
    lines = []
    for name, members in groupby(rows, key=lambda row: row.mechanism):
        lines.append(_line((name, *HEADS[1:]), widths) if len(name) <= widths[0] else name)
        reasons: dict[str, None] = {}
        for row in members:
            lines.append(_line(next(left), widths))
            reasons |= {row.reason: None} if row.reason else {}
        for reason in reasons:
            lines += textwrap.wrap(f"* {reason}", width - 4, initial_indent="    ", subsequent_indent="      ")
        lines.append("")
    return "\n".join([*lines, *summary(rows)]) + "\n"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """How many rows of each family of mechanisms have which verdict, as lines."""
    families: dict[str, list[Row]] = {}
    for row in rows:
        families.setdefault(row.mechanism.split(":")[0], []).append(row)
    table: list[tuple[str, ...]] = [("", *VERDICTS)]
    table += [(name, *(str(number or "–") for number in counted(found).values())) for name, found in families.items()]
    table.append((f"{len(rows)} rows", *map(str, counted(rows).values())))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *numbers in table:
        parts = [first.ljust(widths[0]), *(each.rjust(most) for each, most in zip(numbers, widths[1:], strict=True))]
        yield "  ".join(parts).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    numbers = [row.engine, row.kernel, row.difference]
    engine, kernel, difference = ("–" if number is None else f"{number:,}" for number in numbers)
    tolerance = "–" if row.verdict == SKIPPED else f"±{row.tolerance * 100:g} %" if row.tolerance else "equal"
    return f"  {row.what}", engine, kernel, difference, tolerance, row.verdict + ("*" if row.reason else "")


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers, verdict = cells
    parts = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))]
    return "  ".join([*parts, verdict]).rstrip()
