"""What aging does to memory, cycle by cycle: a block for each scenario whose records hold samples.

A row is a preset, a column a cycle; a cell is the share of free memory that lies in blocks too small for 2 MiB (Linux's
unusable index at order 9, in per cent), the median over seeds. Behind them: the cycle by which the index had settled
(memvirt.workloads.aging), the pages compaction moved, and how much of the VMs' memory is mapped huge at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_low

from rich import box
from rich.table import Table

from memvirt.record import Record
from memvirt.workloads.aging import settled

COLUMNS = 6  # cycles shown, the last one included


def shown_cycles(cycles: int) -> list[int]:
    """The cycles that stand in the table: evenly spread, ending with the last."""
    return sorted({max(1, cycles * column // COLUMNS) for column in range(1, COLUMNS + 1)})


def tables(records: Sequence[Record]) -> list[Table]:
    """One table for each scenario with samples, in the order of the records; baselines are left out."""
    aged = [record for record in records if record.samples and not record.preset.startswith("baseline")]
    return [
        _table(scenario, [record for record in aged if record.scenario == scenario])
        for scenario in dict.fromkeys(record.scenario for record in aged)
    ]


def _table(scenario: str, records: Sequence[Record]) -> Table:
    cycles = min(len(record.samples) for record in records)
    shown = shown_cycles(cycles)
    table = Table(
        title=f"{scenario}: free memory unusable as 2 MiB, %, after so many cycles",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("preset", min_width=max(len(record.preset) for record in records))
    for name in (*map(str, shown), "settled", "moved", "huge %"):
        table.add_column(name, justify="right")
    for preset in dict.fromkeys(record.preset for record in records):
        table.add_row(preset, *_row([record for record in records if record.preset == preset], shown))
    return table


def _row(seeds: Sequence[Record], shown: Sequence[int]) -> list[str]:
    """The cells of one preset behind its name."""

    def middle(cycle: int, name: str) -> int:
        return median_low([record.samples[cycle - 1][name] for record in seeds])

    ends = [settled([sample["unusable_9"] for sample in record.samples]) for record in seeds]
    known = [end for end in ends if end is not None]
    last = shown[-1]
    huge = median_low(
        [record.samples[-1]["huge_pages"] * 100 // max(1, record.samples[-1]["present_pages"]) for record in seeds]
    )
    return [
        *(f"{middle(cycle, 'unusable_9') / 10:.1f}" for cycle in shown),
        str(median_low(known)) if len(known) == len(ends) else "no",
        str(middle(last, "compact_moved")),
        str(huge),
    ]
