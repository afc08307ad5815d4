"""The columns of a run: a preset or variant with one seed, resolved and checked, and the files that it names.

A column is complete before any cell is made of it: its host by value, where each setting is from, what its VMs are
promised. What is wrong with one becomes a problem on a list, for a plan reports all of them at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from memvirt import policies
from memvirt.errors import ConfigError
from memvirt.experiment import suite
from memvirt.experiment.fleet_spec import Sizes
from memvirt.experiment.suite import AnyScenario, Suite, Variant
from memvirt.experiment.sweep import NO_POINT, Point, column_name, overrides_of
from memvirt.inputs.files import file_sha256
from memvirt.settings import orders, presets
from memvirt.settings.config import HostConfig
from memvirt.settings.scanner_options import defaults
from memvirt.settings.vm_config import GuestOptions, check_fleet, guest_of
from memvirt.units import PageCount, suggest


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file that a cell reads: at which place of the configuration it is named, and what was in it."""

    keys: tuple[str, ...]  # ("host", "balloon"), ("scenario", "measured", "file")
    path: str
    sha256: str

    @property
    def place(self) -> str:
        return ".".join(self.keys)

    def check(self) -> None:
        """ConfigError when the file is no longer what it was."""
        if file_sha256(self.path) != self.sha256:
            raise ConfigError(f"{self.path} has changed since the run was planned; run it again into another folder")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the run with one seed, resolved."""

    name: str
    host: HostConfig
    guest: GuestOptions | None
    promised: Mapping[str, tuple[int, ...]]  # what VMs are promised, as a fleet says it
    files: tuple[FileRead, ...]
    asked: Mapping[str, Any]
    origins: Mapping[str, str]


Chosen = Mapping[str, Sequence[Variant]]  # scenario -> its columns


def chosen(sized: Suite, only: Sequence[str], problems: list[str]) -> Chosen:
    """The columns of each scenario that are to be run; what cannot be one is added to the problems.

    Named columns run where a scenario has them. A preset that no scenario has runs in those with the suite's columns, for
    others have theirs with a reason; or in all, where each has its own."""
    own = {scenario.name: sized.variants_of(scenario) for scenario in sized.scenarios}
    table = {variant.name: variant for each in own.values() for variant in each}
    asked = _named(table, only, problems)
    foreign = [variant for name, variant in asked.items() if variant != table.get(name)]
    replaced = {variant.name for variant in foreign}
    common = [scenario.name for scenario in sized.scenarios if scenario.presets is None] or list(own)
    beside = all(suite.is_own(name) for name in only)  # the suite's own
    found: dict[str, list[Variant]] = {}
    for name, variants in own.items():
        kept = [each for each in variants if (beside or each.name in asked) and each.name not in replaced]
        if not beside:  # in the order they are named in
            kept.sort(key=lambda variant: list(asked).index(variant.name))
        found[name] = [*kept, *(foreign if name in common else ())]
    return found


def _named(table: Mapping[str, Variant], only: Sequence[str], problems: list[str]) -> dict[str, Variant]:
    """The columns that are named, by name; `table`: the suite's own."""
    known = list(dict.fromkeys([*table, *presets.names()]))
    columns: dict[str, Variant] = {}
    for name in only:
        if name not in known and not name.endswith(".toml") and not suite.is_own(name):
            problems.append(f"unknown preset '{name}'{suggest(name, known)} (known: {', '.join(known)})")
            continue
        column = table.get(name) or suite.column(name)
        other = columns.get(column.name)
        columns[column.name] = column
        if other is not None:
            alike = other == column
            both = f"{name}, twice; leave one" if alike else f"{_of(other)} and {_of(column)}; rename one, or leave it"
            problems.append(f"--preset names two columns '{column.name}': {both} out")
    return columns


def _of(column: Variant) -> str:
    """What was typed for a column: a preset, or a decider in a file."""
    decider = column.set.get("balloon", "")
    return decider if suite.is_own(decider) else column.preset


def resolve(
    sized: Suite,
    column: Variant,
    seed: int,
    overrides: Sequence[str],
    asked: bool,
    point: Point = NO_POINT,
    host: Sizes | None = None,
) -> Column:
    """A column's settings at a point of a sweep, each with its origin, and the files that they name. `asked`: the user
    chose the seed. `host`: in place of the suite's."""
    swept = overrides_of(point)
    try:
        found = _resolve(sized, host or sized.host, column, seed, [*overrides, *swept], asked)
    except ConfigError as error:
        raise ConfigError(_as_swept(str(error), swept)) from None
    return replace(
        found,
        name=column_name(found.name, point),
        asked={**found.asked, "settings": list(overrides), **({"sweep": dict(point)} if point else {})},
        origins={key: _as_swept(origin, swept) for key, origin in found.origins.items()},
    )


def reaching(
    variants: Chosen, overrides: Sequence[str], every: Sequence[Point]
) -> dict[tuple[str, str, Point], tuple[list[str], Point]]:
    """What each column takes of the overrides and of a point of a sweep, by scenario, column and point. An option of a
    decider, a scanner or an order reaches the columns that have it; where no column has, it stays everybody's, and each says
    what is wrong."""
    texts = dict.fromkeys([*overrides, *(text for at in every for text in overrides_of(at))])
    options = {text: keys for text in texts if (keys := _keys_of_options(text))[1]}
    chosen_by = {text: _chooses(text) for text in texts}
    known: dict[tuple[str, Any], Collection[str] | None] = {}  # (table, what was chosen) -> its options
    usual: dict[str, dict[str, Any]] = {}  # column -> what it chooses by itself

    def has(text: str, chosen: Mapping[str, Any]) -> bool:
        table, keys = options[text]
        key = table, chosen.get(table)
        if key not in known:
            known[key] = _options_of(*key)
        its = known[key]
        return its is None or keys <= {*its}

    taken: dict[tuple[str, str, Point], set[str]] = {}
    for scenario, columns in variants.items():
        for variant in columns if options else ():
            if variant.name not in usual:
                usual[variant.name] = _chosen_by(variant)
            for at in every:
                typed = (*overrides, *overrides_of(at))
                chosen = usual[variant.name] | dict(filter(None, map(chosen_by.get, typed)))
                taken[scenario, variant.name, at] = {text for text in typed if text in options and has(text, chosen)}
    left_out = set().union(*taken.values())  # by the columns that have them not
    found = {}
    for scenario, columns in variants.items():
        for variant in columns:
            for at in every:
                own = taken.get((scenario, variant.name, at), set())
                kept = [text for text in overrides if text in own or text not in left_out]
                pairs = zip(at, overrides_of(at), strict=True)
                point = tuple(pair for pair, text in pairs if text in own or text not in left_out)
                found[scenario, variant.name, at] = kept, point
    return found


def _chosen_by(variant: Variant) -> dict[str, Any]:
    """Table of options -> the decider, scanner or order of a column before any override; where it cannot be made without,
    as a decider whose options have no defaults, what the column names."""
    with suppress(ConfigError):
        host = presets.resolve_layers(variant.preset, between=[("", variant.set)]).config
        return {table: getattr(host, owner) for table, owner in presets.CHOOSES.items()}
    return {table: variant.set.get(owner) for table, owner in presets.CHOOSES.items()}


def _chooses(text: str) -> tuple[str, Any] | None:
    """(table of options, decider, scanner or order) where an override chooses one."""
    with suppress(ConfigError):  # told when a column is made
        place, value = presets.parse_override(text)
        return next(((table, value) for table, owner in presets.CHOOSES.items() if place == (owner,)), None)
    return None


def _options_of(table: str, chosen: Any) -> Collection[str] | None:
    """The options that a table has for what was chosen; None for what cannot be told, as of a file that errs."""
    if chosen in (None, "none", ""):
        return ()
    try:
        if table == "decider_options":
            return policies.parameters_of(chosen)
        return defaults(chosen) if table == "sharing_options" else orders.options_of(chosen)
    except (ConfigError, KeyError):
        return None


def _keys_of_options(text: str) -> tuple[str, frozenset[str]]:
    """The table and the options in it that an override sets, one or those of a table of TOML; none of anything else."""
    with suppress(ConfigError):
        (table, *place), value = presets.parse_override(text)
        keys = place[:1] if place else value if isinstance(value, Mapping) else ()
        if table in presets.CHOOSES:
            return str(table), frozenset(map(str, keys))
    return "", frozenset()


def _as_swept(text: str, swept: Sequence[str]) -> str:
    """What says "--set" of a value that is swept."""
    for value in swept:
        text = text.replace(f"--set {value}", f"--sweep {value}")
    return text


def _resolve(sized: Suite, given: Sizes, column: Variant, seed: int, overrides: Sequence[str], asked: bool) -> Column:
    sizes: dict[str, Any] = {"memory": PageCount(given.memory)}
    before = presets.resolve_layers(column.preset)
    _require_no_size(before.origins)
    theirs = before.origins.get("swap", "").startswith("file ")
    if given.swap and "swap" not in column.set and before.config.swap and not theirs:
        sizes["swap"] = PageCount(given.swap)
    usual = HostConfig.model_fields["harvest_interval"].default
    if given.harvest_interval and before.config.harvest_interval == usual:
        sizes["harvest_interval"] = given.harvest_interval
    typed = _of(column)
    between: list[tuple[str, Mapping[str, Any]]] = [
        (f"suite {sized.name}", sizes),
        (f"--policy {typed}" if suite.is_own(typed) else f"column {column.name} of suite {sized.name}", column.set),
        (f"--seed {seed}" if asked else f"suite {sized.name}", {"seed": seed}),
    ]
    found = presets.resolve_layers(column.preset, overrides, between=between)
    host = found.config
    changed = column.vm.model_dump(mode="json", exclude_unset=True)
    wanted = presets.vm_settings(column.preset, overrides, settings=changed)
    decider = policies.file_of(host.balloon) if host.balloon else None
    own = {"vm": changed} if changed else {}
    promised = {"reservation_percent": wanted.reservation_percent, "limit_percent": wanted.limit_percent}
    return Column(
        name=column.name,
        host=host,
        guest=guest_of(wanted.guest),
        promised={key: (value,) for key, value in promised.items() if value is not None},
        files=() if decider is None else (FileRead(("host", "balloon"), str(decider), file_sha256(decider)),),
        asked={"preset": column.preset, "set": column.set, **own, "settings": list(overrides)},
        origins=found.origins,
    )


def _require_no_size(origins: Mapping[str, str]) -> None:
    """ConfigError where a preset says how large the host is, or by which seed it is run, which the suite does."""
    for key, how in (("memory", "--set memory=..."), ("seed", "--seed ...")):
        if key in origins:
            raise ConfigError(
                f"{origins[key]}: {key}: columns have that of the suite; leave it out, or change all: {how}"
            )


def alike(sized: Suite, by_scenario: Mapping[str, Sequence[Column]]) -> list[str]:
    """Columns that are one and the same under two names, as when an override changes what they differ in, in every
    scenario that has both."""
    cells: dict[tuple[tuple[str, ...], str], list[Any]] = {}  # names that stand beside each other, one of them
    for each in sized.scenarios:
        columns = by_scenario[each.name]
        beside = tuple(column.name for column in columns)
        for column in columns:
            own = (each.host(each.points[0], column.host), (column.guest, column.promised) if each.has_vms else None)
            cells.setdefault((beside, column.name), []).append(own)
    first: dict[tuple[tuple[str, ...], str], str] = {}  # what cells are -> the first column that has them
    problems = []
    for (beside, name), found in cells.items():
        before = first.setdefault((beside, repr(found)), name)
        if before != name:
            problems.append(
                f"columns '{before}' and '{name}' are the same with these settings; leave one of them "
                "out by --preset, or the --set that makes them so"
            )
    return problems


def for_no_guest(overrides: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Settings of guests that no column has."""
    if not columns or any(column.guest is not None for column in columns):
        return []
    idle = [text for text in overrides if text.startswith("vm.guest.")]
    return [f"--set {text}: no column has guests; add --set vm.guest=true" for text in idle]


def broken_promises(scenario: AnyScenario, column: Column) -> list[str]:
    """What the host could not keep even at the scenario's lowest ratio; at higher ones admission answers for it."""
    percent = min(scenario.points)
    if column.guest is None and scenario.needs_guest:
        text = f"{scenario.needs_guest[0]}, and VMs of {column.name} have none"
        return [f"scenario {scenario.name}: {text}; add --set vm.guest=true, or leave that out"]
    try:
        check_fleet(column.host, scenario.promising(column.promised).vms(percent))
    except ConfigError as error:
        return [f"scenario {scenario.name}-{percent} under {column.name}: {line}" for line in lines(str(error))]
    return []


def all_files(sized: Suite, problems: list[str]) -> dict[str, tuple[FileRead, ...]]:
    """The files that each scenario reads; what cannot be read is added to the problems."""
    read: dict[str, tuple[FileRead, ...]] = {}
    for scenario in sized.scenarios:
        try:
            read[scenario.name] = _files_of(scenario)
        except ConfigError as error:
            problems.append(str(error))
    return read


def _files_of(scenario: AnyScenario) -> tuple[FileRead, ...]:
    """The files that a scenario's workloads and loads read."""
    return tuple(
        FileRead(("scenario", *keys, parameter), str(getattr(reader, parameter)), sha256)
        for keys, reader in scenario.readers.items()
        for parameter, sha256 in reader.file_hashes().items()
    )


def lines(problem: str) -> list[str]:
    """The problems in an error text that may count several."""
    first, *rest = problem.splitlines()
    return [line.strip() for line in rest] if rest and first.endswith(" problems:") else [problem]


def resolve_all(
    sized: Suite,
    variants: Chosen,
    seeds: Sequence[int],
    overrides: Sequence[str],
    problems: list[str],
    every: Sequence[Point] = (NO_POINT,),
) -> dict[tuple[str, int], list[Column]]:
    """Every column of every scenario at every point with every seed, by scenario and seed. What is wrong with one, or with
    them together, is added to the problems. `seeds`: those that the user chose; none: the suite's."""
    known: dict[Any, Column | None] = {}  # a column is resolved once for all scenarios with the same host
    takes = reaching(variants, overrides, every)

    def one(scenario: AnyScenario, variant: Variant, seed: int, point: Point) -> Column | None:
        host = sized.host_of(scenario)
        key = (host.model_dump_json(), variant.name, seed, point)
        if key not in known:
            try:
                own, at = takes[scenario.name, variant.name, point]
                known[key] = resolve(sized, variant, seed, own, bool(seeds), at, host)
            except ConfigError as error:
                problems.append(str(error))
                known[key] = None
        return known[key]

    resolved = {}
    for each in sized.scenarios:
        for seed in seeds or sized.seeds_of(each):
            found = [one(each, variant, seed, point) for point in every for variant in variants[each.name]]
            resolved[each.name, seed] = list({column.name: column for column in found if column is not None}.values())
    by_scenario = {each.name: _of_any_seed(resolved, each.name) for each in sized.scenarios}
    problems += for_no_guest(overrides, [column for columns in by_scenario.values() for column in columns])
    problems += alike(sized, by_scenario)
    problems += [
        text for one in sized.scenarios for each in by_scenario[one.name] for text in broken_promises(one, each)
    ]
    return resolved


def _of_any_seed(resolved: Mapping[tuple[str, int], Sequence[Column]], scenario: str) -> list[Column]:
    """The columns of a scenario, each with one seed."""
    own = (columns for (name, _), columns in resolved.items() if name == scenario)
    return list({column.name: column for columns in own for column in columns}.values())
