"""Workloads by name: what a suite file says, and what `list workloads` and `describe` print."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from memvirt.errors import ConfigError
from memvirt.settings.wording import sentence, shown

from .base import Workload

_REGISTRY: dict[str, type[Workload]] = {}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One documented parameter. `default` is None where one must be given."""

    name: str
    kind: str
    default: Any
    bounds: str
    meaning: str


def register(cls: type[Workload]) -> type[Workload]:
    """Class decorator: make a workload known under its `name`."""
    if cls.name in _REGISTRY:
        raise ValueError(f"two workloads are named {cls.name!r}")
    _REGISTRY[cls.name] = cls
    return cls


def names() -> list[str]:
    return sorted(_REGISTRY)


def lookup(name: str) -> type[Workload]:
    """The workload of that name; ConfigError with a suggestion."""
    if not isinstance(name, str):
        raise ConfigError(f"workload: must be text{shown(name)} (workloads: {', '.join(names())})")
    if name not in _REGISTRY:
        close = get_close_matches(name, names(), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"unknown workload {name!r}{hint} (workloads: {', '.join(names())})")
    return _REGISTRY[name]


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
        close = get_close_matches(place, list(cls.model_fields), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else f" (it has: {', '.join(cls.model_fields)})"
        return f"workload '{cls.name}' has no parameter '{place}'{hint}"
    if problem["type"] == "missing":
        return f"workload '{cls.name}' needs '{place}' ({cls.model_fields[place].description})"
    value = problem["input"]
    return f"workload '{cls.name}', {place} = {value!r}: {sentence(problem).replace(shown(value), '')}"


def summary(name: str) -> str:
    """One line on a workload."""
    return (inspect.getdoc(lookup(name)) or "").partition("\n")[0]


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
