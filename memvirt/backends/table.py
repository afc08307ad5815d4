"""A comparison as text, made from its rows and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

from memvirt.backends.rows import SKIPPED, VERDICTS, Row, counted

HEADS = ("", "engine", "kernel", "difference", "tolerance", "verdict")


def text(rows: Sequence[Row], width: int) -> str:
    """A table for each mechanism, with what is known of differences below it; then how many rows have which verdict. ×6: in
    the one of six ways in which the two sides are furthest apart."""
    lines_of = [cells(row) for row in rows]
    widths = [max(len(line[column]) for line in [HEADS, *lines_of]) for column in range(len(HEADS))]
    left = iter(lines_of)
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


def cells(row: Row) -> tuple[str, ...]:
    """A row as HEADS has it."""
    numbers = [row.engine, row.kernel, row.difference]
    engine, kernel, difference = ("–" if number is None else f"{number:,}" for number in numbers)
    tolerance = "–" if row.verdict == SKIPPED else f"±{row.tolerance * 100:g} %" if row.tolerance else "equal"
    unit = f", {row.unit}" if row.unit else ""
    ways = f" ×{row.ways}" if row.ways > 1 else ""
    return f"  {row.what}{unit}{ways}", engine, kernel, difference, tolerance, row.verdict + ("*" if row.reason else "")


def _line(told: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers, verdict = told
    parts = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False))]
    return "  ".join([*parts, verdict]).rstrip()
