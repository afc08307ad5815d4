"""From a suite to its cells: every scenario at every ratio, under every preset, with every seed.

A cell is complete before anything runs: its host, its fleet and its seed are resolved, validated and hashed, so an
error in the last cell is found before the first one starts, and a run can be resumed by comparing hashes.

The suite's `[host] swap` says how large a swap area is where a preset has one; it gives none to a preset without.

A slowdown needs the same stream on a host with enough memory: the cell's *baseline*, one more cell, shared by all
presets whose VMs see the same machine (guest, content, provisioning, costs). A simulated cell is held against the
offline optimum in the same way; that one is worth a row of its own. Cells that age have none: how long they go on depends
on what they come to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memvirt.errors import ConfigError
from memvirt.experiment import suite
from memvirt.experiment.fleet import vm_name
from memvirt.experiment.suite import AnyScenario, Scenario, Shown, Simulated, Sizes, Suite, TierName, Variant
from memvirt.inputs import ClassTable, Fingerprints
from memvirt.results.record import canonical, cell_name, ratio_text, sha256_of
from memvirt.settings import presets
from memvirt.settings.config import HostConfig, VmConfig, check_fleet
from memvirt.settings.diagnose import Source, validate
from memvirt.units import PAGE_SIZE, format_pages, suggest

BASELINE = "baseline"
OPTIMUM = "belady"  # the baseline of simulated cells
USUAL = Shown()
BASELINE_SPARE_PAGES = 4096  # beyond half as much again as all VMs: tables, watermarks and a scattered last block


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
    spec: Scenario | Simulated
    shown: Shown = USUAL  # says nothing about the cell: no part of its configuration

    @property
    def name(self) -> str:
        return cell_name(self.scenario, self.preset, self.seed)

    @property
    def is_baseline(self) -> bool:
        return self.preset == OPTIMUM if isinstance(self.spec, Simulated) else self.preset.startswith(BASELINE)

    def config(self) -> dict[str, Any]:
        """The whole resolved configuration, as plain JSON values."""
        return {
            "host": self.host.model_dump(mode="json"),
            "guest": self.guest,
            "scenario": self.spec.model_dump(mode="json", exclude_none=True),
            "overcommit_percent": self.overcommit_percent,
            "seed": self.seed,
            "tier": self.tier,
        }

    def sha256(self) -> str:
        return sha256_of(self.config())

    @property
    def sizes(self) -> list[int]:
        """Configured pages of each VM."""
        return self.spec.sizes(self.overcommit_percent)

    @property
    def ratio(self) -> str:
        """Overcommit; of a simulated cell, the share of its pages that fits in memory."""
        promised, memory = sum(self.sizes), self.host.memory
        return ratio_text(memory, promised, 2) if isinstance(self.spec, Simulated) else ratio_text(promised, memory, 2)

    def bytes_needed(self) -> int:
        """Memory of this machine that the host takes: page bytes, where it has any."""
        held = self.host.content == "bytes" and isinstance(self.spec, Scenario)
        return self.host.memory * PAGE_SIZE if held else 0

    def accesses(self) -> int:
        """About how many operations the cell does: what its duration is predicted from."""
        return self.spec.accesses(self.overcommit_percent)


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of a run, in the order they run in: the presets of a scenario and seed one after another."""

    suite: Suite
    tier: TierName
    cells: tuple[Cell, ...]

    def baseline_of(self, cell: Cell) -> Cell:
        """The cell that `cell` is slower than: its VMs and streams on a host with enough memory."""
        return _baseline(cell)

    def count(self) -> int:
        """How many cells there are to run, baselines included."""
        return sum(1 for _ in self.in_order())

    def in_order(self) -> Iterator[Cell]:
        """Every cell once, each baseline just before the first cell that needs it."""
        seen: set[str] = set()
        for cell in self.cells:
            baseline = _baseline(cell)
            if baseline.name not in seen and not _ages(cell):
                seen.add(baseline.name)
                yield baseline
            yield cell


def misfits(plan: Plan, corpus: ClassTable) -> list[str]:
    """Why cells of the plan cannot run on this corpus, each reason once: known before the first one runs."""
    found: dict[str, None] = {}
    known = [entry.name for entry in corpus.classes]
    for cell in plan.in_order():
        if isinstance(cell.spec, Simulated):
            continue
        for name in (*cell.spec.fleet.image, *cell.spec.fleet.private):
            if name not in known:
                found[
                    f"corpus: it has no class '{name}', which suite '{plan.suite.name}' fills VMs from{suggest(name, known)} "
                    f"(it has {', '.join(known)}); name its classes so when you capture it, as in 'memvirt corpus capture "
                    f"{name}=FILE', or write a suite with an image and private memory of its own"
                ] = None
        if isinstance(corpus, Fingerprints):
            if cell.host.content == "bytes":
                found["corpus: these are fingerprints, which have no bytes; add --set content=fingerprint"] = None
            elif problem := corpus.codec_problem(cell.host.codec, cell.host.codec_level_used):
                found[f"corpus: {problem}"] = None
    return list(found)


def make(
    name: str,
    tier: TierName = "quick",
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> Plan:
    """The plan of a suite; `only` keeps these columns or names other presets, `overrides` are "key=value" for hosts.

    ConfigError with every problem of the suite's file, or else of all columns and overrides.
    """
    sized = suite.load(name).at(tier)
    problems: list[str] = []
    columns = _columns(sized, only, problems)
    if problems and not columns:
        columns = [suite.column("none")]  # so that what is wrong with the overrides is told as well
    hosts: dict[tuple[str, int], HostConfig] = {}
    guests: dict[str, Any] = {}
    promised: dict[str, dict[str, tuple[int, ...]]] = {}
    for seed in seeds or sized.seeds:
        for column in columns:
            try:
                hosts[column.name, seed] = _host(sized.host, column, seed, overrides)
                asked = presets.vm_settings(column.preset, overrides)
                guests[column.name] = _guest(asked)
                promised[column.name] = _promised(asked)
            except ConfigError as error:
                problems.append(str(error))
    for column in (column for column in columns if (column.name, (seeds or sized.seeds)[0]) in hosts):
        host = hosts[column.name, (seeds or sized.seeds)[0]]
        for scenario in sized.scenarios:
            problems += _broken_promises(scenario, promised[column.name], column.name, host)
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(line for problem in problems for line in _lines(problem))))
    cells = [
        Cell(
            suite=sized.name,
            scenario=f"{scenario.name}-{percent}",
            preset=column.name,
            seed=seed,
            tier=tier,
            overcommit_percent=percent,
            host=_host_of(scenario, percent, hosts[column.name, seed]),
            guest=isinstance(scenario, Scenario) and guests[column.name],
            spec=_with_promises(scenario, promised[column.name]),
            shown=sized.shown(),
        )
        for scenario in sized.scenarios
        for percent in scenario.points
        for seed in seeds or sized.seeds
        for column in columns
    ]
    return Plan(sized, tier, tuple(cells))


def _columns(sized: Suite, only: Sequence[str], problems: list[str]) -> list[Variant]:
    """The columns to run; what cannot be one is added to the problems."""
    own = sized.all_variants()
    table = {variant.name: variant for variant in own}
    known = list(dict.fromkeys([*table, *presets.names()]))
    columns = []
    for name in dict.fromkeys(only):
        if name not in known and not name.endswith(".toml"):
            problems.append(f"unknown preset '{name}'{suggest(name, known)} (known: {', '.join(known)})")
        else:
            columns.append(table.get(name) or suite.column(name))
    return columns if only else own


def _lines(problem: str) -> list[str]:
    """The problems in an error text that may count several."""
    first, *rest = problem.splitlines()
    return [line.strip() for line in rest] if rest and first.endswith(" problems:") else [problem]


def _host(sizes: Sizes, column: Variant, seed: int, overrides: Sequence[str]) -> HostConfig:
    settings: dict[str, Any] = {"memory": format_pages(sizes.memory), **column.set, "seed": seed}
    if sizes.swap and "swap" not in column.set and presets.resolve(column.preset).swap:
        settings["swap"] = format_pages(sizes.swap)
    return presets.resolve(column.preset, overrides, settings=settings)


def _host_of(scenario: AnyScenario, percent: int, host: HostConfig) -> HostConfig:
    """The column's host; for a simulated cell its capacity and its order of replacement, which is all there is."""
    if isinstance(scenario, Scenario):
        return host
    capacity = format_pages(scenario.capacity(percent))
    order = {"replacement": host.replacement, "replacement_options": host.replacement_options}
    return validate(HostConfig, {"memory": capacity, **order, "seed": host.seed})


def _guest(asked: presets.VmSettings) -> Any:
    return asked.guest if isinstance(asked.guest, bool) else asked.guest.model_dump(mode="json")


def _promised(asked: presets.VmSettings) -> dict[str, tuple[int, ...]]:
    """What a preset promises every VM, as a fleet says it."""
    given = {"reservation_percent": asked.reservation_percent, "limit_percent": asked.limit_percent}
    return {key: (value,) for key, value in given.items() if value is not None}


def _with_promises(scenario: AnyScenario, promised: Mapping[str, tuple[int, ...]]) -> AnyScenario:
    """The scenario with a preset's promises where its fleet makes none of the kind."""
    if isinstance(scenario, Simulated):
        return scenario
    return scenario.with_promises({**promised, **scenario.fleet.promised})


def _broken_promises(
    scenario: AnyScenario, promised: Mapping[str, tuple[int, ...]], column: str, host: HostConfig
) -> list[str]:
    """What the host could not keep even at the scenario's lowest ratio; at higher ones admission answers for it."""
    if isinstance(scenario, Simulated):
        return []
    percent = min(scenario.points)
    try:
        fleet = scenario.with_promises({**promised, **scenario.fleet.promised}).fleet
        vms = [
            validate(VmConfig, {"name": vm_name(index), "memory": pages * PAGE_SIZE, **fleet.promises(index, pages)})
            for index, pages in enumerate(fleet.sizes(percent))
        ]
        check_fleet(host, vms)
    except ConfigError as error:
        return [f"scenario {scenario.name}-{percent} under {column}: {line}" for line in _lines(str(error))]
    return []


def _ages(cell: Cell) -> bool:
    return isinstance(cell.spec, Scenario) and cell.spec.aging is not None


def _baseline(cell: Cell) -> Cell:
    """Enough memory for all that the VMs were promised, and no mechanism to get more; or else the optimum."""
    host = cell.host
    if isinstance(cell.spec, Simulated):
        plain = validate(HostConfig, {"memory": format_pages(host.memory), "seed": host.seed})
        return replace(cell, preset=OPTIMUM, host=plain)
    spec = cell.spec.with_promises({})
    kept = {"content": host.content, "provisioning": host.provisioning, "costs": host.costs, "seed": host.seed}
    memory = sum(cell.sizes) * 3 // 2 + BASELINE_SPARE_PAGES
    enough = validate(HostConfig, {**kept, "memory": format_pages(memory)}, Source("baseline"))
    marks: list[str] = [value for value in (host.content, host.provisioning) if value not in ("bytes", "thin")]
    marks += ["guest"] if cell.guest is True else [f"guest-{sha256_of(cell.guest)[:6]}"] if cell.guest else []
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
        spec=spec,
        shown=cell.shown,
    )


def to_json(cell: Cell) -> str:
    """A cell as text, for a worker process."""
    return canonical({"suite": cell.suite, "name": cell.scenario, "preset": cell.preset, **cell.config()})


def from_json(text: str) -> Cell:
    """The cell that `to_json` wrote."""
    data = json.loads(text)
    scenario = data["scenario"]
    return Cell(
        suite=data["suite"],
        scenario=data["name"],
        preset=data["preset"],
        seed=data["seed"],
        tier=data["tier"],
        overcommit_percent=data["overcommit_percent"],
        host=validate(HostConfig, data["host"]),
        guest=data["guest"],
        spec=validate(Simulated, scenario) if "simulate" in scenario else validate(Scenario, scenario),
    )
