"""The loop over a plan's cells: each run once, recorded when it ends, nothing lost when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from memvirt import interrupts
from memvirt.experiment.cell import Run, run_cell
from memvirt.experiment.plan import Cell, Plan
from memvirt.results.manifest import Manifest
from memvirt.results.record import Record
from memvirt.results.run_folder import Results

START_NS_PER_ACCESS = 400  # before a cell has been timed: what a quick cell took on a 2 GHz core, swapping included


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is after a cell."""

    done: int
    total: int
    record: Record
    resumed: bool  # taken from the folder, not run
    left_s: float  # estimate for the cells to come


def manifest(plan: Plan, run: Run) -> Manifest:
    """What makes two runs the same run, what was asked for, and how it is shown."""
    return Manifest(
        suite=plan.suite.name,
        title=plan.suite.title,
        tier=plan.tier,
        asked=plan.asked,
        shown=plan.suite.shown(),
        cells={cell.name: cell.sha256() for cell in plan.in_order()},
        inputs={"corpus": run.corpus.sha256},
        versions=dict(run.versions),
        commit=run.commit,
    )


def predicted_s(cells: list[Cell], ns_per_access: float = START_NS_PER_ACCESS) -> float:
    """Seconds these cells will take, roughly."""
    return sum(cell.accesses() for cell in cells) * ns_per_access / 1e9


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
    spent_ns, accesses = 0, 0
    for index, cell in enumerate(cells):
        record = results.finished(cell.name, cell.sha256())
        resumed = record is not None
        if record is None:
            baseline = None if cell.is_baseline else baselines.get(plan.baseline_of(cell).name)
            began = clock()
            record = measure(run, cell, baseline)
            interrupts.check()  # before what it may have spoiled is kept
            spent_ns += clock() - began
            accesses += cell.accesses()
            results.write(record)
        if cell.is_baseline:
            baselines[cell.name] = record
        rate = spent_ns / accesses if accesses else START_NS_PER_ACCESS
        yield Progress(index + 1, len(cells), record, resumed, predicted_s(cells[index + 1 :], rate))
