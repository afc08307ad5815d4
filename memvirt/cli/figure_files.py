"""Figures that a command writes beside what it prints: Vega-Lite JSON, a file each, whole or not at all."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import say

if TYPE_CHECKING:
    from memvirt.report.figures.style import Figure

ENDING = ".vl.json"
Folder = Annotated[Path | None, typer.Option(help="Folder to write figures to, as Vega-Lite JSON; made if missing.")]


def prepare(folder: Path, names: Iterable[str], force: bool) -> None:
    """Make the folder. ConfigError or CorpusError where it cannot be, or where a figure of these names could not be
    written or is there already: known before the long work."""
    from memvirt.errors import ConfigError
    from memvirt.inputs import store

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--figures {folder}: {error.strerror or error}") from error
    for name in names:
        store.require_writable(folder / f"{name}{ENDING}", force=force)


def write(folder: Path, figures: "Mapping[str, Figure]", force: bool) -> None:
    """Write figures, and say which."""
    from memvirt.inputs import store

    for name, figure in figures.items():
        path = folder / f"{name}{ENDING}"
        store.write_text(path, json.dumps(figure, indent=1), force=force)
        say(f"wrote {path}")
