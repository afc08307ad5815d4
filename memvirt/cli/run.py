"""run: a suite's cells, one record each, a table at the end."""

import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from memvirt import interrupts
from memvirt.cli import timings
from memvirt.cli.corpora import opened
from memvirt.cli.jobs import Executor, Jobs, Pack, RunCells, ShardOf, Where, opened_crew, part_of, where
from memvirt.cli.run_options import (
    CorpusOf,
    DryRun,
    Fill,
    MostCells,
    Out,
    PerSecond,
    Policies,
    Presets,
    Resume,
    Scenarios,
    Seeds,
    Settings,
    Speed,
    Streams,
    StreamsOf,
    SuiteName,
    Sweep,
    Tier,
    TierOf,
    Timeout,
    Times,
    TraceOf,
)
from memvirt.cli.show import Json, Width, examples, print_columns, print_json, program, say
from memvirt.cli.table import print_table

if TYPE_CHECKING:
    from memvirt.experiment.cell import RunContext
    from memvirt.experiment.plan import Plan
    from memvirt.results.record import Record
    from memvirt.results.run_folder import Results

FAILED = 1
MOST_SEED = (1 << 63) - 1
MOST_TYPED = 40  # characters of a seed that a message repeats
BASE = Path("results")  # of folders that were not named


def run(
    suite: SuiteName = "quick",
    preset: Presets = None,
    scenario: Scenarios = None,
    policy: Policies = None,
    settings: Settings = None,
    sweep: Sweep = None,
    most_cells: MostCells = None,
    seed: Seeds = None,
    tier: TierOf = Tier.QUICK,
    corpus: CorpusOf = "",
    trace: TraceOf = "",
    streams: StreamsOf = Streams.ALL,
    times: Times = False,
    speed: Speed = 100,
    per_second: PerSecond = None,
    fill: Fill = None,
    out: Out = None,
    resume: Resume = False,
    timeout: Timeout = None,
    dry_run: DryRun = False,
    jobs: Jobs = "auto",
    executor: Executor = "",
    shard: ShardOf = "",
    pack: Pack = False,
    width: Width = None,
    as_json: Json = False,
) -> None:
    """Run a suite and print its table.

    Every cell is written when it ends: Ctrl-C loses the running one only, and --resume goes on.
    """
    from memvirt.errors import ConfigError

    names = [*chosen_names("preset", preset), *policy_names(policy or ())]
    if streams is not Streams.ALL and not trace:
        raise ConfigError("--streams says how a trace is replayed; name it with --trace FILE")
    inputs: dict[str, Any] = {"corpus": corpus, "fill": fill or (), "trace": trace, "streams": streams.value}
    inputs |= {"times": times, "speed": speed, "per_second": per_second}
    inputs |= {"swept": sweep or (), "most_cells": most_cells or 0}
    inputs |= {"scenarios": chosen_names("scenario", scenario)}
    plan = _plan(suite, tier, names, settings or (), parse_seeds(seed or ()), **inputs)
    if shard:
        plan = part_of(plan, shard)
        if not plan.count():  # no error: in a batch of parts, one that failed would be tried again for ever
            say(f"--shard {shard}: no cell of {len(plan.cells)} is in this part; nothing was run")
            if as_json:
                print_json([])
            return
    if most_cells and not any("sweep" in cell.asked for cell in plan.cells):
        raise ConfigError("--most-cells is of a sweep, and nothing is swept: leave it out, or sweep a setting")
    _say_where_not(plan)
    at = where(jobs, executor, plan)
    if dry_run:
        _ready(plan, out, resume, at, capture=False)
        _print_plan(plan, as_json, at)
        return
    _print_all(_run_all(plan, out, resume, timeout, at, pack), plan, width, as_json)


def _say_where_not(plan: "Plan") -> None:
    """A line for the columns that were asked for and are not in every scenario."""
    from memvirt.experiment import suite

    names = plan.asked.presets
    if all(map(suite.is_own, names)):  # a decider in a file beside the suite's own columns
        asked = {suite.column(name).name for name in names}
    else:
        asked = {cell.preset.partition("@")[0] for cell in plan.cells}
    there: dict[str, set[str]] = {}
    for cell in plan.cells:
        there.setdefault(cell.preset.partition("@")[0], set()).add(cell.spec.name)
    lacking: dict[str, list[str]] = {}
    for preset, own in there.items():
        without = [each.name for each in plan.suite.scenarios if each.name not in own]
        if without and preset in asked:
            lacking.setdefault(", ".join(without), []).append(preset)
    for scenarios, presets in lacking.items():
        say(f"note: {', '.join(presets)}: not in {scenarios}, where other columns stand")


def _print_all(records: list["Record"], plan: "Plan", width: Width, as_json: bool) -> None:
    """The table, what is to be said of it, and the failures: then exit code 1."""
    failed = [record for record in records if record.status == "failed"]
    if as_json:
        print_json([_row(record) for record in records])
    else:
        print_table(records, plan.suite.shown(), width)
    if failed:
        _print_failures(failed)
        raise typer.Exit(FAILED)


def chosen_names(option: str, given: list[str] | None) -> list[str]:
    """The names in --preset A,B or --scenario A,B; ConfigError where it is given and names none."""
    from memvirt.errors import ConfigError

    names = [name.strip() for text in given or () for name in text.split(",") if name.strip()]
    if given and not names:
        where = "'memvirt list presets'" if option == "preset" else "'memvirt describe SUITE'"
        raise ConfigError(f"--{option}: names no {option}; leave it out for all of the suite's, or see {where}")
    return list(dict.fromkeys(names)) if option == "scenario" else names


def policy_names(given: Sequence[str]) -> list[str]:
    """The deciders of --policy; ConfigError for what does not name a class in a file."""
    from memvirt.errors import ConfigError

    for name in given:
        if not re.fullmatch(r".+\.py:[A-Za-z_]\w*", name):
            raise ConfigError(
                f"--policy {name}: write FILE.py:CLASS; deciders that come with memvirt are presets' business"
            )
    return list(given)


def _plan(
    suite: str, tier: Tier, names: Sequence[str], settings: Sequence[str], seeds: Sequence[int], **inputs: Any
) -> "Plan":
    from memvirt.experiment import plan

    return plan.make(suite, tier.value, only=names, overrides=settings, seeds=seeds, **inputs)


def parse_seeds(texts: Sequence[str]) -> list[int]:
    """The seeds of "1,2" and "3"; ConfigError names every one that is none."""
    from memvirt.errors import ConfigError
    from memvirt.untrusted import whole

    words = [word.strip() for text in texts for word in text.split(",")]
    found = {word: whole(word, MOST_SEED) for word in words}
    wrong = [word for word in words if found[word] is None]
    if wrong:
        raise ConfigError(
            "\n".join(f"--seed {word[:MOST_TYPED]}: a seed is a whole number, 0 to {MOST_SEED}" for word in wrong)
        )
    return [seed for word in words if (seed := found[word]) is not None]


def _print_failures(failed: Sequence["Record"]) -> None:
    """A line for each kind of failure."""
    kinds: dict[str, list[Record]] = {}
    for record in failed:
        kinds.setdefault(re.sub(r"\d+", "", record.reason), []).append(record)
    for alike in kinds.values():
        others = "" if len({record.reason for record in alike}) == 1 else " with numbers of their own"
        more = f" and {len(alike) - 1} more{others}" if len(alike) > 1 else ""
        say(f"failed: {alike[0].cell}{more}: {alike[0].reason}")


def _run_all(
    plan: "Plan", out: Path | None, resume: bool, timeout: int | None, at: Where, pack: bool
) -> list["Record"]:
    """Run what has no record yet; every record of the plan. Exits with 124 or 130, and 1 where records cannot be
    written or no more come."""
    from memvirt.errors import ExecutorLost, RecordError
    from memvirt.experiment.loop import manifest
    from memvirt.results.run_folder import Results, claimed_folder

    folder, context = _ready(plan, out, resume, at)
    if resume and not os.path.exists(folder):
        say(f"{folder}: no run is there to go on with; this begins one")
    with opened_crew(at) as crew:
        if out is None and not resume:
            folder = claimed_folder(BASE, plan.suite.name)
        records: list[Record] = []
        with Results(folder, manifest(plan, context), resume=resume, config_of=plan.config_of, packed=pack) as results:
            say(
                f"{plan.suite.name}, tier {plan.tier}: {plan.count()} cells, "
                f"corpus {context.corpus.sha256[:12]}, into {folder}"
            )
            try:
                with interrupts.alarm(timeout):
                    records += _with_progress(plan, context, results, crew)
                    if plan.tier == "full":
                        _take_timings(plan, records, context, results, at)
            except BaseException as error:
                why = interrupts.asked()  # whatever a library made of it
                if why is None and not isinstance(error, (RecordError, ExecutorLost)):
                    raise
                if why is None:
                    say(f"memvirt: {error}")
                said, code = (why.said, why.code) if why else ("stopped", FAILED)
                say(f"{said}: {_kept(results, plan)}; go on with: {_going_on(plan, folder, at)}")
                raise typer.Exit(code) from None
    say(f"the records are in {folder}; the table again: {shlex.join([*program(), 'table', str(folder)])}")
    return records


def _take_timings(plan: "Plan", records: list["Record"], context: "RunContext", results: "Results", at: Where) -> None:
    if at.executor:
        say("note: wall times are taken on one machine alone; with --executor, tier full has simulated metrics only")
    elif plan.shard:
        whole = shlex.join([*program(), *plan.asked.words(), "--out", "WHOLE", "--resume"])
        say(f"note: wall times are taken of all presets by turns, so not in a part; when the parts are merged: {whole}")
    else:
        timings.take(plan, records, context.corpus, results.path)


def _going_on(plan: "Plan", folder: Path, at: Where) -> str:
    """The command that goes on with a run."""
    part = ["--shard", str(plan.shard)] if plan.shard else []
    return shlex.join([*program(), *plan.asked.words(), *part, *at.words(), "--out", str(folder), "--resume"])


def _ready(plan: "Plan", out: Path | None, resume: bool, at: Where, capture: bool = True) -> tuple[Path, "RunContext"]:
    """The results folder, and what all cells have in common; nothing is made yet but, where `capture`, this machine's
    corpus. ConfigError with everything that would keep the run from its end, as far as it can be known."""
    from memvirt.errors import ConfigError, MemvirtError
    from memvirt.experiment.cell import prepare
    from memvirt.experiment.executors import require
    from memvirt.experiment.loop import manifest
    from memvirt.experiment.plan import misfits
    from memvirt.experiment.preflight import shortages
    from memvirt.results.run_folder import examine, latest_folder, next_folder

    problems = [] if at.executor else shortages(list(plan.in_order()), at.jobs)
    folder, run = out or BASE, None
    try:
        if at.executor:
            require(at.executor)
        if plan.tier == "full" and not at.executor and not plan.shard:
            from memvirt.timing.samples import require_hook

            require_hook()
        folder = out or (latest_folder if resume else next_folder)(BASE, plan.suite.name)
        examine(folder, None, resume=resume)
    except MemvirtError as error:
        problems.append(str(error))
    try:
        run = prepare(opened(plan.asked.corpus, capture=capture))
        problems += misfits(plan, run.corpus)
        if resume and not problems:
            examine(folder, manifest(plan, run), resume=True, config_of=plan.config_of)
    except MemvirtError as error:
        problems.append(str(error))
    if problems or run is None:
        raise ConfigError("\n".join(problems))
    return folder, run


def _kept(results: "Results", plan: "Plan") -> str:
    return f"{len(results.kept())} of {plan.count()} cells are kept in {results.path}"


def _with_progress(plan: "Plan", context: Any, results: "Results", crew: RunCells) -> list["Record"]:
    """The records of a plan in its order, whatever order they come in."""
    from memvirt.cli.progress import shown

    order = {cell.name: index for index, cell in enumerate(plan.in_order())}
    records = []
    with shown(plan.count()) as show:
        for progress in crew(plan, context, results):
            show(progress)
            records.append(progress.record)
    return sorted(records, key=lambda record: order[record.cell])


def _print_plan(plan: "Plan", as_json: bool, at: Where) -> None:
    from memvirt.experiment.prediction import need, seconds_after_another, timings_s
    from memvirt.timing.samples import PROCESSES
    from memvirt.units import format_pages

    cells = list(plan.in_order())
    took = seconds_after_another(cells)
    rows = [
        (
            cell.name,
            _sizes(cell.sizes),
            format_pages(cell.host.memory),
            str(cell.accesses()),
            f"{each:.1f}",
        )
        for cell, each in zip(cells, took, strict=True)
    ]
    heads = ("cell", "vms", "host", "accesses", "seconds")
    if as_json:
        named = [dict(zip(heads, row, strict=True)) for row in rows]
        numbers = [
            {"accesses": cell.accesses(), "seconds": round(each, 1)} for cell, each in zip(cells, took, strict=True)
        ]
        shas = [{"config_sha256": cell.sha256()} for cell in cells]
        print_json([row | number | sha for row, number, sha in zip(named, numbers, shas, strict=True)])
        return
    print_columns([heads, *rows])
    jobs, needs = at.jobs, [need(cell) for cell in cells]
    memory, disk = (
        sum(sorted((getattr(each, what) for each in needs), reverse=True)[:jobs])
        for what in ("memory_bytes", "disk_bytes")
    )
    beside = f", {jobs} at a time" if jobs > 1 else ""
    core = " of one core" if at.executor else ""
    done = f"{len(cells)} cells{beside}, about {_duration(max([*took, sum(took) / jobs]))}{core}"
    if plan.tier == "full" and not at.executor and not plan.shard:
        done += f", then about {_duration(timings_s(cells, PROCESSES))} for {PROCESSES} processes a cell"
    each = " a cell" if at.executor else ""
    say(f"{done}; up to {memory >> 20} MiB of memory and {disk >> 20} MiB of disk{each}; nothing was run")


def _sizes(pages: Sequence[int]) -> str:
    """VMs and their memory: "8 x 4MiB", "8 x 4MiB + 2 x 8MiB", of more sizes the least and the most."""
    from memvirt.units import format_pages

    counts = Counter(pages)
    if len(counts) > 2:
        return f"{len(pages)} of {format_pages(min(pages))} to {format_pages(max(pages))}"
    return " + ".join(f"{count} x {format_pages(size)}" for size, count in counts.items())


def _duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _row(record: "Record") -> dict[str, Any]:
    keys: tuple[Literal["scenario", "preset", "seed", "status", "reason", "sim_ns", "derived"], ...]
    keys = ("scenario", "preset", "seed", "status", "reason", "sim_ns", "derived")
    return {key: getattr(record, key) for key in keys}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog=examples("memvirt run quick --out results/mine", "memvirt run quick --preset swap,zcache"))(run)
