"""Records as a table in the terminal: one block for each scenario, a section for each ratio, a row for each preset.

The best value of a column within a section is green and starred, so the mark survives a pipe. A terminal too narrow for
every column loses the least telling ones first and is told which. Under the table: what marks and heads mean, how the
rows without numbers ended, and one line that says what was learned (`memvirt.report.verdict`).
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

from memvirt.errors import ConfigError
from memvirt.metrics.registry import REGISTRY
from memvirt.report import aging_table, claims, export, verdict
from memvirt.report.columns import COLUMNS, Column
from memvirt.report.summary import (
    ARROWS,
    MISSING,
    SINGLE_RUN,
    Group,
    Row,
    figures,
    groups,
    ratio_label,
    value_text,
)
from memvirt.results import run_folder
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record, require_alike
from memvirt.units import suggest

FORMATS = ("text", *export.WRITERS)
WIDTH = 100  # of text that goes into a file
SAVED_WIDTHS = (24, 14)  # of the frames saved: wished for, at least
# What a narrow terminal loses, first to last; effective overcommit and slowdown always stay.
DISPENSABLE = (
    "simulated_maccesses_per_s",
    "unusable_2mib_percent",
    "faults",
    "cpu_overhead_percent",
    "swap_traffic_mib",
    "saved",
    "fault_p99_us",
)
AFTER_SAVED = "slowdown"  # the column that frames saved stand behind
GAP = 2  # between columns
DIGITS = re.compile(r"\d+")
SHOWN_SAVING = 0.01  # of a row's savings: smaller ones stand in the exports only


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which columns fit, and how wide each is in every block."""

    columns: tuple[Column, ...]
    widths: dict[str, int]  # also of "ratio", "preset" and, unless hidden, "saved"
    hidden: tuple[str, ...]


def table_command(folder: str | os.PathLike[str], form: str = "text", width: int = WIDTH) -> str:
    """The table of a results folder in a format. ConfigError for an unknown format, an unreadable or mixed folder."""
    if form not in FORMATS:
        raise ConfigError(f"unknown format '{form}'{suggest(form, FORMATS)} (known: {', '.join(FORMATS)})")
    records, shown = run_folder.load(folder), run_folder.shown(folder)
    require_alike(records)
    return text(records, width, shown) if form == "text" else export.WRITERS[form](records, shown)


def text(records: Sequence[Record], width: int = WIDTH, shown: Shown = USUAL) -> str:
    """The table as plain text."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(terminal(records, width, shown))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def terminal(records: Sequence[Record], width: int, shown: Shown = USUAL) -> RenderableType:
    """The table for a terminal of that width."""
    every = groups(records, shown)
    layout = _layout(every, width)
    parts: list[RenderableType] = []
    for scenario in dict.fromkeys(group.scenario for group in every):
        members = [group for group in every if group.scenario == scenario]
        title = f"{scenario}: {members[0].description}".removesuffix(": ")
        parts += [Text(title, style="bold"), Text(), _block(members, layout), Text()]
    parts += aging_table.tables(records)
    parts += [Text(note, style="dim") for note in _notes(every, layout)]
    parts += [Text(), Text(verdict.line(every), style="bold")]
    counted, told = claims.told(shown.claims, records)
    parts += [Text(counted, style="bold"), *(Text(f"  {line}", style=_style(line)) for line in told)] if told else []
    return Stack(*parts)


def _style(claim: str) -> str:
    return "red" if claim.startswith(claims.Standing.FAILED) else ""


def _layout(every: Sequence[Group], width: int) -> _Layout:
    shown = every[0].columns
    widths = {
        "ratio": max([len(_ratio_name(every)), *(len(ratio_label(group.ratio)) for group in every)]),
        "preset": max([len("preset"), *(len(row.preset) for group in every for row in group.rows)]),
    }
    if any(column.name == AFTER_SAVED for column in shown):
        widths["saved"] = SAVED_WIDTHS[0]
    for column in shown:
        cells = [cell(column, row, group.is_best(row, group.best(column))) for group in every for row in group.rows]
        widths[column.name] = max(len(line) for line in [*_head(column).split("\n"), *cells])
    hidden: list[str] = []
    for name in ("", *(name for name in _dispensable(shown) if name in widths)):
        if name:
            hidden.append(name)
            del widths[name]
        spare = width - sum(widths.values()) - GAP * (len(widths) - 1)
        if "saved" in widths and spare < 0 and SAVED_WIDTHS[0] + spare >= SAVED_WIDTHS[1]:
            widths["saved"] += spare
            spare = 0
        if spare >= 0:
            break
    columns = tuple(column for column in shown if column.name in widths)
    return _Layout(columns, widths, tuple(hidden))


def _dispensable(shown: Sequence[Column]) -> Sequence[str]:
    """What a narrow terminal loses, first to last: the usual columns by DISPENSABLE, a suite's own from the end."""
    if tuple(shown) == COLUMNS:
        return DISPENSABLE
    return ("saved", *(column.name for column in reversed(shown[1:])))


def _block(members: Sequence[Group], layout: _Layout) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    widths = layout.widths
    table.add_column(f"{_ratio_name(members)}\n\n×", justify="right", width=widths["ratio"], no_wrap=True)
    table.add_column("preset", width=widths["preset"], no_wrap=True)
    for column in layout.columns:
        table.add_column(_head(column), justify="right", width=widths[column.name], no_wrap=True)
        if column.name == AFTER_SAVED and "saved" in widths:
            table.add_column("frames saved\nby mechanism", width=widths["saved"])
    for group in members:
        table.add_section()
        for row in group.rows:
            table.add_row(*_cells(group, row, layout), style="" if row.done else "dim")
    return table


def _cells(group: Group, row: Row, layout: _Layout) -> list[Text]:
    first = row is group.rows[0]
    cells = [Text(ratio_label(group.ratio) if first else ""), Text(row.preset)]
    for column in layout.columns:
        best = group.is_best(row, group.best(column))
        shown = cell(column, row, best)
        if not row.done:
            shown = f"{row.status} " if column is layout.columns[0] else f"{MISSING} "
        cells.append(Text(shown, style="bold green" if best else ""))
        if column.name == AFTER_SAVED and "saved" in layout.widths:
            cells.append(Text(saved_text(row, layout.widths["saved"]) if row.done else row.ending))
    return cells


def _ratio_name(members: Sequence[Group]) -> str:
    return "capacity" if members[0].simulated else "ratio"


def _head(column: Column) -> str:
    """Three lines, so that units stand in one line; a space under the star's place."""
    lines = column.head.split("\n")
    unit = f"{column.unit} {ARROWS[column.better]}".strip()
    if column.wall:
        return f"{lines[0]} {column.unit} \n{SINGLE_RUN} "
    return "\n".join([*(f"{line} " for line in lines), *[""] * (2 - len(lines)), f"{unit} "])


def cell(column: Column, row: Row, best: bool) -> str:
    """A value as text, with a star when it is the best and a space in its place when not."""
    return value_text(column, row) + ("*" if best else " ")


def saved_text(row: Row, width: int) -> str:
    """Frames saved by mechanism, the largest first, in lines that never part a mechanism from its number."""
    lines: list[str] = []
    least = SHOWN_SAVING * sum(abs(frames) for frames in row.saved.values())
    for name, frames in row.saved.items():
        if abs(frames) < least:
            continue
        item = f"{name} {figures(frames)}"
        if lines and len(lines[-1]) + len(", , ") + len(item) <= width + 1:
            lines[-1] += f", {item}"
        else:
            lines = [*(line if line.endswith(",") else f"{line}," for line in lines), item]
    return "\n".join(lines) or MISSING


def _notes(every: Sequence[Group], layout: _Layout) -> list[str]:
    seeds = max((len(group.seeds) for group in every), default=1)
    notes = [
        _meanings(every[0]),
        "* best of its ratio; ↑ more is better, ↓ less is better."
        + (f" Means over {seeds} seeds." if seeds > 1 else ""),
    ]
    notes += _endings(every)
    if layout.hidden:
        titles = {column.name: column.title for column in every[0].columns} | {"saved": "frames saved"}
        notes.append(f"Not shown at this width: {', '.join(titles[name] for name in layout.hidden)}.")
    return notes


def _meanings(group: Group) -> str:
    """What heads mean that do not say it themselves."""
    if group.columns == COLUMNS:
        return (
            "ratio: memory promised to VMs / host memory. effective overcommit: content that VMs hold / host memory "
            "that holds it. slowdown: time / time with enough memory. "
            "CPU share: of processor time, for managing memory."
        )
    trace, fleet = "capacity: pages that fit in memory / pages of the trace", "ratio: memory promised / host memory"
    ratio = trace if group.simulated else fleet
    told = [f"{column.title}: {REGISTRY[column.name].meaning}" for column in group.columns]
    return f"{'. '.join([ratio, *told])}."


def _endings(every: Sequence[Group]) -> list[str]:
    """How rows without numbers ended; reasons that differ in numbers only are together, the first one told."""
    ends: dict[tuple[str, str], list[str]] = {}
    reasons: dict[tuple[str, str], str] = {}
    for group in every:
        for row in group.rows:
            if not row.done:
                place = f"{row.preset} in {group.scenario} at {ratio_label(group.ratio)}"
                kind = (row.status, DIGITS.sub("", row.reason))
                reasons.setdefault(kind, row.reason)
                ends.setdefault(kind, []).append(place)
    return [
        f"{kind[0]}: {places[0]}{f' and {len(places) - 1} more' if len(places) > 1 else ''}: {reasons[kind]}"
        for kind, places in ends.items()
    ]
