"""The engine beside this machine's own kernel, mechanism by mechanism.

A mechanism is a function that yields rows. What it cannot have here (root, a module, room on a disk) it says by raising
Missing, which becomes a row that is skipped; the others run. Those that change this machine's settings are given the
list of changes (memvirt.backends.linux.undo), and undo theirs before the next one begins.
"""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from memvirt.backends.linux import counting, governing, grid, ksm, limits, pressure, pricing, swap
from memvirt.backends.linux.kernel import Missing
from memvirt.backends.linux.undo import Changes
from memvirt.backends.rows import Row, skipped
from memvirt.errors import ConfigError, CorpusError, TenantError
from memvirt.inputs.traces.trace import content_sha256
from memvirt.units import PAGE_SIZE, suggest

LEAST_PAGES = 1024
ANYONE = ChainMap(pricing.ANYONE, governing.MECHANISMS, counting.MECHANISMS)  # it goes through the last one first
LONG = {"grid": grid.grid}  # takes minutes, and may be given a trace
CHANGING = {  # this machine's settings
    **ksm.MECHANISMS,
    **swap.MECHANISMS,
    **limits.MECHANISMS,
    **pressure.MECHANISMS,
    **pricing.MECHANISMS,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is compared. `pages`: what processes and engine take together, about; a VM has an eighth. `trace`: whose
    accesses the grid has instead of those that it generates."""

    pages: int
    seed: int
    trace: Path | None = None


def mechanisms() -> list[str]:
    """Names of what can be compared."""
    return [*ANYONE, *CHANGING, *LONG]


def chosen(names: list[str], full: bool = False) -> list[str]:
    """The mechanisms that are meant, by their names or the first words of them; ConfigError for one there is not. Without
    a name: all, and those that take minutes only of a full comparison."""
    known = mechanisms()
    found: list[str] = []
    for name in names:
        meant = [each for each in known if each.startswith(name)]
        if not meant:
            raise ConfigError(f"no mechanism is called '{name}'{suggest(name, known)} (known: {'; '.join(known)})")
        found += [each for each in meant if each not in found]
    return found or [name for name in known if full or name not in LONG]


def replayed(trace: Path, names: list[str]) -> str:
    """The trace's name and hash; ConfigError where no mechanism that is asked for replays one, or it cannot be read."""
    if not any(name in LONG for name in names):
        raise ConfigError(f"a trace is replayed by '{', '.join(LONG)}' alone: add it to --only, or say --full")
    try:
        return f"{trace.name}, sha256 {content_sha256(trace)}"
    except CorpusError as error:
        raise ConfigError(str(error)) from error


def run(names: list[str], scale: Scale, begun: Callable[[str, int, int], None] | None = None) -> Iterator[Row]:
    """Rows of these mechanisms, as they are found. `begun` hears the name of each, its number and how many there are.
    As root nothing is begun beside another run."""
    with ExitStack() as stack:
        changes: Changes | str = "needs root: it changes settings of this machine, and undoes that at its end"
        if os.geteuid() == 0:
            try:
                changes = stack.enter_context(Changes())
            except Missing as reason:
                changes = str(reason)
        for number, name in enumerate(names, 1):
            if begun is not None:
                begun(name, number, len(names))
            yield from _rows(name, scale, changes)


def _rows(name: str, scale: Scale, changes: Changes | str) -> Iterator[Row]:
    what = "all of it"
    try:
        for row in _counted(name, scale, changes):
            what = "the rest"
            yield row
    except (Missing, TenantError) as reason:
        yield skipped(name, what, str(reason))
    except OSError as error:
        yield skipped(name, what, f"this kernel refuses a call: {error}")
    except MemoryError:
        yield skipped(name, what, f"{scale.pages * PAGE_SIZE >> 20} MiB are more than there is")


def _counted(name: str, scale: Scale, changes: Changes | str) -> Iterator[Row]:
    if name in ANYONE:
        yield from ANYONE[name](scale.pages // 8, scale.seed)
    elif isinstance(changes, str):
        raise Missing(changes)
    else:
        with changes.apart():
            if name in LONG:
                yield from LONG[name](changes, scale.pages // 8, scale.seed, scale.trace)
            else:
                yield from CHANGING[name](changes, scale.pages // 8, scale.seed)
