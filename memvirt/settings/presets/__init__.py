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
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from memvirt.errors import ConfigError
from memvirt.policies import build
from memvirt.settings.config import Guest, GuestOptions, HostConfig, Model, Percent
from memvirt.settings.diagnose import Conflicts, Place, Problem, Source, line_of, read_toml, report, validate
from memvirt.units import suggest

DIRECTORY = Path(__file__).parent

# Settings that name a thing, and the tables of that thing's own options.
_OPTIONS = (("sharing", "sharing_options"), ("balloon", "decider_options"), ("replacement", "replacement_options"))

Tag = Literal["verified", "verified-2", "unverified", "chosen"]


class SourceNote(Model):
    """Where a constant is from: read at its origin, only second-hand, nowhere found, or chosen by memvirt."""

    text: str
    tag: Tag


class VmSettings(Model):
    """What a preset asks of every VM."""

    guest: Guest = False  # the mechanism needs a guest: a balloon, free page reporting
    # Where a fleet does not say so itself: host memory a VM is guaranteed, and the most it gets, % of its configured size
    reservation_percent: Percent | None = None
    limit_percent: Annotated[Percent, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        reservation, limit = self.reservation_percent or 0, self.limit_percent
        if limit is not None and reservation > limit:
            text = f"{reservation} % is above the limit, {limit} %"
            raise Conflicts([Problem(("reservation_percent",), text, ("limit_percent",))])
        return self


class PresetConfig(Model):
    """One preset file."""

    description: str
    extends: str | None = None
    host: dict[str, Any] = Field(default={})
    vm: VmSettings = VmSettings()
    source: dict[str, SourceNote] = Field(default={})


@dataclass(frozen=True, slots=True)
class Row:
    """One setting of a resolved preset, as `explain` tells it."""

    key: str
    value: object
    default: bool  # True when no preset sets it
    source: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A preset and its ancestors, nearest first, each with the file it was read from."""

    presets: tuple[PresetConfig, ...]
    sources: tuple[Source, ...]

    def host(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for preset in reversed(self.presets):
            merged = _merge(merged, preset.host)
        return merged

    def notes(self) -> dict[str, SourceNote]:
        merged: dict[str, SourceNote] = {}
        for preset in reversed(self.presets):
            merged.update(preset.source)
        return merged


@dataclass(frozen=True, slots=True)
class _Layers(Source):
    """Finds a host setting in the overrides first, then in the preset, then in its ancestors."""

    layers: tuple[Source, ...] = ()
    overrides: Mapping[Place, str] = field(default_factory=dict)

    def at(self, place: Place) -> str:
        for length in range(len(place), 0, -1):
            if place[:length] in self.overrides:
                return f"--set {self.overrides[place[:length]]}"
            for source in self.layers:
                if line_of(source.text, ("host", *place[:length])) not in (None, line_of(source.text, ("host",))):
                    return source.at(("host", *place))
        return self.layers[0].at(("host", *place)) if self.layers else Source.at(self, place)


def names() -> list[str]:
    """The presets that come with memvirt."""
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def describe() -> list[tuple[str, str]]:
    """(name, one line) of every preset."""
    return [(name, _read(name)[0].description) for name in names()]


def resolve(preset: str, overrides: Sequence[str] = (), *, settings: Mapping[str, Any] | None = None) -> HostConfig:
    """The host that a preset (a name, or the path of a TOML file) describes, changed by "key=value" overrides.

    `settings` (a scenario's own, such as the host's memory) come between the two. Raises ConfigError with every
    problem, each at its file and line, or at the override that brought it.
    """
    chain = _load(preset)
    host = _merge(chain.host(), settings or {})
    changed: dict[Place, str] = {}
    problems = []
    for text in overrides:
        try:
            place, value = parse_override(text)
        except ConfigError as error:
            problems.append(Problem((), str(error)))
            continue
        if place[0] != "vm":  # those are vm_settings' to judge
            changed[place] = text
            host = _merge(host, _nested(place, value))
    if problems:
        raise report(problems)
    return validate(HostConfig, host, _Layers(preset, "", chain.sources, changed))


def vm_settings(preset: str, overrides: Sequence[str] = ()) -> VmSettings:
    """What the preset, or the nearest of its ancestors that says so, asks of every VM, changed by the overrides that
    begin with "vm.". One of a guest's settings ("vm.guest.swap=8MiB") gives no guest to VMs that have none."""
    chain = _load(preset)
    own = next((found.vm for found in chain.presets if found.vm.model_fields_set), VmSettings())
    settings = own.model_dump(mode="json", exclude_unset=True)
    changed: dict[Place, str] = {}
    for text in overrides:
        place, value = parse_override(text)
        if place[0] != "vm" or (place[1:2] == ("guest",) and place[2:] and not settings.get("guest")):
            continue
        changed[place[1:]] = text
        settings = _merge(settings, _nested(place[1:], value))
    return validate(VmSettings, settings, _Layers(preset, "", chain.sources, changed)) if changed else own


def _nested(place: Place, value: Any) -> Any:
    """{"a": {"b": value}} for the place ("a", "b")."""
    for key in reversed(place):
        value = {key: value}
    return value


def parse_override(text: str) -> tuple[Place, Any]:
    """("decider_options", "samples"), 5 from "decider_options.samples=5". A value that is no TOML is taken as text."""
    key, equals, value = text.partition("=")
    place: Place = tuple(part.strip() for part in key.split("."))
    if not equals or not all(re.fullmatch(r"[A-Za-z0-9_-]+", str(part)) for part in place):
        raise ConfigError(f"--set {text}: is not KEY=VALUE; write it like --set zpool_percent=20")
    try:
        return place, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        if re.fullmatch(r"\s*[^\s\"'\[\]{}#]+\s*", value) is None:
            raise ConfigError(f"--set {text}: {value!r} is not a TOML value; quote it if it is text") from None
        return place, value.strip()


def explain(preset: str) -> list[Row]:
    """Every setting of a preset, whether it is memvirt's default, and where its value is from."""
    chain = _load(preset)
    config = resolve(preset)
    given, notes = chain.host(), chain.notes()
    rows = []
    for key, value in config.model_dump(mode="json").items():
        if key in ("sharing_options", "decider_options", "replacement_options"):
            continue
        rows.append(_row(key, value, key in given, notes))
    for key, value in config.order_options().items():
        rows.append(_row(f"replacement_options.{key}", value, key in given.get("replacement_options", {}), notes))
    for key, value in config.scanner_options().items():
        rows.append(_row(f"sharing_options.{key}", value, key in given.get("sharing_options", {}), notes))
    if config.balloon:
        decider = build(config.balloon, config.decider_options)
        for key in getattr(decider, "__dataclass_fields__", {}):
            value = getattr(decider, key)
            rows.append(_row(f"decider_options.{key}", value, key in given.get("decider_options", {}), notes))
    asked = vm_settings(preset)
    options = asked.guest.model_dump(mode="json", exclude_unset=True) if isinstance(asked.guest, GuestOptions) else {}
    rows.append(_row("vm.guest", options or asked.guest, asked.guest is not False, notes))
    promised = {"reservation_percent": asked.reservation_percent, "limit_percent": asked.limit_percent}
    rows += [_row(f"vm.{key}", value, value is not None, notes) for key, value in promised.items()]
    return rows


def check_sources(preset: str) -> list[str]:
    """Settings the preset makes without saying where they are from, and sources of settings it does not have."""
    rows = {row.key: row for row in explain(preset)}
    silent = [key for key, row in rows.items() if not row.default and not row.source]
    return silent + [key for key in _load(preset).notes() if key not in rows]


def _row(key: str, value: object, given: bool, notes: Mapping[str, SourceNote]) -> Row:
    note = notes.get(key)
    return Row(key, value, not given, note.text if note else "", note.tag if note else "")


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
    return _Chain(tuple(presets), tuple(sources))


def _read(preset: str) -> tuple[PresetConfig, Source]:
    if preset.endswith(".toml"):
        path = Path(preset)
    elif preset in names():
        path = DIRECTORY / f"{preset}.toml"
    else:
        raise ConfigError(f"unknown preset '{preset}'{suggest(preset, names())} (known: {', '.join(names())})")
    data, source = read_toml(path)
    return validate(PresetConfig, data, source), source


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key, anything else is replaced. Naming another scanner, decider or replacement order
    drops the options of the one before."""
    merged = dict(base)
    for owner, options in _OPTIONS:
        if owner in change and change[owner] != base.get(owner):
            merged.pop(options, None)
    for key, value in change.items():
        before = merged.get(key)
        merged[key] = _merge(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return merged
