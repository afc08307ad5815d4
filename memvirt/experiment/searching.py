"""A search for the largest fleet, run: round after round of cells, until nothing is left to ask.

    records of all that is known  ->  what is wanted next (capacity)  ->  its cells (sizing)  ->  run or taken up  ->  records

run.json names the cells of all rounds so far, and is written anew before a round begins. A search that is gone on with
makes the same rounds again; what they ask for is there already, up to where it was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from memvirt.experiment.bisection import Bounds
from memvirt.experiment.capacity import Answer, conclude, first_beyond, wanted
from memvirt.experiment.cell import RunContext
from memvirt.experiment.loop import Progress, manifest
from memvirt.experiment.objectives import LEVELS, Judged, Objective, judge, parse
from memvirt.experiment.plan import Cell, Plan
from memvirt.experiment.sizing import LOST, Sizing
from memvirt.results.manifest import Asked, Manifest, Search
from memvirt.results.record import Record
from memvirt.results.run_folder import Results

RunCells = Callable[[Plan, RunContext, Results], Iterator[Progress]]


@dataclass(frozen=True, slots=True)
class Found:
    """The records of a search, and what they say; columns and seeds in the order of the run."""

    search: Search
    columns: Sequence[str]
    seeds: Sequence[int]
    records: dict[tuple[str, int, int], Record] = field(default_factory=dict)  # (column, size, seed) -> its record

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return parse(self.search.slo, LEVELS)

    def bounds(self, column: str) -> Bounds:
        """Where a column is searched. With a host lost the first guess is what the answer without that comes to."""
        low, high = self.search.low, self.search.high
        if column.endswith(LOST):
            start = self.answer(column.removesuffix(LOST)).with_spare(self.search.hosts)
        else:
            start = self.search.starts[column]
        return Bounds(low, high, min(high, max(low, start)))

    def add(self, record: Record) -> None:
        """Take in a record of the search."""
        column = column_of(record, self.search)
        self.records[column, int(record.swept[self.search.varied]), record.seed] = record

    def judged(self, column: str) -> dict[int, dict[int, Judged]]:
        """Seed -> size -> what its record came to."""
        objectives = self.objectives
        found: dict[int, dict[int, Judged]] = {seed: {} for seed in self.seeds}
        for (preset, size, seed), record in sorted(self.records.items()):
            if preset == column and seed in found:
                found[seed][size] = judge(record, objectives)
        return found

    def known(self, column: str) -> dict[int, dict[int, bool]]:
        """Seed -> size -> whether it meets the objectives; sizes within the bounds."""
        low, high = self.search.low, self.search.high
        return {
            seed: {size: judged.meets for size, judged in sizes.items() if low <= size <= high}
            for seed, sizes in self.judged(column).items()
        }

    def wanted(self) -> list[tuple[str, int, int]]:
        """(column, size, seed) of the next round; empty at the end."""
        return [
            (column, size, seed)
            for column in self.columns
            if not column.endswith(LOST) or self.answer(column.removesuffix(LOST)).outcome in ("found", "all")
            for size, seed in wanted(self.known(column), self.seeds, self.bounds(column))
        ]

    def answer(self, column: str) -> Answer:
        return conclude(self.known(column), self.seeds, self.bounds(column))

    def with_spare(self, column: str) -> Answer | None:
        """What the column's search with a host lost came to; None where there is none, or it has not ended."""
        lost = column + LOST
        answer = self.answer(lost) if lost in self.columns else None
        return None if answer is None or answer.outcome == "unfinished" else answer

    def beyond(self, column: str) -> Record | None:
        """The record of the smallest size that fails, of the first seed with which it does."""
        place = first_beyond(self.known(column), self.seeds)
        return None if place is None else self.records[column, *place]


def column_of(record: Record, search: Search) -> str:
    """The column that a record of a search is of."""
    return record.preset + ("" if record.base_scenario == search.scenario else LOST)


def of_records(asked: Asked, records: Iterable[Record]) -> Found | None:
    """What the records of a run say, if a search was asked for."""
    search = asked.search
    if search is None:
        return None
    own = [record for record in records if record.role == "column" and search.varied in record.swept]
    columns = list(dict.fromkeys(column_of(record, search) for record in own))
    found = Found(search, columns, asked.seeds)
    for record in own:
        found.add(record)
    return found


def first_manifest(sizing: Sizing, run: RunContext, cells: Iterable[Cell] = ()) -> Manifest:
    """run.json of a search whose cells so far these are."""
    return manifest(sizing.of(cells), run)


def run_search(
    sizing: Sizing, run: RunContext, results: Results, crew: RunCells, there: Sequence[Cell] = ()
) -> Iterator[tuple[Progress, Found]]:
    """Ask until every column has its answer. `there`: cells that the folder names already. Yields after every cell with
    what is known then."""
    found = Found(sizing.search, sizing.columns, sizing.seeds)
    every = {cell.name: cell for cell in there}
    done = 0
    while round_ := found.wanted():
        cells = [sizing.cell(*place) for place in round_]
        every |= {cell.name: cell for cell in cells}
        results.extend(first_manifest(sizing, run, every.values()))
        missing = []
        for cell in cells:
            record = results.finished(cell.name, cell.sha256())
            if record is None:
                missing.append(cell)
                continue
            found.add(record)
            done += 1
            yield Progress(done, done, record, True, 0.0), found
        if not missing:
            continue
        for progress in crew(sizing.of(missing), run, results):
            found.add(progress.record)
            done += 1
            yield replace(progress, done=done, total=done + progress.total - progress.done), found
