"""report: results as one page that can be sent."""

from pathlib import Path
from typing import Annotated

import typer

from memvirt.cli.show import examples, say, say_places


def report(
    folders: Annotated[
        list[str], typer.Argument(metavar="DIR...", help="Results folders; several stand side by side.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; replaced if it is there.")],
) -> None:
    """Write a page of results folders: what was learned, tables, figures, method, settings, data; one file, for any
    browser, without a network. The machine's name stays out of it. What 'memvirt validate' has kept is a section
    of its own."""
    from memvirt.backends import comparison
    from memvirt.report.page import build

    size = build.report(folders, out)
    say(f"wrote {out}, {size / 1e6:.1f} MB")
    say_places(out, [folder for folder in folders if not comparison.is_folder(folder)])


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt report results/mine -o mine.html"
    app.command(epilog=examples(first, "memvirt report results/a results/b -o both.html"))(report)
