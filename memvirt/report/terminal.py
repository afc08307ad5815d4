"""Records as a table in the terminal: one block for each scenario, a section for each ratio, a row for each preset.

The best value of a column within a section is green and starred, so the mark survives a pipe. In a terminal too narrow
for all columns the least important ones are left out, and a note names them. Above it a caption, under it notes (both of
`memvirt.report.notes`), one line that says what was learned (`verdict`), and which claims held (`claims`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.table import Table
from rich.text import Text

from memvirt.errors import ConfigError
from memvirt.report import aging_table, capacity, claims, export, markup, verdict
from memvirt.report.check import Standing
from memvirt.report.choice import ALL, Choice
from memvirt.report.columns import COLUMNS, Column
from memvirt.report.escape import plain, short
from memvirt.report.notes import IDLE, caption, notes
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
from memvirt.results import claims as own_claims
from memvirt.results import run_folder
from memvirt.results.claims import Claim
from memvirt.results.manifest import USUAL, Shown
from memvirt.results.record import Record, require_alike
from memvirt.units import suggest

Opened = tuple[list[Record], Shown, list[str]]
WRITERS: dict[str, Callable[..., str]] = {
    "md": markup.to_markdown,
    "csv": export.to_csv,
    "latex": markup.to_latex,
    "json": export.to_json,
    "html": markup.to_html,
}
FORMATS = ("text", *WRITERS)
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
BEFORE_SAVED = "slowdown"  # the column that frames saved stand behind; where it is none of them, behind the last
GAP = 2  # between columns
LONGEST_PRESET = 30  # characters; of longer names the middle is left out
SUGGESTED = 3  # patterns of claims that fit no cell for which one is sought that they are near
SHOWN_SAVING = 0.01  # of a row's savings: smaller ones stand in the exports only


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which columns fit, and how wide each is in every block."""

    columns: tuple[Column, ...]
    widths: dict[str, int]  # also of "ratio", "preset" and, unless hidden, "saved"
    hidden: tuple[str, ...]

    @property
    def before_saved(self) -> Column | None:
        """The column that frames saved stand behind; None where they are not shown."""
        if "saved" not in self.widths:
            return None
        return next((column for column in self.columns if column.name == BEFORE_SAVED), self.columns[-1])


def table_command(
    folder: str | os.PathLike[str],
    form: str = "text",
    width: int = WIDTH,
    choice: Choice = ALL,
    span: int = 2,
) -> str:
    """The table of a results folder in a format. ConfigError for an unknown format, a choice of what is not there, an
    unreadable or mixed folder. `span`: of LaTeX, the columns of the page."""
    if form not in FORMATS:
        raise ConfigError(f"unknown format '{form}'{suggest(form, FORMATS)} (known: {', '.join(FORMATS)})")
    return written(opened(folder), form, width, choice, span)


def written(of: Opened, form: str, width: int = WIDTH, choice: Choice = ALL, span: int = 2) -> str:
    """The table of what was opened, in one of FORMATS."""
    records, shown, remarks = of
    if form == "text":
        return text(records, width, shown, choice, remarks)
    further = {"span": span} if form == "latex" else {}
    return WRITERS[form](records, shown, choice, remarks, **further)


def opened(folder: str | os.PathLike[str]) -> Opened:
    """The records of a folder, how they are shown, and what is to be said of them: that the run is not whole."""
    records, shown = run_folder.load(folder), run_folder.shown(folder)
    require_alike(records)
    run_folder.require_finished(folder, records)
    missing, cells = run_folder.unfinished(folder)
    partial = f"{missing} of {cells} cells are not run yet; the table speaks of the others."
    manifest = run_folder.read_manifest(folder)
    own = [claim for claim in shown.claims if claim not in manifest.shown.claims and manifest.tier in claim.tiers]
    found = list(_of_no_cell(own, manifest.cells))
    found += capacity.sentences(manifest.asked, records)
    return records, shown, [*([partial] if missing else []), *map(plain, found)]


def _of_no_cell(own: Sequence[Claim], cells: Iterable[str]) -> Iterator[str]:
    """A line for each claim of the folder's own that names what the run has no cell of."""
    columns = list(dict.fromkeys(name.rpartition("--s")[0] for name in cells if not name.endswith("--baseline")))
    for number, (claim, pattern) in enumerate(own_claims.of_no_cell(own, columns)):
        near = suggest(pattern, columns) if number < SUGGESTED else ""  # each takes a look at every cell
        yield f"{own_claims.FILE}: claim '{claim}' names '{pattern}', and no cell of this run is called so{near or '.'}"


def text(
    records: Sequence[Record],
    width: int = WIDTH,
    shown: Shown = USUAL,
    choice: Choice = ALL,
    remarks: Sequence[str] = (),
) -> str:
    """The table as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False)
    console.print(terminal(records, width, shown, choice, remarks))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def terminal(
    records: Sequence[Record], width: int, shown: Shown = USUAL, choice: Choice = ALL, remarks: Sequence[str] = ()
) -> RenderableType:
    """The table for a terminal of that width."""
    rows = choice.rows(records)
    every = groups(rows, choice.shown(shown))
    layout = _layout(every, width)
    parts: list[RenderableType] = [Text(caption(rows), style="dim"), Text()]
    for scenario in dict.fromkeys(group.scenario for group in every):
        members = [group for group in every if group.scenario == scenario]
        title = f"{short(scenario, width)}: {members[0].description}".removesuffix(": ")
        parts += [Text(title, style="bold"), Text(), _block(members, layout), Text()]
    parts += aging_table.tables(rows)
    parts += [Text(note, style="dim") for note in (*notes(every, rows, layout.columns), *remarks)]
    parts += [Text(note, style="dim") for note in _hidden(every, layout)]
    parts += [Text(), Text(verdict.line(every), style="bold")]
    counted, told = claims.told(shown.claims, records, rows)
    parts += [Text(counted, style="bold")] if counted else []
    parts += [Text(f"  {line}", style=_style(line)) for line in told]
    return Stack(*parts)


def _style(claim: str) -> str:
    return "red" if claim.startswith(claims.WORDS[Standing.FAIL]) else ""


def _layout(every: Sequence[Group], width: int) -> _Layout:
    shown = every[0].columns
    widths = {
        "ratio": max([len(_ratio_name(every)), *(len(ratio_label(group.ratio)) for group in every)]),
        "preset": max([len("preset"), *(len(_preset(row)) for group in every for row in group.rows)]),
    }
    for key in dict.fromkeys(key for group in every for key in group.swept):
        values = [len(row.value_of(key)) for group in every for row in group.rows]
        widths[_swept(key)] = max([*values, *map(len, _swept_head(key).split("\n"))])
    if every[0].saved:
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
    swept = list(dict.fromkeys(key for group in members for key in group.swept))
    for key in swept:
        table.add_column(_swept_head(key), justify="right", width=widths[_swept(key)], no_wrap=True)
    table.add_column("preset", width=widths["preset"], no_wrap=True)
    for column in layout.columns:
        table.add_column(_head(column), justify="right", width=widths[column.name], no_wrap=True)
        if column is layout.before_saved:
            table.add_column("frames saved\nby mechanism", width=widths["saved"])
    for group in members:
        for section in group.sections():
            table.add_section()
            for row in section:
                table.add_row(*_cells(group, row, layout, section, swept), style="" if row.done else "dim")
    return table


def _cells(group: Group, row: Row, layout: _Layout, section: Sequence[Row], swept: Sequence[str]) -> list[Text]:
    cells = [Text(ratio_label(group.ratio) if row is group.rows[0] else "")]
    once = row is section[0] or section is group.rows
    cells += [Text(row.value_of(key) if once else "") for key in swept]
    cells.append(Text(_preset(row)))
    for column in layout.columns:
        best = group.is_best(row, group.best(column))
        shown = cell(column, row, best)
        if not row.done:
            shown = f"{row.status} " if column is layout.columns[0] else f"{MISSING} "
        cells.append(Text(shown, style="bold green" if best else ""))
        if column is layout.before_saved:
            cells.append(Text(saved_text(row, layout.widths["saved"]) if row.done else row.ending))
    return cells


def _preset(row: Row) -> str:
    return f"{short(row.name, LONGEST_PRESET)}{IDLE if row.idle else ''}"


def _swept(key: str) -> str:
    """A swept setting among the widths: none of a column's names."""
    return f"@{key}"


def _swept_head(key: str) -> str:
    return key.replace(".", ".\n").replace("_", "\n", 1) if len(key) > 8 else key


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


def _hidden(every: Sequence[Group], layout: _Layout) -> list[str]:
    """What the width has no room for."""
    titles = {column.name: column.title for column in every[0].columns} | {"saved": "frames saved"}
    names = ", ".join(titles[name] for name in layout.hidden)
    return [f"Not shown at this width: {names}."] if names else []
