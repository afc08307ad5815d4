"""From what pydantic and tomllib say to one ConfigError that names every problem with its place and what would do.

A problem's place is a path of keys, such as host.memory or scenario[0].fleet[1].shares. Where the setting came from a
TOML file, a small scan of its text finds the line, since tomllib keeps no positions.

Cross checks between settings raise `Conflicts`, which may hold several problems at once. pydantic runs them only when every
field is valid, so `validate` sets the invalid fields aside and asks again. The user then sees the conflicts among the
others in the same run, unless a required field was among the invalid ones.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from memvirt.errors import ConfigError
from memvirt.settings.wording import sentence, shown
from memvirt.units import suggest
from memvirt.untrusted import MOST_TOML, Excess, file_bytes, toml_table

MOST_KEYS = 8  # of a table, that a message lists

Key = str | int
Place = tuple[Key, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    place: Place
    message: str
    involves: tuple[str, ...] = ()  # of a conflict: the other settings it is about


class Conflicts(PydanticCustomError):
    """Several settings, each valid, that do not go together; raised by models' own cross checks."""

    def __new__(cls, problems: Sequence[Problem]) -> "Conflicts":
        return super().__new__(cls, "conflict", "settings conflict", {"problems": list(problems)})


@dataclass(frozen=True, slots=True)
class Source:
    """Where settings came from: a name for messages, and the TOML text when there is one."""

    name: str
    text: str = ""

    def at(self, place: Place) -> str:
        """ "file:line: key.path", as exact as is known."""
        line = line_of(self.text, place) if self.text else None
        prefix = f"{self.name}:{line}: " if line else f"{self.name}: " if self.name else ""
        return f"{prefix}{dotted(place)}" if place else prefix.rstrip(": ")


def read_toml(path: Path) -> tuple[dict[str, Any], Source]:
    """A TOML file's contents and its Source; ConfigError when it cannot be read or is not TOML."""
    try:
        text = file_bytes(path, 4 * MOST_TOML).decode("utf-8")
    except (OSError, Excess, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return toml_table(text), Source(str(path), text)
    except Excess as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        where = f"{path}:{found[1]}" if found else str(path)
        raise ConfigError(f"{where}: not valid TOML: {error}") from error


def validate(model: type[Model], data: Mapping[str, Any], source: Source | None = None) -> Model:
    """The model made of `data`; one ConfigError with every problem otherwise."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise explain(error, model, data, source) from None


def changed(model: Model, **values: Any) -> Model:
    """The same settings with other values, each of which is valid: all of them are held against each other again, and
    none goes through text. ConfigError names what does not go together."""
    again = model.model_copy(update=values)
    checks = type(model).__pydantic_decorators__.model_validators.items()
    try:
        for name in (name for name, check in checks if check.info.mode == "after"):
            getattr(again, name)()
    except Conflicts as conflict:
        raise report((conflict.context or {})["problems"]) from None
    return again


def explain(
    error: ValidationError, model: type[BaseModel], data: Mapping[str, Any], source: Source | None = None
) -> ConfigError:
    """One ConfigError for all that pydantic found, and for the conflicts that the invalid fields hid from it."""
    problems = _problems(error, model, data)
    problems += [found for found in _hidden_conflicts(error, model, data) if found not in problems]
    return report(problems, source)


def report(problems: Sequence[Problem], source: Source | None = None) -> ConfigError:
    """The error text: one line for one problem, otherwise a count and one line each."""
    place = source or Source("")
    lines = [": ".join(filter(None, (place.at(problem.place), problem.message))) for problem in problems]
    if len(lines) == 1:
        return ConfigError(lines[0])
    return ConfigError(f"{len(lines)} problems:\n" + "\n".join(f"  {line}" for line in lines))


def dotted(place: Place) -> str:
    """host.memory, fleet[1].shares."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return text.removeprefix(".")


def line_of(text: str, place: Place) -> int | None:
    """The line, counted from 1, of the key at `place` or of its nearest parent that the text spells out."""
    lines = _key_lines(text)
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return None


_HEADER = re.compile(r"\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(r"""\s*((?:[A-Za-z0-9_\-.\s]|"[^"]*"|'[^']*')+?)\s*=(.*)$""")
_KEY_PART = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_\-]+))\s*(?:\.|$)""")
_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'')


def _key_lines(text: str) -> dict[Place, int]:
    """The line of every table header and of every key that starts a line."""
    found: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    depth, fence = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if fence:  # inside a multi-line string
            fence = "" if fence in line else fence
            continue
        header, assignment = _HEADER.match(line), _ASSIGNMENT.match(line)
        if depth == 0 and header:
            table = _indexed(_parts(header[2]), counts, grow=header[1] == "[[")
            found.setdefault(table, number)
            continue
        if depth == 0 and assignment and not line.lstrip().startswith("#"):
            key = (*table, *_parts(assignment[1]))
            for length in range(len(table) + 1, len(key) + 1):
                found.setdefault(key[:length], number)
            fence = next((mark for mark in ('"""', "'''") if assignment[2].count(mark) % 2), "")
        bare = _STRING.sub("", line).split("#", 1)[0]
        depth += 0 if fence else bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
    return found


def _parts(text: str) -> Place:
    return tuple(next(filter(None, match.groups()), "") for match in _KEY_PART.finditer(text))


def _indexed(table: Place, counts: dict[Place, int], *, grow: bool) -> Place:
    """The table's path with the index of the current element after every array of tables on the way."""
    place: Place = ()
    for position, key in enumerate(table):
        place = (*place, key)
        if grow and position == len(table) - 1:
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _problems(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    for detail in error.errors():
        place = detail["loc"]
        if detail["type"] == "conflict":
            base = _keys_of_user(detail, data)
            conflicts: list[Problem] = detail["ctx"]["problems"]
            found += [replace(conflict, place=(*base, *conflict.place)) for conflict in conflicts]
        else:
            found.append(Problem(_keys_of_user(detail, data), _message(detail, place, model)))
    return found


def _message(detail: ErrorDetails, place: Place, model: type[BaseModel]) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            known = _fields_at(model, place[:-1])
            hint = suggest(str(place[-1]), known)
            return f"unknown key '{place[-1]}'{hint or ' (known: ' + ', '.join(known) + ')'}"
        case "missing":
            return "is required"
        case "literal_error" | "union_tag_invalid" | "enum":
            expected = str(context.get("expected") or context.get("expected_tags"))
            known = re.findall(r"'([^']*)'", expected) or re.findall(r"[^ ,]+", expected.replace(" or ", " "))
            got = context.get("tag", value)
            hint = "; write it without quotes" if got in known and "'" not in expected else suggest(str(got), known)
            return f"unknown value {got!r}{hint} (known: {', '.join(known)})"
        case "union_tag_not_found":
            return f"needs the key {context.get('discriminator')}"
        case "model_type" | "model_attributes_type" | "dict_type":
            known = _fields_at(model, place)
            keys = f" with the keys {', '.join(known)}" if 0 < len(known) <= MOST_KEYS else ""
            return f"must be a table{keys}{shown(value)}"
    return sentence(detail)


def _keys_of_user(detail: ErrorDetails, data: Any) -> Place:
    """Place of an error without the tags that pydantic puts there for unions: those are no keys of the user's."""
    place, keys = detail["loc"], []
    for position, key in enumerate(place):
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            if position < len(place) - 1 or detail["type"] != "missing":
                continue
        keys.append(key)
    return tuple(keys)


def _fields_at(model: type[BaseModel], place: Place) -> list[str]:
    """The keys that the model reached by following `place` knows, as users spell them."""
    current: list[tuple[type[BaseModel], str]] = [(model, "")]  # with the tag that tells it in a union
    named = False
    for key in place:
        if isinstance(key, int) or named:  # a place in a list, or a name that the user gave a table
            named = False
            continue
        annotations = [field.annotation for cls, _ in current for name, field in _spelled(cls) if name == key]
        following = [found for annotation in annotations for found in _models_in(annotation)] or [
            (cls, tag) for cls, tag in current if key == tag or _has_kind(cls, key)
        ]
        named = any(_is_by_name(annotation) for annotation in annotations)
        current = following or current  # a tag of a union is no key: stay
    return sorted({name for cls, _ in current for name, _ in _spelled(cls)})


def _spelled(cls: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Its fields by the keys that a file has for them."""
    return [(field.alias or name, field) for name, field in cls.model_fields.items()]


def _models_in(annotation: Any, tag: str = "") -> list[tuple[type[BaseModel], str]]:
    """The models that a value may be, each with its tag."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(annotation, tag)]
    tag = next((each.tag for each in getattr(annotation, "__metadata__", ()) if isinstance(each, Tag)), tag)
    return [found for inner in getattr(annotation, "__args__", ()) for found in _models_in(inner, tag)]


def _is_by_name(annotation: Any) -> bool:
    """Whether it is a table of tables that users name."""
    return getattr(annotation, "__origin__", None) is dict


def _has_kind(cls: type[BaseModel], tag: str) -> bool:
    kind = cls.model_fields.get("kind")
    return kind is not None and kind.default == tag


def _hidden_conflicts(error: ValidationError, model: type[BaseModel], data: Mapping[str, Any]) -> list[Problem]:
    """Conflicts that show once the invalid fields are set aside; none that may stem from setting them aside."""
    trimmed = copy.deepcopy(dict(data))
    aside = [_keys_of_user(detail, data) for detail in error.errors() if detail["type"] != "conflict"]
    for place in sorted(aside, key=len, reverse=True):
        if len(place) == 1 and place[0] not in trimmed:
            return []  # a required setting is missing: nothing can be asked without it
        _drop(trimmed, place)
    try:
        model.model_validate(trimmed)
    except ValidationError as second:
        names = {place[-1] for place in aside}
        return [
            problem
            for problem in _problems(second, model, data)
            if not any(place[: len(problem.place)] == problem.place for place in aside)
            and not names & {*problem.place[-1:], *problem.involves}
        ]
    return []


def _drop(data: Any, place: Place) -> None:
    """Remove what is at `place`, or the nearest table around it that is there."""
    for length in range(len(place), 0, -1):
        *parents, leaf = place[:length]
        inner = data
        try:
            for key in parents:
                inner = inner[key]
            del inner[leaf]
        except (KeyError, IndexError, TypeError):
            continue
        return
