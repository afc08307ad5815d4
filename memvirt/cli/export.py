"""export: a run in the forms that other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from memvirt.cli.show import examples, say, write_or_print

FORMATS = {
    "hdr": "HdrHistogram interval log of fault latencies",
    "openmetrics": "OpenMetrics text, as Prometheus reads it",
    "bencher": "Bencher Metric Format (JSON), for continuous benchmarking",
}


def export(
    folder: Annotated[str, typer.Argument(help="A results folder.")],
    form: Annotated[str, typer.Option("--format", help=f"{', '.join(f'{k}: {v}' for k, v in FORMATS.items())}.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write; stdout, unless given.")] = None,
) -> None:
    """Write a run in a form that other tools read.

    For tables use 'memvirt table', for time lines 'memvirt timeline', in a notebook memvirt.read_results."""
    from memvirt.errors import ConfigError
    from memvirt.report import bencher, latency_logs, openmetrics
    from memvirt.results import run_folder
    from memvirt.units import suggest

    if form not in FORMATS:
        raise ConfigError(f"--format {form}: unknown{suggest(form, list(FORMATS))} (known: {', '.join(FORMATS)})")
    records = run_folder.load(folder)
    if form == "bencher":
        text = bencher.dumps(records, run_folder.read_manifest(folder).shown)
    else:
        text = (latency_logs if form == "hdr" else openmetrics).dumps(records)
    write_or_print(text, out)
    if out is not None:
        say(f"{out}: {sum(record.status == 'done' for record in records)} of {len(records)} cells are done and in it")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt export results/quick --format hdr -o quick.hlog"
    app.command(epilog=examples(first, "memvirt export results/quick --format openmetrics -o quick.prom"))(export)
