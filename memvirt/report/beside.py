"""The engine beside a kernel, as tables and pages show it: comparisons that `memvirt validate` has kept.

A family of mechanisms ("ksm", "zram") is a table; a row of it is a number on both sides. What is known of differences
stands in the notes, once, with a figure for each reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace

from memvirt.backends import comparison, table
from memvirt.backends.comparison import Comparison
from memvirt.backends.rows import DIFFERS, EXACT, SKIPPED, VERDICTS, WITHIN, Row, counted
from memvirt.errors import ConfigError
from memvirt.report import markup
from memvirt.report.document import Document, Head, Sheet, TableCell
from memvirt.report.escape import plain, spreadsheet
from memvirt.units import format_pages, suggest

FORMATS = ("text", "md", "csv", "latex", "json", "html")
HEADS = (
    Head("mechanism", ("mechanism",), right=False, kept=True),
    Head("what", ("what",), right=False, kept=True),
    *(Head(name, (name,)) for name in ("engine", "kernel", "difference", "tolerance")),
    Head("verdict", ("verdict",), right=False),
)


def written(folder: str, form: str, width: int, span: int = 2) -> str:
    """The comparison of a folder in a format; ConfigError for one that is none."""
    if form not in FORMATS:
        raise ConfigError(f"unknown format '{form}'{suggest(form, FORMATS)} (known: {', '.join(FORMATS)})")
    found = comparison.read(folder)
    if form == "text":
        return "\n".join([table.text(list(map(_plain, found.rows)), width), *_missing(found)])
    if form == "json":
        return comparison.dumps(found)
    if form == "csv":
        return _csv(found.rows)
    made = document([found])
    if form == "latex":
        return markup.latex_of(made, span)
    return markup.markdown_of(made) if form == "md" else markup.html_of(made)


def _plain(row: Row) -> Row:
    mechanism, what, unit, reason = map(plain, (row.mechanism, row.what, row.unit, row.reason))
    return replace(row, mechanism=mechanism, what=what, unit=unit, reason=reason)


def page(found: Sequence[Comparison]) -> str:
    """A page of comparisons alone."""
    return markup.html_of(document(found))


def document(found: Sequence[Comparison]) -> Document:
    """What is to be said of comparisons; of several, tables of one follow those of the other."""
    sheets = [sheet for number, each in enumerate(found, 1) for sheet in _sheets(each, number if len(found) > 1 else 0)]
    notes = dict.fromkeys(plain(row.reason) for each in found for row in each.rows if row.reason)
    remarks = [line for each in found for line in _missing(each)]
    learned = " ".join(learned_of(each) for each in found)
    caption = "; ".join(caption_of(each) for each in found)
    return Document(f"The engine beside a kernel, {caption}", tuple(sheets), (*notes, *remarks), learned, "", ())


def caption_of(found: Comparison) -> str:
    """What it was made with, and on which kernel."""
    kernel = found.environment.get("kernel", "unknown")
    version = found.versions.get("memvirt", "?")
    at = f" at {found.commit[:12]}" if found.commit else ""
    trace = f", trace {found.trace}" if found.trace else ""
    return plain(f"Linux {kernel}, {format_pages(found.pages)}, seed {found.seed}{trace}, memvirt {version}{at}")


def learned_of(found: Comparison) -> str:
    """How many rows have which verdict, and how many of those that differ fail."""
    numbers = counted(found.rows)
    failed = sum(row.failed for row in found.rows)
    return (
        f"Of {len(found.rows)} numbers {numbers[EXACT]} are equal and {numbers[WITHIN]} within their tolerance; "
        f"{numbers[DIFFERS]} differ, {failed} of them by more than a stated reason covers; "
        f"{numbers[SKIPPED]} could not be measured."
    )


def families(found: Comparison) -> dict[str, list[Row]]:
    """Rows by family."""
    told: dict[str, list[Row]] = {}
    for row in found.rows:
        told.setdefault(row.mechanism.split(":")[0], []).append(row)
    return told


def summary(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads, and a line for each family: how many rows have which verdict."""
    lines = [(plain(name), *map(str, counted(rows).values())) for name, rows in families(found).items()]
    return ("mechanism", *VERDICTS), [*lines, ("all", *map(str, counted(found.rows).values()))]


def _sheets(found: Comparison, number: int) -> list[Sheet]:
    before = f"{caption_of(found)}: " if number else ""
    return [
        Sheet(f"{number or ''}{name}", f"{before}{plain(name)}", HEADS, tuple(map(_cells, rows)))
        for name, rows in families(found).items()
    ]


def _cells(row: Row) -> tuple[TableCell, ...]:
    what, *numbers, verdict = table.cells(row)
    told = [TableCell(plain(row.mechanism)), TableCell(plain(what.strip())), *map(TableCell, numbers)]
    return (*told, TableCell(verdict, best=row.failed, ended=row.verdict == SKIPPED))


def _missing(found: Comparison) -> list[str]:
    if not found.missing:
        return []
    return [
        f"Interrupted: {len(found.missing)} of {len(found.asked)} mechanisms were not run; this speaks of the others."
    ]


def _csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    told = [row.as_dict() for row in rows]
    writer.writerow(told[0] if told else ())
    for row in told:
        writer.writerow([spreadsheet(value) if isinstance(value, str) else value for value in row.values()])
    return out.getvalue()
