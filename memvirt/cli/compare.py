"""compare: two runs or more against the first."""

from typing import Annotated

import typer

from memvirt.cli.show import Json, Width, examples, text_width
from memvirt.errors import ConfigError


def compare(
    paths: Annotated[
        list[str], typer.Argument(help="Results folders, or pyperf files; the others are compared with the first.")
    ],
    threshold: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="List what is worse by more, and end with code 3: 5%.")
    ] = None,
    width: Width = None,
    as_json: Json = False,
) -> None:
    """Compare runs in their simulated metrics, cell by cell and seed by seed, and timings by process means.

    Says first what differs in settings, version and machine.
    """
    from memvirt.report.comparison_text import compare_command

    form = "json" if as_json else "text"
    text, code = compare_command(paths, None if threshold is None else share(threshold), form, text_width(width))
    typer.echo(text.rstrip("\n"))
    raise typer.Exit(code)


def share(threshold: str) -> float:
    """ "5%" as 0.05; ConfigError for anything else, for 0.05 may mean either."""
    try:
        percent = float(threshold.removesuffix("%")) if threshold.endswith("%") else -1.0
    except ValueError:
        percent = -1.0
    if 0 <= percent < float("inf"):
        return percent / 100
    raise ConfigError(f"--threshold {threshold}: give a percentage from 0 up, as in 5%")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(
        epilog=examples("memvirt compare results/a results/b", "memvirt compare results/a results/b --threshold 5%")
    )(compare)
