"""The parts of a record that are open: whatever a run was asked for, how memory lay, what a clock said.

They hold what their makers put there, and more with time. What tables and checks read of them has a shape, which a damaged
file may lack; it is looked at here, when a record is made or read, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from memvirt.results.timeline import Whole

_SHAPES: dict[str, TypeAdapter[Any]] = {
    "settings": TypeAdapter(list[str]),  # asked
    "sweep": TypeAdapter(dict[str, Any]),
    "external": TypeAdapter(list[Whole]),  # fragmentation
    "unusable": TypeAdapter(list[Whole]),
    "accesses_per_s": TypeAdapter(Whole | Annotated[float, Field(allow_inf_nan=False)]),  # measured
}


def shaped(part: dict[str, Any]) -> dict[str, Any]:
    """The part again; ValueError names what in it is read and has another shape."""
    wrong = [name for name, shape in _SHAPES.items() if name in part and not _fits(shape, part, name)]
    if wrong:
        raise ValueError(f"of another shape than memvirt writes: {', '.join(wrong)}")
    return part


def _fits(shape: TypeAdapter[Any], part: Mapping[str, Any], name: str) -> bool:
    try:
        shape.validate_python(part[name], strict=True)
    except ValidationError:
        return False
    return True
