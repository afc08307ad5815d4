"""The loop over a plan's cells: each run once, recorded when it ends, nothing lost when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace

from memvirt import interrupts
from memvirt.experiment.cell import Run, blank, run_cell
from memvirt.experiment.plan import Cell, Plan
from memvirt.experiment.pool import WorkerDied, run_here, without_wall
from memvirt.experiment.prediction import Pace, seconds
from memvirt.results.manifest import Manifest
from memvirt.results.record import Record
from memvirt.results.run_folder import Results


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is after a cell."""

    done: int
    total: int
    record: Record
    resumed: bool  # taken from the folder, not run
    left_s: float  # estimate for the cells to come
    running: tuple[str, ...] = ()  # cells that run beside each other now


def manifest(plan: Plan, run: Run) -> Manifest:
    """What makes two runs the same run, what was asked for, and how it is shown."""
    return Manifest(
        suite=plan.suite.name,
        title=plan.suite.title,
        tier=plan.tier,
        asked=plan.asked,
        shown=plan.suite.shown(),
        cells={cell.name: cell.sha256() for cell in plan.whole()},
        part=[cell.name for cell in plan.in_order()] if plan.shard else [],
        inputs={"corpus": run.corpus.sha256},
        versions=dict(run.versions),
        commit=run.commit,
    )


def run_plan(
    plan: Plan,
    run: Run,
    results: Results,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    measure: Callable[[Run, Cell, Record | None], Record] = run_cell,
) -> Iterator[Progress]:
    """Run every cell that has no record yet and keep its record; yields after each. An interrupt between or within
    cells loses the running cell only."""
    cells = list(plan.in_order())
    baselines: dict[str, Record] = {}
    pace = Pace(cells)
    for index, cell in enumerate(cells):
        record = results.finished(cell.name, cell.sha256())
        resumed = record is not None
        if record is None:
            began = clock()
            record = measure(run, cell, _baseline(plan, cell, baselines))
            interrupts.check()  # before what it may have spoiled is kept
            pace.note(index, (clock() - began) / 1e9)
            results.write(record)
        if cell.is_baseline:
            baselines[cell.name] = record
        yield Progress(index + 1, len(cells), record, resumed, pace.left_s(index + 1))


def run_plan_beside(
    plan: Plan,
    run: Run,
    results: Results,
    executor: Executor,
    call: Callable[[Cell, Record | None], Record] = run_here,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """The same with cells beside each other, by `call` in an executor's workers; yields in the order in which they end.

    A cell waits for its baseline; otherwise all are submitted in the plan's order. A worker that dies fails its cell. An
    interrupt loses the running cells; the caller ends the executor.
    """
    cells = list(plan.in_order())
    baselines: dict[str, Record] = {}
    waiting = []
    done = 0
    for cell in cells:
        record = results.finished(cell.name, cell.sha256())
        if record is None:
            waiting.append(cell)
            continue
        if cell.is_baseline:
            baselines[cell.name] = record
        done += 1
        yield Progress(done, len(cells), record, True, 0.0)
    weight = {cell.name: seconds(cell) for cell in waiting}
    total = sum(weight.values())
    running: dict[Future[Record], Cell] = {}
    began, finished = clock(), 0.0
    while waiting or running:
        for cell in [cell for cell in waiting if _ready(plan, cell, baselines)]:
            waiting.remove(cell)
            running[executor.submit(call, cell, _baseline(plan, cell, baselines))] = cell
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(ended, key=lambda future: cells.index(running[future])):
            cell = running.pop(future)
            record = without_wall(_outcome(run, cell, future))
            interrupts.check()
            results.write(record)
            if cell.is_baseline:
                baselines[cell.name] = record
            done, finished = done + 1, finished + weight[cell.name]
            left_s = (clock() - began) / finished * (total - finished)
            yield Progress(
                done,
                len(cells),
                record,
                False,
                left_s,
                tuple(each.name for future, each in running.items() if future.running()),
            )


def _baseline(plan: Plan, cell: Cell, baselines: Mapping[str, Record]) -> Record | None:
    return None if cell.is_baseline else baselines.get(plan.baseline_of(cell).name)


def _ready(plan: Plan, cell: Cell, baselines: Mapping[str, Record]) -> bool:
    """Whether the record that the cell is held against is there, if it is held against one."""
    if cell.is_baseline or not cell.spec.has_baseline:
        return True
    return plan.baseline_of(cell).name in baselines


def _outcome(run: Run, cell: Cell, future: Future[Record]) -> Record:
    """A future's record; one of a failed cell where its worker died."""
    try:
        return future.result()
    except WorkerDied as error:
        return replace(blank(run, cell), reason=str(error))
