"""From a suite to its cells: every scenario at every ratio, under every preset, with every seed.

A cell is complete before anything runs: its host, its fleet and its seed are resolved, validated and hashed, so an
error in the last cell is found before the first one starts, and a run can be resumed by comparing hashes.

The suite's `[host] swap` says how large a swap area is where a preset has one; it gives none to a preset without.

A slowdown needs the same stream on a host with enough memory: the cell's *baseline*, one more cell, shared by all
presets whose VMs see the same machine (guest, content, provisioning, costs).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memvirt import presets
from memvirt.config import HostConfig
from memvirt.diagnose import Source, read_toml, validate
from memvirt.errors import ConfigError
from memvirt.fleet import AgingSpec, FleetSpec
from memvirt.record import canonical, cell_name, ratio_text, sha256_of
from memvirt.scenario import Scenario, SuiteConfig, Tier, Variant
from memvirt.units import format_pages, parse_pages, suggest
from memvirt.workloads import Workload, parse

SUITES = Path(__file__).parent / "suites"
BASELINE = "baseline"
BASELINE_SPARE_PAGES = 4096  # beyond half as much again as all VMs: tables, watermarks and a scattered last block

TierName = Literal["smoke", "quick", "full"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A scenario with its workloads made: what memvirt.fleet builds from."""

    fleet: FleetSpec
    warm_up: Workload | None
    measured: Workload | None
    aging: AgingSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One scenario at one ratio x preset x seed, resolved."""

    suite: str
    scenario: str  # with its ratio: "zipf-150"
    preset: str  # the column: a preset's or variant's name, or "baseline…"
    seed: int
    tier: TierName
    overcommit_percent: int
    host: HostConfig
    guest: Any  # False, True or a table of guest settings
    spec: Scenario

    @property
    def name(self) -> str:
        return cell_name(self.scenario, self.preset, self.seed)

    @property
    def is_baseline(self) -> bool:
        return self.preset.startswith(BASELINE)

    def config(self) -> dict[str, Any]:
        """The whole resolved configuration, as plain JSON values."""
        return {
            "host": self.host.model_dump(mode="json"),
            "guest": self.guest,
            "scenario": self.spec.model_dump(mode="json"),
            "overcommit_percent": self.overcommit_percent,
            "seed": self.seed,
            "tier": self.tier,
        }

    def sha256(self) -> str:
        return sha256_of(self.config())

    @property
    def sizes(self) -> list[int]:
        """Configured pages of each VM."""
        return self.spec.fleet.sizes(self.overcommit_percent)

    def parsed(self) -> Parsed:
        """The scenario with its workloads made."""
        warm_up, measured = (None if table is None else parse(table) for table in (self.spec.warm_up, self.spec.measured))
        return Parsed(self.spec.fleet, warm_up, measured, self.spec.aging)

    @property
    def ratio(self) -> str:
        return ratio_text(sum(self.sizes), self.host.memory, 2)

    def accesses(self) -> int:
        """About how many operations the cell does: what its duration is predicted from."""
        per_vm = sum(int((part or {}).get("accesses", 0)) for part in (self.spec.warm_up, self.spec.measured))
        filled = sum(self.sizes) * (self.spec.aging.cycles // 2 if self.spec.aging else 1)
        return filled + per_vm * len(self.sizes)


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of a run, in the order they run in: the presets of a scenario and seed one after another."""

    suite: SuiteConfig
    tier: TierName
    cells: tuple[Cell, ...]

    def baseline_of(self, cell: Cell) -> Cell:
        """The cell that `cell` is slower than: its VMs and streams on a host with enough memory."""
        return _baseline(cell)

    def in_order(self) -> Iterator[Cell]:
        """Every cell once, each baseline just before the first cell that needs it."""
        seen: set[str] = set()
        for cell in self.cells:
            baseline = _baseline(cell)
            if baseline.name not in seen:
                seen.add(baseline.name)
                yield baseline
            yield cell


def suite_names() -> list[str]:
    """The suites that come with memvirt."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def read_suite(name: str) -> SuiteConfig:
    """A suite by name, or from a TOML file. ConfigError with every problem, each at its file and line."""
    if name.endswith(".toml"):
        path = Path(name)
    elif name in suite_names():
        path = SUITES / f"{name}.toml"
    else:
        raise ConfigError(f"unknown suite '{name}'{suggest(name, suite_names())} (known: {', '.join(suite_names())})")
    data, source = read_toml(path)
    return validate(SuiteConfig, data, source)


def make(
    suite: str,
    tier: TierName = "quick",
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Plan:
    """The plan of a suite; `only` keeps these columns or names other presets, `overrides` are "key=value" for hosts."""
    config = read_suite(suite)
    size = config.tiers.get(tier, Tier())
    columns = _columns(config, only)
    cells = []
    problems: list[str] = []
    for scenario in config.scenarios:
        spec = _scaled(scenario, size)
        for percent in scenario.overcommit_percent:
            for seed in seeds or size.seeds or config.seeds:
                for column in columns:
                    try:
                        cells.append(_cell(config, spec, percent, seed, column, tier, size, overrides))
                    except ConfigError as error:
                        problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return Plan(config, tier, tuple(cells))


def _columns(config: SuiteConfig, only: Sequence[str]) -> list[Variant]:
    own = config.variants or [Variant(name=name, preset=name) for name in config.presets]
    if not only:
        return own
    table = {variant.name: variant for variant in own}
    known = [*table, *presets.names()]
    unknown = [name for name in only if name not in known and not name.endswith(".toml")]
    if unknown:
        raise ConfigError(
            "\n".join(f"unknown preset '{name}'{suggest(name, known)} (known: {', '.join(known)})" for name in unknown)
        )
    return [table.get(name) or Variant(name=Path(name).stem, preset=name) for name in dict.fromkeys(only)]


def _scaled(scenario: Scenario, tier: Tier) -> Scenario:
    """The scenario at a tier's size, its workloads checked and written out with every default."""
    memory = max(1, scenario.fleet.memory * tier.memory_percent // 100)
    tables = {name: getattr(scenario, name) for name in ("warm_up", "measured")}
    scaled = {
        name: table and parse(table).scaled(tier.accesses_percent).model_dump(mode="json", exclude_none=True)
        for name, table in tables.items()
    }
    fleet = scenario.fleet.model_copy(update={"memory": memory})
    return scenario.model_copy(update={"fleet": fleet, **scaled})


def _cell(
    config: SuiteConfig,
    spec: Scenario,
    percent: int,
    seed: int,
    column: Variant,
    tier: TierName,
    size: Tier,
    overrides: Sequence[str],
) -> Cell:
    host = _host(config.host, column, size, seed, overrides)
    asked = presets.vm_settings(column.preset).guest
    guest = asked if isinstance(asked, bool) else asked.model_dump(mode="json")
    spec.fleet.sizes(percent)
    return Cell(
        suite=config.name,
        scenario=f"{spec.name}-{percent}",
        preset=column.name,
        seed=seed,
        tier=tier,
        overcommit_percent=percent,
        host=host,
        guest=guest,
        spec=spec,
    )


def _host(settings: Mapping[str, Any], column: Variant, size: Tier, seed: int, overrides: Sequence[str]) -> HostConfig:
    own = dict(settings)
    if "memory" in own:
        own["memory"] = format_pages(parse_pages(own["memory"]) * size.memory_percent // 100)
    swap = own.pop("swap", None)
    if swap is not None and not str(swap).endswith("%") and presets.resolve(column.preset).swap:
        own["swap"] = format_pages(parse_pages(swap) * size.memory_percent // 100)
    return presets.resolve(column.preset, overrides, settings={**own, **column.set, "seed": seed})


def _baseline(cell: Cell) -> Cell:
    """Enough memory for all that the VMs were promised, and no mechanism to get more."""
    host = cell.host
    kept = {"content": host.content, "provisioning": host.provisioning, "costs": host.costs, "seed": host.seed}
    memory = sum(cell.sizes) * 3 // 2 + BASELINE_SPARE_PAGES
    enough = validate(HostConfig, {**kept, "memory": format_pages(memory)}, Source("baseline"))
    marks: list[str] = [value for value in (host.content, host.provisioning) if value not in ("bytes", "thin")]
    marks += ["guest"] if cell.guest else []
    marks += [host.costs] if host.costs != "default" else []
    return Cell(
        suite=cell.suite,
        scenario=cell.scenario,
        preset="-".join([BASELINE, *marks]),
        seed=cell.seed,
        tier=cell.tier,
        overcommit_percent=cell.overcommit_percent,
        host=enough,
        guest=cell.guest,
        spec=cell.spec,
    )


def to_json(cell: Cell) -> str:
    """A cell as text, for a worker process."""
    return canonical({"suite": cell.suite, "name": cell.scenario, "preset": cell.preset, **cell.config()})


def from_json(text: str) -> Cell:
    """The cell that `to_json` wrote."""
    data = json.loads(text)
    return Cell(
        suite=data["suite"],
        scenario=data["name"],
        preset=data["preset"],
        seed=data["seed"],
        tier=data["tier"],
        overcommit_percent=data["overcommit_percent"],
        host=validate(HostConfig, data["host"]),
        guest=data["guest"],
        spec=validate(Scenario, data["scenario"]),
    )
