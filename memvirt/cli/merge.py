"""merge: the parts of a run as one folder."""

from pathlib import Path
from typing import Annotated

import typer

from memvirt.cli.jobs import Pack
from memvirt.cli.show import examples, say


def merge(
    folders: Annotated[list[str], typer.Argument(help="Results folders of the parts, made by run --shard.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    pack: Pack = False,
) -> None:
    """Make one results folder of the parts of a run. Parts of unlike runs are refused."""
    from memvirt.results import shards

    records, cells = shards.merge(folders, out, packed=pack)
    missing = f"; {cells - records} are missing: run them with --resume --out {out}" if records < cells else ""
    say(f"{records} of {cells} cells are in {out}{missing}")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt merge results/part-1 results/part-2 --out results/whole"
    app.command(epilog=examples(first, "memvirt merge results/part-* --out results/whole"))(merge)
