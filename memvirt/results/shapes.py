"""The parts of a record that are open: what it ran, whatever a run was asked for, how memory lay, what a clock said.

They hold what their makers put there, and more with time. What tables and checks read of them has a shape, which a damaged
file may lack; it is looked at here, when a record is made or read, and nowhere else. So are names that files are called by,
and those of a run's columns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from memvirt.metrics.metric import Kind
from memvirt.metrics.registry import REGISTRY
from memvirt.results.timeline import Whole
from memvirt.units import suggest

MOST_NAME = 240  # bytes of a cell's name: a file system's 255, with room for endings


class _Open(BaseModel):
    """A table of which these keys are read, and others may stand beside them."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Aging(_Open):
    measured_cycles: Annotated[Whole, Field(ge=1)]


class _Scenario(_Open):
    name: str
    description: str = ""
    groups: list[dict[str, Any]] = []
    aging: _Aging | None = None


class _Host(_Open):
    balloon: str | None = None
    decider_options: dict[str, Any] = {}


_NUMBERS: TypeAdapter[Any] = TypeAdapter(list[Whole])
_SHAPES: dict[str, tuple[TypeAdapter[Any], str]] = {
    "scenario": (TypeAdapter(_Scenario), "description of a scenario"),  # config
    "host": (TypeAdapter(_Host), "description of a host"),
    "guest": (TypeAdapter(dict[str, Any] | None), "table of a guest's settings"),
    "files": (TypeAdapter(dict[str, str]), "table of texts"),
    "settings": (TypeAdapter(list[str]), "list of texts"),  # asked
    "external": (_NUMBERS, "list of integers"),  # fragmentation
    "unusable": (_NUMBERS, "list of integers"),
    "accesses_per_s": (TypeAdapter(Whole), "integer"),  # measured
    "wall_ns": (TypeAdapter(dict[str, Whole]), "table of integers"),
}


def shaped(part: dict[str, Any]) -> dict[str, Any]:
    """The part again; ValueError names what in it is read and has another shape."""
    for name, (shape, words) in _SHAPES.items():
        try:
            if name in part:
                shape.validate_python(part[name], strict=True)
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(map(str, (name, *wrong["loc"])))
            raise ValueError(f"{name} is no {words}{f': {place}: ' + wrong['msg'] if wrong['loc'] else ''}") from None
    return part


def is_file_name(cell: str) -> bool:
    """Whether a record of a cell of that name can be a file of its own, in the folder that it is meant for."""
    return bool(cell) and cell[0] != "." and not set(cell) & {"/", "\0"} and len(os.fsencode(cell)) <= MOST_NAME


def column_problems(columns: Sequence[str], *others: str) -> list[tuple[int, str]]:
    """(which, why) of the names of columns that no table can have: no metrics, no numbers, given twice. `others`: what else
    could have been meant."""
    problems = []
    for at, name in enumerate(columns):
        if name not in REGISTRY:
            problems.append((at, f"no metric is called '{name}'{suggest(name, [*REGISTRY, *others])}"))
        elif REGISTRY[name].kind is Kind.HISTOGRAM:
            problems.append((at, f"'{name}' is a histogram, no number; 'memvirt plot' draws it"))
        elif name in columns[:at]:
            problems.append((at, f"'{name}' is given twice"))
    return problems
