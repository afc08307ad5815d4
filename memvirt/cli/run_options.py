"""The options of run that say what is run; where it is run is memvirt.cli.jobs'."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Tier(StrEnum):
    """How much of a suite is run."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"


class Streams(StrEnum):
    """What of a trace a VM replays."""

    ALL = "all"
    EACH = "each"


SuiteName = Annotated[str, typer.Argument(help="A suite's name, or the path of its TOML file.")]
Presets = Annotated[list[str] | None, typer.Option(help="Only these columns, or other presets: A,B.")]
Scenarios = Annotated[
    list[str] | None, typer.Option("--scenario", metavar="A,B", help="Only these scenarios of the suite.")
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy", metavar="FILE.py:CLASS", help="A decider of your own as one more column: describe decider-file."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A host setting changed in every column that has it."),
]
Sweep = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=A,B,…", help="Run every column with each of these values; several make a product."),
]
MostCells = Annotated[
    int | None, typer.Option(min=1, help="The most cells that a sweep may make; 2000, baselines apart, unless given.")
]
Seeds = Annotated[list[str] | None, typer.Option(metavar="SEED", help="In place of the suite's seeds: 1,2,3.")]
TierOf = Annotated[Tier, typer.Option(help="How much of the suite is run.")]
CorpusOf = Annotated[
    str,
    typer.Option(help="A corpus, fingerprints, 'synthetic' or a published mix. This machine's pages, unless given."),
]
TraceOf = Annotated[str, typer.Option(help="A trace file that the VMs replay, in the place of the suite's workloads.")]
Times = Annotated[
    bool, typer.Option("--times", help="The trace's time stamps say when its touches are due, in simulated time.")
]
Speed = Annotated[
    int,
    typer.Option(
        metavar="PERCENT",
        min=1,
        max=10**9,
        help="With --times: the speed of the replay, in per cent of the recorded one.",
    ),
]
PerSecond = Annotated[
    int | None, typer.Option(min=1, max=10**9, help="Touches of the trace that are due in a second, for each VM.")
]
StreamsOf = Annotated[Streams, typer.Option(help="Each VM replays the whole trace (all) or a stream of it (each).")]
Fill = Annotated[
    list[str] | None,
    typer.Option(metavar="image=A,B | private=C", help="Classes of the corpus that VMs are filled from."),
]
Out = Annotated[Path | None, typer.Option(help="Results folder. Unless given: results/SUITE-NNN.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder, or the last one.")]
Timeout = Annotated[int | None, typer.Option(min=1, help="Stop after this many seconds; finished cells stay.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the cells and what they may take; run none.")]
