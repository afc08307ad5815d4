"""The second half of tier full: wall times of the cells that ran to their end."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memvirt.cli.progress import left
from memvirt.cli.show import say

if TYPE_CHECKING:
    from memvirt.experiment.plan import Plan
    from memvirt.inputs import ClassTable
    from memvirt.results.record import Record


def take(plan: "Plan", records: Sequence["Record"], corpus: "ClassTable", folder: Path) -> None:
    """Time them under pyperf, a line for each sample."""
    from memvirt.inputs import cache_folder, keep
    from memvirt.timing import samples

    cells = samples.worth_timing(plan.cells, records)
    say(f"timing {len(cells)} cells, {samples.PROCESSES} processes each, one at a time")
    for step in samples.run_timings(cells, keep(corpus, cache_folder()), folder):
        said = f"not timed: {step.error}" if step.error else f"{step.cell}: timed"
        say(f"[{step.done}/{step.total}] {said}, {left(step.left_s)}")
    say(f"timings are in {folder / samples.FOLDER}; pyperf show and pyperf compare_to read them")
