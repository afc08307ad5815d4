"""The loop over a plan's cells: each run once, recorded when it ends, nothing lost when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, replace

from memvirt import interrupts
from memvirt.errors import ExecutorLost, WorkerDied
from memvirt.experiment.cell import RunContext, blank, run_cell
from memvirt.experiment.plan import Cell, Plan
from memvirt.experiment.pool import keep_memory, run_here, without_wall
from memvirt.experiment.prediction import Forecast, seconds_after_another
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


def manifest(plan: Plan, run: RunContext) -> Manifest:
    """What makes two runs the same run, what was asked for, and how it is shown."""
    return Manifest(
        suite=plan.suite.name,
        title=plan.suite.title,
        description=plan.suite.description,
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
    run: RunContext,
    results: Results,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    measure: Callable[[RunContext, Cell, Record | None], Record] = run_cell,
) -> Iterator[Progress]:
    """Run every cell that has no record yet and keep its record; yields after each. An interrupt between or within
    cells loses the running cell only."""
    keep_memory(True)
    try:
        yield from _each(plan, run, results, clock, measure)
    finally:
        keep_memory(False)


def _each(
    plan: Plan,
    run: RunContext,
    results: Results,
    clock: Callable[[], int],
    measure: Callable[[RunContext, Cell, Record | None], Record],
) -> Iterator[Progress]:
    cells = list(plan.in_order())
    baselines: dict[str, Record] = {}
    forecast = Forecast(cells)
    for index, cell in enumerate(cells):
        record = results.finished(cell.name, cell.sha256())
        resumed = record is not None
        if record is None:
            began, baseline = clock(), _baseline(plan, cell, baselines)
            if baseline is not None and baseline.status == "failed":
                record = _not_run(run, cell, baseline.cell)
            else:
                record = measure(run, cell, baseline)
            interrupts.check()  # before what it may have spoiled is kept
            forecast.note(index, (clock() - began) / 1e9)
            results.write(record)
        if cell.is_baseline:
            baselines[cell.name] = record
        yield Progress(index + 1, len(cells), record, resumed, forecast.left_s(index + 1))


def run_plan_beside(
    plan: Plan,
    run: RunContext,
    results: Results,
    executor: Executor,
    call: Callable[[Cell, Record | None], Record] = run_here,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """The same with cells beside each other, by `call` in an executor's workers; yields in the order in which they end.

    A cell waits for its baseline; otherwise all are submitted in the plan's order. A worker that dies fails its cell. An
    interrupt loses the running cells; the caller ends the executor. Raises ExecutorLost once what came before is kept.
    """
    cells = list(plan.in_order())
    order = {cell.name: index for index, cell in enumerate(cells)}
    waiting = _Waiting(plan)
    todo: list[Cell] = []
    for cell in cells:
        record = results.finished(cell.name, cell.sha256())
        if record is None:
            todo.append(cell)
            continue
        waiting.note(cell, record)
        yield Progress(order[cell.name] + 1 - len(todo), len(cells), record, True, 0.0)
    running: dict[Future[Record], Cell] = {}

    def submit(several: Sequence[Cell]) -> None:
        for cell in several:
            if waiting.ready(cell):
                running[executor.submit(call, cell, waiting.baseline(cell))] = cell

    submit(todo)
    forecast, left = _SharedForecast(todo, clock), len(todo)
    while running:
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in sorted(ended, key=lambda future: (_is_lost(future), order[running[future].name])):
            cell = running.pop(future)
            closed = [(cell, without_wall(_outcome(run, cell, future)))]
            if closed[0][1].status == "failed":
                closed += [(each, _not_run(run, each, cell.name)) for each in waiting.behind(cell)]
            interrupts.check()
            for each, record in closed:
                results.write(record)
                submit(waiting.note(each, record))
                left -= 1
                names = tuple(other.name for future, other in running.items() if future.running())
                yield Progress(len(cells) - left, len(cells), record, False, forecast.left_s(each), names)


class _Waiting:
    """Which cells wait for a baseline that is to come, and the records of those that came."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._baselines: dict[str, Record] = {}
        self._needs: dict[str, str] = {}  # cell -> its baseline's name; "" for none
        self._behind: dict[str, list[Cell]] = {}  # baseline -> the cells that wait for it

    def ready(self, cell: Cell) -> bool:
        """Whether the cell can run; it waits from now on if not."""
        if cell.name not in self._needs:
            held_against = not cell.is_baseline and cell.spec.has_baseline
            self._needs[cell.name] = self._plan.baseline_of(cell).name if held_against else ""
        needed = self._needs[cell.name]
        if needed and needed not in self._baselines:
            self._behind.setdefault(needed, []).append(cell)
            return False
        return True

    def baseline(self, cell: Cell) -> Record | None:
        """What a ready cell is held against."""
        return self._baselines.get(self._needs[cell.name])

    def note(self, cell: Cell, record: Record) -> list[Cell]:
        """The cell has a record; those that waited for it."""
        if cell.is_baseline:
            self._baselines[cell.name] = record
        return self.behind(cell)

    def behind(self, cell: Cell) -> list[Cell]:
        """Those that wait for a cell, and wait no more."""
        return self._behind.pop(cell.name, [])


class _SharedForecast:
    """How long cells that run beside each other will go on: as much longer as more of the prediction is left."""

    def __init__(self, cells: Sequence[Cell], clock: Callable[[], float]) -> None:
        took = seconds_after_another(cells)
        self._weight = {cell.name: each for cell, each in zip(cells, took, strict=True)}
        self._total, self._finished = sum(self._weight.values()), 0.0
        self._clock, self._began = clock, clock()

    def left_s(self, ended: Cell) -> float:
        """Seconds for the others, now that this one has ended."""
        self._finished += self._weight[ended.name]
        return (self._clock() - self._began) / self._finished * (self._total - self._finished)


def _baseline(plan: Plan, cell: Cell, baselines: Mapping[str, Record]) -> Record | None:
    return None if cell.is_baseline else baselines.get(plan.baseline_of(cell).name)


def _is_lost(future: Future[Record]) -> bool:
    """Whether the executor went before the cell came: what has come is kept first."""
    return isinstance(future.exception(), ExecutorLost)


def _not_run(run: RunContext, cell: Cell, baseline: str) -> Record:
    """What is held against a baseline that has failed would have nothing to be held against, now and when resumed."""
    return replace(blank(run, cell), reason=f"not run: {baseline} has failed")


def _outcome(run: RunContext, cell: Cell, future: Future[Record]) -> Record:
    """A future's record; one of a failed cell where its worker died."""
    try:
        return future.result()
    except WorkerDied as error:
        return replace(blank(run, cell), reason=str(error))
