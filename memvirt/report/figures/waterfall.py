"""What was saved, by which mechanism, less the metadata that remembers it: the rows of the figure `savings`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import fsum

from memvirt.report.figures.data import MIB, Scene
from memvirt.report.figures.style import Rows
from memvirt.results.record import Record
from memvirt.units import PAGE_SIZE

GIB = 2**30 // PAGE_SIZE  # frames

# Steps of the waterfall: name, what of a record counts its frames, mechanisms whose processor time it took.
Step = tuple[str, tuple[str, ...], tuple[str, ...]]
SAVED = re.compile(r"saved_(\w+)_frames")
STEPS: tuple[Step, ...] = (
    ("merged, zero", ("saved_zero_pages",), ("scan",)),
    ("merged in a VM", ("saved_intra_pages",), ("scan",)),
    ("merged across VMs", ("saved_inter_pages",), ("scan",)),
    ("cloned", ("saved_cloning_frames",), ("clone",)),
    ("same-filled", ("saved_same_frames",), ()),
    ("compressed", ("saved_zpool_frames",), ("compress", "decompress")),
    ("ballooned", ("saved_balloon_frames",), ("balloon",)),
    ("swapped", ("saved_swap_frames",), ("swap",)),
)
KNOWN = {"saved_sharing_frames", *(name for _, counted, _ in STEPS for name in counted)}  # merged pages are its parts
LEAST_SHARE = 0.01  # of what was saved: a step below it has no cost, which would be a large number about nothing
METADATA = "metadata"
NET = "saved, net"


def savings(scene: Scene, ratio: str) -> Rows:
    """The waterfall of each preset, means over seeds: MiB `from` and `to`, `mib` between them, and processor seconds for
    each GiB. Steps that scan together have one cost, for their sum; one of hardly any frames has none."""
    rows: Rows = []
    for preset, records in scene.at(ratio):
        steps = [*STEPS, *_others(records)]
        amounts = {name: _mean(records, counted) / MIB for name, counted, _ in steps}
        costs = {name: _cost(records, mechanisms, steps) for name, _, mechanisms in steps}
        net = gross = fsum(amounts.values())
        if any(amounts.values()):
            amounts[METADATA] = -fsum(_metadata(record) for record in records) / len(records) / MIB
            net = gross + amounts[METADATA]
        at = 0.0
        for name, mib in amounts.items():
            if mib:
                row = {
                    "run": scene.run,
                    "preset": preset,
                    "step": name,
                    "from": at,
                    "to": at + mib,
                    "mib": mib,
                }
                cost = costs.get(name) if mib > LEAST_SHARE * gross else None
                rows.append({**row, "sign": "saved" if mib > 0 else "spent", "cost": cost})
                at += mib
        if at:
            row = {"run": scene.run, "preset": preset, "step": NET, "from": 0.0, "to": net, "mib": net}
            rows.append({**row, "sign": "net", "cost": None})
    return rows


def _mean(records: Sequence[Record], names: Sequence[str]) -> float:
    return fsum(record.number(name) or 0 for record in records for name in names) / len(records)


def _metadata(record: Record) -> int:
    """Frames that remember what was saved: the scanner's index and items, and records of pages that are out."""
    index = sum(record.sharing.get(f"metadata_{part}_frames", 0) for part in ("index", "scanner"))
    return index + record.usage.get("backing", 0)


def _others(records: Sequence[Record]) -> list[Step]:
    """Steps of mechanisms that this module has no words for: saved_NAME_frames, and the processor time of NAME."""
    counted = sorted({name for record in records for name in record.derived if SAVED.fullmatch(name)} - KNOWN)
    names = [SAVED.sub(r"\1", name) for name in counted]
    return [(name, (of,), (name,)) for name, of in zip(names, counted, strict=True)]


def _cost(records: Sequence[Record], mechanisms: Sequence[str], steps: Sequence[Step]) -> float | None:
    """Processor seconds of the mechanisms for each GiB that all their steps save; None where nothing counts them."""
    if not mechanisms or not any(name in record.cpu_ns for record in records for name in mechanisms):
        return None
    counted = [name for _, names, by in steps if by == tuple(mechanisms) for name in names]
    frames = _mean(records, counted)
    seconds = fsum(record.cpu_ns.get(name, 0) for record in records for name in mechanisms) / len(records) / 1e9
    return seconds * GIB / frames if frames > 0 else None
