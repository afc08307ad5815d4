"""What a cell's time line costs: the cell in processor time, beside the same on a host that takes no samples.

Cells are those of suite `quick` at tier full whose samples are most in proportion to their work: at 2.00 under a skewed
load, with swap alone and with everything. Swap files lie in memory, so that no disk takes part.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import replace

from harness import Reference, Row, compare

from memvirt.experiment import plan
from memvirt.experiment.cell import RunContext, prepare, run_cell
from memvirt.experiment.plan import Cell
from memvirt.host import Host
from memvirt.inputs import synthetic

PRESETS = ("swap", "all")
SCENARIO = "zipf-200"
LEAST = 1 / 1.02  # of the time without: samples cost less than 2 %
CORPUS_PAGES = 4000
IN_MEMORY = "/dev/shm"


class Blind(Host):
    """A host that takes no samples."""

    def begin_samples(self, rows: int, step_ns: int) -> None:
        """None are taken."""

    def end_samples(self) -> None:
        """None were taken."""


def rows(repeats: int) -> Iterator[Row]:
    """A row for each preset."""
    if os.path.isdir(IN_MEMORY):
        os.environ.setdefault("MEMVIRT_SWAP_DIR", IN_MEMORY)
    run = prepare(synthetic(CORPUS_PAGES, seed=1))
    blind = replace(run, make_host=Blind.of)
    for preset in PRESETS:
        cells = plan.make("quick", "full", only=[preset], seeds=[1]).cells
        cell = next(each for each in cells if each.scenario == SCENARIO)
        references = [
            Reference(name="without a time line", measure=lambda cell=cell: spent(blind, cell, False), target=LEAST)
        ]
        what = f"timeline: {SCENARIO} {preset}, tier full"
        yield from compare(what, lambda cell=cell: spent(run, cell, True), references, unit="s", repeats=repeats)


def spent(run: RunContext, cell: Cell, sampled: bool) -> float:
    """Processor time of a cell, s."""
    began = time.process_time()
    record = run_cell(run, cell)
    took = time.process_time() - began
    if record.status != "done" or bool(record.timeline.sim_ns) != sampled:
        raise RuntimeError(f"{cell.name} is {record.status}: {record.reason or 'its time line is another'}")
    return took
