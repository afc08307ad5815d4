"""The parts of a record that are open: whatever a run was asked for, how memory lay, what a clock said.

They hold what their makers put there, and more with time. What tables and checks read of them has a shape, which a damaged
file may lack; it is looked at here, when a record is made or read, and nowhere else.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from memvirt.results.timeline import Whole

_NUMBERS: TypeAdapter[Any] = TypeAdapter(list[Whole])
_SHAPES: dict[str, tuple[TypeAdapter[Any], str]] = {
    "settings": (TypeAdapter(list[str]), "list of texts"),  # asked
    "external": (_NUMBERS, "list of integers"),  # fragmentation
    "unusable": (_NUMBERS, "list of integers"),
    "accesses_per_s": (TypeAdapter(Whole), "integer"),  # measured
}


def shaped(part: dict[str, Any]) -> dict[str, Any]:
    """The part again; ValueError names what in it is read and has another shape."""
    for name, (shape, words) in _SHAPES.items():
        try:
            if name in part:
                shape.validate_python(part[name], strict=True)
        except ValidationError:
            raise ValueError(f"{name} is no {words}") from None
    return part
