"""Figures of results folders as files: which are asked for, which there are, and where they go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memvirt.errors import ConfigError
from memvirt.report.figures import data
from memvirt.report.figures.catalog import KINDS, Made, kind_called, make
from memvirt.report.figures.data import Scene
from memvirt.report.figures.drawing import FORMATS, draw
from memvirt.report.runs import read_runs
from memvirt.results.record import write_atomically
from memvirt.units import suggest

ENDINGS = {"json": "vl.json"}  # other formats are called as they are


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which figures."""

    names: Sequence[str] = ()  # none: all
    scenario: str = ""  # "": all
    ratio: str = ""  # "": the one that tells most, scenario by scenario


def plot(
    folders: Sequence[str | os.PathLike[str]],
    wanted: Wanted,
    out: Path,
    *,
    form: str = "svg",
    columns: int = 1,
    title: bool = True,
    tell: Callable[[str], None],
) -> Iterator[Path]:
    """Write the figures of runs; yields each file when it is written. `tell` gets the reason for each kind without one.

    ConfigError for an unknown name, format, scenario or ratio, and when there is nothing to draw at all.
    """
    if form not in FORMATS:
        raise ConfigError(f"unknown format '{form}'{suggest(form, FORMATS)} (known: {', '.join(FORMATS)})")
    nothing = True
    for made in of_runs(folders, wanted, tell):
        figure = {key: part for key, part in (made.figure or {}).items() if title or key != "title"}
        file = out / f"{made.file_name}.{ENDINGS.get(form, form)}"
        drawn = draw(figure, form, columns)
        _write(file, drawn)
        nothing = False
        yield file
    if nothing:
        raise ConfigError(f"{', '.join(map(str, folders))}: none of these figures has anything to draw")


def of_runs(folders: Sequence[str | os.PathLike[str]], wanted: Wanted, tell: Callable[[str], None]) -> Iterator[Made]:
    """The figures that are wanted and that have something to draw, a scenario after the other."""
    kinds = [kind_called(name) for name in wanted.names] or list(KINDS.values())
    every = data.scenes(read_runs(folders))
    for scenes in _chosen(every, wanted.scenario):
        ratio = _ratio(scenes, wanted.ratio)
        for kind in kinds:
            made = make(kind, scenes, ratio)
            if made.figure is not None:
                yield made
            elif wanted.names:
                tell(f"{scenes[0].name}: no figure {kind.name}: {made.reason}")


def _chosen(every: Sequence[Sequence[Scene]], scenario: str) -> list[Sequence[Scene]]:
    found = [scenes for scenes in every if scenario in ("", scenes[0].name)]
    if not found:
        known = [scenes[0].name for scenes in every]
        raise ConfigError(f"no scenario '{scenario}'{suggest(scenario, known)} (there are: {', '.join(known)})")
    return found


def _ratio(scenes: Sequence[Scene], asked: str) -> str:
    """The ratio as records spell it; "" when none is asked for."""
    if not asked:
        return ""
    known = data.ratios(scenes)
    try:
        return next(ratio for ratio in known if float(ratio) == float(asked))
    except (ValueError, StopIteration):
        raise ConfigError(f"{scenes[0].name} has no ratio '{asked}' (there are: {', '.join(known)})") from None


def _write(file: Path, drawn: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {file.parent}: cannot be made: {error.strerror}") from None
    write_atomically(file, drawn)
