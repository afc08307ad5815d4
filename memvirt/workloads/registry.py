"""Workloads by name: what a suite file says, and what `describe` prints. memvirt.names lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from pydantic import ValidationError

from memvirt.errors import ConfigError
from memvirt.names import WORKLOADS
from memvirt.settings.wording import sentence, shown
from memvirt.units import suggest

from .base import Workload

FOLDER = "memvirt.workloads"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One documented parameter. `default` is None where one must be given."""

    name: str
    kind: str
    default: Any
    bounds: str
    meaning: str


def names() -> list[str]:
    """All workloads."""
    return sorted(WORKLOADS)


def lookup(name: str) -> type[Workload]:
    """The workload of that name; ConfigError with a suggestion."""
    if not isinstance(name, str):
        raise ConfigError(f"workload: must be text{shown(name)} (workloads: {', '.join(names())})")
    if name not in WORKLOADS:
        raise ConfigError(f"unknown workload {name!r}{suggest(name, names())} (workloads: {', '.join(names())})")
    return _class(name)


@cache
def _class(name: str) -> type[Workload]:
    """The class of a name of the table; its module is imported now."""
    return cast(type[Workload], WORKLOADS[name].load(FOLDER))


def parse(table: Mapping[str, Any]) -> Workload:
    """A workload from a table such as {"workload": "zipf", "accesses": 1000}; ConfigError with all that is wrong."""
    if "workload" not in table:
        raise ConfigError(f'a workload needs a name: workload = "…" (workloads: {", ".join(names())})')
    cls = lookup(table["workload"])
    values = {key: value for key, value in table.items() if key != "workload"}
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(cls, problem) for problem in error.errors())) from error


def _explain(cls: type[Workload], problem: Any) -> str:
    place = ".".join(str(step) for step in problem["loc"])
    if problem["type"] == "extra_forbidden":
        hint = suggest(place, list(cls.model_fields)) or f" (it has: {', '.join(cls.model_fields)})"
        return f"workload '{cls.name}' has no parameter '{place}'{hint}"
    if problem["type"] == "missing":
        return f"workload '{cls.name}' needs '{place}' ({cls.model_fields[place].description})"
    value = problem["input"]
    return f"workload '{cls.name}', {place} = {value!r}: {sentence(problem).replace(shown(value), '')}"


def parameters(name: str) -> list[Parameter]:
    """The parameters of a workload, in the order of their declaration."""
    cls = lookup(name)
    schema = cls.model_json_schema()["properties"]
    return [
        Parameter(
            key,
            str(schema[key].get("type", "table")),
            None if field.is_required() else field.get_default(),
            _bounds(schema[key]),
            field.description or "",
        )
        for key, field in cls.model_fields.items()
    ]


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "minItems": "items ≥ ", "maxItems": "items ≤ "}
    return ", ".join(f"{word}{schema[key]}" for key, word in words.items() if key in schema)
