"""A table as a document: what Markdown, LaTeX and HTML spell each in its own way.

Caption, the suite's question and what the run comes to, a sheet for each scenario, the sheets of aging, notes, what was
learned, which claims held. Texts are plain, as `memvirt.report.escape.plain` leaves them; a writer escapes what its format
reads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from memvirt.report import aging_table, claims, conclusion, verdict
from memvirt.report.choice import ALL, Choice
from memvirt.report.columns import Column
from memvirt.report.escape import plain
from memvirt.report.notes import IDLE, caption, further, meant
from memvirt.report.summary import ARROWS, MISSING, SINGLE_RUN, Group, Row, figures, groups, ratio_label, value_text
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell of a sheet."""

    text: str
    best: bool = False
    ended: bool = False  # says how a row without numbers ended


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column."""

    title: str  # in words
    lines: tuple[str, ...]  # the same in narrow lines
    unit: str = ""
    arrow: str = ""
    right: bool = True  # numbers stand to the right
    kept: bool = False  # names a row: no narrow page loses it

    @property
    def whole(self) -> str:
        """In one line: "slowdown (×) ↓"."""
        return f"{self.title}{f' ({self.unit})' if self.unit else ''} {self.arrow}".rstrip()


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of a document."""

    name: str
    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    sections: tuple[int, ...] = ()  # rows before which a ratio begins, or a point of a sweep


@dataclass(frozen=True, slots=True)
class Document:
    """All that a table says."""

    caption: str
    sheets: tuple[Sheet, ...]
    notes: tuple[str, ...]
    learned: str
    counted: str  # how many claims held; "" where nothing is claimed
    claims: tuple[str, ...]
    question: str = ""
    brief: tuple[str, ...] = ()  # what the run comes to, a sentence or two each
    meant: tuple[tuple[str, str], ...] = ()  # title of a column -> what it means

    def lines(self, without: Collection[str] = ()) -> list[str]:
        """The notes, after what heads mean: not of columns that a table is `without`."""
        told = [text for title, text in self.meant if title not in without]
        return [*([f"{'. '.join(told)}."] if told else []), *self.notes]


def document(
    records: Sequence[Record], shown: Shown = USUAL, choice: Choice = ALL, remarks: Sequence[str] = ()
) -> Document:
    """The document of records, as far as they are chosen. `remarks` are further notes."""
    rows = choice.rows(records)
    every = groups(rows, choice.shown(shown))
    counted, told = claims.told(shown.claims, records, rows)
    answers = conclusion.answers(claims.about(claims.check(shown.claims, records), rows))
    scenarios = dict.fromkeys(group.scenario for group in every)
    sheets = [_sheet([group for group in every if group.scenario == scenario]) for scenario in scenarios]
    sheets += [_aging(block) for block in aging_table.blocks(rows)]
    return Document(
        caption(rows),
        tuple(sheets),
        (*further(every, rows), *remarks),
        verdict.line(every),
        counted,
        tuple(told),
        plain(shown.question),
        tuple(map(plain, (*answers, *conclusion.facts(every)))),
        tuple(meant(every, every[0].columns)),
    )


def _sheet(members: Sequence[Group]) -> Sheet:
    first = members[0]
    ratio = "capacity" if first.simulated else "ratio"
    heads = [
        Head(ratio, (ratio,), "×", kept=True),
        *(Head(key, (key,), kept=True) for key in first.swept),
        Head("preset", ("preset",), right=False, kept=True),
        *(_head(column) for column in first.columns),
    ]
    if first.saved:
        heads.append(Head("frames saved by mechanism", ("frames saved", "by mechanism"), right=False))
    rows: list[tuple[TableCell, ...]] = []
    sections = []
    for group in members:
        for section in group.sections():
            sections.append(len(rows))
            rows += _rows(group, section)
    title = f"{first.scenario}: {first.description}".removesuffix(": ")
    return Sheet(first.scenario, title, tuple(heads), tuple(rows), tuple(sections))


def _head(column: Column) -> Head:
    if column.wall:
        return Head(f"{column.title}, {SINGLE_RUN}", (*column.head.split("\n"), SINGLE_RUN), column.unit)
    return Head(column.title, tuple(column.head.split("\n")), column.unit, ARROWS[column.better])


def _rows(group: Group, section: Sequence[Row]) -> list[tuple[TableCell, ...]]:
    best = {column.name: group.best(column) for column in group.columns}
    rows = []
    for row in section:
        cells = [TableCell(ratio_label(group.ratio)), *(TableCell(row.value_of(key)) for key in group.swept)]
        cells.append(TableCell(f"{row.name}{IDLE if row.idle else ''}"))
        cells += [
            _value(column, row, column is group.columns[0], group.is_best(row, best[column.name]))
            for column in group.columns
        ]
        if group.saved:
            saved = ", ".join(f"{name} {figures(frames)}" for name, frames in row.saved.items())
            cells.append(TableCell(saved or MISSING if row.done else row.ending))
        rows.append(tuple(cells))
    return rows


def _value(column: Column, row: Row, first: bool, best: bool) -> TableCell:
    if row.done:
        return TableCell(value_text(column, row), best)
    return TableCell(row.status, ended=True) if first else TableCell(MISSING)


def _aging(block: aging_table.Block) -> Sheet:
    heads = [Head("preset", ("preset",), right=False, kept=True)]
    heads += [Head(name.replace("\n", " "), tuple(name.split("\n")), unit) for name, unit in block.heads]
    rows = tuple(tuple(TableCell(text) for text in row) for row in block.rows)
    return Sheet(f"{block.scenario}-aging", block.title, tuple(heads), rows)
