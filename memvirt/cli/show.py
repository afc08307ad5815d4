"""list, describe, explain: what there is, without running anything. Also how all commands print."""

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memvirt.cli.catalog_entry import SINGULAR
from memvirt.report.escape import plain

if TYPE_CHECKING:
    from memvirt.cli.catalog_entry import Entry

PROGRAM = "memvirt"
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Width = Annotated[
    int | None, typer.Option(min=40, help="Columns of text. Unless given: COLUMNS, the terminal's, or 100.")
]


def examples(first: str, second: str) -> str:
    """The end of a help text."""
    return f"Examples:\n\n\b\n  {first}\n  {second}"


def print_json(value: Any) -> None:
    """JSON on stdout, in the order given."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def text_width(asked: int | None = None) -> int:
    """Columns of text: as asked, or else COLUMNS, the terminal's, or 100 where there is none."""
    return asked or shutil.get_terminal_size((100, 24)).columns


def print_columns(rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Rows of text on stdout, every column as wide as its widest cell. Where a width is known (a terminal, COLUMNS), the
    last column is wrapped to it; into a pipe each row stays one line."""
    table = [tuple(map(plain, row)) for row in rows]
    if not table:
        return
    *before, last = (max(map(len, column)) for column in zip(*table, strict=True))
    start = len(indent) + sum(before) + 2 * len(before)
    room = text_width() - start if _width_known() else last
    for *cells, text in table:
        head = indent + "".join(cell.ljust(width) + "  " for cell, width in zip(cells, before, strict=True))
        lines = textwrap.wrap(text, max(room, 20)) if len(text) > room else [text]
        typer.echo("\n".join((" " * start if i else head) + line for i, line in enumerate(lines)).rstrip())


def _width_known() -> bool:
    return sys.stdout.isatty() or "COLUMNS" in os.environ


def print_text(text: str) -> None:
    """Text on stdout. Where a width is known and lines are longer, its paragraphs are filled again; what is indented is
    an example, and stays as it is."""
    parts = text.split("\n\n")
    if _width_known():
        width = text_width()
        long = [
            any(len(line) > width for line in part.split("\n")) and not re.search("^ ", part, re.M) for part in parts
        ]
        parts = [textwrap.fill(part, width) if fill else part for part, fill in zip(parts, long, strict=True)]
    typer.echo("\n\n".join(parts))


def write_or_print(text: str, out: Path | None) -> None:
    """Text into a file, whole or not at all, or on stdout."""
    from memvirt.results.record import write_atomically

    if out is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(out, text)


def say(text: str) -> None:
    """A message to the person, on stderr. It may quote names of others, which must not move a cursor."""
    typer.echo("\n".join(map(plain, text.split("\n"))), err=True)


def say_places(out: Path, folders: Iterable[str | os.PathLike[str]]) -> None:
    """That a file which may be sent names places of this machine, where it does: in the commands of its runs."""
    from memvirt.results import run_folder

    places = dict.fromkeys(place for folder in folders for place in run_folder.read_manifest(folder).asked.places())
    if places:
        say(f"note: {out} has the commands of its runs, and they name places of this machine: {', '.join(places)}")


def program() -> list[str]:
    """The words that call this program as it was called: a command that a message names has to work when typed."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return [sys.executable, "-m", "memvirt"]
    found = shutil.which(PROGRAM)
    typed = os.sep in called  # a bare name was found on PATH
    elsewhere = typed and Path(called).name == PROGRAM and not (found and os.path.samefile(found, called))
    return [called if elsewhere else PROGRAM]


def list_names(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(SINGULAR)}. All of them, unless given.")] = "",
    as_json: Json = False,
) -> None:
    """List what there is, one line each."""
    from memvirt.cli import catalog

    kinds = [catalog.kind_called(kind)] if kind else list(SINGULAR)
    found = {each: catalog.entries(each) for each in kinds}
    if as_json:
        rows = {each: [{"name": entry.name, "summary": entry.summary} for entry in found[each]] for each in kinds}
        print_json(rows[kinds[0]] if kind else rows)
        return
    for index, each in enumerate(kinds):
        if not kind:
            typer.echo(("\n" if index else "") + each)
        print_columns(((entry.name, entry.summary) for entry in found[each]), "" if kind else "  ")


def describe(
    name: Annotated[str, typer.Argument(help="A name that `memvirt list` prints.")], as_json: Json = False
) -> None:
    """Explain what a name stands for, with its parameters."""
    from memvirt.cli import catalog

    found = catalog.find(name)
    if as_json:
        print_json([{"kind": kind, **_as_dict(entry)} for kind, entry in found])
        return
    for index, (kind, entry) in enumerate(found):
        print_text(("\n" if index else "") + f"{SINGULAR[kind]} {entry.name}: {entry.summary}")
        if entry.text:
            print_text(f"\n{entry.text}")
        if entry.rows:
            typer.echo("")
            print_columns([entry.heads, *entry.rows], "  ")


def _as_dict(entry: "Entry") -> dict[str, Any]:
    rows = [dict(zip(entry.heads, row, strict=True)) for row in entry.rows]
    return {"name": entry.name, "summary": entry.summary, "text": entry.text, "rows": rows}


def explain(
    preset: Annotated[str, typer.Argument(help="A preset's name, or the path of its TOML file.")], as_json: Json = False
) -> None:
    """Show every setting of a preset, and where its value is from."""
    from memvirt.settings import presets

    rows = presets.explain(preset)
    if as_json:
        keys = ("key", "value", "default", "origin", "source", "tag")
        print_json([{key: getattr(row, key) for key in keys} for row in rows])
        return
    lines = [("setting", "value", "origin", "evidence", "source")]
    for row in rows:
        lines.append((row.key, "none" if row.value is None else str(row.value), row.origin, row.tag, row.source))
    print_columns(lines)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list", epilog=examples("memvirt list presets", "memvirt list metrics --json"))(list_names)
    app.command("describe", epilog=examples("memvirt describe quick", "memvirt describe slowdown"))(describe)
    app.command("explain", epilog=examples("memvirt explain zcache", "memvirt explain mine.toml --json"))(explain)
