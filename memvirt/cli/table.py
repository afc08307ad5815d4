"""table: the records of a folder as a table again."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import Width, examples, text_width

if TYPE_CHECKING:
    from memvirt.report.choice import Choice
    from memvirt.results.manifest import Shown
    from memvirt.results.record import Record


def table(
    folder: Annotated[str, typer.Argument(help="A results folder.")],
    form: Annotated[str, typer.Option("--format", help="text, md, csv, latex, json or html.")] = "text",
    columns: Annotated[
        str | None, typer.Option(metavar="A,B", help="These metrics, and 'saved' for frames saved by mechanism.")
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="A,B", help="Rows of these presets only.")] = None,
    scenario: Annotated[str | None, typer.Option(metavar="A,B", help="These scenarios only.")] = None,
    ratio: Annotated[str | None, typer.Option(metavar="X,Y", help="These ratios only.")] = None,
    span: Annotated[
        int, typer.Option(min=1, max=2, help="For LaTeX: how many of an article's two columns the table takes.")
    ] = 2,
    width: Width = None,
) -> None:
    """Make the table of a results folder again, from its records and nothing else.

    A folder of 'memvirt validate' gives the table of engine and kernel.
    """
    from memvirt.backends import comparison
    from memvirt.errors import ConfigError
    from memvirt.report import beside, terminal
    from memvirt.report.choice import Choice

    if comparison.is_folder(folder):
        if any(given is not None for given in (columns, preset, scenario, ratio)):
            raise ConfigError(
                f"{folder}: holds a comparison with a kernel: there are no metrics, presets, scenarios or ratios"
            )
        typer.echo(beside.written(folder, form, text_width(width), span).rstrip("\n"))
        return
    given = {"columns": columns, "preset": preset, "scenario": scenario, "ratio": ratio}
    choice = Choice(*(_names(option, text) for option, text in given.items()))
    if form == "text":
        records, shown, remarks = terminal.opened(folder)
        print_table(records, shown, width, choice, remarks)
    else:
        typer.echo(terminal.table_command(folder, form, choice=choice, span=span).rstrip("\n"))


def _names(option: str, text: str | None) -> tuple[str, ...]:
    """What an option names; ConfigError where it is given and names nothing."""
    from memvirt.errors import ConfigError

    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    if text is not None and not names:
        raise ConfigError(f"--{option}: names nothing; leave it out for everything")
    return names


def print_table(
    records: Sequence["Record"],
    shown: "Shown",
    width: int | None = None,
    choice: "Choice | None" = None,
    remarks: Sequence[str] = (),
) -> None:
    """The table on stdout: as wide as `text_width` says, and in colour where there is a terminal."""
    from memvirt.report import terminal
    from memvirt.report.choice import ALL

    columns, chosen = text_width(width), choice or ALL
    if sys.stdout.isatty():
        from rich.console import Console

        Console(width=columns).print(terminal.terminal(records, columns, shown, chosen, remarks))
    else:
        typer.echo(terminal.text(records, columns, shown, chosen, remarks).rstrip("\n"))


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt table results/mine --columns slowdown,fault_p99_us,saved --ratio 1.5"
    app.command(epilog=examples(first, "memvirt table results/mine --format latex --span 1"))(table)
