"""Where cells run: --jobs, --executor, --shard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from memvirt.cli.show import say
from memvirt.errors import ConfigError

if TYPE_CHECKING:
    from memvirt.experiment.cell import RunContext
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

Executor = Annotated[
    str,
    typer.Option(
        "--executor",
        metavar="dask://HOST:PORT|MODULE:CALLABLE",
        help="Run cells on a dask cluster, or by any concurrent.futures.Executor. No wall times are kept.",
    ),
]
ShardOf = Annotated[
    str,
    typer.Option("--shard", metavar="I/N", help="Run part I of N, into a folder of its own; see memvirt merge."),
]

Pack = Annotated[
    bool,
    typer.Option("--pack", help="Keep all records in one compressed file, for a shared file system: run.jsonl.gz."),
]


@dataclass(frozen=True, slots=True)
class Where:
    """Where the cells of a run are run."""

    jobs: int  # at once, in processes of this machine
    executor: str = ""  # in place of them

    @property
    def alone(self) -> bool:
        """Whether nothing runs beside a cell, so that this machine's clock says something."""
        return self.jobs == 1 and not self.executor

    def words(self) -> list[str]:
        """The arguments that ask for the same executor."""
        return ["--executor", self.executor] if self.executor else []


def where(jobs: str, executor: str, plan: "Plan") -> Where:
    """What --jobs and --executor ask for; ConfigError where they cannot be."""
    if not executor:
        return Where(how_many(jobs, plan))
    if jobs != "auto":
        raise ConfigError(
            f"--jobs {jobs}: how many cells run at once is the executor's affair; leave out one of the two"
        )
    return Where(1, executor)


def how_many(asked: str, plan: "Plan") -> int:
    """The number that --jobs stands for; ConfigError for none from 1 to MOST."""
    if asked == "auto":
        from memvirt.experiment.pool import auto_jobs

        return auto_jobs(list(plan.in_order()))
    from memvirt.untrusted import whole

    number = whole(asked, MOST)
    if not number:
        raise ConfigError(f"--jobs {asked}: give auto, or a number from 1 to {MOST}")
    return min(number, plan.count())


def part_of(plan: "Plan", text: str) -> "Plan":
    """The part of a plan that --shard names, which may hold no cell; ConfigError for no part."""
    from memvirt.results.shards import Shard

    return replace(plan, shard=Shard.parse(text))


RunCells = Callable[["Plan", "RunContext", "Results"], Iterator["Progress"]]


@contextmanager
def opened_crew(at: Where) -> Iterator[RunCells]:
    """What runs every cell of a plan: one after the other, or beside each other in workers, which end with this context.
    ConfigError when there is no such executor."""
    from memvirt.experiment.loop import run_plan

    if at.executor:
        with _elsewhere(at.executor) as crew:
            yield crew
    elif at.jobs == 1:
        yield run_plan
    else:
        yield lambda plan, context, results: _in_processes(plan, context, results, at.jobs)


def _in_processes(plan: "Plan", context: "RunContext", results: "Results", jobs: int) -> Iterator["Progress"]:
    from memvirt.experiment.loop import run_plan_beside
    from memvirt.experiment.pool import Workers, shared

    workers = Workers(jobs, shared(context))
    try:
        yield from run_plan_beside(plan, context, results, workers)
    finally:
        workers.shutdown(wait=False, cancel_futures=True)  # nothing is left to wait for, or an interrupt ended the wait


@contextmanager
def _elsewhere(executor: str) -> Iterator[RunCells]:
    from memvirt.experiment.elsewhere import Elsewhere, routes, terms_of
    from memvirt.experiment.executors import open_executor
    from memvirt.experiment.loop import run_plan_beside
    from memvirt.experiment.pool import shared

    inner, aim = open_executor(executor, say)

    def run_all(plan: "Plan", context: "RunContext", results: "Results") -> Iterator["Progress"]:
        told = shared(context)
        terms = terms_of(told, context.corpus, routes(plan.in_order()))
        over = Elsewhere(inner, told, terms, aim=aim, tell=say)
        try:
            yield from run_plan_beside(plan, context, results, over)
        finally:
            over.shutdown(wait=False, cancel_futures=True)

    try:
        yield run_all
    finally:
        inner.shutdown(wait=False)
