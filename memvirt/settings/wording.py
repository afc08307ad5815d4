"""What pydantic finds wrong with a value, in the words of the person who wrote the value.

pydantic speaks of its own classes, of Python's types and of regular expressions. A file has tables, lists, text and
numbers; so it says which of them is needed, the bounds, and what was there instead.
"""

from collections.abc import Mapping
from typing import Any

from memvirt import units

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table",
    "mapping": "a table",
    "is_instance": "a value of another kind",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "more than"),
    "less_than": ("lt", "less than"),
}
LONGEST = 60  # characters of a value that are shown


def sentence(detail: Mapping[str, Any]) -> str:
    """What is needed instead, and what was given; pydantic's own words where none of ours fit."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        hint = f"; did you mean {context[bound]}?" if bound in ("ge", "le") else ""
        return f"must be {words} {context[bound]}{shown(value)}{hint}"
    if kind in ("too_short", "too_long"):
        number = context["min_length" if kind == "too_short" else "max_length"]
        entries = f"{number} {'entry' if number == 1 else 'entries'}"
        return f"needs {_least(kind)} {entries}, not {length(context, value)}"
    if kind in ("string_too_short", "string_too_long"):
        return f"needs {_least(kind)} {context.get('min_length', context.get('max_length'))} characters{shown(value)}"
    if kind == "string_pattern_mismatch":
        if context.get("pattern") == NAME_PATTERN:
            return f"is no name{shown(value)}: letters, digits, '.', '_' and '-', 64 at most, a letter or digit first"
        return f"is not of the form {context.get('pattern')}{shown(value)}"
    if kind == "multiple_of":
        return f"must be a multiple of {context['multiple_of']}{shown(value)}"
    if kind == "finite_number":
        return f"must be a finite number{shown(value)}"
    if kind == "value_error":
        return str(context.get("error", detail["msg"]))
    wanted = next((words for name, words in _KINDS.items() if kind.startswith(f"{name}_")), None)
    return f"must be {wanted}{shown(value)}" if wanted else f"{detail['msg']}{shown(value)}"


def _least(kind: str) -> str:
    return "at least" if kind.endswith("too_short") else "at most"


def length(context: Mapping[str, Any], value: object) -> object:
    """How many entries there are, where that is known."""
    return context.get("actual_length") or (len(value) if hasattr(value, "__len__") else 0)


def shown(value: object) -> str:
    """ " (got 5)"; of tables and lists only that they are. What Python calls True, a file calls true."""
    if isinstance(value, Mapping):
        return " (got a table)"
    if isinstance(value, list | tuple):
        return " (got a list)"
    if not isinstance(value, str | int | float | bool):
        return ""
    text = str(value).lower() if isinstance(value, bool) else units.shown(value)
    return f" (got {text if len(text) <= LONGEST else text[: LONGEST - 3] + '...'})"
