"""run: a suite's cells, one record each, a table at the end."""

import re
import shlex
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memvirt import interrupts
from memvirt.cli import timings
from memvirt.cli.corpus import opened
from memvirt.cli.jobs import Jobs, how_many, run_cells
from memvirt.cli.show import Json, Width, examples, print_columns, print_json, program, say
from memvirt.cli.table import print_table

if TYPE_CHECKING:
    from memvirt.experiment.plan import Plan
    from memvirt.inputs import ClassTable
    from memvirt.results.record import Record
    from memvirt.results.run_folder import Results

FAILED = 1


class Tier(StrEnum):
    """How much of a suite is run."""

    SMOKE = "smoke"
    QUICK = "quick"
    FULL = "full"


def run(
    suite: Annotated[str, typer.Argument(help="A suite's name, or the path of its TOML file.")] = "quick",
    preset: Annotated[list[str] | None, typer.Option(help="Only these columns, or other presets: A,B.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A host setting changed in every column.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="In place of the suite's seeds; may be repeated.")
    ] = None,
    tier: Annotated[Tier, typer.Option(help="How much of the suite is run.")] = Tier.QUICK,
    corpus: Annotated[
        str,
        typer.Option(
            help="A corpus, fingerprints, 'synthetic' or a published mix. This machine's pages, unless given."
        ),
    ] = "",
    fill: Annotated[
        list[str] | None,
        typer.Option(metavar="image=A,B | private=C", help="Classes of the corpus that VMs are filled from."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder. Unless given: results/SUITE-NNN.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, or the last one.")
    ] = False,
    timeout: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many seconds; finished cells stay.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and what they may take; run none.")
    ] = False,
    jobs: Jobs = "auto",
    width: Width = None,
    as_json: Json = False,
) -> None:
    """Run a suite and print its table.

    Every cell is written when it ends: Ctrl-C loses the running one only, and --resume goes on.
    """
    from memvirt.errors import ConfigError
    from memvirt.experiment import plan as planning

    names = [name.strip() for text in preset or () for name in text.split(",") if name.strip()]
    if preset and not names:
        raise ConfigError(
            "--preset: names no preset; leave it out for all of the suite's, or see 'memvirt list presets'"
        )
    overrides, seeds, filled = settings or (), seed or (), fill or ()
    plan = planning.make(suite, tier.value, only=names, overrides=overrides, seeds=seeds, corpus=corpus, fill=filled)
    at_once = how_many(jobs, plan)
    if dry_run:
        if corpus:
            _require_fit(plan, opened(corpus))
        _print_plan(plan, as_json)
        return
    _print_all(_run_all(plan, out, resume, timeout, at_once), plan, width, as_json)


def _print_all(records: list["Record"], plan: "Plan", width: Width, as_json: bool) -> None:
    """The table, what is to be said of it, and the failures: then exit code 1."""
    failed = [record for record in records if record.status == "failed"]
    if as_json:
        print_json([_row(record) for record in records])
    else:
        print_table(records, plan.suite.shown(), width)
    for text in idle_deciders(records):
        say(text)
    if failed:
        _print_failures(failed)
        raise typer.Exit(FAILED)


def _require_fit(plan: "Plan", corpus: "ClassTable") -> None:
    from memvirt.errors import ConfigError
    from memvirt.experiment.plan import misfits

    if problems := misfits(plan, corpus):
        raise ConfigError("\n".join(problems))


def idle_deciders(records: list["Record"]) -> list[str]:
    """A line for each column whose decider slept through every measured phase, or changed nothing in any: it had no part
    in the numbers."""
    from memvirt.settings.presets import names

    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        decider = record.config.get("host", {}).get("balloon")
        if decider and record.status == "done" and "decisions" in record.counters:
            key = record.preset, decider
            asked, acted = counted.get(key, (0, 0))
            # A record without the second counter is of a version that did not count it: nothing is said of it.
            own = record.counters.get("decisions_acted", record.counters["decisions"])
            counted[key] = asked + record.counters["decisions"], acted + own
    never = "was never asked: its interval is longer than the measured phases; shorten it with"
    nothing = (
        "was asked {} times and changed nothing: its thresholds and floors are for larger hosts, or nothing was wanting"
    )
    scaled = {name.removesuffix("-scaled"): f"; or run {name}" for name in names() if name.endswith("-scaled")}
    return [
        (
            f"note: the decider '{decider}' of {preset} {never} --set decider_options.interval_ns=..."
            if not asked
            else f"note: the decider '{decider}' of {preset} {nothing.format(asked)}; see 'memvirt explain {preset}'"
        )
        + scaled.get(preset, "")
        for (preset, decider), (asked, acted) in counted.items()
        if not acted
    ]


def _print_failures(failed: Sequence["Record"]) -> None:
    """A line for each kind of failure."""
    kinds: dict[str, list[Record]] = {}
    for record in failed:
        kinds.setdefault(re.sub(r"\d+", "", record.reason), []).append(record)
    for alike in kinds.values():
        more = f" and {len(alike) - 1} more" if len(alike) > 1 else ""
        say(f"failed: {alike[0].cell}{more}: {alike[0].reason}")


def _run_all(plan: "Plan", out: Path | None, resume: bool, timeout: int | None, jobs: int) -> list["Record"]:
    """Run what has no record yet; every record of the plan. Exits with 124 or 130, and 1 where records cannot be
    written."""
    from memvirt.environment import memory_problem
    from memvirt.errors import ConfigError, RecordError
    from memvirt.experiment.cell import prepare
    from memvirt.experiment.loop import manifest
    from memvirt.results.run_folder import Results, latest_folder, next_folder

    largest = max((cell for cell in plan.in_order()), key=lambda cell: cell.bytes_needed())
    if problem := memory_problem(largest.bytes_needed()):
        raise ConfigError(f"cell {largest.name}: {problem}; choose a smaller tier, or --set memory=...")
    if plan.tier == "full":
        from memvirt.timing.samples import require_hook

        require_hook()
    base = Path("results")
    folder = out or (latest_folder(base, plan.suite.name) if resume else next_folder(base, plan.suite.name))
    context = prepare(opened(plan.asked.corpus))
    _require_fit(plan, context.corpus)
    records: list[Record] = []
    with Results(folder, manifest(plan, context), resume=resume, config_of=plan.config_of) as results:
        say(
            f"{plan.suite.name}, tier {plan.tier}: {plan.count()} cells, "
            f"corpus {context.corpus.sha256[:12]}, into {folder}"
        )
        going_on = shlex.join([*program(), *plan.asked.words(), "--out", str(folder), "--resume"])
        try:
            with interrupts.alarm(timeout):
                records += _with_progress(plan, context, results, jobs)
                if plan.tier == "full":
                    timings.take(plan, records, context.corpus, results.path)
        except BaseException as error:
            why = interrupts.asked()  # whatever a library made of it
            if why is None and not isinstance(error, RecordError):
                raise
            if why is None:
                say(f"memvirt: {error}")
            said, code = (why.said, why.code) if why else ("stopped", FAILED)
            say(f"{said}: {_kept(results, plan)}; go on with: {going_on}")
            raise typer.Exit(code) from None
    say(f"the records are in {folder}; the table again: {shlex.join([*program(), 'table', str(folder)])}")
    return records


def _kept(results: "Results", plan: "Plan") -> str:
    return f"{len(list(results.cell_files()))} of {plan.count()} cells are kept in {results.path}"


def _with_progress(plan: "Plan", context: Any, results: "Results", jobs: int) -> list["Record"]:
    """The records of a plan in its order, whatever order they come in."""
    from memvirt.cli.progress import shown

    order = {cell.name: index for index, cell in enumerate(plan.in_order())}
    records = []
    with shown(plan.count()) as show:
        for progress in run_cells(plan, context, results, jobs):
            show(progress)
            records.append(progress.record)
    return sorted(records, key=lambda record: order[record.cell])


def _print_plan(plan: "Plan", as_json: bool) -> None:
    from memvirt.experiment.loop import predicted_s
    from memvirt.units import format_pages

    cells = list(plan.in_order())
    rows = [
        (
            cell.name,
            f"{len(cell.sizes)} x {format_pages(cell.sizes[0])}",
            format_pages(cell.host.memory),
            str(cell.accesses()),
        )
        for cell in cells
    ]
    heads = ("cell", "vms", "host", "accesses")
    if as_json:
        named = [dict(zip(heads, row, strict=True)) for row in rows]
        print_json([{**row, "config_sha256": cell.sha256()} for row, cell in zip(named, cells, strict=True)])
        return
    print_columns([heads, *rows])
    say(f"{len(cells)} cells, about {predicted_s(cells):.0f} s; nothing was run")


def _row(record: "Record") -> dict[str, Any]:
    keys: tuple[Literal["scenario", "preset", "seed", "status", "reason", "sim_ns", "derived"], ...]
    keys = ("scenario", "preset", "seed", "status", "reason", "sim_ns", "derived")
    return {key: getattr(record, key) for key in keys}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog=examples("memvirt run quick --out results/mine", "memvirt run quick --preset swap,zcache"))(run)
