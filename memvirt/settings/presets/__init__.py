"""Named presets: which mechanisms a host has, with which constants, decided by whom; every constant with its source.

A preset is a TOML file beside this one:

    description = "one line"
    extends = "base"                     # optional: settings of another preset, changed by this one
    [host]
    zpool_percent = 20                   # keyword arguments of memvirt.Host
    [vm]
    guest = true                         # every VM gets a guest: a balloon needs one
    [source]
    zpool_percent = {text = "where it is from", tag = "verified"}

`resolve` puts together a preset, its ancestors and the user's `--set key=value`, and finds every error at once.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from memvirt.errors import ConfigError
from memvirt.settings.config import HostConfig
from memvirt.settings.diagnose import Conflicts, Place, Problem, Source, dotted, line_of, read_toml, report, validate
from memvirt.settings.fields import Model, Percent
from memvirt.settings.sources import SourceNote, default_source
from memvirt.settings.vm_config import Guest, GuestOptions
from memvirt.shipped import PRESETS
from memvirt.units import suggest
from memvirt.untrusted import Excess, toml_table

# Tables of options, and the settings that name the thing whose they are.
CHOOSES = {"sharing_options": "sharing", "decider_options": "balloon", "replacement_options": "replacement"}

MOST_TYPED = 200  # characters of an override that messages repeat
DEFAULT = "default"  # origin of what no layer sets


class VmSettings(Model):
    """What a preset asks of every VM."""

    guest: Guest = Field(
        default=False, description="true, or a table of guest settings: every VM gets a guest, which a balloon needs"
    )
    # Where a fleet does not say so itself: host memory a VM is guaranteed, and the most it gets, % of its configured size
    reservation_percent: Percent | None = Field(
        default=None, description="host memory a VM is guaranteed, of its configured size, where the fleet does not say"
    )
    limit_percent: Annotated[Percent, Field(ge=1)] | None = Field(
        default=None, description="most host memory a VM gets, of its configured size, where the fleet does not say"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        reservation, limit = self.reservation_percent or 0, self.limit_percent
        if limit is not None and reservation > limit:
            text = f"{reservation} % is above the limit, {limit} %"
            raise Conflicts([Problem(("reservation_percent",), text, ("limit_percent",))])
        return self


class PresetConfig(Model):
    """One preset file."""

    description: str = Field(description="one line")
    extends: str | None = Field(default=None, description="a preset whose settings this one changes")
    host: dict[str, Any] = Field(description="settings of the host: memvirt list settings", default={})
    vm: VmSettings = Field(default=VmSettings(), description="what every VM is given; keys below")
    source: dict[str, SourceNote] = Field(description="setting -> where its value is from; keys below", default={})

    @model_validator(mode="after")
    def _agree(self) -> Self:
        known = [*HostConfig.model_fields, *(f"vm.{name}" for name in VmSettings.model_fields)]
        named = {key: ".".join(key.split(".")[: 1 + key.startswith("vm.")]) for key in self.source}
        problems = [
            Problem(("source", key), f"no setting is called '{key}'{suggest(key, known)}; see memvirt list settings")
            for key, name in named.items()
            if name not in known
        ]
        if problems:
            raise Conflicts(problems)
        return self


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of a resolved preset, as `explain` shows it."""

    key: str
    value: object
    origin: str  # "default", or the layer that set it: "preset zcache", "file mine.toml"
    source: str = ""
    tag: str = ""

    @property
    def default(self) -> bool:
        """Whether no preset sets it."""
        return self.origin == DEFAULT


@dataclass(frozen=True, slots=True)
class _Layer:
    """Settings from one place, and what it says of where their values are from."""

    origin: str
    host: Mapping[str, Any]
    notes: Mapping[str, SourceNote] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Chain:
    """A preset and its ancestors, nearest first, each with the file it was read from."""

    names: tuple[str, ...]
    presets: tuple[PresetConfig, ...]
    sources: tuple[Source, ...]

    def layers(self) -> list[_Layer]:
        """The farthest ancestor first."""
        every = [
            _Layer(f"{'file' if name.endswith('.toml') else 'preset'} {name}", preset.host, preset.source)
            for name, preset in zip(self.names, self.presets, strict=True)
        ]
        return every[::-1]


@dataclass(frozen=True, slots=True)
class Resolved:
    """A host, and which layer each of its settings is from; what no layer sets is memvirt's own default."""

    config: HostConfig
    layers: tuple[_Layer, ...]
    set_by: Mapping[str, int]  # setting as it was spelled, such as "sharing_options.sleep_ns" -> its last layer

    @property
    def origins(self) -> dict[str, str]:
        """Setting -> where its value is from."""
        return {key: self.layers[index].origin for key, index in self.set_by.items()}

    def row(self, key: str, value: object) -> Row:
        """What `explain` says of a value. A source counts when it is of the layer that set the value or of one above:
        what an earlier layer said is about the value that was replaced."""
        setting = next((known for known in self.set_by if _under(key, known)), None)
        if setting is None:
            note, origin = default_source(key, self.config), DEFAULT
        else:
            index = self.set_by[setting]
            origin = self.layers[index].origin
            said = [
                (len(name), each)
                for layer in self.layers[index:]
                for name, each in layer.notes.items()
                if _under(key, name)
            ]
            note = max(said, key=lambda pair: pair[0])[1] if said else None
        return Row(key, value, origin, *((note.text, note.tag) if note else ()))


@dataclass(frozen=True, slots=True)
class _Layers(Source):
    """Finds a host setting in what was given beside the preset first, then in the preset, then in its ancestors."""

    layers: tuple[Source, ...] = ()
    given: Mapping[Place, str] = field(default_factory=dict)  # "--set zpool_percent=20", "column mine of suite quick"

    def at(self, place: Place) -> str:
        for changed, text in self.given.items():
            if changed[: len(place)] == place and len(changed) > len(place):
                return text
        if len(place) == 1 and place not in self.given and (CHOOSES.get(str(place[0])),) in self.given:
            return self.given[(CHOOSES[str(place[0])],)]  # who chose a decider answers for what it lacks
        for length in range(len(place), 0, -1):
            if place[:length] in self.given:
                return self._of(self.given[place[:length]], place)
            for source in self.layers:
                if _spells(source, ("host", *place[:length])):
                    return source.at(("host", *place))
            beside = next((text for key, text in self.given.items() if len(key) > 1 and key[:-1] == place[:-1]), "")
            if beside and length == len(place):  # what is lacking beside what was given of its table
                return self._of(beside, place)
        return self.layers[0].at(("host", *place)) if self.layers else Source.at(self, place)

    @staticmethod
    def _of(given: str, place: Place) -> str:
        """What was given, and which setting of it, where that does not name it."""
        return given if str(place[-1]) in given or given.startswith("--policy") else f"{given}: {dotted(place)}"


def _spells(source: Source, place: Place) -> bool:
    """Whether a file has the key itself: in a line of its own, or within the line of the table around it."""
    line, around = (line_of(source.text, place[:length]) for length in (len(place), len(place) - 1))
    return line is not None and (line != around or str(place[-1]) in source.text.splitlines()[line - 1])


def names() -> list[str]:
    """The presets that come with memvirt."""
    return PRESETS.names()


def resolve(preset: str, overrides: Sequence[str] = (), *, settings: Mapping[str, Any] | None = None) -> HostConfig:
    """The host that a preset (a name, or the path of a TOML file) describes, changed by "key=value" overrides.

    `settings` (a scenario's own, such as the host's memory) come between the two. Raises ConfigError with every
    problem, each at its file and line, or at the override that brought it.
    """
    return resolve_layers(preset, overrides, between=[("settings", settings or {})]).config


def resolve_layers(
    preset: str, overrides: Sequence[str] = (), *, between: Sequence[tuple[str, Mapping[str, Any]]] = ()
) -> Resolved:
    """The same, of several layers (origin, settings) between preset and overrides; and where each value is from."""
    chain = _load(preset)
    layers = [*chain.layers(), *(_Layer(origin, settings) for origin, settings in between)]
    changed: dict[Place, str] = {}
    problems = []
    for text in sorted(overrides, key=is_option):  # who chooses a decider after its options would drop them
        try:
            place, value = parse_override(text)
        except ConfigError as error:
            problems.append(Problem((), str(error)))
            continue
        if place[0] != "vm":  # those are vm_settings' to judge
            changed[place] = as_typed(text)
            layers.append(_Layer(as_typed(text), _nested(place, value)))
    if problems:
        raise report(problems)
    host: dict[str, Any] = {}
    set_by: dict[str, int] = {}
    for index, layer in enumerate(layers):
        host = _merge(host, layer.host)
        replaced = [key for key in set_by for new in _leaves(layer.host) if _under(key, new) or _under(new, key)]
        dropped = [key for key in set_by if not _has(host, key)]
        set_by = {key: before for key, before in set_by.items() if key not in {*replaced, *dropped}}
        set_by |= dict.fromkeys(_leaves(layer.host), index)
    changed = {(key,): origin for origin, settings in between for key in settings} | changed
    return Resolved(validate(HostConfig, host, _Layers(preset, "", chain.sources, changed)), tuple(layers), set_by)


def _leaves(table: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """The dotted keys of all values in nested tables."""
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def _has(table: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value at a dotted key."""
    inner: Any = table
    for part in key.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return False
        inner = inner[part]
    return True


def vm_settings(preset: str, overrides: Sequence[str] = (), *, settings: Mapping[str, Any] | None = None) -> VmSettings:
    """What the preset, or the nearest of its ancestors that says so, asks of every VM, changed by `settings` (a column's
    own) and then by the overrides that begin with "vm.". An override of one of a guest's settings ("vm.guest.swap=8MiB")
    gives no guest to VMs that have none."""
    chain = _load(preset)
    own = next((found.vm for found in chain.presets if found.vm.model_fields_set), VmSettings())
    wanted = _merge(own.model_dump(mode="json", exclude_unset=True), settings or {})
    changed: dict[Place, str] = {}
    for text in sorted(overrides, key=is_option):
        place, value = parse_override(text)
        if place[0] != "vm" or (place[1:2] == ("guest",) and place[2:] and not wanted.get("guest")):
            continue
        changed[place[1:]] = as_typed(text)
        wanted = _merge(wanted, _nested(place[1:], value))
    if not changed and not settings:
        return own
    return validate(VmSettings, wanted, _Layers(preset, "", chain.sources, changed))


def _nested(place: Place, value: Any) -> Any:
    """{"a": {"b": value}} for the place ("a", "b")."""
    for key in reversed(place):
        value = {key: value}
    return value


def is_option(text: str) -> bool:
    """Whether an override is of the options of a decider, a scanner or an order, the host's or a guest's."""
    return any(re.match(rf"\s*(vm\s*\.\s*guest\s*\.\s*)?{options}\s*[.=]", text) for options in CHOOSES)


def as_typed(text: str) -> str:
    """An override in messages: as it was typed, unless that would fill a screen."""
    return f"--set {text}" if len(text) <= MOST_TYPED else f"--set {text[:MOST_TYPED]}..."


def parse_override(text: str) -> tuple[Place, Any]:
    """("decider_options", "samples"), 5 from "decider_options.samples=5". A value that is no TOML is taken as text."""
    key, equals, value = text.partition("=")
    if any(unicodedata.category(letter) == "Cc" and letter != "\t" for letter in value):
        raise ConfigError(f"{as_typed(repr(text))}: holds a control character; write it in one line")
    place: Place = tuple(part.strip() for part in key.split("."))
    if not equals or not all(re.fullmatch(r"[A-Za-z0-9_-]+", str(part)) for part in place):
        raise ConfigError(f"{as_typed(text)}: is not KEY=VALUE; write it like --set zpool_percent=20")
    try:
        return place, toml_table(f"value = {value}")["value"]
    except Excess as error:
        raise ConfigError(f"{as_typed(text)}: {error}") from None
    except ValueError:
        if re.fullmatch(r"\s*[^\s\"'\[\]{}#]+\s*", value) is None:
            shown = repr(value) if len(value) <= MOST_TYPED else "what it sets"
            raise ConfigError(f"{as_typed(text)}: {shown} is not a TOML value; quote it if it is text") from None
        return place, value.strip()


def explain(preset: str) -> list[Row]:
    """Every setting of a preset by value, whether it is memvirt's default, and where the value is from."""
    found = resolve_layers(preset)
    rows = [found.row(key, value) for key, value in flat(found.config.resolved())]
    chain = _load(preset)
    asked = vm_settings(preset)
    options = asked.guest.model_dump(mode="json", exclude_unset=True) if isinstance(asked.guest, GuestOptions) else {}
    own = {"guest": options or asked.guest} | {
        key: getattr(asked, key) for key in ("reservation_percent", "limit_percent")
    }
    for key, value in own.items():
        layer = next((each for each in chain.layers()[::-1] if f"vm.{key}" in each.notes), None)
        note = layer.notes[f"vm.{key}"] if layer else None
        given = value is not None and value is not False
        origin = (layer.origin if layer else "preset") if given else DEFAULT
        rows.append(Row(f"vm.{key}", value, origin, note.text if note else "", note.tag if note else ""))
    return rows


def check_sources(preset: str) -> list[str]:
    """Settings the preset makes without saying where they are from, and sources of settings it does not have."""
    rows = {row.key: row for row in explain(preset)}
    silent = dict.fromkeys(_set_by(row.key, preset) for row in rows.values() if not row.default and not row.source)
    known = [key for layer in _load(preset).layers() for key in layer.notes]
    return [*silent, *(key for key in dict.fromkeys(known) if not any(_under(row, key) for row in rows))]


def _set_by(key: str, preset: str) -> str:
    """The setting as the preset spells it, of which `key` is a part."""
    return next((known for known in resolve_layers(preset).set_by if _under(key, known)), key)


def _under(key: str, setting: str) -> bool:
    return key == setting or key.startswith(f"{setting}.")


def flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of nested tables; an empty table is left out."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _load(preset: str) -> _Chain:
    presets: list[PresetConfig] = []
    sources: list[Source] = []
    path: list[str] = []
    following: str | None = preset
    while following is not None:
        if following in path:
            raise ConfigError(f"preset '{preset}' extends itself: {' -> '.join([*path, following])}")
        path.append(following)
        read, source = _read(following)
        presets.append(read)
        sources.append(source)
        following = read.extends
    return _Chain(tuple(path), tuple(presets), tuple(sources))


def _read(preset: str) -> tuple[PresetConfig, Source]:
    if preset.endswith(".toml"):
        path = Path(preset)
    elif preset in names():
        path = PRESETS.file(preset)
    else:
        raise ConfigError(f"unknown preset '{preset}'{suggest(preset, names())} (known: {', '.join(names())})")
    data, source = read_toml(path)
    return validate(PresetConfig, data, source), source


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key, anything else is replaced. Naming another scanner, decider or replacement order
    drops the options of the one before."""
    merged = dict(base)
    for options, owner in CHOOSES.items():
        if owner in change and change[owner] != base.get(owner):
            merged.pop(options, None)
    for key, value in change.items():
        before = merged.get(key)
        merged[key] = _merge(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return merged
