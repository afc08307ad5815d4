"""table: the records of a folder as a table again."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import Width, examples, say, text_width

if TYPE_CHECKING:
    from memvirt.results.manifest import Shown
    from memvirt.results.record import Record


def table(
    folder: Annotated[str, typer.Argument(help="A results folder.")],
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or json.")] = "text",
    width: Width = None,
) -> None:
    """Make the table of a results folder again, from its records and nothing else."""
    from memvirt.report import terminal
    from memvirt.results import record, run_folder

    if form == "text":
        records = run_folder.load(folder)
        record.require_alike(records)
        print_table(records, run_folder.shown(folder), width)
    else:
        typer.echo(terminal.table_command(folder, form).rstrip("\n"))
    missing, cells = run_folder.unfinished(folder)
    if missing:
        say(f"{folder}: {missing} of {cells} cells are not run yet; the table speaks of the others")


def print_table(records: Sequence["Record"], shown: "Shown", width: int | None = None) -> None:
    """The table on stdout: as wide as `text_width` says, and in colour where there is a terminal."""
    from memvirt.report import terminal

    columns = text_width(width)
    if sys.stdout.isatty():
        from rich.console import Console

        Console(width=columns).print(terminal.terminal(records, columns, shown))
    else:
        typer.echo(terminal.text(records, columns, shown).rstrip("\n"))


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog=examples("memvirt table results/mine", "memvirt table results/mine --format csv"))(table)
