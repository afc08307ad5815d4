"""What aging does to memory, cycle by cycle: a block for each scenario whose records hold samples.

A row is a preset, a column a cycle. A cell of the table is Linux's unusable index at order 9, in per cent: the share of
free memory in blocks too small for 2 MiB, the median over seeds. A preset that settled early has no later cycles.

Four more columns follow. The first is the cycle by which the index had settled (memvirt.results.derived; "no": not by the
last one allowed). The others speak of the measured cycles after it: mean index, pages moved by compaction in each cycle,
and the share of the VMs' memory that was mapped huge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.table import Table
from rich.text import Text

from memvirt.report.escape import plain, short
from memvirt.report.summary import MISSING
from memvirt.results.derived import settled
from memvirt.results.record import Record

COLUMNS = 5  # cycles shown, the last one included
MEASURED = (
    ("settled\nby cycle", ""),
    ("measured\nunusable", "%"),
    ("measured\nmoved", "pages/cycle"),
    ("measured\nmapped huge", "%"),
)


def shown_cycles(cycles: int) -> list[int]:
    """The cycles that stand in the table: evenly spread, ending with the last."""
    return sorted({max(1, cycles * column // COLUMNS) for column in range(1, COLUMNS + 1)})


READ = {"unusable_9", "compact_moved", "huge_pages", "present_pages"}  # of a sample


@dataclass(frozen=True, slots=True)
class Block:
    """What one scenario did over time."""

    scenario: str
    title: str
    heads: tuple[tuple[str, str], ...]  # of what stands behind the preset: in narrow lines, and its unit
    rows: tuple[tuple[str, ...], ...]


def blocks(records: Sequence[Record]) -> list[Block]:
    """One block for each scenario with samples, in the order of the records; baselines are left out."""
    aged = [record for record in records if record.role == "column" and _has_aged(record)]
    return [
        _block(scenario, [record for record in aged if record.scenario == scenario])
        for scenario in dict.fromkeys(record.scenario for record in aged)
    ]


def _has_aged(record: Record) -> bool:
    """Whether it has samples of all that is told of them: a damaged record may lack some."""
    if not record.samples or not record.config["scenario"].get("aging"):
        return False
    return len(record.samples) > _measured(record) and all(set(each) >= READ for each in record.samples)


def _block(scenario: str, records: Sequence[Record]) -> Block:
    shown = shown_cycles(max(len(_aging(record)) for record in records))
    rows = [
        (plain(preset), *_row([record for record in records if record.preset == preset], shown))
        for preset in dict.fromkeys(record.preset for record in records)
    ]
    name = plain(scenario)
    title = f"{name}: free memory unusable as 2 MiB, by cycle of aging; behind it the measured cycles"
    return Block(name, title, (*((f"after\n{cycle}", "%") for cycle in shown), *MEASURED), tuple(rows))


def tables(records: Sequence[Record]) -> list[Table]:
    """The blocks for a terminal."""
    return [_table(block) for block in blocks(records)]


def _table(block: Block) -> Table:
    table = Table(title=block.title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("\n\npreset", min_width=max(len(short(row[0])) for row in block.rows))
    for name, unit in block.heads:
        table.add_column(f"{name}\n{unit}", justify="right")
    for preset, *cells in block.rows:
        table.add_row(Text(short(preset)), *cells)
    return table


def _measured(record: Record) -> int:
    return int(record.config["scenario"]["aging"]["measured_cycles"])


def _aging(record: Record) -> list[dict[str, int]]:
    """The samples of the cycles until it settled."""
    return record.samples[: -_measured(record)]


def _row(seeds: Sequence[Record], shown: Sequence[int]) -> list[str]:
    """The cells of one preset behind its name."""

    def middle(value: Callable[[Record], float]) -> float:
        return median(value(record) for record in seeds)

    ends = [settled([sample["unusable_9"] for sample in _aging(record)]) for record in seeds]
    known = [end for end in ends if end is not None]
    cells = []
    for cycle in shown:
        there = [_aging(record)[cycle - 1]["unusable_9"] for record in seeds if len(_aging(record)) >= cycle]
        cells.append(f"{median(there) / 10:.1f}" if there else MISSING)
    return [
        *cells,
        f"{median(known):.0f}" if len(known) == len(ends) else "no",
        f"{middle(lambda record: _mean(record, 'unusable_9')) / 10:.1f}",
        f"{middle(_moved):.0f}",
        f"{middle(_huge):.0f}",
    ]


def _mean(record: Record, name: str) -> float:
    """Over the measured cycles."""
    return sum(sample[name] for sample in record.samples[-_measured(record) :]) / _measured(record)


def _moved(record: Record) -> float:
    """Pages that compaction moved in a measured cycle."""
    before = record.samples[-_measured(record) - 1]["compact_moved"]
    return (record.samples[-1]["compact_moved"] - before) / _measured(record)


def _huge(record: Record) -> float:
    return 100 * _mean(record, "huge_pages") / max(1, _mean(record, "present_pages"))
