"""plot: figures of results for papers, without a browser."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from memvirt.cli.show import examples, say


def plot(
    folders: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Results folders; several stand side by side.")
    ],
    names: Annotated[
        str,
        typer.Option("--figure", metavar="NAME,...", help="Figures to draw: memvirt list figures. All, unless given."),
    ] = "",
    form: Annotated[str, typer.Option("--format", help="svg, pdf, png, or json for Vega-Lite.")] = "svg",
    columns: Annotated[int, typer.Option(min=1, max=2, help="Width of a figure, in columns of a paper.")] = 1,
    scenario: Annotated[str, typer.Option(help="The scenario to draw. All of the suite, unless given.")] = "",
    ratio: Annotated[
        str,
        typer.Option(
            help="The ratio, where a figure shows one. Unless given: the hardest that at least half of the presets "
            "finished, leaving out those that finished none."
        ),
    ] = "",
    title: Annotated[bool, typer.Option("--title/--no-title", help="Print above the figure what it shows.")] = True,
    out: Annotated[Path, typer.Option(help="Folder to write to; made if need be.")] = Path(),
) -> None:
    """Draw figures of results folders into files, one for each scenario, and print the name of each as it is written.

    A figure with nothing to draw is not written; the reason is printed.
    """
    from memvirt.report.figures import plotting

    figures = dict.fromkeys(name.strip() for name in names.split(",") if name.strip())
    wanted = plotting.Wanted(list(figures), scenario, ratio)
    for file in plotting.plot(folders, wanted, out, form=form, columns=columns, title=title, tell=say):
        typer.echo(file)
        sys.stdout.flush()  # drawing takes a while: whoever reads a pipe sees how far it is


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt plot results/mine --figure tradeoff,savings --format pdf --out figures"
    app.command(
        epilog=examples(first, "memvirt plot results/a results/b --figure latency --columns 2 --scenario zipf")
    )(plot)
