"""How many cells run at once: --jobs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.errors import ConfigError

if TYPE_CHECKING:
    from memvirt.experiment.cell import Run
    from memvirt.experiment.loop import Progress
    from memvirt.experiment.plan import Plan
    from memvirt.results.run_folder import Results

MOST = 1024
Jobs = Annotated[
    str,
    typer.Option(
        metavar="N|auto", help="Cells at once; auto: as cores and memory allow. Above 1, no wall times are kept."
    ),
]


def how_many(asked: str, plan: "Plan") -> int:
    """The number that --jobs stands for; ConfigError for none from 1 to MOST."""
    if asked == "auto":
        from memvirt.experiment.pool import auto_jobs

        return auto_jobs(list(plan.in_order()))
    if not asked.isdecimal() or not 1 <= int(asked) <= MOST:
        raise ConfigError(f"--jobs {asked}: give auto, or a number from 1 to {MOST}")
    return min(int(asked), plan.count())


def part_of(plan: "Plan", text: str) -> "Plan":
    """The part of a plan that --shard names; ConfigError for none, and for one without a cell."""
    from memvirt.results.shards import Shard

    part = replace(plan, shard=Shard.parse(text))
    if not part.count():
        raise ConfigError(f"--shard {text}: no cell of {len(plan.cells)} is in this part; use fewer parts")
    return part


def run_cells(plan: "Plan", context: "Run", results: "Results", jobs: int) -> Iterator["Progress"]:
    """Every cell of the plan, one after the other or `jobs` at once."""
    from memvirt.experiment.loop import run_plan, run_plan_beside
    from memvirt.experiment.pool import Shared, Workers
    from memvirt.inputs import cache_folder, keep

    if jobs == 1:
        yield from run_plan(plan, context, results)
        return
    corpus = keep(context.corpus, cache_folder())
    shared = Shared(corpus, dict(context.versions), context.commit, dict(context.environment))
    workers = Workers(jobs, shared)
    try:
        yield from run_plan_beside(plan, context, results, workers)
    finally:
        workers.shutdown(wait=False, cancel_futures=True)  # nothing is left to wait for, or nobody waits any more
