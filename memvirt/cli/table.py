"""table: the records of a folder as a table again."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import examples, say

if TYPE_CHECKING:
    from memvirt.record import Record


def table(
    folder: Annotated[str, typer.Argument(help="A results folder.")],
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex or json.")] = "text",
) -> None:
    """Make the table of a results folder again, from its records and nothing else."""
    from memvirt import record, results, tables

    if form == "text":
        records = results.load(folder)
        record.require_alike(records)
        print_table(records)
    else:
        typer.echo(tables.table_command(folder, form).rstrip("\n"))
    missing, cells = results.unfinished(folder)
    if missing:
        say(f"{folder}: {missing} of {cells} cells are not run yet; the table speaks of the others")


def print_table(records: Sequence["Record"]) -> None:
    """The table on stdout: as wide as the terminal, and in colour, where there is one."""
    from memvirt import tables

    if sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        console.print(tables.terminal(records, console.width))
    else:
        typer.echo(tables.text(records).rstrip("\n"))


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog=examples("memvirt table results/mine", "memvirt table results/mine --format csv"))(table)
