"""This machine's costs, as a cost model that simulated time can use.

A constant is measured where a program can measure it, and is the default model's where not: what an engine does inside
itself (a walk of its tables, a visit of its scanner) has no counterpart that could be timed from outside. Each says in its
source which of the two it is, and the spread of what was measured lies beside it. So does what a disk took, by depth and
size; a device in the engine's terms follows from that, and is a setting of its own (swap_device).

    memvirt run quick --set costs=my-machine.toml --set swap_device=my-machine.toml
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from memvirt import environment
from memvirt.backends.linux import costs, disk
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.measured import Measured
from memvirt.errors import ConfigError, TenantError
from memvirt.settings.costs import CostFile, CostModel, Spread
from memvirt.settings.costs import file as model_file
from memvirt.versions import versions

DISK = "disk"
# Constant -> what it is made of: names of measurements, of which those with a minus are taken off.
MADE_OF: dict[str, tuple[str, ...]] = {
    "hit": ("load",),
    "fault": ("first_touch", "-clear"),
    "guest_fault": ("first_touch", "-clear"),
    "zero_page": ("clear",),
    "zero_huge": ("first_touch_huge", "-first_touch", "clear"),
    "copy_page": ("copy",),
    "same_filled": ("same_filled",),
    "compress": ("compress",),
    "decompress": ("decompress",),
    "compress_lz4hc": ("compress_lz4hc",),
    "compress_zstd": ("compress_zstd",),
    "decompress_zstd": ("decompress_zstd",),
    "zpool_store": ("half_copy",),
    "swap_submit": ("submit",),
    "evict": ("release",),
    "balloon_page": ("release",),
    "release_page": ("release",),
    "hash_page": ("hash",),
    "compare_page": ("compare",),
    "move_page": ("copy", "release"),
}


@dataclass(slots=True)
class Calibration:
    """What was found, and what was not."""

    measured: dict[str, Measured] = field(default_factory=dict)
    points: list[disk.Point] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def measurements() -> list[str]:
    """Their names, in order."""
    return [*costs.MEASUREMENTS, DISK]


def run(seed: int, begun: Callable[[str, int, int], None] | None = None) -> Calibration:
    """All measurements. `begun` hears the name of each, its number and how many there are."""
    found = Calibration()
    names = measurements()
    for number, name in enumerate(names, 1):
        if begun is not None:
            begun(name, number, len(names))
        try:
            for each in _disk(found, seed) if name == DISK else costs.MEASUREMENTS[name](seed):
                found.measured[each.name] = each
        except (Missing, ConfigError, TenantError) as reason:
            found.skipped[name] = str(reason)
        except MemoryError:
            found.skipped[name] = "there is not enough memory"
    return found


def _disk(found: Calibration, seed: int) -> Iterator[Measured]:
    points = list(disk.points(seed))
    found.points = points
    yield from (point.measured for point in points)
    first = next(point for point in points if (point.write, point.pages, point.depth) == (False, 1, 1))
    spent = f"processor time of a read request, mean of {len(first.spent)}"
    yield Measured("submit", spent, (first.processor_ns,), len(first.spent))


def model(found: Calibration) -> CostFile:
    """The cost model that follows."""
    default = model_file("default")
    values, source = default.costs.model_dump(exclude_none=True), {}
    giving = values.pop("giving")
    for name in (*values, *giving):
        parts = MADE_OF.get(name, ())
        if parts and all(part.lstrip("-") in found.measured for part in parts):
            signed = [(-1 if part.startswith("-") else 1, found.measured[part.lstrip("-")]) for part in parts]
            (giving if name in giving else values)[name] = max(0, sum(sign * each.median for sign, each in signed))
            source[name] = "measured: " + ", ".join(
                f"{'less' if sign < 0 else 'plus' if i else ''} {_told(each)}".strip()
                for i, (sign, each) in enumerate(signed)
            )
        else:
            why = "could not be measured" if parts else "cannot be measured from outside of an engine"
            source[name] = f"default model, {why}: {default.source[name]}"
    facts = environment.collect()
    machine = (
        f"{facts['cpu_model']}, {facts['cpus']} processors, Linux {facts['kernel']}, memvirt {versions()['memvirt']}"
    )
    return CostFile(
        description=f"Measured by memvirt calibrate: {machine}, load {facts['load_1min']}",
        costs=CostModel(**values, giving=giving),
        source=source,
        swap_device=disk.device(found.points) if found.points else None,
        spread={name: _spread(each) for name, each in found.measured.items()},
        skipped=found.skipped,
    )


def _told(each: Measured) -> str:
    low, high = each.interval
    return f"{each.what}, median {each.median} ns ({low} to {high})"


def _spread(each: Measured) -> Spread:
    low, high = each.interval
    return Spread(
        what=each.what, median=each.median, low=low, high=high, batches=len(each.batches), each=each.each
    )  # fmt: skip


def dumps(made: CostFile) -> str:
    """The text of the file."""
    told = made.model_dump(exclude_none=True)
    lines = [f"description = {_text(told.pop('description'))}", ""]
    told = {"costs": told["costs"], "costs.giving": told["costs"].pop("giving"), **told}
    for name, table in told.items():
        if name == "spread":
            for key, inner in table.items():
                lines += [f"[spread.{_key(key)}]", *_pairs(inner), ""]
        elif table:
            lines += [f"[{name}]", *_pairs(table), ""]
    return "\n".join(lines)


def _pairs(table: dict[str, object]) -> list[str]:
    return [f"{_key(key)} = {_text(value)}" for key, value in table.items()]


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else _text(key)


def _text(value: object) -> str:
    """As TOML spells it: its basic strings are JSON's, but for a character that JSON leaves as it is."""
    return json.dumps(value).replace("\x7f", "\\u007f")
