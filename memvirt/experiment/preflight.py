"""What this machine lacks for a plan: memory for its largest cells, disk for their swap. Known before the first cell."""

from collections.abc import Sequence

from memvirt.environment import disk_problem, memory_problem
from memvirt.experiment.plan import Cell
from memvirt.experiment.prediction import need


def shortages(cells: Sequence[Cell], jobs: int = 1) -> list[str]:
    """A sentence for memory and one for disk, where the cell that takes most of it does not fit, or the `jobs` cells that
    take most do not fit beside each other; with what to do."""
    needs = [(cell, need(cell)) for cell in cells]
    held = sorted(needs, key=lambda pair: pair[1].memory_bytes, reverse=True)[:jobs]
    files = sorted(needs, key=lambda pair: pair[1].disk_bytes, reverse=True)[:jobs]
    (most, memory), (largest, disk) = held[0], files[0]
    beside = f"{len(held)} cells at a time, {most.name} among them"
    found = []
    if problem := memory_problem(memory.memory_bytes):
        smaller = "a smaller fleet, or --set content=fingerprint" if most.is_baseline else "--set memory=..."
        found.append(f"cell {most.name}: {problem}; choose a smaller tier, or {smaller}")
    elif problem := memory_problem(sum(each.memory_bytes for _, each in held)):
        found.append(f"{beside}: {problem}; give fewer --jobs, or auto")
    if problem := disk_problem(disk.disk_bytes):
        found.append(f"cell {largest.name}: {problem}; free some, or name another place by MEMVIRT_SWAP_DIR")
    elif problem := disk_problem(sum(each.disk_bytes for _, each in files)):
        found.append(
            f"{len(files)} cells at a time: {problem}; give fewer --jobs, or name another place by MEMVIRT_SWAP_DIR"
        )
    return found
