"""What was saved, by which mechanism, less the metadata that remembers it: the rows of the figure `savings`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import fsum

from memvirt.report.figures.data import MIB, Scene
from memvirt.report.figures.style import Rows
from memvirt.results.record import Record

# Steps of the waterfall: name, what of a record counts its frames, mechanisms whose processor time it took.
Step = tuple[str, tuple[str, ...], tuple[str, ...]]
GIVEN_UP = "ballooned"  # a page in a balloon has no content: its frame is free, and nothing was made smaller for it
SAVED = re.compile(r"saved_(\w+)_frames")
STEPS: tuple[Step, ...] = (
    ("merged, zero", ("saved_zero_pages",), ("scan",)),
    ("merged in a VM", ("saved_intra_pages",), ("scan",)),
    ("merged across VMs", ("saved_inter_pages",), ("scan",)),
    ("cloned", ("saved_cloning_frames",), ("clone",)),
    ("same-filled", ("saved_same_frames",), ()),
    ("compressed", ("saved_zpool_frames",), ("compress", "decompress")),
    (GIVEN_UP, ("saved_balloon_frames",), ("balloon",)),
    ("swapped", ("saved_swap_frames",), ("swap",)),
)
KNOWN = {"saved_sharing_frames", *(name for _, counted, _ in STEPS for name in counted)}  # merged pages are its parts
LEAST_SHARE = 0.01  # of what was saved: what is below it has no cost, which would be a large number about nothing
METADATA = "metadata"
NET = "saved, net"


def savings(scene: Scene, ratio: str) -> Rows:
    """The waterfall of each preset, means over seeds: MiB `from` and `to`, `mib` between them, and processor seconds for
    each GiB. Steps that scan together have one cost, for their sum: the first of them has it, and `shared` is how many they
    are, of the others 0. What hardly any frames were saved by has none."""
    rows: Rows = []
    for preset, records in scene.at(ratio):
        steps = [*STEPS, *_others(records)]
        amounts = {name: _mean(records, counted) / MIB for name, counted, _ in steps}
        costs = _costs(records, steps, amounts)
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
                cost, shared = costs.get(name, (None, 1))
                sign = "given up" if name == GIVEN_UP else "saved" if mib > 0 else "spent"
                rows.append({**row, "sign": sign, "cost": cost, "shared": shared})
                at += mib
        if at:
            row = {"run": scene.run, "preset": preset, "step": NET, "from": 0.0, "to": net, "mib": net}
            rows.append({**row, "sign": "net", "cost": None, "shared": 1})
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


def _costs(
    records: Sequence[Record], steps: Sequence[Step], amounts: Mapping[str, float]
) -> dict[str, tuple[float | None, int]]:
    """Step -> (processor seconds of its mechanisms for each GiB that all their steps save, how many steps those are).

    Only the first step of each set of mechanisms has them; the others have (None, 0). A cost that is drawn at every step
    would be read as a sum."""
    gross = fsum(amounts.values())
    found: dict[str, tuple[float | None, int]] = {}
    for mechanisms in dict.fromkeys(by for *_, by in steps if by):
        there = [name for name, _, by in steps if by == mechanisms and amounts[name]]
        mib = fsum(amounts[name] for name in there)
        counted = any(name in record.cpu_ns for record in records for name in mechanisms)
        if counted and mib > max(0.0, LEAST_SHARE * gross):
            seconds = fsum(record.cpu_ns.get(name, 0) for record in records for name in mechanisms) / len(records) / 1e9
            found |= dict.fromkeys(there, (None, 0)) | {there[0]: (seconds * 1024 / mib, len(there))}
    return found
