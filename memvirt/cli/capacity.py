"""capacity: how many VMs a host may take, at which slowdown."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt import interrupts
from memvirt.cli.corpora import opened
from memvirt.cli.jobs import Executor, Jobs, Where, opened_crew, where
from memvirt.cli.run import BASE, chosen_names
from memvirt.cli.run_options import CorpusOf, Out, Presets, Resume, Settings, Tier, TierOf, Timeout
from memvirt.cli.show import Json, examples, print_columns, print_json, program, say

if TYPE_CHECKING:
    from memvirt.experiment.cell import RunContext
    from memvirt.experiment.loop import Progress
    from memvirt.experiment.plan import Cell
    from memvirt.experiment.searching import Found
    from memvirt.experiment.sizing import Question, Sizing

FAILED, UNBOUNDED, NONE_FITS = 1, 2, 4
MOST_SEEDS = 100

SuiteOf = Annotated[
    str, typer.Argument(metavar="SUITE", help="A suite with a fleet that lives, or the path of its file.")
]
Vary = Annotated[str, typer.Option(metavar="GROUP.vms", help="The group whose VMs are counted; the others stay.")]
Slo = Annotated[
    list[str],
    typer.Option(
        metavar="LEVEL.QUANTILE=X,…",
        help="Slowdowns that must be kept: gold.p99=1.05, bronze.worst=2, p50=1.01. Quantiles: p50, p99, worst.",
    ),
]
SeedsOf = Annotated[int, typer.Option(min=1, max=MOST_SEEDS, metavar="N", help="Run every size with seeds 1 to N.")]
Between = Annotated[
    str,
    typer.Option(metavar="LOW,HIGH", help="The fewest and the most VMs. Unless given: from 1, as far as memory goes."),
]
Hosts = Annotated[
    int, typer.Option(min=2, max=10_000, metavar="N+1", help="Hosts of a cluster that is to bear the loss of one.")
]
Failover = Annotated[
    bool,
    typer.Option("--failover", help="Search once more, with the share of a failed host's VMs arriving, of all groups."),
]
ScenarioOf = Annotated[str, typer.Option(metavar="NAME", help="The scenario, where several have such a group.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be searched, and run nothing.")]


def capacity(
    suite: SuiteOf,
    vary: Vary,
    slo: Slo,
    preset: Presets = None,
    settings: Settings = None,
    seeds: SeedsOf = 3,
    between: Between = "",
    hosts: Hosts = 4,
    failover: Failover = False,
    scenario: ScenarioOf = "",
    tier: TierOf = Tier.QUICK,
    corpus: CorpusOf = "",
    out: Out = None,
    resume: Resume = False,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    jobs: Jobs = "auto",
    executor: Executor = "",
    as_json: Json = False,
) -> None:
    """Find how many VMs of a group a host may take before an objective breaks, for each preset.

    Every probe is a cell of the results folder: --resume goes on, and table and report show it. Ends with 4 when not even
    the fewest VMs meet the objectives, with 2 when the most do.
    """
    from memvirt.experiment import sizing
    from memvirt.report.capacity import as_json as rows

    question = sizing.Question(
        suite=suite,
        tier=tier.value,
        vary=vary,
        slo=slo,
        scenario=scenario,
        presets=chosen_names("preset", preset),
        settings=settings or (),
        seeds=seeds,
        between=_bounds(between),
        hosts=hosts,
        failover=failover,
        corpus=corpus,
    )
    made = sizing.make(question, lambda plan: 0 if executor else where(jobs, executor, plan).jobs)
    at = where(jobs, executor, made.plan)
    folder, context, there, made = _ready(made, question, out, resume, capture=not dry_run)
    if dry_run:
        _print_search(made, at, as_json)
        return
    found = _searched(made, context, there, folder, at, timeout, claimed=out is None and not resume)
    if as_json:
        print_json({"suite": made.plan.suite.name, "tier": tier.value, "folder": str(folder), **rows(found)})
    else:
        _print_found(found)
    _end(found)


def _bounds(text: str) -> tuple[int, int] | None:
    """The two numbers of --between; ConfigError for anything else."""
    from memvirt.errors import ConfigError

    low, comma, high = (word.strip() for word in text.partition(","))
    if not text:
        return None
    if not comma or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in (low, high)):
        raise ConfigError(f"--between {text}: give two numbers of VMs, as in --between 1,40; nine digits are the most")
    return int(low), int(high)


def _ready(
    made: "Sizing", question: "Question", out: Path | None, resume: bool, capture: bool
) -> tuple[Path, "RunContext", list["Cell"], "Sizing"]:
    """The results folder, what all cells have in common, the cells that the folder has already, and the search, within
    the bounds that it had. ConfigError with all that keeps it from its end, as far as it can be known."""
    from memvirt.errors import ConfigError, MemvirtError
    from memvirt.experiment.cell import prepare
    from memvirt.experiment.plan import misfits
    from memvirt.experiment.searching import first_manifest
    from memvirt.results.run_folder import examine, latest_folder, next_folder, read_manifest
    from memvirt.results.shelf import shelf_of

    problems, run, there = [], None, []
    name = f"{made.plan.suite.name}-capacity"
    folder = out or BASE
    try:
        folder = out or (latest_folder if resume else next_folder)(BASE, name)
        examine(folder, None, resume=resume)
        if resume and shelf_of(folder) is not None:
            before = read_manifest(folder)
            search = before.asked.search
            if search is None or (search.scenario, search.varied) != (made.search.scenario, made.search.varied):
                what = f"a search that varies {search.varied}" if search else f"a run of suite '{before.suite}'"
                raise ConfigError(f"{folder}: holds {what}; use another --out")
            made = made if question.between else made.within(search)
            there = made.named(before.cells)
    except MemvirtError as error:
        problems.append(str(error))
    try:
        run = prepare(opened(question.corpus, capture=capture))
        problems += misfits(made.plan, run.corpus)
        if resume and not problems:
            plan = made.of(there)
            examine(folder, first_manifest(made, run, there), resume=True, config_of=plan.config_of)
    except MemvirtError as error:
        problems.append(str(error))
    if problems or run is None:
        raise ConfigError("\n".join(problems))
    return folder, run, there, made


def _searched(
    made: "Sizing", run: "RunContext", there: list["Cell"], folder: Path, at: Where, timeout: int | None, claimed: bool
) -> "Found":
    """Search, and say how it goes. Exits with 124 or 130, and with 1 where records cannot be written or no more come."""
    from memvirt.errors import ExecutorLost, RecordError
    from memvirt.experiment.searching import Found, first_manifest, run_search
    from memvirt.results.run_folder import Results, claimed_folder

    found = Found(made.search, made.columns, made.seeds)
    with opened_crew(at) as crew:
        if claimed:
            folder = claimed_folder(BASE, f"{made.plan.suite.name}-capacity")
        with Results(folder, first_manifest(made, run, there), resume=True) as results:
            _say_search(made, folder)
            try:
                with interrupts.alarm(timeout):
                    for progress, found in run_search(made, run, results, crew, there):
                        _say_cell(progress, found)
            except BaseException as error:
                why = interrupts.asked()
                if why is None and not isinstance(error, (RecordError, ExecutorLost)):
                    raise
                if why is None:
                    say(f"memvirt: {error}")
                said, code = (why.said, why.code) if why else ("stopped", FAILED)
                again = [*program(), *made.plan.asked.words(), *at.words(), "--out", str(folder), "--resume"]
                say(f"{said}: {len(results.kept())} cells are kept in {folder}; go on with: {shlex.join(again)}")
                raise typer.Exit(code) from None
    say(
        f"the records are in {folder}; a page of them: {shlex.join([*program(), 'report', str(folder), '-o', 'FILE.html'])}"
    )
    return found


def _say_search(made: "Sizing", folder: Path) -> None:
    search, seeds = made.search, f"seeds 1 to {len(made.seeds)}" if len(made.seeds) > 1 else "seed 1"
    say(
        f"{made.plan.suite.name}, tier {made.plan.tier}: {search.group} VMs from {search.low} to {search.high} "
        f"(limit: {search.limit}), first guess {_guesses(made)}; {', '.join(made.columns)}; {seeds}, into {folder}"
    )


def _guesses(made: "Sizing") -> str:
    """The first guess, or that of each column where they differ."""
    starts = made.search.starts
    if len(set(starts.values())) == 1:
        return str(next(iter(starts.values())))
    return ", ".join(f"{column} {start}" for column, start in starts.items())


def _say_cell(progress: "Progress", found: "Found") -> None:
    """A line for each cell: what was asked, and what it came to."""
    from memvirt.experiment.objectives import judge

    record = progress.record
    judged = judge(record, found.objectives)
    values = ", ".join(
        f"{each.name} {value}" for each, value in zip(found.objectives, judged.values, strict=True) if value is not None
    )
    told = values or f"{record.status}: {record.reason}"
    kept = " (kept)" if progress.resumed else ""
    size = record.swept[found.search.varied]
    verdict = "meets" if judged.meets else "fails"
    say(f"{record.preset}, {size} VM{'s' if size != '1' else ''}, seed {record.seed}: {verdict}, {told}{kept}")


def _print_found(found: "Found") -> None:
    """The answers, what speaks against them, and the curve of each column."""
    from memvirt.report import capacity as report

    search = found.search
    moved = "the VMs of all its groups" if search.failover else f"its {search.group} VMs"
    typer.echo(f"How many {search.group} VMs meet {', '.join(search.slo)} in scenario {search.scenario}?\n")
    print_columns(report.table(found))
    typer.echo(
        f"\nVMs: with all seeds. by seed: with seed 1, 2, …. ratio: memory promised / host memory. with a spare host: for "
        f"each of {search.hosts} hosts, one of which may fail; {moved} start on the others, evenly"
    )
    for column in found.columns:
        for text in report.doubts(found, column):
            typer.echo(f"{column}: {text}")
    for column in found.columns:
        typer.echo(f"\n{column}")
        print_columns(report.curve(found, column), "  ")


def _end(found: "Found") -> None:
    """The exit code, where it is not 0, with a sentence for each column that has no answer."""
    from memvirt.report.capacity import alone, headline

    answers = {column: found.answer(column) for column in alone(found)}
    without = {column: each for column, each in answers.items() if each.outcome != "found"}
    for column, answer in without.items():
        say(f"{column}: {headline(found, answer)}")
    if any(record.status == "failed" for record in found.records.values()):
        raise typer.Exit(FAILED)
    outcomes = {answer.outcome for answer in without.values()}
    if "none" in outcomes:
        raise typer.Exit(NONE_FITS)
    if outcomes:
        say("give a stricter --slo, or a larger --between where it was given")
        raise typer.Exit(UNBOUNDED)


def _print_search(made: "Sizing", at: Where, as_json: bool) -> None:
    """The bounds, and what the smallest, the first and the largest size take."""
    from memvirt.experiment.prediction import need, seconds

    search, column, seed = made.search, made.columns[0], made.seeds[0]
    heads = ("VMs", "ratio", "seconds", "MiB of memory")
    rows = []
    for size in sorted({search.low, *search.starts.values(), search.high}):
        cell = made.cell(column, size, seed)
        rows.append((str(size), cell.ratio, f"{seconds(cell):.1f}", str(need(cell).memory_bytes >> 20)))
    if as_json:
        print_json({"search": made.plan.asked.words(), "cells": [dict(zip(heads, row, strict=True)) for row in rows]})
        return
    print_columns([heads, *rows])
    bounds = f"from {search.low} to {search.high} (limit: {search.limit}), beginning at {_guesses(made)}"
    say(f"{bounds}; {at.jobs} cells at a time; nothing was run")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    first = "memvirt capacity day --vary web.vms --slo gold.p99=1.05,bronze.p99=1.5 --preset swap,sharing"
    second = "memvirt capacity mine.toml --vary db.vms --slo worst=1.2 --between 4,40 --out results/mine --resume"
    app.command(epilog=examples(first, second))(capacity)
