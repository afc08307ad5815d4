"""What differs between two runs besides their numbers: said before any number is compared.

    refused     another suite, tier, corpus or codec, or a scenario that does something else: there is nothing to compare
    noted       settings of hosts and guests, each with both values and where they are from; versions and commit; the
                machine; cells that only one of them has

Simulated numbers do not depend on the machine, so another machine is noted and not refused. Wall times depend on it and
have a check of their own (`memvirt.report.comparison`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from memvirt.errors import ConfigError
from memvirt.results.record import ABSENT, Record, differences

CODEC = ("lz4", "lz4_route")  # versions that change what compresses to what
SHOWN = 5  # settings or cells that are told one by one
MOMENT = (
    "started", "load_1min", "memory_available_bytes", "psi_cpu", "psi_memory", "steal_ticks", "swap_used_bytes",
    "ksm_pages_sharing",
)  # of an environment: of the moment, not of the machine  # fmt: skip
REMEDY = "run one of them again with what the other had (--tier, --corpus, the same suite), and compare those"
Cells = Mapping[str, Record]


def require_like(base: str, other: str, first: Cells, second: Cells, common: Sequence[str]) -> None:
    """ConfigError with everything that keeps two runs from being compared."""
    if not common:
        raise ConfigError(
            f"{base} and {other} have no cell in common: the first has {few(first) or 'none that is a column'}, "
            f"the second {few(second) or 'none that is a column'}; compare runs of the same suite, presets and seeds"
        )
    one, two = first[common[0]], second[common[0]]
    parts: list[tuple[str, Any, Any]] = [(name, getattr(one, name), getattr(two, name)) for name in ("suite", "tier")]
    parts += [(f"input {name}", one.inputs.get(name), two.inputs.get(name)) for name in {**one.inputs, **two.inputs}]
    parts += [(f"codec {name}", one.versions.get(name), two.versions.get(name)) for name in CODEC]
    problems = [f"{name}: {before} and {after}" for name, before, after in parts if before != after]
    for name in common:
        if first[name].config_sha256 != second[name].config_sha256:
            apart = [
                f"cell {name}: {place}: {before} and {after}"
                for place, before, after in differences(first[name].config, second[name].config)
                if not _is_setting(place)
            ]
            if apart:
                problems += _at_most(apart, "settings of it")
                break
    if problems:
        raise ConfigError("\n".join([f"{base} and {other} are unlike runs:", *problems, REMEDY]))


def notes(other: str, first: Cells, second: Cells, common: Sequence[str]) -> list[str]:
    """What is to be known before the numbers: a line each."""
    one, two = first[common[0]], second[common[0]]
    told = [f"{other}: setting {line}" for line in _at_most(list(_settings(first, second, common)), "settings")]
    if (one.versions, one.commit) != (two.versions, two.commit):
        said = [f"{key} {value}" for key, value in two.versions.items() if one.versions.get(key) != value]
        said += [f"commit {two.commit[:12] or 'none'}"] if one.commit != two.commit else []
        told.append(f"{other} was made with another memvirt: {', '.join(said)}")
    machine = [
        f"{key}: {one.environment.get(key)} and {two.environment.get(key)}"
        for key in {**one.environment, **two.environment}
        if key not in MOMENT and one.environment.get(key) != two.environment.get(key)
    ]
    if machine:
        told.append(f"{other} is of another machine, which simulated numbers do not depend on: {'; '.join(machine)}")
    return told


def _settings(first: Cells, second: Cells, common: Sequence[str]) -> Iterator[str]:
    """Each setting of hosts or guests that differs, with both values, where they are from, and in how many cells."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for name in common:
        one, two = first[name], second[name]
        if one.config_sha256 != two.config_sha256:
            for place, before, after in differences(one.config, two.config):
                values = (place, _with_origin(one, place, before), _with_origin(two, place, after))
                found.setdefault(values, []).append(name)
    for (place, before, after), cells in found.items():
        where = (
            "in every cell" if len(cells) == len(common) else f"in {len(cells)} of {len(common)} cells: {few(cells)}"
        )
        yield f"{place}: {before} and {after}, {where}"


def _is_setting(place: str) -> bool:
    """Of a host or a guest; the file of a decider is one, too."""
    return place.startswith(("host.", "guest.", "files.host."))


def _with_origin(record: Record, place: str, value: Any) -> str:
    first, _, setting = place.partition(".")
    if value == ABSENT:
        return ABSENT
    if first == "files":
        return f"sha256 {value[:12]}" if value else "none"
    if first != "host":
        return str(value)
    named = (origin for key, origin in record.origins.items() if setting == key or setting.startswith(f"{key}."))
    origin = next(named, f"default of memvirt {record.versions.get('memvirt', '')}".rstrip())
    return f"{value} ({origin})"


def _at_most(lines: Sequence[str], what: str) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"and {more} {what} more"] if more > 0 else list(lines)


def few(names: Iterable[str]) -> str:
    """The first three, and how many more there are."""
    several = list(names)
    return ", ".join(several[:3]) + (f" and {len(several) - 3} more" if len(several) > 3 else "")
