"""timeline: what happened over simulated time, for a trace viewer."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer

from memvirt.cli.show import examples, say, write_or_print


def timeline(
    folder: Annotated[str, typer.Argument(help="A results folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write; stdout, unless given.")] = None,
    cell: Annotated[
        list[str] | None, typer.Option("--cell", help="Only cells of this name; * stands for anything. Repeatable.")
    ] = None,
) -> None:
    """Write the time lines of a run as Chrome trace JSON, which ui.perfetto.dev opens: a process for each cell, with tracks
    for memory by use, faults, stalls, each mechanism and each VM."""
    from memvirt.errors import ConfigError
    from memvirt.report import trace_events
    from memvirt.results import run_folder
    from memvirt.units import suggest

    records = run_folder.load(folder)
    chosen = [record for record in records if not cell or any(fnmatchcase(record.cell, each) for each in cell)]
    if not chosen:
        known = suggest((cell or [""])[0], [record.cell for record in records])
        raise ConfigError(f"{folder}: no cell is called {', '.join(cell or ())}{known}")
    told = sum(bool(record.timeline.sim_ns) for record in chosen)
    if not told:
        raise ConfigError(
            f"{folder}: none of {len(chosen)} cells has a time line: cells of traces have none, nor those that were "
            "refused, nor records of schema 2; run the suite again with 'memvirt run'"
        )
    write_or_print(trace_events.dumps(chosen), out)
    if out is not None:
        say(f"{out}: time lines of {told} of {len(chosen)} cells; open it at ui.perfetto.dev")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt timeline results/quick -o quick.json"
    app.command(epilog=examples(first, "memvirt timeline results/quick --cell 'zipf-200--*' -o zipf.json"))(timeline)
