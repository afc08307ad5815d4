"""Suites: named experiments, read from TOML.

A suite runs every scenario at every overcommit ratio under every variant of the host with every seed. A variant is a
preset, with settings changed; `presets = [...]` is short for variants that change nothing. A tier makes the same suite
shorter or longer: smoke for tests, quick for a first look, full for numbers that are quoted.

A scenario is a fleet on a host, or a trace of page numbers held against the variants' orders of replacement alone
(`simulate`): then the share of the trace's pages that fits in memory takes the place of the overcommit ratio.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, SerializeAsAny, Tag, model_validator

from memvirt.errors import ConfigError
from memvirt.experiment.fleet import AgingSpec, FleetSpec
from memvirt.metrics.registry import REGISTRY
from memvirt.settings.config import Count, Model, Name, Pages, PagesOrZero
from memvirt.settings.diagnose import Conflicts, Problem, read_toml, validate
from memvirt.units import suggest
from memvirt.workloads import Workload, parse

FOLDER = Path(__file__).parent / "suites"

TierName = Literal["smoke", "quick", "full"]
Scale = Annotated[int, Field(strict=True, ge=1, le=100_000)]


def _workload(value: Any) -> Any:
    return parse(value) if isinstance(value, dict) else value


WorkloadTable = Annotated[SerializeAsAny[Workload], BeforeValidator(_workload)]


class Sizes(Model):
    """The host of all scenarios; everything else about it is the variant's."""

    memory: Pages
    swap: PagesOrZero = 0  # where the preset has swap


class Tier(Model):
    """How a tier differs: memory of host and VMs, accesses, seeds."""

    memory_percent: Scale = 100
    accesses_percent: Scale = 100
    seeds: list[Count] | None = None


class Variant(Model):
    """A preset by name, and the host settings changed in it."""

    name: Name
    preset: str
    set: dict[str, Any] = Field(default={})


def column(preset: str) -> Variant:
    """A preset, by name or by the path of its file, as a variant that changes nothing."""
    return Variant(name=Path(preset).stem, preset=preset)


class Scenario(Model):
    """A fleet, the ratios to try, and what it does."""

    name: Name
    description: str
    overcommit_percent: list[Scale] = Field(min_length=1)
    fleet: FleetSpec
    warm_up: WorkloadTable | None = None
    measured: WorkloadTable | None = None
    aging: AgingSpec | None = None
    settle_passes: Annotated[int, Field(strict=True, ge=0, le=100)] = 0  # of the scanner, after each VM that booted

    @model_validator(mode="after")
    def _agree(self) -> Self:
        problems = []
        if (self.measured is None) == (self.aging is None):
            problems.append(Problem(("measured",), "give either a measured workload or aging", ("aging",)))
        if self.aging is not None and self.warm_up is not None:
            problems.append(Problem(("warm_up",), "aging has no warm-up", ("aging",)))
        for percent in self.overcommit_percent:
            try:
                self.fleet.sizes(percent)
            except ConfigError as error:
                problems.append(Problem(("overcommit_percent",), str(error), ("fleet",)))
        if problems:
            raise Conflicts(problems)
        return self

    def scaled(self, tier: Tier) -> "Scenario":
        """The scenario with a tier's memory and accesses."""
        memory = max(1, self.fleet.memory * tier.memory_percent // 100)
        phases = {"warm_up": self.warm_up, "measured": self.measured}
        scaled = {name: load and load.scaled(tier.accesses_percent) for name, load in phases.items()}
        return self.model_copy(update={"fleet": self.fleet.model_copy(update={"memory": memory}), **scaled})

    def with_promises(self, promised: Mapping[str, tuple[int, ...]]) -> "Scenario":
        """The scenario whose fleet promises its VMs this and nothing else."""
        changed = {**dict.fromkeys(self.fleet.promised), **promised}
        if not changed:
            return self
        table = self.fleet.model_dump(mode="json", exclude_none=True)
        table = {key: value for key, value in table.items() if changed.get(key, key) is not None}
        return self.model_copy(update={"fleet": validate(FleetSpec, {**table, **promised})})

    def with_contents(self, classes: Mapping[str, Sequence[str]]) -> "Scenario":
        """The scenario whose VMs are filled from other classes: of "image", of "private", or of both."""
        table = self.fleet.model_dump(mode="json", exclude_none=True)
        return self.model_copy(update={"fleet": validate(FleetSpec, {**table, **classes})}) if classes else self

    @property
    def points(self) -> list[int]:
        """The ratios the scenario is run at, in percent."""
        return self.overcommit_percent

    def sizes(self, percent: int) -> list[int]:
        """Configured pages of each VM at a ratio."""
        return self.fleet.sizes(percent)

    def accesses(self, percent: int) -> int:
        """About how many operations a cell does."""
        sizes = self.sizes(percent)
        per_vm = sum(part.length() for part in (self.warm_up, self.measured) if part is not None)
        cycles = self.aging.cycles + self.aging.measured_cycles if self.aging else 2
        return sum(sizes) * cycles // 2 + per_vm * len(sizes)


class TraceSpec(Model):
    """The table [scenarios.simulate]: a trace of page numbers, and how much of what it names fits in memory."""

    pages: Annotated[int, Field(strict=True, ge=100, le=1 << 24)]  # the workload names pages 0 to pages - 1
    capacity_percent: list[Annotated[int, Field(strict=True, ge=1, le=100)]] = Field(min_length=1)  # of the pages
    workload: WorkloadTable


class Simulated(Model):
    """A trace replayed through an order of replacement: demand paging, every access seen, no host and no bytes."""

    name: Name
    description: str
    simulate: TraceSpec

    def scaled(self, tier: Tier) -> "Simulated":
        """The scenario with a tier's memory and accesses."""
        pages = max(100, self.simulate.pages * tier.memory_percent // 100)
        workload = self.simulate.workload.scaled(tier.accesses_percent)
        return self.model_copy(
            update={"simulate": self.simulate.model_copy(update={"pages": pages, "workload": workload})}
        )

    @property
    def points(self) -> list[int]:
        """Capacities, in percent of the trace's pages."""
        return self.simulate.capacity_percent

    def sizes(self, percent: int) -> list[int]:
        """The pages of the trace, whatever the capacity."""
        return [self.simulate.pages]

    def capacity(self, percent: int) -> int:
        """Pages that fit in memory."""
        return max(1, self.simulate.pages * percent // 100)

    def accesses(self, percent: int) -> int:
        """About how many requests a cell replays."""
        return self.simulate.workload.length()


def _kind(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "simulated" if isinstance(value, Simulated) else "hosted"
    return "simulated" if isinstance(value, Mapping) and "simulate" in value else "hosted"


AnyScenario = Annotated[
    Annotated[Scenario, Tag("hosted")] | Annotated[Simulated, Tag("simulated")], Discriminator(_kind)
]


class Shown(Model):
    """What a suite's tables show; part of every record, so that a table needs nothing but records."""

    columns: list[str] = Field(default=[])  # names of metrics, the deciding one first; none: the usual ones
    learned: Literal["slowdown", "leading", "apart", "survival"] = (
        "slowdown"  # rule of the last line, memvirt.report.verdict
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        unknown = [(index, name) for index, name in enumerate(self.columns) if name not in REGISTRY]
        problems = [
            Problem(("columns", index), f"no metric is called '{name}'{suggest(name, list(REGISTRY))}")
            for index, name in unknown
        ]
        if self.learned in ("leading", "apart") and not self.columns:
            text = f"'{self.learned}' compares the first of columns: name some"
            problems.append(Problem(("learned",), text, ("columns",)))
        if problems:
            raise Conflicts(problems)
        return self


class Suite(Shown):
    """A suite file."""

    schema_: Literal[1] = Field(alias="schema")  # 1 - first version.
    name: Name
    title: str
    description: str
    presets: list[str] = Field(default=[])
    variants: list[Variant] = Field(default=[])
    seeds: list[Count] = Field(default=[1], min_length=1)
    host: Sizes = Field(default=Sizes.model_validate({"memory": "64MiB"}))  # simulated scenarios have none
    tiers: dict[TierName, Tier] = Field(default={})
    scenarios: list[AnyScenario] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree_in_names(self) -> Self:
        problems = []
        if not self.presets and not self.variants:
            problems.append(Problem(("presets",), "give presets or variants", ("variants",)))
        if "host" not in self.model_fields_set and any(isinstance(each, Scenario) for each in self.scenarios):
            problems.append(Problem(("host",), "is required by scenarios with a fleet", ("scenarios",)))
        columns = [column(preset).name for preset in self.presets]
        for key, taken, names in (
            ("presets", [], columns),
            ("variants", columns, [variant.name for variant in self.variants]),
            ("scenarios", [], [scenario.name for scenario in self.scenarios]),
        ):
            doubles = [index for index, name in enumerate(names) if name in [*taken, *names[:index]]]
            problems += [Problem((key, index), f"'{names[index]}' is given twice") for index in doubles]
        if problems:
            raise Conflicts(problems)
        return self

    def shown(self) -> Shown:
        """What tables show of this suite's records."""
        return Shown(columns=self.columns, learned=self.learned)

    def all_variants(self) -> list[Variant]:
        """Presets and variants alike, presets first."""
        return [*(column(preset) for preset in self.presets), *self.variants]

    def at(self, tier: TierName) -> "Suite":
        """The suite as this tier runs it; a tier the file does not mention changes nothing."""
        change = self.tiers.get(tier, Tier())
        host = {
            "memory": max(1, self.host.memory * change.memory_percent // 100),
            "swap": self.host.swap * change.memory_percent // 100,
        }
        return self.model_copy(
            update={
                "host": self.host.model_copy(update=host),
                "seeds": change.seeds or self.seeds,
                "scenarios": [scenario.scaled(change) for scenario in self.scenarios],
            }
        )


def names() -> list[str]:
    """The suites that come with memvirt."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(suite: str | Path) -> Suite:
    """A suite by name, or from a TOML file; ConfigError with all that is wrong in it."""
    path = Path(suite)
    if path.suffix != ".toml":
        if str(suite) not in names():
            raise ConfigError(
                f"no suite is called '{suite}'{suggest(str(suite), names())} (suites: {', '.join(names())})"
            )
        path = FOLDER / f"{suite}.toml"
    data, source = read_toml(path)
    return validate(Suite, data, source)
