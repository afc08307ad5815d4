"""From a suite to its cells: every scenario at every ratio, under every preset, with every seed.

A cell is complete before anything runs: its host, its fleet and its seed are resolved, validated and hashed, and so is
the content of every file that it reads. So an error in the last cell is found before the first one starts, and a run can
be resumed by comparing hashes.

The suite's `[host] swap` says how large a swap area is where a preset has one; it gives none to a preset without.

A slowdown needs the same stream on a host with enough memory: the cell's *baseline*, one more cell, shared by all
presets whose VMs see the same machine (guest, content, provisioning, costs). A simulated cell is held against the
offline optimum in the same way; that one is worth a row of its own. Cells that age have none: how long they go on depends
on what they come to. A baseline is known by its role; its name may be that of a preset, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from memvirt.errors import ConfigError
from memvirt.experiment import suite
from memvirt.experiment import sweep as sweeps
from memvirt.experiment.column import Chosen, Column, FileRead, all_files, chosen, lines, resolve_all
from memvirt.experiment.overrides import sort_out
from memvirt.experiment.replayed import Streams, with_trace
from memvirt.experiment.scenario import TierName
from memvirt.experiment.suite import AnyScenario, Suite
from memvirt.experiment.sweep import MOST_CELLS, NO_POINT, Axes, axes, points, require_few
from memvirt.inputs import ClassTable, Fingerprints
from memvirt.results.manifest import Asked
from memvirt.results.record import Role, cell_name, ratio_text, sha256_of
from memvirt.results.shapes import is_file_name
from memvirt.results.shards import Shard
from memvirt.settings.config import HostConfig
from memvirt.settings.costs import load as cost_model
from memvirt.settings.vm_config import PLAIN_GUEST, GuestOptions
from memvirt.units import suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One scenario at one ratio x preset x seed, resolved."""

    suite: str
    scenario: str  # with its ratio: "zipf-150"
    preset: str  # the column: a preset's or variant's name; of a baseline what it is
    role: Role = "column"
    seed: int
    tier: TierName
    overcommit_percent: int
    host: HostConfig
    guest: GuestOptions | None
    spec: AnyScenario
    files: tuple[FileRead, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict, compare=False)  # see memvirt.results.record
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    ratio_digits: int | None = None  # None: as its scenario spells ratios

    @property
    def name(self) -> str:
        return cell_name(self.scenario, self.preset, self.seed, self.role)

    @property
    def is_baseline(self) -> bool:
        return self.role == "baseline"

    def config(self) -> dict[str, Any]:
        """The whole resolved configuration, as plain JSON values; files by name and content."""
        config = {
            "host": self.host.resolved(),
            "guest": None if self.guest is None else self.guest.model_dump(mode="json"),
            "scenario": self.spec.model_dump(mode="json", exclude_none=True),
            "overcommit_percent": self.overcommit_percent,
            "seed": self.seed,
            "tier": self.tier,
            "role": self.role,
            "files": {file.place: file.sha256 for file in self.files},
        }
        for file in self.files:
            _name_only(config, file)
        return config

    def sha256(self) -> str:
        return sha256_of(self.config())

    @property
    def sizes(self) -> list[int]:
        """Configured pages of each VM."""
        return self.spec.sizes(self.overcommit_percent)

    @property
    def ratio(self) -> str:
        """Overcommit; of a simulated cell, the share of its pages that fits in memory."""
        if self.ratio_digits is not None:
            return ratio_text(sum(self.sizes), self.host.memory, self.ratio_digits)
        return self.spec.ratio(self.overcommit_percent, self.host)

    def bytes_needed(self) -> int:
        """Memory of this machine that the host takes."""
        return self.spec.bytes_held(self.host)

    def accesses(self) -> int:
        """About how many operations the cell does: what its duration is predicted from."""
        return self.spec.accesses(self.overcommit_percent)


def _name_only(config: dict[str, Any], file: FileRead) -> None:
    """Where the configuration names a file, leave its name: in which folder it lies changes nothing."""
    *tables, key = file.keys
    table: Any = config
    for name in tables:
        table = table[name]
    table[key] = table[key].replace(file.path, Path(file.path).name, 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of a run, in the order they run in: the presets of a scenario and seed one after another."""

    suite: Suite
    asked: Asked
    cells: tuple[Cell, ...]
    shard: Shard | None = None  # the part of it that is run; None: all

    @property
    def tier(self) -> TierName:
        return self.asked.tier

    def baseline_of(self, cell: Cell) -> Cell:
        """The cell that `cell` is slower than: its VMs and streams on a host with enough memory."""
        return _baseline(cell)

    def config_of(self, name: str) -> dict[str, Any]:
        """The configuration of the cell of that name."""
        return next(cell for cell in self.in_order() if cell.name == name).config()

    def count(self) -> int:
        """How many cells there are to run, baselines included."""
        return sum(1 for _ in self.in_order())

    def in_order(self) -> Iterator[Cell]:
        """Every cell to run once, each baseline just before the first cell that needs it."""
        return self._with_baselines([cell for cell in self.cells if self.shard is None or self.shard.holds(cell.name)])

    def whole(self) -> Iterator[Cell]:
        """The same of all parts together."""
        return self._with_baselines(self.cells)

    def _with_baselines(self, cells: Sequence[Cell]) -> Iterator[Cell]:
        seen: set[str] = set()
        for cell in cells:
            baseline = _baseline(cell)
            if baseline.name not in seen and cell.spec.has_baseline:
                seen.add(baseline.name)
                yield baseline
            yield cell


def misfits(plan: Plan, corpus: ClassTable) -> list[str]:
    """Why cells of the plan cannot run on this corpus, each reason once: known before the first one runs."""
    found: dict[str, None] = {}
    known = [entry.name for entry in corpus.classes]
    for cell in plan.in_order():
        if not cell.spec.classes:
            continue
        for name in cell.spec.classes:
            if name not in known:
                found[
                    f"corpus: it has no class '{name}', which suite '{plan.suite.name}' fills VMs from{suggest(name, known)} "
                    f"(it has {', '.join(known)}); say what to fill them from, as in --fill image={known[-1]} --fill "
                    f"private={known[-1]}, or name its classes so when you capture it: {name}=FILE"
                ] = None
        if isinstance(corpus, Fingerprints):
            if cell.host.has_bytes:
                found["corpus: these are fingerprints, which have no bytes; add --set content=fingerprint"] = None
            elif problem := corpus.codec_problem(cell.host.codec, cell.host.codec_level):
                found[f"corpus: {problem}"] = None
    return list(found)


def make(
    name: str,
    tier: TierName = "quick",
    *,
    only: Sequence[str] = (),
    scenarios: Sequence[str] = (),
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    corpus: str = "",
    trace: str = "",
    streams: Streams = "all",
    times: bool = False,
    speed: int = 100,
    per_second: int | None = None,
    fill: Sequence[str] = (),
    swept: Sequence[str] = (),
    most_cells: int = 0,
    narrowed: Callable[[Suite], Suite] = lambda sized: sized,
) -> Plan:
    """The plan of a suite; `only` keeps these columns or names other presets, `scenarios` keeps these, with the cells that
    they have in the whole suite. `overrides` are "key=value" for hosts, `fill` says what VMs are filled from in place of
    the suite's classes: "image=A,B", "private=C".

    `swept` are settings with the values to run every column with, "key=a,b", beside those that the suite sweeps; then
    there may be `most_cells` columns' cells, or sweep.MOST_CELLS. `narrowed` takes what is to be run out of the suite.
    `trace` is a file that the VMs replay in the place of the suite's workloads, at its own `times` and `speed` (per cent)
    or with `per_second` touches in a second; `corpus` is only noted down.
    ConfigError with every problem of the suite's file, or else of all columns and overrides.
    """
    paced: dict[str, Any] = {"times": times, "speed": speed, "per_second": per_second}
    sized = narrowed(suite.load(name).at(tier))
    alone = _alone(sized, scenarios)
    sized = _replaying(alone if trace else sized, tier, trace, streams, paced)
    problems: list[str] = [f"seed {seed} is given twice" for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]
    sized = _booting_alike(_filled(sized, fill, problems))
    sized = sized if trace else _alone(sized, scenarios)
    taken = {key for scenario in sized.scenarios for key in scenario.host_settings}
    usable, wrong = sort_out(overrides, taken)
    problems += wrong
    columns = chosen(sized, only, problems)
    if problems and not any(columns.values()):  # so that what is wrong with the overrides is reported as well
        columns = {each: [suite.column("none")] for each in columns}
    over = axes(sized.sweep, swept, problems)
    _require_few(sized, over, columns, seeds, most_cells)
    problems += sweeps.check(over, overrides, taken)
    every = points(over) if not problems else [NO_POINT]
    resolved = resolve_all(sized, columns, seeds, usable, problems, every)
    read = all_files(sized, problems)
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(line for problem in problems for line in lines(problem))))
    lists: dict[str, Any] = {"presets": only, "scenarios": scenarios, "settings": overrides, "seeds": seeds}
    lists = {key: list(values) for key, values in (lists | {"fill": fill, "sweep": swept}).items()}
    replay: dict[str, Any] = {"trace": trace, "streams": streams, **paced}
    asked = Asked(suite=name, tier=tier, corpus=corpus, most_cells=most_cells, **lists, **replay)
    cells = tuple(
        _cell(sized, scenario, percent, tier, column, read[scenario.name])
        for scenario in sized.scenarios
        for percent in scenario.points
        for seed in seeds or sized.seeds_of(scenario)
        for column in resolved[scenario.name, seed]
    )
    return Plan(sized, asked, cells)


def _alone(sized: Suite, scenarios: Sequence[str]) -> Suite:
    """The suite with these scenarios alone, if any are named."""
    known = [each.name for each in sized.scenarios]
    for name in scenarios:
        if name not in known:
            raise ConfigError(
                f"--scenario {name}: suite '{sized.name}' has none that is called so{suggest(name, known)} "
                f"(there are: {', '.join(known)})"
            )
    kept = [each for each in sized.scenarios if each.name in scenarios or not scenarios]
    return sized.model_copy(update={"scenarios": kept})


def _replaying(sized: Suite, tier: TierName, trace: str, streams: Streams, paced: dict[str, Any]) -> Suite:
    """The suite with a trace for its workloads, if one is named."""
    if trace:
        return with_trace(sized, tier, Path(trace), streams, **paced)
    if paced["times"] or paced["speed"] != 100 or paced["per_second"] is not None:
        raise ConfigError("--times, --speed and --per-second say how a trace is replayed; name it with --trace FILE")
    return sized


def _require_few(sized: Suite, over: Axes, columns: Chosen, seeds: Sequence[int], most_cells: int) -> None:
    """ConfigError where a sweep makes more cells, baselines apart, than there may be; before any is made."""
    cells = sum(
        len(columns[each.name]) * len(each.points) * len(seeds or sized.seeds_of(each)) for each in sized.scenarios
    )
    if over:
        require_few(cells * prod(map(len, over.values())), most_cells or MOST_CELLS)


def _cell(
    sized: Suite, scenario: AnyScenario, percent: int, tier: TierName, column: Column, read: tuple[FileRead, ...]
) -> Cell:
    asked_for = {key: where for key, where in column.origins.items() if key.split(".")[0] in scenario.host_settings}
    name = cell_name(f"{scenario.name}-{percent}", column.name, column.host.seed)
    if not is_file_name(name):
        raise ConfigError(f"cell {name}: no file can be called so; give the scenario or the preset a shorter name")
    return Cell(
        suite=sized.name,
        scenario=f"{scenario.name}-{percent}",
        preset=column.name,
        seed=column.host.seed,
        tier=tier,
        overcommit_percent=percent,
        host=scenario.host(percent, column.host),
        guest=column.guest if scenario.has_vms else None,
        spec=scenario.promising(column.promised),
        files=(*read, *(column.files if scenario.has_vms else ())),
        asked=column.asked,
        origins=asked_for,
    )


def _filled(sized: Suite, fill: Sequence[str], problems: list[str]) -> Suite:
    """The suite whose VMs are filled from these classes; what cannot be understood is added to the problems."""
    found: dict[str, list[str]] = {}
    for text in fill:
        what, _, classes = text.partition("=")
        names = [name.strip() for name in classes.split(",") if name.strip()]
        if what not in ("image", "private") or not names:
            problems.append(f"--fill {text}: write image=CLASS,… or private=CLASS,…")
        found[what] = [*found.get(what, []), *names]
    if problems or not found:
        return sized
    return sized.model_copy(update={"scenarios": [each.with_contents(found) for each in sized.scenarios]})


def _booting_alike(sized: Suite) -> Suite:
    """The suite whose fleets know of each other's private classes, where these differ: then contents are compared, and
    the VMs have to do the same with them."""
    different = {each.private for each in sized.scenarios if each.private}
    if len(different) < 2:
        return sized
    classes = tuple(sorted({name for private in different for name in private}))
    return sized.model_copy(update={"scenarios": [each.comparable_with(classes) for each in sized.scenarios]})


def _baseline(cell: Cell) -> Cell:
    """What a cell is held against: the same stream on a host with enough memory, or the optimum."""
    host = cell.host
    marks: list[str] = []
    if cell.spec.has_vms:
        marks += [value for value in (host.content, host.provisioning) if value not in ("bytes", "thin")]
        marks += ["guest"] if cell.guest == PLAIN_GUEST else [_mark("guest", cell.guest)] if cell.guest else []
        marks += [_mark("costs", host.costs)] if host.costs != cost_model("default") else []
    return replace(
        cell,
        role="baseline",
        preset="-".join([cell.spec.baseline, *marks]),
        host=cell.spec.baseline_host(cell.overcommit_percent, host),
        spec=cell.spec.with_promises({}),
        files=tuple(file for file in cell.files if file.keys[0] == "scenario"),
        asked={},
        origins={},
    )


def _mark(what: str, value: Any) -> str:
    """A short name for settings that have none: the beginning of their hash."""
    return f"{what}-{sha256_of(value.model_dump(mode='json'))[:6]}"
