"""What this machine lacks for a plan: memory for its largest cell, disk for its swap. Known before the first cell."""

from collections.abc import Sequence

from memvirt.environment import disk_problem, memory_problem
from memvirt.experiment.plan import Cell
from memvirt.experiment.prediction import need


def shortages(cells: Sequence[Cell]) -> list[str]:
    """A sentence for memory and one for disk, where the cell that takes most of it does not fit; with what to do."""
    needs = [(cell, need(cell)) for cell in cells]
    most, held = max(needs, key=lambda pair: pair[1].memory_bytes)
    largest, files = max(needs, key=lambda pair: pair[1].disk_bytes)
    found = []
    if problem := memory_problem(held.memory_bytes):
        smaller = "a smaller fleet, or --set content=fingerprint" if most.is_baseline else "--set memory=..."
        found.append(f"cell {most.name}: {problem}; choose a smaller tier, or {smaller}")
    if problem := disk_problem(files.disk_bytes):
        found.append(f"cell {largest.name}: {problem}; free some, or name another place by MEMVIRT_SWAP_DIR")
    return found
