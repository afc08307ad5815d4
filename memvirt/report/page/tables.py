"""The table of results on a page: heads, rows, what they mean and what a reader has to know beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memvirt.metrics.registry import REGISTRY
from memvirt.report import notes
from memvirt.report.columns import Column
from memvirt.report.escape import plain
from memvirt.report.figures.data import scenes as scenes_of
from memvirt.report.notes import IDLE, LIVING
from memvirt.report.runs import Run
from memvirt.report.summary import ARROWS, MISSING, SINGLE_RUN, Group, Row, ratio_label, value_text


@dataclass(frozen=True, slots=True)
class TableCell:
    """A cell of a table: what is read, and what it is sorted by."""

    text: str
    value: str = ""  # "" sorts last; None of it: by its text
    number: bool = False
    best: bool = False
    heads: bool = False  # names its row, and stays in sight
    ended: bool = False  # says how a row without numbers ended


def table(runs: Sequence[Run]) -> tuple[list[tuple[str, bool]], list[list[TableCell]]]:
    """(head, whether it is of numbers) of every column, and the rows of all runs: one for each scenario, ratio and preset.
    How many seeds a row has is a column where rows differ in it."""
    every = [group for run in runs for group in run.groups()]
    columns = shown(runs)
    points = [row for group in every for row in group.rows if row.preset == row.column]
    sizes = list(dict.fromkeys(key for row in points for key, _ in row.point))
    counted = len(seeds(runs)) > 1
    heads = [("run", False)] if len(runs) > 1 else []
    heads += [("scenario", False), (f"{ratio_word(every)}, ×", True), *((key, True) for key in sizes)]
    heads += [("preset", False), *([("seeds", True)] * counted), *((head(column), True) for column in columns)]
    rows = []
    for scenes in scenes_of(runs):
        for ratio in sorted({ratio for scene in scenes for ratio in scene.ratios}, key=float):
            for scene in scenes:
                own = [*([TableCell(scene.run)] if len(runs) > 1 else []), TableCell(scene.name)]
                if group := scene.group(ratio):
                    rows += [
                        [*own, *_place(group, row, sizes, counted), *_values(group, row, columns)] for row in group.rows
                    ]
    return heads, rows


def shown(runs: Sequence[Run]) -> list[Column]:
    """The columns of the table: those that any row has a number in, or all where none has."""
    every = [group for run in runs for group in run.groups()]
    columns = list(dict.fromkeys(column for group in every for column in group.columns))
    rows = [row for group in every for row in group.rows]
    return [column for column in columns if any(row.mean(column.name) is not None for row in rows)] or columns


def seeds(runs: Sequence[Run]) -> list[int]:
    """The numbers of seeds that rows have, ascending."""
    return sorted({len(group.seeds) for run in runs for group in run.groups()})


def ratio_word(every: Sequence[Group]) -> str:
    """What the ratio of rows is called: of a trace it is the share of its pages that fits in memory."""
    words = dict.fromkeys("capacity" if group.simulated else "ratio" for group in every)
    return " or ".join(words)


def head(column: Column) -> str:
    """A column's head in one line."""
    unit = f", {column.unit}" if column.unit else ""
    return f"{column.title}{unit} {SINGLE_RUN if column.wall else ARROWS[column.better]}".rstrip()


def _place(group: Group, row: Row, sizes: Sequence[str], counted: bool) -> list[TableCell]:
    """The cells between the scenario's and the numbers; `sizes`: settings that vary and that no preset's name tells."""
    return [
        TableCell(ratio_label(group.ratio), group.ratio, True),
        *(TableCell(row.value_of(key), row.value_of(key), True) for key in sizes),
        TableCell(f"{row.preset}{IDLE if row.idle else ''}", heads=True),
        *([TableCell(str(len(group.seeds)), number=True)] * counted),
    ]


def _values(group: Group, row: Row, columns: Sequence[Column]) -> list[TableCell]:
    if not row.done:  # said where the first number would be
        ending = TableCell(f"{row.status}: {row.ending}", ended=True)
        return [ending, *[TableCell(MISSING, number=True)] * (len(columns) - 1)]
    cells = []
    for column in columns:
        mean = row.mean(column.name) if column in group.columns else None
        if mean is None:
            cells.append(TableCell(MISSING, number=True))
        else:
            cells.append(TableCell(value_text(column, row), f"{mean}", True, group.is_best(row, group.best(column))))
    return cells


def caveats(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """(run, what stands under its table in every format) of runs that there is something to say of."""
    found = [(plain(run.name), notes.caveats(run.groups(), run.records)) for run in runs]
    return [(name, [plain(text) for text in told]) for name, told in found if told]


def meanings(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """(head, meaning, how it is derived) of every column of the tables."""
    groups = [group for run in runs for group in run.groups()]
    columns = dict.fromkeys(column for group in groups for column in group.columns)
    return [(head(each), *_meaning(each, groups)) for each in columns]


def _meaning(column: Column, groups: Sequence[Group]) -> tuple[str, str]:
    """The meaning and the derivation; of work that takes time of its own the meaning says both."""
    metric = REGISTRY[column.name]
    told = (LIVING.get(column.name) if group.timed else None for group in groups if column in group.columns)
    meanings = list(dict.fromkeys(text or metric.meaning for text in told))
    return "; or ".join(meanings), metric.derivation if meanings == [metric.meaning] else ""
